"""Copies between crossed axes: square blocks, contiguous in source and result, transposed in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gcomp.dim import Dim
from gcomp.expr import Expr, Var

from .access import Access, Element, at_zero, coefficient
from .emit import Function, Value, lane_mask, scalar, vector
from .vectorize import Evaluator

SMALLEST = 4
"""Extents below this are left to scalar code."""


@dataclass(frozen=True)
class Loop:
    """A loop of a nest: its variable and how often it runs."""

    var: Var
    extent: Dim


def emit(
    fn: Function,
    result: Access,
    value: Expr,
    offset: Expr,
    loops: Sequence[Loop],
    lanes: int,
    pads: bool,
    failed: Value | None,
) -> bool:
    """Emits `result[offset] = value` over all loops, if that is a copy of 32-bit elements along crossed axes.

    `pads`: the last axis has room for whole vectors, and what lies beyond its extent becomes zero. `failed`
    is where an index out of range is told.
    """
    crossed = _crossed(value, offset, loops) if result.type.dtype.bytes == 4 else None
    if crossed is None or not isinstance(value, Element):
        return False
    down, across = crossed  # contiguous in the source, contiguous in the result
    rows, columns = down.extent, across.extent
    if not isinstance(rows, int) or not isinstance(columns, int) or min(rows, columns) < SMALLEST:
        return False
    outer = [loop for loop in loops if loop not in crossed]
    block = _Block(fn, value.access, result, value.index[0], offset, down, across, lanes, pads)

    def nest(depth: int, evaluate: Evaluator) -> None:
        if depth < len(outer):
            loop = outer[depth]
            fn.loop(
                0,
                fn.size(loop.extent),
                1,
                lambda i, _: nest(depth + 1, evaluate.inner({**evaluate.variables, loop.var: i})),
            )
            return
        _tiled(fn, rows, lanes, lambda i, height: _tiled(
            fn, columns, lanes, lambda j, width: block.emit(evaluate, i, height, j, width)
        ))  # fmt: skip

    nest(0, Evaluator(fn, {}, failed=failed))
    return True


def _crossed(value: Expr, offset: Expr, loops: Sequence[Loop]) -> tuple[Loop, Loop] | None:
    """The loops along which the source and the result are contiguous, where those differ."""
    if not isinstance(value, Element) or value.where is not None or len(loops) < 2:
        return None
    across = loops[-1]
    down = next((loop for loop in loops[:-1] if coefficient(value.index[0], loop.var) == 1), None)
    if down is None or coefficient(offset, across.var) != 1:
        return None
    steps = [coefficient(value.index[0], across.var), coefficient(offset, down.var)]
    return (down, across) if all(step not in (None, 0, 1) for step in steps) else None


def _tiled(fn: Function, extent: int, lanes: int, body: Callable[[Value, int], None]) -> None:
    """Whole blocks of `lanes` in a loop, then what is left: `body(start, count)`."""
    whole = extent // lanes * lanes
    fn.loop(0, whole, lanes, lambda i, _: body(i, lanes))
    if whole < extent:
        body(str(whole), extent - whole)


@dataclass(frozen=True)
class _Block:
    fn: Function
    source: Access
    result: Access
    source_offset: Expr
    result_offset: Expr
    down: Loop
    across: Loop
    lanes: int
    pads: bool

    def emit(self, evaluate: Evaluator, i: Value, rows: int, j: Value, columns: int) -> None:
        """Copies `rows` along `down` from `i` on times `columns` along `across` from `j` on."""
        fn, lanes, dtype = self.fn, self.lanes, self.result.type.dtype
        read = self._start(evaluate, self.source, self.source_offset, i, j)
        step = coefficient(self.source_offset, self.across.var) or 0
        element, type = scalar(dtype), vector(scalar(dtype), lanes)
        block: list[Value] = []
        for column in range(lanes):
            if column >= columns:
                block.append("zeroinitializer")
                continue
            pointer = fn.element(read, column * step, element)
            if rows == lanes:
                block.append(fn.load(pointer, type))
            else:
                block.append(fn.masked_load(pointer, lane_mask(rows, lanes), element, lanes))
        write = self._start(evaluate, self.result, self.result_offset, i, j)
        step = coefficient(self.result_offset, self.down.var) or 0
        for row, line in enumerate(transposed(fn, block, element)[:rows]):
            pointer = fn.element(write, row * step, element)
            if columns == lanes or self.pads:
                fn.store(line, pointer, type)
            else:
                fn.masked_store(line, pointer, lane_mask(columns, lanes), element, lanes)

    def _start(self, evaluate: Evaluator, access: Access, offset: Expr, i: Value, j: Value) -> Value:
        fn = self.fn
        place = evaluate(at_zero(at_zero(offset, self.down.var), self.across.var))
        for loop, start in ((self.down, i), (self.across, j)):
            place = fn.add(place, fn.mul(start, coefficient(offset, loop.var) or 0))
        return fn.element(access.pointer, place, scalar(access.type.dtype))


def transposed(fn: Function, rows: Sequence[Value], element: str) -> list[Value]:
    """The columns of a square block of vectors, a power of two, by exchanging ever smaller quarters."""
    lanes, block = len(rows), list(rows)
    type = vector(element, lanes)
    distance = lanes // 2
    while distance:
        upper = [lane if not lane & distance else lanes + lane - distance for lane in range(lanes)]
        lower = [lane + distance if not lane & distance else lanes + lane for lane in range(lanes)]
        for row in range(lanes):
            if not row & distance:
                a, b = block[row], block[row + distance]
                block[row], block[row + distance] = (
                    fn.value(
                        f"shufflevector {type} {a}, {type} {b}, "
                        f"<{lanes} x i32> <{', '.join(f'i32 {place}' for place in places)}>"
                    )
                    for places in (upper, lower)
                )
        distance //= 2
    return block
