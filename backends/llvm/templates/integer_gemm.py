"""Products of byte matrices with constant right sides, exact in 32 bits."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from gcomp.op import Operator
from gcomp.ops.linear import MatMulInteger
from gcomp.types import Array

from ..emit import Value, vector
from ..problem import Emitted, Problem, View
from . import blocks
from .axis import Axis
from .dots import Dots, corrections, dots_for, is_signed_matrix, zero_of
from .frame import Frame, has_elements
from .schedule import choose, lanes_of, pieces
from .staging import copy_numbers
from .tile import Contraction, Weights

ANCHORS: tuple[type[Operator], ...] = (MatMulInteger,)


def match(problem: Problem) -> Emitted | None:
    """A kernel for MatMulInteger with a constant matrix of i8 without zero points; sides are row-major."""
    op, a, b, dots = problem.anchor, problem.view(0), problem.view(1), dots_for(problem.cpu)
    if not isinstance(op, MatMulInteger) or dots is None or a is None or a.type.rank < 2:
        return None
    if b is None or b.array is None or not is_signed_matrix(b, 2):
        return None
    out, zero = problem.results[0], zero_of(problem, 2)
    if (
        a.type.layout is not None
        or out.type.layout is not None
        or not has_elements(a)
        or not has_elements(out)
    ):
        return None
    if zero is None or zero_of(problem, 3) != 0 or a.strides[-1] != 1:
        return None
    return _Product(problem, a, b.array, zero, dots).emit()


class _Product:
    """The product of one problem, batch by batch."""

    def __init__(self, problem: Problem, a: View, b: Array, zero: int, dots: Dots) -> None:
        self.problem, self.a, self.b, self.dots = problem, a, b, dots
        self.zero = zero + dots.offset(a.type.dtype)
        self.frame = Frame(problem)
        self.fn, self.lanes = self.frame.fn, lanes_of(problem.cpu)
        self.shape = problem.results[0].type.shape
        self.rows, self.columns = self.shape[-2], b.shape[1]
        self.depth, self.vectors = dots.elements(b.shape[0]), pieces(self.columns, self.lanes)
        self.step = a.strides[-2]

    def emit(self) -> Emitted:
        a, w = self.frame.operand(0), self.frame.packed(1, self._pack)
        first = self.frame.packed(1, lambda: corrections(self.b.T, self.zero, self.vectors * self.lanes))
        epilogue = self.frame.epilogue()
        merged = self._merge_rows(epilogue.mergeable)
        most = self.rows if isinstance(self.rows, int) else blocks.ROWS
        self.tile = choose(
            self.problem.cpu,
            most,
            self.vectors,
            self.depth,
            products=self.dots.products,
            in_turn=epilogue.is_short,
        )
        together, dtype = self.dots.together, self.a.type.dtype
        staged = self.dots.stored != dtype or self.b.shape[0] % together != 0 or self.step % together != 0
        step = self.depth if staged else self.step // together
        scratch = self.frame.scratch(most * step * 4) if staged else ""

        def matrix(x: Value, index: list[Value]) -> None:
            def some(start: Value, rows: int) -> None:
                source = self.fn.element(x, self.fn.mul(start, self.step), "i8")
                if staged:
                    self._copy(source, scratch, rows, step)
                    source = scratch

                def put(value: Value, row: Value, column: Value, active: int | None) -> None:
                    place = [*index, *merged, self.fn.add(start, row), column]
                    epilogue.store(value, place, len(self.shape) - 1, self.lanes, active)

                self._contract(source, rows, step, w, first, put)

            blocks.over_rows(self.fn, self.rows, some)

        self._batches(a, [], len(self.shape) - 2 - len(merged), matrix)
        return self.frame.finish("integer_gemm")

    def _merge_rows(self, mergeable: Callable[[int, int], bool]) -> list[Value]:
        """Makes one axis of the rows of all matrices where they lie evenly; the index of the axes it took."""
        inner = len(self.shape) - 2
        strides, leading = self.a.strides[:-2], self.shape[:inner]
        even = all(
            stride == self.step * prod(self.shape[axis + 1 : -1])
            for axis, stride in enumerate(strides)
            if leading[axis] != 1
        )
        if not even or sum(size != 1 for size in leading) > 1:
            return []
        if any(size != 1 and not mergeable(axis, inner) for axis, size in enumerate(leading)):
            return []
        self.rows *= prod(leading)
        return ["0"] * inner

    def _contract(
        self,
        x: Value,
        count: int,
        step: int,
        w: Value,
        first: Value,
        put: Callable[[Value, Value, Value, int | None], None],
    ) -> None:
        """So many rows, which are `step` elements apart."""
        fn, lanes = self.fn, self.lanes

        def initial(_outer: Value, _row: Value, rows: int, column: Value, vectors: int) -> list[Value]:
            places = [fn.element(first, fn.mul(fn.add(column, v), lanes), "i32") for v in range(vectors)]
            return [fn.load(place, vector("i32", lanes), 4) for place in places] * rows

        def store(value: Value, _: Value, row: Value, column: Value) -> None:
            known = not column.startswith("%")
            put(value, row, fn.mul(column, lanes), self.columns - int(column) * lanes if known else None)

        contraction = Contraction(
            fn,
            lanes,
            Axis(1, 1, 0),
            Axis(count, count, step),
            self.depth,
            1,
            self.vectors,
            self.columns // lanes,
            self.tile,
            x,
            Weights(w, None, self.depth * lanes, self.problem.cpu.vector_bytes, self.columns),
            initial,
            store,
            self.dots.unit,
        )
        blocks.emit(contraction, self.frame.scratch)

    def _batches(
        self, x: Value, index: list[Value], rank: int, matrix: Callable[[Value, list[Value]], None]
    ) -> None:
        """Every matrix of the left side, over `rank` axes."""
        axis = len(index)
        if axis >= rank:
            matrix(x, index)
            return
        step = self.a.strides[axis]

        def one(i: Value, _: object) -> None:
            self._batches(self.fn.element(x, self.fn.mul(i, step), "i8"), [*index, i], rank, matrix)

        self.fn.loop(0, self.fn.size(self.shape[axis]), 1, one)

    def _copy(self, source: Value, target: Value, count: int, step: int) -> None:
        """So many rows with room for whole elements; what fills them up meets weights of zero."""
        fn = self.fn

        def row(at: Value, _: object) -> None:
            here = fn.element(source, fn.mul(at, self.step), "i8")
            there = fn.element(target, fn.mul(at, step), "i32")
            copy_numbers(fn, here, there, self.b.shape[0], self.a.type.dtype, self.dots.stored)

        fn.loop(0, count, 1, row)

    def _pack(self) -> Array:
        return self.dots.packed(self.b.T[:, :, None, None], self.lanes, self.vectors, self.tile)
