"""What operators refuse when they are made, and what they cost."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import get_type_hints

import numpy as np
import pytest

from gcomp.diagnostics import GcompError, InferenceError, ReferenceFault
from gcomp.dim import Dim, symbol
from gcomp.evaluate import evaluate
from gcomp.ir import Op, Value
from gcomp.kernel import Compute, Expr, Literal_, Load, Select, inlined
from gcomp.lowering import lower_op
from gcomp.op import Argument, Constant, Operator, argument, constant, operators
from gcomp.ops import (
    Conv,
    ConvTranspose,
    Einsum,
    Gemm,
    GlobalLpPool,
    LpNormalization,
    LpPool,
    MatMul,
    MatMulInteger,
    MaxPool,
    ReduceSum,
    Reshape,
    ScatterND,
    Softmax,
    Split,
    Tile,
    Trilu,
)
from gcomp.rewrite import altered
from gcomp.testing.samples import cone, graph_of, native_samples, put, sample, samples_of
from gcomp.types import BOOL, F32, F64, I8, DType, TensorType


def of(*shape: Dim, dtype: DType = F32) -> Value:
    return argument(TensorType(dtype, shape))


def scattered() -> tuple[Value, Value, Value]:
    """Operands of ScatterND that are no numbers."""
    return of(2, dtype=BOOL), constant([[0]]), of(1, dtype=BOOL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reshape(of(2, 3), constant([-1, 4])), "a shape of as many elements"),
        (lambda: Reshape(of(2, 3), constant([2, 4])), "a shape of as many elements"),
        (lambda: MaxPool(of(1, 1, 2, 2), (4, 4)), "a window no larger than the padded input"),
        (lambda: Conv(of(1, 4, 3, 3), of(3, 2, 1, 1), group=2), "w[0] a multiple of 2"),
        (lambda: Conv(of(1, 4, 3, 3), of(symbol("m"), 4, 1, 1)), "known channels"),
        (lambda: Gemm(of(2, 2), of(2, 2, dtype=F64)), "operands of one float"),
        (lambda: Gemm(of(2, 2, dtype=I8), of(2, 2, dtype=I8)), "operands of one float"),
        (lambda: Gemm(of(2, 2), of(2, 2), of(2, dtype=F64)), "operands of one float"),
        (lambda: Gemm(of(2, 3), of(3, 4), of(5, 4)), "c to broadcast to f32[2,4]"),
        (lambda: LpNormalization(of(2, 3), p=3), "p of 1 or 2 and an axis"),
        (lambda: ReduceSum(of(2, 3), constant([2])), "an axis in [-2, 2)"),
        (lambda: Softmax(of(2, 3), axis=-3), "an axis in [-2, 2)"),
        (lambda: Tile(of(2, 1), constant([1, -1])), "a result of sizes of at least 0"),
        (lambda: ConvTranspose(of(1, 1, 1), of(1, 1, 1), pads=(1, 1)), "a result of sizes of at least 0"),
        (lambda: Trilu(of(2, 2), constant([1, 2])), "one i64 as k"),
        (lambda: Trilu(of(2, 2), constant(1.0)), "one i64 as k"),
        (lambda: GlobalLpPool(of(1, 1, 2), p=0), "p of at least 1"),
        (lambda: LpPool(of(1, 1, 2), (1,), p=0), "p of at least 1"),
        (lambda: Einsum((of(1, 5),), "ii->i"), "one size for 'i'"),
        (lambda: ScatterND(*scattered(), reduction="add"), "numbers where there is a reduction"),
        (
            lambda: MatMulInteger(of(4, 2, dtype=I8), of(2, dtype=I8), None, of(3, dtype=I8)),
            "one zero point per row of a, per column of b",
        ),
        (
            lambda: MatMulInteger(of(4, 2, dtype=I8), of(2, 3, dtype=I8), None, of(2, 3, dtype=I8)),
            "one zero point per row of a, per column of b",
        ),
        (
            lambda: MatMulInteger(of(4, 2, dtype=I8), of(2, 3, dtype=I8), of(4, 2, dtype=I8)),
            "one zero point per row of a, per column of b",
        ),
        (
            lambda: MatMulInteger(of(4, 2, dtype=I8), of(2, dtype=I8), None, of(2, dtype=I8)),
            "one zero point per row of a, per column of b",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], Operator], message: str) -> None:
    with pytest.raises(InferenceError) as error:
        make()
    assert message in error.value.message


def test_a_copy_has_as_many_results() -> None:
    whole, sizes = Split(of(4), constant([1, 3])), constant([1, 1, 2])
    with pytest.raises(InferenceError, match="Split over these gives 3 results for 2"):
        whole.clone({whole.inputs[1]: sizes})
    assert [value.type.shape for value in whole.clone({}).results] == [(1,), (3,)]


@pytest.mark.parametrize(
    ("op", "flops"),
    [
        (lambda: MatMul(of(5, 7), of(7, 3)), 2 * 5 * 7 * 3),
        (lambda: MatMul(of(2, 5, 7), of(7, 3)), 2 * 2 * 5 * 7 * 3),
        (lambda: Gemm(of(7, 5), of(7, 3), trans_a=1), 2 * 5 * 7 * 3),
        (lambda: Gemm(of(5, 7), of(7, 3), of(3)), 2 * 5 * 7 * 3 + 5 * 3),
        (lambda: Conv(of(1, 4, 8, 8), of(6, 2, 3, 3), group=2), 2 * (6 * 6 * 6) * (2 * 3 * 3)),
        (lambda: Conv(of(1, 4, 8, 8), of(6, 4, 1, 1), of(6)), (2 * 4 + 1) * 6 * 8 * 8),
        (lambda: ReduceSum(of(5, 7), constant([1])), 5 * 7),
    ],
)
def test_products_and_sums_cost_what_they_take(op: Callable[[], Operator], flops: int) -> None:
    assert op().flops == flops


def moves_only(x: Expr) -> bool:
    match x:
        case Load() | Literal_():
            return True
        case Select(then=then, other=other):
            return moves_only(then) and moves_only(other)
        case _:
            return False


@pytest.mark.parametrize(("name", "place"), native_samples())
def test_what_only_moves_elements_costs_nothing(name: str, place: int) -> None:
    op = sample(name, place)
    kernel = lower_op(op)
    stages = inlined(kernel.stages, lambda tensor: tensor in kernel.results)
    if all(isinstance(stage, Compute) and moves_only(stage.value) for stage in stages):
        assert op.flops in (0, np.prod(op.results[0].type.static_shape))


OTHERS: dict[type, tuple[object, ...]] = {
    int: (0, -1, 1, 2, 7, -7, 99),
    float: (0.0, -1.0, math.inf, math.nan),
    str: ("", "nonsense"),
    tuple: ((), (0,), (-1, -1), (9, 9), (0, 0, 0), (1, 1, 1, 1), (-1, -1, -1, -1)),
}
"""What attributes might be, by their type."""


def attributes_changed(op: Operator) -> Iterator[Operator]:
    lists = {name for name, hint in get_type_hints(type(op)).items() if str(hint).startswith("tuple")}
    for name, old in op.attributes.items():
        for new in OTHERS.get(tuple if name in lists else type(old), ()):
            try:
                yield altered(op, **{name: new})
            except InferenceError:
                continue


def operands_changed(op: Operator) -> Iterator[Op]:
    """With each operand of other ranks, and without elements."""
    for leaf in cone(op):
        others: list[Op] = []
        if isinstance(leaf, Constant) and leaf.value.size:
            array = leaf.value
            flat = array.ravel()
            others = [Constant(other) for other in (flat[:1].reshape(()), array[None], flat[:0])]
        elif isinstance(leaf, Argument):
            shapes = (), (1, *leaf.type.shape), (0,)
            others = [Argument(TensorType(leaf.type.dtype, shape), leaf.low, leaf.high) for shape in shapes]
        for other in others:
            try:
                yield put(op, leaf, other)
            except InferenceError:
                continue


@pytest.mark.parametrize("name", sorted(operators()))
def test_what_cannot_be_is_refused_in_words(name: str) -> None:
    """Whatever attributes and operands an operator takes, its reference can do with, or says why not."""
    if name in ("Argument", "Constant", "Group", "Relayout"):
        return
    for op in samples_of(operators()[name]):
        for changed in (*attributes_changed(op), *operands_changed(op)):
            if sum(math.prod(value.type.static_shape) for value in changed.results) > 1 << 16:
                continue
            graph, arrays = graph_of(changed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's, of means of nothing
                try:
                    evaluate(graph, arrays)
                except GcompError as error:
                    assert not isinstance(error, ReferenceFault), error
