"""Deep contractions in blocks: of depth, so that weights stay in the first level of cache, and of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gcomp.dim import Dim

from ..emit import Function, Value, vector
from .schedule import pieces
from .tile import Contraction

PANEL = 40 << 10
"""Bytes of weights in a block: beyond it each tile would read them from the second level again."""
CACHE = 1 << 19
"""Bytes of the input in a block of rows, which every panel reads again."""
STEP = 4
"""Blocks are multiples of it, so that unrolled steps come out even."""

ROWS = 64
"""Rows that are multiplied together where their number is symbolic; a power of two."""


def over_rows(fn: Function, extent: Dim, some: Callable[[Value, int], None]) -> None:
    """`some(first, count)` for all rows at once; a symbolic number of them goes in ever smaller blocks."""
    if isinstance(extent, int):
        some("0", extent)
        return
    total, size, start = fn.size(extent), ROWS, "0"
    stop = fn.value(f"and i64 {total}, {-ROWS}")
    while size:
        fn.loop(start, stop, size, lambda first, _, size=size: some(first, size))
        start, size = stop, size // 2
        stop = fn.add(start, fn.value(f"and i64 {total}, {size}"))


def emit(contraction: Contraction, scratch: Callable[[int], Value]) -> None:
    """Emits the contraction; `scratch(bytes)` gives memory for sums that are not complete."""
    deepest = PANEL // (contraction.tile.vectors * contraction.lanes * 4)
    tiles = pieces(contraction.inner.extent, contraction.tile.rows)
    plain = contraction.outer.extent == contraction.outer.kernel == contraction.inner.kernel == 1
    if not plain or contraction.weights.step is not None or contraction.depth <= deepest or tiles == 1:
        contraction.emit()
        return
    inner, fn = contraction.inner, contraction.fn
    most = pieces(inner.extent, pieces(inner.extent * contraction.depth * 4, CACHE))
    most = pieces(most, contraction.tile.rows) * contraction.tile.rows
    sums = scratch(most * contraction.tile.vectors * contraction.lanes * 4)

    def rows(start: Value, count: int) -> None:
        def initial(row: Value, rows: int, column: Value, vectors: int) -> list[Value]:
            return contraction.initial(fn.add(start, row), rows, column, vectors)

        def store(value: Value, outer: Value, row: Value, column: Value) -> None:
            contraction.store(value, outer, fn.add(start, row), column)

        part = replace(
            contraction,
            inner=replace(inner, extent=count, size=count),
            x=fn.element(contraction.x, fn.mul(start, inner.step), contraction.unit.element),
            initial=initial,
            store=store,
        )
        for run in contraction.panels():
            fn.loop(
                run.start,
                run.stop,
                run.size,
                lambda column, _, run=run: _panel(part, column, run.size, deepest, sums),
            )

    whole = inner.extent // most * most
    fn.loop(0, whole, most, lambda start, _: rows(start, most))
    if whole < inner.extent:
        rows(str(whole), inner.extent - whole)


def _panel(whole: Contraction, column: Value, vectors: int, deepest: int, sums: Value) -> None:
    """One panel, block by block: the first begins with the initial values, the last stores the results."""
    fn, lanes = whole.fn, whole.lanes
    count = pieces(whole.depth, deepest)
    size = pieces(pieces(whole.depth, count), STEP) * STEP
    count = pieces(whole.depth, size)
    type = vector(whole.unit.sum, lanes)
    weights = fn.element(whole.weights.pointer, fn.mul(column, whole.weights.panel), whole.unit.element)

    def place(row: Value, v: Value) -> Value:
        return fn.element(sums, fn.add(fn.mul(row, vectors * lanes), fn.mul(v, lanes)), whole.unit.element)

    def begin(row: Value, rows: int, v: Value, vectors: int) -> list[Value]:
        return whole.initial(row, rows, fn.add(column, v), vectors)

    def go_on(row: Value, rows: int, v: Value, vectors: int) -> list[Value]:
        places = [place(fn.add(row, r), fn.add(v, n)) for r in range(rows) for n in range(vectors)]
        return [fn.load(at, type, 64) for at in places]

    def pause(value: Value, _: Value, row: Value, v: Value) -> None:
        fn.store(value, place(row, v), type, 64)

    def finish(value: Value, outer: Value, row: Value, v: Value) -> None:
        whole.store(value, outer, row, fn.add(column, v))

    def block(number: Value, depth: int, is_first: bool, is_last: bool) -> None:
        start = fn.mul(number, size)
        pointer = fn.element(weights, fn.mul(start, vectors * lanes), whole.unit.element)
        replace(
            whole,
            depth=depth,
            vectors=vectors,
            whole=vectors,
            x=fn.element(whole.x, fn.mul(start, whole.depth_step), whole.unit.element),
            weights=replace(whole.weights, pointer=pointer),
            initial=begin if is_first else go_on,
            store=finish if is_last else pause,
        ).emit()

    block("0", size, True, False)
    fn.loop(1, count - 1, 1, lambda number, _: block(number, size, False, False))
    block(str(count - 1), whole.depth - size * (count - 1), False, True)
