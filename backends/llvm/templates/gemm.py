"""Matrix products of f32: packed constant or dynamic right sides, batches, vectors times matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gcomp.diagnostics import OpenSizeError
from gcomp.dim import Dim
from gcomp.op import Operator
from gcomp.ops.linear import Gemm, MatMul
from gcomp.types import Array

from ..emit import Function, Value, lane_mask, number, vector
from ..problem import Emitted, Epilogue, Problem, View
from . import blocks
from .axis import Axis
from .frame import Frame, is_f32
from .packing import pack
from .schedule import Run, Tile, balanced, choose, lanes_of, pieces
from .tile import Contraction, Weights
from .unit import FLOATS

ANCHORS: tuple[type[Operator], ...] = (Gemm, MatMul)

STREAM = 8
"""Vectors in one of the two panels that a vector times a matrix reads at once."""
ALIASED = 2048
"""Rows this many bytes apart, or a multiple, fall on the same few cache sets."""
WORTH_PACKING = 32
"""Rows of the left side from which on an aliased right side is packed at run time."""


def match(problem: Problem) -> Emitted | None:
    """A kernel for Gemm or MatMul of row-major f32; a dynamic right side must not be transposed."""
    a, b = problem.view(0), problem.view(1)
    if a is None or b is None or not is_f32(a, b, *problem.results) or not is_plain(problem, a, b):
        return None
    return Product(problem, a, b).emit()


def is_plain(problem: Problem, a: View, b: View) -> bool:
    """Whether both sides and the result lie in memory as a `Product` takes them, whatever their types."""
    op = problem.anchor
    views = (a, b, problem.results[0])
    if any(view.type.layout is not None for view in views) or min(a.type.rank, b.type.rank) < 2:
        return False
    if isinstance(op, Gemm):
        if op.c is not None and (problem.view(2) is None or not is_f32(problem.view(2))):
            return False
        if b.array is None and (op.trans_b or op.alpha != 1):
            return False
    return b.array is not None or b.strides[-1] == 1


@dataclass(frozen=True)
class Place:
    """An axis of the result that is no column, with what one step along it means for `a` and `b`."""

    axis: int
    extent: Dim
    a: int
    b: int

    @property
    def count(self) -> int:
        """The extent as a number. Raises `OpenSizeError` for a symbolic one."""
        if not isinstance(self.extent, int):
            raise OpenSizeError(f"a product needs a number of rows, not {self.extent}")
        return self.extent


class Product:
    """The matrix product of one problem."""

    unit = FLOATS

    def __init__(self, problem: Problem, a: View, b: View) -> None:
        op = problem.anchor
        self.problem, self.a, self.b = problem, a, b
        self.frame = Frame(problem)
        self.fn: Function = self.frame.fn
        self.lanes = lanes_of(problem.cpu)
        self.shape = problem.results[0].type.shape
        self._sums: Value | None = None
        trans_a = isinstance(op, Gemm) and bool(op.trans_a)
        self.depth = a.type.inner_shape[-1] if not trans_a else a.type.static_shape[-2]
        row, self.depth_step = (a.strides[-1], a.strides[-2]) if trans_a else (a.strides[-2], a.strides[-1])
        self.columns = problem.results[0].type.inner_shape[-1]
        self.vectors = pieces(self.columns, self.lanes)
        self.packed = b.array is not None and b.type.rank == 2
        rank = len(self.shape)
        self.places = [
            Place(
                axis,
                self.shape[axis],
                row if axis == rank - 2 else _step(a, axis - rank),
                _step(b, axis - rank),
            )
            for axis in range(rank - 1)
            if self.shape[axis] != 1
        ]
        if self.places and self.places[-1].axis == rank - 2:
            self.places[-1] = Place(rank - 2, self.shape[-2], row, 0)

    def emit(self) -> Emitted:
        x, w = self.frame.operand(0), self._weights()
        op = self.problem.anchor
        self.addend = self.frame.operand(2) if isinstance(op, Gemm) and op.c is not None else None
        epilogue = self.frame.epilogue()
        batch, rows = self._split(epilogue)
        self._batches(batch, rows, x, w, epilogue, ["0"] * len(self.shape))
        return self.frame.finish("gemm")

    def _weights(self) -> Value:
        if not self.packed:
            return self.frame.operand(1)
        return self.frame.packed(1, self._pack)

    def right(self) -> Array:
        """The constant right side as [column, depth], in elements of the unit."""
        op, matrix = self.problem.anchor, np.asarray(self.b.array)
        if not isinstance(op, Gemm):
            return matrix.T
        return (matrix if op.trans_b else matrix.T) * np.float32(op.alpha)

    def left(self, x: Value, rows: Place) -> tuple[Value, Axis]:
        """Some rows of the left side, which start at `x`, in elements of the unit."""
        return x, Axis(rows.count, rows.count, rows.a)

    def _pack(self) -> Array:
        filters = self.right()[:, :, None, None]
        split = self._streamed * self.lanes
        parts = [pack(filters[:split], self.lanes, self._streamed, Tile(1, STREAM))] if split else []
        if split < self.columns:
            parts.append(pack(filters[split:], self.lanes, self.vectors - self._streamed, self._tile))
        return np.concatenate(parts)

    def _split(self, epilogue: Epilogue) -> tuple[list[Place], Place]:
        """The axes to loop over, and the rows: as many inner axes as one stride in memory runs through."""
        places = list(self.places)
        if not places or places[-1].b:
            rows = Place(0, 1, 0, 0)
        else:
            inner = rows = places.pop()
            while (
                places
                and places[-1].b == 0
                and places[-1].a == inner.a * inner.extent
                and epilogue.mergeable(places[-1].axis, inner.axis)
            ):
                inner = places.pop()
                rows = Place(rows.axis, rows.extent * inner.extent, rows.a, 0)
        count = rows.extent if isinstance(rows.extent, int) else blocks.ROWS
        self._tile = choose(self.problem.cpu, count, self.vectors, self.depth, in_turn=epilogue.is_short)
        pairs = self.columns // (2 * STREAM * self.lanes) if self.packed and rows.extent == 1 else 0
        self._streamed, self._many = 2 * STREAM * pairs, rows
        return places, rows

    def _batches(
        self,
        batch: Sequence[Place],
        rows: Place,
        x: Value,
        w: Value,
        epilogue: Epilogue,
        index: list[Value],
    ) -> None:
        if not batch:
            self._rows(rows, x, w, epilogue, index)
            return
        place, fn = batch[0], self.fn

        def body(i: Value, _: object) -> None:
            here = list(index)
            here[place.axis] = i
            a, b = fn.element(x, fn.mul(i, place.a), "float"), fn.element(w, fn.mul(i, place.b), "float")
            self._batches(batch[1:], rows, a, b, epilogue, here)

        fn.loop(0, fn.size(place.extent), 1, body)

    def _rows(self, rows: Place, x: Value, w: Value, epilogue: Epilogue, index: list[Value]) -> None:

        def some(first: Value, size: int) -> None:
            here = list(index)
            here[rows.axis] = self.fn.add(index[rows.axis], first)
            source = self.fn.element(x, self.fn.mul(first, rows.a), "float")
            self.matrix(Place(rows.axis, size, rows.a, rows.b), source, w, epilogue, here)

        blocks.over_rows(self.fn, rows.extent, some)

    def matrix(self, rows: Place, x: Value, w: Value, epilogue: Epilogue, index: list[Value]) -> None:
        """The product of some rows, the first at `index`; a single one takes two streams of panels."""
        fn, lanes = self.fn, self.lanes
        x, row = self.left(x, rows)

        def place_of(row: Value, column: Value) -> list[Value]:
            here = list(index)
            here[rows.axis], here[-1] = fn.add(index[rows.axis], row), fn.mul(column, lanes)
            return here

        def initial(_: Value, row: Value, count: int, column: Value, vectors: int) -> list[Value]:
            return self._initial(place_of(row, fn.add(column, self._streamed)), count, vectors)

        def store(value: Value, _: Value, row: Value, column: Value) -> None:
            column = fn.add(column, self._streamed)
            epilogue.store(value, place_of(row, column), len(self.shape) - 1, lanes, self._active(column))

        if self._streamed:
            self._stream(x, w, place_of, epilogue)
        if self._streamed == self.vectors:
            return
        if self.packed:
            w = fn.element(w, self._streamed * self.depth * lanes, self.unit.element)
            weights = Weights(w, None, self.depth * lanes, self.problem.cpu.vector_bytes, self.columns)
        else:
            weights = self._in_place(rows, w)
        contraction = Contraction(
            fn,
            lanes,
            Axis(1, 1, 0),
            row,
            self.depth,
            self.depth_step,
            self.vectors - self._streamed,
            self.columns // lanes - self._streamed,
            self._tile,
            x,
            weights,
            initial,
            store,
            self.unit,
        )
        blocks.emit(contraction, self._scratch)

    def _scratch(self, bytes: int) -> Value:
        """Memory for sums, the same for all blocks of rows: the first is the largest."""
        self._sums = self._sums or self.frame.scratch(bytes)
        return self._sums

    def _in_place(self, rows: Place, w: Value) -> Weights:
        """A right side known only at run time, as it lies; packed where rows share a few cache sets."""
        fn, lanes, step = self.fn, self.lanes, self.b.strides[-2]
        aliased = step * 4 % ALIASED == 0 and self.columns % lanes == 0
        aliased = aliased and isinstance(self._many.extent, int) and rows.count >= WORTH_PACKING
        if not aliased:
            return Weights(w, step, lanes, 4, self.columns)
        type, size = vector("float", lanes), self.depth * lanes
        target = self.frame.scratch(self.vectors * size * 4)
        for run in balanced(self.vectors, self._tile.vectors):

            def panel(column: Value, _: object, run: Run = run) -> None:
                source = fn.element(w, fn.mul(column, lanes), "float")
                to = fn.element(target, fn.mul(column, size), "float")

                def line(k: Value, _: object) -> None:
                    here, there = fn.mul(k, step), fn.mul(k, run.size * lanes)
                    for v in range(run.size):
                        value = fn.load(fn.element(source, fn.add(here, v * lanes), "float"), type, 4)
                        fn.store(value, fn.element(to, fn.add(there, v * lanes), "float"), type, 4)

                fn.loop(0, self.depth, 1, line)

            fn.loop(run.start, run.stop, run.size, panel)
        return Weights(target, None, size, self.problem.cpu.vector_bytes, self.columns)

    def _active(self, column: Value) -> int | None:
        """The lanes of a vector of columns that are there; the place of the last one is known."""
        return None if column.startswith("%") else min(self.lanes, self.columns - int(column) * self.lanes)

    def _initial(self, place: list[Value], count: int, vectors: int) -> list[Value]:
        """Zero, or the addend of Gemm: one per element, row or column."""
        fn, lanes, op = self.fn, self.lanes, self.problem.anchor
        if self.addend is None or not isinstance(op, Gemm):
            return ["zeroinitializer"] * (count * vectors)
        c = self.problem.view(2)
        if c is None:
            raise ValueError("the addend of a Gemm is not in memory")
        down, across = (_step(c, axis) for axis in (-2, -1))
        values: list[Value] = []
        for row in range(count if down else 1):
            for v in range(vectors):
                at = fn.add(fn.mul(fn.add(place[0], row), down), fn.mul(fn.add(place[1], v * lanes), across))
                pointer = fn.element(self.addend, at, "float")
                values.append(self._scaled(self._addend(pointer, place[1], v, across), op.beta))
        return values if down else values * count

    def _addend(self, pointer: Value, column: Value, v: int, across: int) -> Value:
        fn, lanes = self.fn, self.lanes
        if across == 0:
            return fn.splat(fn.load(pointer, "float", 4), "float", lanes)
        active = lanes if column.startswith("%") else self.columns - int(column) - v * lanes
        if active < lanes:
            return fn.masked_load(pointer, lane_mask(active, lanes), "float", lanes)
        return fn.load(pointer, vector("float", lanes), 4)

    def _scaled(self, value: Value, beta: float) -> Value:
        if beta == 1:
            return value
        factor = self.fn.splat(number(beta, self.a.type.dtype), "float", self.lanes)
        return self.fn.value(f"fmul {vector('float', self.lanes)} {value}, {factor}")

    def _stream(
        self, x: Value, w: Value, place_of: Callable[[Value, Value], list[Value]], epilogue: Epilogue
    ) -> None:
        """One row times two panels of `STREAM` vectors at once, so that memory delivers from two places."""
        fn, lanes = self.fn, self.lanes
        half, element = self._streamed // 2, self.unit.element
        sums = vector(self.unit.sum, lanes)

        def pair(column: Value, _: object) -> None:
            starts = [column, fn.add(column, half)]
            panels = [fn.element(w, fn.mul(start, self.depth * lanes), element) for start in starts]
            values = [v for start in starts for v in self._initial(place_of("0", start), 1, STREAM)]

            def body(k: Value, values: list[Value]) -> list[Value]:
                scalar = fn.load(fn.element(x, fn.mul(k, self.depth_step), element), element, 4)
                spread = fn.splat(scalar, element, lanes)
                values = list(values)
                for side, panel in enumerate(panels):
                    row = fn.element(panel, fn.mul(k, STREAM * lanes), element)
                    for v in range(STREAM):
                        pointer = fn.element(row, v * lanes, element)
                        weight = fn.load(pointer, vector(element, lanes), self.problem.cpu.vector_bytes)
                        at = side * STREAM + v
                        values[at] = self.unit.multiply_add(fn, spread, weight, values[at], lanes)
                return values

            values = fn.loop(0, self.depth, 1, body, [(sums, value) for value in values])
            for at, value in enumerate(values):
                column_at = fn.add(starts[at // STREAM], at % STREAM)
                epilogue.store(value, place_of("0", column_at), len(self.shape) - 1, lanes)

        fn.loop(0, half, STREAM, pair)


def _step(view: View, axis: int) -> int:
    """The stride of an axis counted from the end; 0 where the view lacks it or repeats along it."""
    if -axis > view.type.rank or view.type.shape[axis] == 1:
        return 0
    return view.strides[axis]
