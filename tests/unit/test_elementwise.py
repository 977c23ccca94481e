"""Element-wise operators where samples do not reach: special values, known sizes, refusals, old opsets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gcomp.diagnostics import InferenceError
from gcomp.dim import symbol
from gcomp.evaluate import evaluate_op
from gcomp.expand import expanded
from gcomp.interpret import interpret
from gcomp.ir import Op, Value
from gcomp.lowering import lower_op
from gcomp.op import Operator, argument, constant, constant_value, known_content, operator_for
from gcomp.ops import (
    Add,
    BatchNormalization,
    Cast,
    Clip,
    Clip_6,
    Div,
    Dropout,
    Elu,
    Equal,
    Erf,
    Exp,
    Flatten,
    Gelu,
    Identity,
    LayerNormalization,
    LeakyRelu,
    LogSoftmax,
    Max,
    Min,
    Mul,
    ReduceL2,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Relu,
    Reshape,
    Shape,
    Sigmoid,
    Softmax,
    Softmax_1,
    Softplus,
    Sub,
    Tanh,
    Where,
)
from gcomp.types import BOOL, F32, FLOATS, I32, I64, Array, DType, TensorType

NAN, INF = np.nan, np.inf
SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 200.0, -200.0]


def both(op: Operator, *arrays: Array | None) -> list[tuple[Array, Array]]:
    """Each result by the reference and by the lowering."""
    kernel = expanded(lower_op(op))
    given = [a if t is not None else None for t, a in zip(kernel.operands, arrays, strict=True)]
    return list(zip(evaluate_op(op, arrays), interpret(kernel, given), strict=True))


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Relu, [NAN, INF, 0, 0, 0, 200, 0]),
        (Exp, [NAN, INF, 0, 1, 1, INF, 0]),
        (Sigmoid, [NAN, 1, 0, 0.5, 0.5, 1, 0]),
        (Tanh, [NAN, 1, -1, 0, 0, 1, -1]),
        (Erf, [NAN, 1, -1, 0, 0, 1, -1]),
        (Elu, [NAN, INF, -1, 0, 0, 200, -1]),
        (Softplus, [NAN, INF, 0, np.log(2), np.log(2), 200, 0]),
    ],
)
def test_activations_at_special_values(cls: Callable[[Value], Operator], expected: list[float]) -> None:
    x = np.array(SPECIAL, np.float32)
    ((reference, lowered),) = both(cls(argument(TensorType(F32, x.shape))), x)
    for found in (reference, lowered):
        np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-6, atol=1e-37)


def test_extremes_and_clip_propagate_nan() -> None:
    x, type = np.array([NAN, 1.0, 2.0], np.float32), TensorType(F32, (3,))
    y = np.array([1.0, NAN, 3.0], np.float32)
    for op, arrays in (
        (Max((argument(type), argument(type))), (x, y)),
        (Min((argument(type), argument(type))), (x, y)),
        (Clip(argument(type), argument(TensorType(F32, ()))), (x, np.array(NAN, np.float32), None)),
    ):
        for reference, lowered in [pair for pair in both(op, *arrays)]:
            assert np.isnan(reference[:2]).all()
            np.testing.assert_array_equal(reference, lowered)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("low", "high"), [(None, None), (None, 1.0), (-1.0, None), (-INF, INF)])
def test_absent_bounds_of_clip_are_the_ends_of_the_type(
    dtype: DType, low: float | None, high: float | None
) -> None:
    """ONNX says numeric_limits::lowest() and max(), from version 6 on."""
    x = np.array([INF, -INF, NAN, 0.5], dtype.numpy)
    bounds = [None if bound is None else np.array(bound, dtype.numpy) for bound in (low, high)]
    ends = [end if bound is None else bound for bound, end in zip(bounds, dtype.extremes, strict=True)]
    given = [None if bound is None else argument(TensorType(dtype, ())) for bound in bounds]
    ((reference, lowered),) = both(Clip(argument(TensorType(dtype, (4,))), *given), x, *bounds)
    for found in (reference, lowered):
        assert (
            found[:2].tolist() == [float(ends[1]), float(ends[0])] and np.isnan(found[2]) and found[3] == 0.5
        )


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [({}, [*reversed(F32.extremes)]), ({"min": -INF, "max": INF}, [INF, -INF])],
)
def test_bounds_of_clip_6_are_the_ends_of_the_type_unless_given(
    attributes: dict[str, float], expected: list[float]
) -> None:
    new = Clip_6(argument(TensorType(F32, (2,))), **attributes).upgrade()
    assert isinstance(new, Clip)
    arrays = [None if value is None else constant_value(value) for value in new.operands[1:]]
    ((reference, _),) = both(new, np.array([INF, -INF], np.float32), *arrays)
    assert reference.tolist() == expected


def test_the_slope_of_leaky_relu_begins_below_zero() -> None:
    """An infinite slope tells: at zero it would give NaN."""
    x = np.array([-1.0, -0.0, 0.0, 2.0], np.float32)
    ((reference, lowered),) = both(LeakyRelu(argument(TensorType(F32, (4,))), alpha=INF), x)
    np.testing.assert_array_equal(reference, [-INF, 0, 0, 2])
    np.testing.assert_array_equal(lowered, reference)


def test_softmax_of_a_fully_masked_row_is_nan_and_of_an_infinity_too() -> None:
    x = np.array([[-INF, -INF, -INF], [-INF, 0.0, 0.0], [INF, 0.0, 0.0]], np.float32)
    for cls in (Softmax, LogSoftmax):
        ((reference, lowered),) = both(cls(argument(TensorType(F32, (3, 3)))), x)
        np.testing.assert_array_equal(np.isnan(reference).any(1), [True, False, True])
        np.testing.assert_allclose(lowered, reference, rtol=1e-6)


def test_log_sum_exp_of_infinities() -> None:
    x = np.array([[-INF, -INF], [INF, 0.0], [500.0, 500.0], [NAN, 0.0]], np.float32)
    op = ReduceLogSumExp(argument(TensorType(F32, (4, 2))), constant([1]), keepdims=0)
    ((reference, lowered),) = both(op, x, np.array([1]))
    np.testing.assert_allclose(reference, [-INF, INF, 500 + np.log(2), NAN], rtol=1e-6)
    np.testing.assert_allclose(lowered, reference, rtol=1e-6)


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (ReduceSum, 0),
        (ReduceMax, -INF),
        (ReduceMin, INF),
        (ReduceMean, NAN),
        (ReduceL2, 0),
        (ReduceLogSumExp, -INF),
    ],
)
def test_reductions_of_nothing(cls: Any, expected: float) -> None:
    op = cls(argument(TensorType(F32, (2, 0))), constant([1]), keepdims=0)
    ((reference, lowered),) = both(op, np.zeros((2, 0), np.float32), np.array([1]))
    np.testing.assert_array_equal(reference, np.full(2, expected, np.float32))
    np.testing.assert_array_equal(lowered, reference)


def test_symbolic_sizes_are_kept() -> None:
    n, c = symbol("n"), symbol("c")
    x = argument(TensorType(F32, (n, 3, c)))
    assert Add(x, argument(TensorType(F32, (3, 1)))).result.type.shape == (n, 3, c)
    assert ReduceSum(x, constant([1]), keepdims=0).result.type.shape == (n, c)
    assert ReduceMean(x, constant([-1])).result.type.shape == (n, 3, 1)
    assert Softmax(x).result.type.shape == (n, 3, c)
    assert [
        value.type.shape
        for value in LayerNormalization(x, argument(TensorType(F32, (c,))), outputs=3).results
    ] == [
        (n, 3, c),
        (n, 3, 1),
        (n, 3, 1),
    ]


def test_arithmetic_of_sizes_stays_known() -> None:
    n = symbol("n")
    shape = Shape(argument(TensorType(F32, (n, 6)))).result
    doubled = Mul(shape, constant([2, 1])).result
    assert known_content(doubled) == (n * 2, 6)
    assert known_content(Div(doubled, constant([2, 2])).result) == (n, 3)
    assert known_content(Sub(Add(shape, constant(4)).result, constant(3)).result) == (n + 1, 7)
    assert known_content(Cast(Identity(shape).result, I64.code).result) == (n, 6)
    assert known_content(Max((shape, constant([1, 9]))).result)[1:] == (9,)  # type: ignore[index]
    assert known_content(Div(shape, constant([-1, 0])).result) is None


def test_where_of_a_comparison_of_sizes_is_known() -> None:
    """What exporters write for `expand`: -1 in the wanted shape stands for a size of the tensor."""
    n = symbol("n")
    shape, wanted = Shape(argument(TensorType(F32, (n, 6)))).result, constant([-1, 4])
    assert known_content(Where(Equal(wanted, constant(-1)).result, shape, wanted).result) == (n, 4)
    assert known_content(Where(Equal(shape, constant([-1, 6])).result, constant([1, 1]), shape).result) == (
        n,
        1,
    )
    assert known_content(Where(Equal(shape, constant([5, 6])).result, constant([1, 1]), shape).result) is None


def test_what_sizes_are_known_to_be_wraps_as_code_does() -> None:
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int32).max
    assert known_content(Cast(constant([least, 3]), I32.code).result) == (0, 3)
    assert known_content(Add(constant([most], np.int32), constant([1], np.int32)).result) == (-most - 1,)


def test_no_numpy_warning_reaches_a_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        least = np.iinfo(np.int32).min
        assert known_content(Div(constant([least], np.int32), constant([-1], np.int32)).result) == (least,)
        rows, row = (argument(TensorType(F32, shape)) for shape in ((2, 0), (0,)))
        empty = np.empty((2, 0), np.float32)
        (found,) = evaluate_op(LayerNormalization(rows, row), [empty, empty[0], None])
        assert found.shape == (2, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f, i: Add(f, i), "Add needs operands of one type"),
        (lambda f, i: Add(f, argument(TensorType(F32, (4,)))), "Add needs operands that broadcast"),
        (lambda f, i: Exp(i), "Exp needs operands of one type"),
        (lambda f, i: Where(f, f, f), "Where needs a condition of bool"),
        (lambda f, i: ReduceSum(f, constant([2])), r"ReduceSum needs an axis in \[-2, 2\)"),
        (lambda f, i: ReduceSum(f, argument(TensorType(I64, (1,)))), "axes that are known"),
        (lambda f, i: Softmax(f, axis=-3), r"Softmax needs an axis in \[-2, 2\)"),
        (lambda f, i: Clip(f, f), "Clip needs scalar bounds"),
        (lambda f, i: Gelu(f, approximate="cosh"), "Gelu needs approximate"),
        (lambda f, i: Cast(f, 99), "Cast needs a type that gcomp has"),
        (lambda f, i: Dropout(f, None, argument(TensorType(BOOL, ()))), "training_mode"),
        (lambda f, i: BatchNormalization(f, f, f, f, f), "BatchNormalization needs a vector"),
        (lambda f, i: LayerNormalization(f, argument(TensorType(F32, (4,)))), "broadcast to x"),
    ],
)
def test_operands_that_do_not_fit_are_refused(make: Callable[[Value, Value], Op], message: str) -> None:
    with pytest.raises(InferenceError, match=message):
        make(argument(TensorType(F32, (2, 3))), argument(TensorType(I64, (2, 3))))


def test_opsets_choose_their_class() -> None:
    expected = {
        ("Softmax", 12): "Softmax_1",
        ("Softmax", 13): "Softmax",
        ("Clip", 10): "Clip_6",
        ("Clip", 11): "Clip",
    }
    expected |= {
        ("ReduceSum", 12): "ReduceSum_1",
        ("ReduceMean", 17): "ReduceMean_1",
        ("ReduceMean", 18): "ReduceMean",
    }
    found = {(name, opset): operator_for("", name, opset) for name, opset in expected}
    assert {key: cls and cls.__name__ for key, cls in found.items()} == expected


def test_an_old_softmax_reshapes_only_where_it_must() -> None:
    flat = Softmax_1(argument(TensorType(F32, (2, 5, 1, 1)))).upgrade()
    assert isinstance(flat, Softmax)
    assert flat.axis == 1
    folded = Softmax_1(argument(TensorType(F32, (2, 3, 5)))).upgrade()
    assert isinstance(folded, Reshape)
    rows = folded.data.producer
    assert isinstance(rows, Softmax)
    assert isinstance(rows.x.producer, Flatten)
