"""Products of byte matrices with constant right sides, where the processor adds four products at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gcomp.op import Operator
from gcomp.ops.linear import MatMulInteger
from gcomp.types import I8, Array

from ..emit import Value, vector
from ..problem import Emitted, Problem, View
from .dots import (
    GROUP,
    Dots,
    copy_bytes,
    corrections,
    has_dots,
    in_groups,
    offset_of,
    panels,
    tile_for,
    zero_of,
)
from .frame import Frame
from .schedule import lanes_of, pieces

ANCHORS: tuple[type[Operator], ...] = (MatMulInteger,)


def match(problem: Problem) -> Emitted | None:
    """A kernel for MatMulInteger with a constant matrix of i8 without zero points; sides are row-major."""
    op, a, b = problem.anchor, problem.view(0), problem.view(1)
    if not isinstance(op, MatMulInteger) or not has_dots(problem.cpu) or a is None or b is None:
        return None
    out = problem.results[0].type
    if b.array is None or b.type.rank != 2 or b.type.dtype != I8 or a.type.rank < 2:
        return None
    if a.type.layout is not None or out.layout is not None or 0 in (*out.static_shape, *a.type.static_shape):
        return None
    zero = zero_of(problem, 2)
    if zero is None or zero_of(problem, 3) != 0 or a.strides[-1] != 1:
        return None
    return _Product(problem, a, b.array, zero).emit()


class _Product:
    """The product of one problem, batch by batch."""

    def __init__(self, problem: Problem, a: View, b: Array, zero: int) -> None:
        self.problem, self.a, self.b = problem, a, b
        self.offset = offset_of(a)
        self.zero = zero + self.offset
        self.frame = Frame(problem)
        self.fn, self.lanes = self.frame.fn, lanes_of(problem.cpu)
        self.shape = problem.results[0].type.static_shape
        self.rows, self.columns = self.shape[-2:]
        self.depth = b.shape[0]
        self.groups = pieces(self.depth, GROUP)
        self.tile = tile_for(problem.cpu, self.rows, self.columns, self.groups)
        self.copied = bool(self.offset) or self.depth % GROUP != 0

    def emit(self) -> Emitted:
        fn = self.fn
        a, w = self.frame.operand(0), self.frame.packed(1, self._pack)
        first = self.frame.packed(1, self._corrections)
        step = self.groups * GROUP if self.copied else self.a.strides[-2]
        scratch = self.frame.scratch(self.rows * step) if self.copied else ""
        epilogue = self.frame.epilogue()

        def matrix(x: Value, index: list[Value]) -> None:
            if self.copied:
                source, x = x, scratch
                fn.loop(0, self.rows, 1, lambda row, _: self._copy(source, scratch, row, step))

            def scalar(row: Value, r: int, _: int, group: Value) -> Value:
                return fn.element(x, fn.add(fn.mul(fn.add(row, r), step), fn.mul(group, GROUP)), "i8")

            def wide(column: Value, v: int, vectors: int, group: Value) -> Value:
                panel = fn.mul(column, self.groups * self.lanes)
                within = fn.add(fn.mul(group, vectors * self.lanes), v * self.lanes)
                return fn.element(w, fn.add(panel, within), "i32")

            def initial(_: Value, column: Value, v: int) -> Value:
                at = fn.element(first, fn.mul(fn.add(column, v), self.lanes), "i32")
                return fn.load(at, vector("i32", self.lanes))

            def store(value: Value, row: Value, column: Value, active: int) -> None:
                place = [*index, row, fn.mul(column, self.lanes)]
                epilogue.store(value, place, len(self.shape) - 1, self.lanes, active)

            cpu = self.problem.cpu
            size = (self.rows, self.columns, self.groups)
            Dots(fn, cpu, *size, self.tile, scalar, wide, "vector", initial, store).emit()

        self._batches(a, [], matrix)
        return self.frame.finish("integer_gemm")

    def _batches(self, x: Value, index: list[Value], matrix: Callable[[Value, list[Value]], None]) -> None:
        """Every matrix of the left side."""
        axis = len(index)
        if axis == len(self.shape) - 2:
            matrix(x, index)
            return
        step = self.a.strides[axis]

        def one(i: Value, _: object) -> None:
            self._batches(self.fn.element(x, self.fn.mul(i, step), "i8"), [*index, i], matrix)

        self.fn.loop(0, self.shape[axis], 1, one)

    def _copy(self, source: Value, target: Value, row: Value, step: int) -> None:
        """One row with room for whole groups, as u8; what fills it up meets weights of zero."""
        fn = self.fn
        x = fn.element(source, fn.mul(row, self.a.strides[-2]), "i8")
        copy_bytes(fn, x, fn.element(target, fn.mul(row, step), "i8"), self.depth, self.offset)

    def _pack(self) -> Array:
        """The right side as [panel][group][column][4]."""
        room = pieces(self.columns, self.lanes) * self.lanes
        padded = np.zeros((room, self.groups, GROUP), np.int8)
        padded[: self.columns] = in_groups(self.b.T)
        parts: list[Array] = []
        for run in panels(self.columns, self.lanes, self.tile):
            for start in range(run.start, run.stop, run.size):
                block = padded[start * self.lanes : (start + run.size) * self.lanes]
                parts.append(block.transpose(1, 0, 2).ravel())
        return np.concatenate(parts)

    def _corrections(self) -> Array:
        sums = np.zeros(pieces(self.columns, self.lanes) * self.lanes, np.int32)
        sums[: self.columns] = corrections(self.b.T, self.zero)
        return sums
