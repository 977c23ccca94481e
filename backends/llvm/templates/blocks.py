"""Deep contractions in blocks: of depth and taps, so that weights stay in the nearest cache, and of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

from gcomp.dim import Dim

from ..emit import Function, Value, vector
from .schedule import Tile, pieces
from .tile import Contraction

PANEL = 64 << 10
"""Bytes of weights in a block: more would not stay close, and less means more sums that are put away."""
CACHE = 1 << 20
"""Bytes of the input in a block of rows, which every panel reads again."""
SUMS = 64 << 10
"""Bytes of sums that are not complete, at most, where a block is a tap of a convolution or part of one."""
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
    outer, inner, tile = contraction.outer, contraction.inner, contraction.tile
    deepest = depth_of(tile, contraction.lanes)
    taps = outer.kernel * inner.kernel
    tiles = outer.extent * pieces(inner.extent, tile.rows)
    sums = outer.extent * inner.extent * tile.vectors * contraction.lanes * 4
    packed = contraction.weights.step is None and tile.taps == 1
    deep = packed and taps * contraction.depth > deepest and tiles > 1
    if deep and outer.extent == taps == 1:
        _in_rows(contraction, deepest, scratch)
    elif deep and sums <= SUMS:
        _over_panels(contraction, deepest, scratch(sums))
    else:
        contraction.emit()


def depth_of(tile: Tile, lanes: int) -> int:
    """The greatest depth of a block."""
    return PANEL // (tile.vectors * lanes * 4)


def _in_rows(contraction: Contraction, deepest: int, scratch: Callable[[int], Value]) -> None:
    """Blocks of rows that stay close while every panel reads them."""
    inner, fn = contraction.inner, contraction.fn
    most = pieces(inner.extent, pieces(inner.extent * contraction.depth * 4, CACHE))
    most = pieces(most, contraction.tile.rows) * contraction.tile.rows
    sums = scratch(most * contraction.tile.vectors * contraction.lanes * 4)

    def rows(start: Value, count: int) -> None:
        def initial(outer: Value, row: Value, rows: int, column: Value, vectors: int) -> list[Value]:
            return contraction.initial(outer, fn.add(start, row), rows, column, vectors)

        def store(value: Value, outer: Value, row: Value, column: Value) -> None:
            contraction.store(value, outer, fn.add(start, row), column)

        part = replace(
            contraction,
            inner=replace(inner, extent=count, size=count),
            x=fn.element(contraction.x, fn.mul(start, inner.step), contraction.unit.element),
            initial=initial,
            store=store,
        )
        _over_panels(part, deepest, sums)

    whole = inner.extent // most * most
    fn.loop(0, whole, most, lambda start, _: rows(start, most))
    if whole < inner.extent:
        rows(str(whole), inner.extent - whole)


def _over_panels(whole: Contraction, deepest: int, sums: Value) -> None:
    for run in whole.panels():
        whole.fn.loop(
            run.start,
            run.stop,
            run.size,
            lambda column, _, run=run: _panel(whole, column, run.size, deepest, sums),
        )


def _panel(whole: Contraction, column: Value, vectors: int, deepest: int, sums: Value) -> None:
    """One panel, block by block: the first begins with the initial values, the last stores the results."""
    fn, lanes, x, y = whole.fn, whole.lanes, whole.inner, whole.outer
    count = pieces(whole.depth, deepest)
    size = pieces(pieces(whole.depth, count), STEP) * STEP
    count = pieces(whole.depth, size)
    rest = whole.depth - size * (count - 1)
    type = vector(whole.unit.sum, lanes)
    weights = fn.element(whole.weights.pointer, fn.mul(column, whole.weights.panel), whole.unit.element)

    def place(outer: Value, row: Value, v: Value) -> Value:
        number = fn.add(fn.mul(outer, x.extent), row)
        return fn.element(sums, fn.add(fn.mul(number, vectors * lanes), fn.mul(v, lanes)), whole.unit.element)

    def begin(outer: Value, row: Value, rows: int, v: Value, vectors: int) -> list[Value]:
        return whole.initial(outer, row, rows, fn.add(column, v), vectors)

    def go_on(outer: Value, row: Value, rows: int, v: Value, vectors: int) -> list[Value]:
        places = [place(outer, fn.add(row, r), fn.add(v, n)) for r in range(rows) for n in range(vectors)]
        return [fn.load(at, type, 64) for at in places]

    def pause(value: Value, outer: Value, row: Value, v: Value) -> None:
        fn.store(value, place(outer, row, v), type, 64)

    def finish(value: Value, outer: Value, row: Value, v: Value) -> None:
        whole.store(value, outer, row, fn.add(column, v))

    def block(tap: tuple[int, int], number: Value, depth: int, is_first: bool, is_last: bool) -> None:
        start = fn.mul(number, size)
        before = fn.add(start, (tap[0] * x.kernel + tap[1]) * whole.depth)
        pointer = fn.element(weights, fn.mul(before, vectors * lanes), whole.unit.element)
        replace(
            whole,
            outer=y.at_tap(tap[0]),
            inner=x.at_tap(tap[1]),
            depth=depth,
            vectors=vectors,
            whole=vectors,
            x=fn.element(whole.x, fn.mul(start, whole.depth_step), whole.unit.element),
            weights=replace(whole.weights, pointer=pointer),
            initial=begin if is_first else go_on,
            store=finish if is_last else pause,
            next_depth=size,
        ).emit()

    taps = list(product(range(y.kernel), range(x.kernel)))
    for tap in taps:
        is_first, is_last = tap == taps[0], tap == taps[-1]
        if is_first:
            block(tap, "0", size if count > 1 else rest, True, is_last and count == 1)
        stop = count - 1 if is_last or rest < size else count
        fn.loop(int(is_first), stop, 1, lambda number, _, tap=tap: block(tap, number, size, False, False))
        if stop < count and not (is_first and count == 1):
            block(tap, str(count - 1), rest, False, is_last)
