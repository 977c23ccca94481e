"""Products with weights that are zero in blocks of four outputs: rows side by side in vectors, zeros skipped.

Rows of the input are transposed in registers, a chunk at a time, so that one input of many rows is a few
vectors; sums are transposed back before the epilogue. A zero that is skipped drops 0 * inf and 0 * NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gcomp.op import Operator
from gcomp.ops.convolution import Conv
from gcomp.ops.linear import Gemm, MatMul
from gcomp.types import Array
from gcomp.weights import matrices

from ..emit import Function, Value, lane_mask, vector
from ..problem import Emitted, Epilogue, Problem
from ..transpose import transposed
from . import pattern
from .axis import Axis
from .frame import Frame, is_f32
from .pattern import BLOCK
from .schedule import balanced, lanes_of, pieces
from .unit import multiply_add
from .windows import axes_of, channels_in_memory, is_channels_last

ANCHORS: tuple[type[Operator], ...] = (Gemm, MatMul, Conv)


@dataclass(frozen=True)
class _Product:
    """`out[image, row, column] = bias[column] + sum x[image, row, k] * matrix[column, k]`.

    Inputs of a row lie side by side, rows and images some elements apart. `columns` counts those in memory,
    `row_axes` are the logical axes of the result that rows run through, `column_axis` is that of columns.
    """

    matrix: Array
    bias: int | None
    images: int
    image_step: int
    rows: int
    row_step: int
    row_axes: tuple[int, ...]
    columns: int
    column_axis: int


def match(problem: Problem) -> Emitted | None:
    """A kernel for constant weights that are zero in enough blocks for it to pay: of Gemm, MatMul, 1x1 Conv.

    All is f32, rows run through memory in even steps, and an addend or bias is one per column. Strict sums
    skip no zeros, since whether that pays depends on the processor.
    """
    if problem.strict:
        return None
    x, w, out = problem.view(0), problem.view(1), problem.results[0]
    if x is None or w is None or w.array is None or lanes_of(problem.cpu) % BLOCK:
        return None
    if not is_f32(x, w, *problem.results, problem.view(2)) or len(out.type.static_shape) < 2:
        return None
    product = _convolution(problem) if isinstance(problem.anchor, Conv) else _matrices(problem)
    if product is None:
        return None
    blocks = pattern.occupied(product.matrix)
    if not pattern.pays(problem.cpu, product.rows, blocks):
        return None
    return _Kernel(problem, product, blocks).emit()


def _matrices(problem: Problem) -> _Product | None:
    op, a, b, out = problem.anchor, problem.view(0), problem.view(1), problem.results[0]
    if a is None or b is None or b.array is None or (a.type.layout or out.type.layout) is not None:
        return None
    if b.type.rank != 2 or a.type.rank != out.type.rank or a.strides[-1] != 1:
        return None
    matrix, bias = matrices(op, np.ascontiguousarray(b.array))[0, :, 0], None
    if isinstance(op, Gemm):
        c = problem.view(2)
        if op.trans_a or (op.c is not None and c is None):
            return None
        if c is not None:
            if op.beta != 1 or c.type.static_shape[-1:] != matrix.shape[:1] or c.type.size != len(matrix):
                return None
            if c.strides[-1] != 1:
                return None
            bias = 2
        matrix = matrix * np.float32(op.alpha)
    sizes = a.type.static_shape
    axes = tuple(axis for axis in range(a.type.rank - 1) if sizes[axis] > 1)
    if any(a.strides[i] != a.strides[j] * sizes[j] for i, j in pairwise(axes)):
        return None
    rows = int(np.prod(sizes[:-1]))
    step = a.strides[axes[-1]] if axes else 0
    return _Product(matrix, bias, 1, 0, rows, step, axes or (0,), len(matrix), out.type.rank - 1)


def _convolution(problem: Problem) -> _Product | None:
    op, x, w, out = problem.anchor, problem.view(0), problem.view(1), problem.results[0]
    if not isinstance(op, Conv) or x is None or w is None or w.array is None or w.type.rank != 4:
        return None
    if op.group != 1 or (op.b is not None and problem.view(2) is None):
        return None
    if not is_channels_last(out, lanes_of(problem.cpu)) or not is_channels_last(x, 1) or x.strides[3] != 1:
        return None
    height, width = axes_of(op.geometry, x.strides[1:3])
    if not (_is_point(height) and _is_point(width)) or x.strides[1] != x.strides[2] * width.size:
        return None
    return _Product(
        matrices(op, np.ascontiguousarray(w.array))[0, :, 0],
        None if op.b is None else 2,
        x.type.static_shape[0],
        x.strides[0],
        height.extent * width.extent,
        x.strides[2],
        tuple(axis for axis, size in ((2, height.extent), (3, width.extent)) if size > 1) or (3,),
        channels_in_memory(out),
        1,
    )


def _is_point(axis: Axis) -> bool:
    return axis.kernel == axis.stride == 1 and axis.extent == axis.size and axis.pad == 0


class _Kernel:
    """The kernel of one product."""

    def __init__(self, problem: Problem, product: _Product, blocks: Array) -> None:
        self.problem, self.product, self.blocks = problem, product, blocks
        self.frame = Frame(problem)
        self.fn: Function = self.frame.fn
        self.lanes = lanes_of(problem.cpu)
        self.type, self.align = vector("float", self.lanes), problem.cpu.vector_bytes
        self.outputs, self.depth = product.matrix.shape
        self.rows = pieces(product.rows, self.lanes)
        self.columns = pieces(product.columns, self.lanes)

    def emit(self) -> Emitted | None:
        frame, fn, product, matrix = self.frame, self.fn, self.product, self.product.matrix
        x = frame.operand(0)
        self.bias = None if product.bias is None else frame.operand(product.bias)
        rows_of_blocks = self.columns * self.lanes // BLOCK
        self.starts = frame.packed(1, lambda: pattern.starts(self.blocks, rows_of_blocks))
        self.inputs = frame.packed(1, lambda: pattern.inputs(self.blocks))
        self.values = frame.packed(1, lambda: pattern.values(matrix, self.blocks))
        self.epilogue: Epilogue = frame.epilogue()
        axes = product.row_axes
        if not all(self.epilogue.mergeable(*pair) for pair in pairwise(axes)):
            return None
        runs = balanced(self.rows, pattern.widest(self.problem.cpu, self.depth))
        most = runs[0].size * self.lanes
        room = pieces(self.depth, self.lanes) * self.lanes * most
        self.crossed = frame.scratch((room + 2 * self.lanes * most) * 4)
        self.sums = fn.element(self.crossed, room, "float")
        self.lines = fn.element(self.crossed, room + self.lanes * most, "float")

        def image(n: Value, _: object) -> None:
            source = fn.element(x, fn.mul(n, product.image_step), "float")
            for run in runs:
                fn.loop(
                    run.start, run.stop, run.size, lambda v, _, run=run: self._chunk(source, n, v, run.size)
                )

        fn.loop(0, product.images, 1, image)
        return frame.finish("block-sparse")

    def _chunk(self, x: Value, n: Value, v: Value, size: int) -> None:
        """`size` vectors of rows from the v-th on: all columns."""
        fn, lanes = self.fn, self.lanes
        first = fn.mul(v, lanes)
        fn.loop(0, size, 1, lambda p, _: self._cross(x, fn.add(first, fn.mul(p, lanes)), p, size))

        def column(c: Value, _: object) -> None:
            each = lanes // BLOCK
            fn.loop(0, each, 1, lambda q, _: self._sums(fn.add(fn.mul(c, each), q), q, size))
            fn.loop(0, size, 1, lambda p, _: self._cross_back(p, size))
            active = None if c.startswith("%") else min(lanes, max(0, self.outputs - int(c) * lanes))
            left = fn.add(self.product.rows, fn.mul(first, -1))
            fn.loop(
                0,
                self._least(left, size * lanes),
                1,
                lambda r, _: self._store(n, fn.add(first, r), r, c, active),
            )

        whole = self.outputs // lanes
        fn.loop(0, whole, 1, column)
        for c in range(whole, self.columns):
            column(str(c), None)

    def _cross(self, x: Value, row: Value, p: Value, size: int) -> None:
        """Puts the inputs of `lanes` rows side by side, input by input; the last stands for those beyond."""
        fn, lanes = self.fn, self.lanes
        rows = [self._least(fn.add(row, r), self.product.rows - 1) for r in range(lanes)]
        sources = [fn.element(x, fn.mul(row, self.product.row_step), "float") for row in rows]
        target = fn.element(self.crossed, fn.mul(p, lanes), "float")

        def block(k: Value, load: Callable[[Value], Value]) -> None:
            lines = [load(fn.element(source, k, "float")) for source in sources]
            for i, line in enumerate(transposed(fn, lines, "float")):
                at = fn.mul(fn.add(k, i), size * lanes)
                fn.store(line, fn.element(target, at, "float"), self.type, self.align)

        whole = self.depth // lanes * lanes
        fn.loop(0, whole, lanes, lambda k, _: block(k, lambda at: fn.load(at, self.type, 4)))
        if whole < self.depth:
            mask = lane_mask(self.depth - whole, lanes)
            block(str(whole), lambda at: fn.masked_load(at, mask, "float", lanes))

    def _sums(self, row: Value, q: Value, size: int) -> None:
        """The sums of one row of blocks, four outputs, for `size` vectors of rows."""
        fn, lanes = self.fn, self.lanes
        ends = [
            fn.value(f"sext i32 {fn.load(fn.element(self.starts, fn.add(row, i), 'i32'), 'i32', 4)} to i64")
            for i in (0, 1)
        ]
        initial = [self._initial(fn.add(fn.mul(row, BLOCK), output)) for output in range(BLOCK)]

        def block(i: Value, sums: list[Value]) -> list[Value]:
            k = fn.value(f"sext i32 {fn.load(fn.element(self.inputs, i, 'i32'), 'i32', 4)} to i64")
            source = fn.element(self.crossed, fn.mul(k, size * lanes), "float")
            x = [fn.load(fn.element(source, v * lanes, "float"), self.type, self.align) for v in range(size)]
            weights = fn.element(self.values, fn.mul(i, BLOCK), "float")
            following: list[Value] = []
            for output in range(BLOCK):
                scalar = fn.load(fn.element(weights, output, "float"), "float", 4)
                weight = fn.splat(scalar, "float", lanes)
                for v in range(size):
                    following.append(multiply_add(fn, weight, x[v], sums[output * size + v], lanes))
            return following

        carried = [(self.type, value) for value in initial for _ in range(size)]
        sums = fn.loop(ends[0], ends[1], 1, block, carried)
        target = fn.element(self.sums, fn.mul(q, BLOCK * size * lanes), "float")
        for at, value in enumerate(sums):
            fn.store(value, fn.element(target, at * lanes, "float"), self.type, self.align)

    def _initial(self, output: Value) -> Value:
        """The bias in all lanes; that of the last output stands for those beyond."""
        if self.bias is None:
            return "zeroinitializer"
        at = self._least(output, self.outputs - 1)
        return self.fn.splat(
            self.fn.load(self.fn.element(self.bias, at, "float"), "float", 4), "float", self.lanes
        )

    def _cross_back(self, p: Value, size: int) -> None:
        """Puts the columns of `lanes` rows side by side again, row by row."""
        fn, lanes = self.fn, self.lanes
        source = fn.element(self.sums, fn.mul(p, lanes), "float")
        places = [fn.element(source, i * size * lanes, "float") for i in range(lanes)]
        lines: Sequence[Value] = transposed(
            fn, [fn.load(at, self.type, self.align) for at in places], "float"
        )
        target = fn.element(self.lines, fn.mul(p, lanes * lanes), "float")
        for i, line in enumerate(lines):
            fn.store(line, fn.element(target, i * lanes, "float"), self.type, self.align)

    def _store(self, n: Value, row: Value, line: Value, c: Value, active: int | None) -> None:
        fn, product = self.fn, self.product
        value = fn.load(fn.element(self.lines, fn.mul(line, self.lanes), "float"), self.type, self.align)
        place = ["0"] * self.problem.results[0].type.rank
        if product.images > 1:
            place[0] = n
        if product.rows > 1:
            place[product.row_axes[-1]] = row
        place[product.column_axis] = fn.mul(c, self.lanes)
        self.epilogue.store(value, place, product.column_axis, self.lanes, active)

    def _least(self, a: Value, b: int) -> Value:
        if not a.startswith("%"):
            return str(min(int(a), b))
        return self.fn.call("i64", "llvm.smin.i64", [("i64", a), ("i64", str(b))])
