"""Products of f32 matrices with constant bf16: rows are rounded to pairs of bf16 first, sums are f32."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from gcomp.op import Operator
from gcomp.ops.bfloat import BfloatGemm, BfloatMatMul
from gcomp.ops.linear import Gemm
from gcomp.types import BF16, Array

from ..emit import Value
from ..problem import Emitted, Epilogue, Problem, View
from . import gemm
from .axis import Axis
from .bfloats import PAIRS, in_pairs, rounded_row, row_of_pairs
from .frame import is_f32

ANCHORS: tuple[type[Operator], ...] = (BfloatGemm, BfloatMatMul)

NEAR = 32 << 10
"""Bytes of pairs that stay in the first level of cache."""
TOGETHER = 256
"""Rows that share a panel of weights while it is close, whatever their length."""


def match(problem: Problem) -> Emitted | None:
    """A kernel for BfloatMatMul, or BfloatGemm as it is, of row-major sides, the right one constant."""
    op, a, b = problem.anchor, problem.view(0), problem.view(1)
    if (
        problem.strict
        or not problem.cpu.multiplies_bfloats
        or a is None
        or b is None
        or not is_f32(a, *problem.results)
    ):
        return None
    if b.array is None or b.type.dtype != BF16 or b.type.rank != 2 or 0 in b.type.static_shape:
        return None
    if isinstance(op, Gemm) and (op.alpha != 1 or op.trans_a):
        return None
    if a.strides[-1] != 1 or not gemm.is_plain(problem, a, b):
        return None
    return _Product(problem, a, b).emit()


class _Product(gemm.Product):
    """The product of one problem; an element of its depth is a pair."""

    unit = PAIRS

    def __init__(self, problem: Problem, a: View, b: View) -> None:
        super().__init__(problem, a, b)
        self.numbers, self.depth = self.depth, -(-self.depth // 2)

    def right(self) -> Array:
        op, matrix = self.problem.anchor, np.asarray(self.b.array, ml_dtypes.bfloat16)
        return in_pairs(matrix if isinstance(op, Gemm) and op.trans_b else matrix.T)

    def matrix(self, rows: gemm.Place, x: Value, w: Value, epilogue: Epilogue, index: list[Value]) -> None:
        """In blocks of rows, which are still close when they have been rounded."""
        fn, most = self.fn, max(TOGETHER, NEAR // (row_of_pairs(self.numbers) * 4))
        whole = rows.count // most * most

        def block(start: Value, count: int) -> None:
            here = list(index)
            here[rows.axis] = fn.add(index[rows.axis], start)
            source = fn.element(x, fn.mul(start, rows.a), "float")
            part = gemm.Place(rows.axis, count, rows.a, rows.b)
            gemm.Product.matrix(self, part, source, w, epilogue, here)

        fn.loop(0, whole, most, lambda start, _: block(start, most))
        if whole < rows.count:
            block(str(whole), rows.count - whole)

    def left(self, x: Value, rows: gemm.Place) -> tuple[Value, Axis]:
        fn, step = self.fn, row_of_pairs(self.numbers)
        pairs = self.frame.scratch(rows.count * step * 4)

        def one(row: Value, _: object) -> None:
            source = fn.element(x, fn.mul(row, rows.a), "float")
            rounded_row(fn, source, fn.element(pairs, fn.mul(row, step), "i32"), self.numbers)

        fn.loop(0, rows.count, 1, one)
        return pairs, Axis(rows.count, rows.count, step)
