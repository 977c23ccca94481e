"""Operators where their samples do not go: defaults of the standard, contents, odd shapes, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.defs
import pytest
from onnx import helper

from gcomp.dim import minimum, symbol
from gcomp.evaluate import evaluate_op
from gcomp.expand import expanded
from gcomp.interpret import interpret
from gcomp.ir import Graph, Value
from gcomp.kernel import Cast, Compute, walk
from gcomp.lowering import lower_op
from gcomp.op import Constant, Operator, argument, constant, known_content, operators
from gcomp.ops import (
    Add,
    AveragePool,
    ConvTranspose,
    DynamicQuantizeLinear,
    Group,
    MatMulInteger,
    MaxPool,
    Pad,
    QLinearMatMul,
    QuantizeLinear,
    Range,
    ReduceMean,
    ReduceSum,
    Reshape,
    Resize,
    Round,
    Shape,
    Slice,
    Sum,
)
from gcomp.save.protos import onnx_name
from gcomp.testing.samples import operand_arrays
from gcomp.tolerance import mismatch
from gcomp.types import F16, F32, I32, I64, U8, Array, TensorType

NAMED = sorted(
    name for name, cls in operators().items() if cls.onnx and not cls.domain and cls is not Constant
)


@pytest.mark.parametrize("name", NAMED)
def test_defaults_are_those_of_the_standard(name: str) -> None:
    cls = operators()[name]
    schema = onnx.defs.get_schema(cls.onnx, cls.since)
    op = next(iter(cls.samples()))
    for field in cls.fields():
        declared = schema.attributes.get(onnx_name(op, field.name, schema))
        own = getattr(cls, field.name, None)
        if (
            field.kind == "attribute"
            and declared is not None
            and declared.default_value.type
            and own is not None
        ):
            theirs: Any = helper.get_attribute_value(declared.default_value)
            theirs = theirs.decode() if isinstance(theirs, bytes) else theirs
            theirs = tuple(theirs) if isinstance(theirs, list) else theirs
            assert own == pytest.approx(theirs) if isinstance(theirs, float) else own == theirs, field.name


def of(*shape: int, low: float = -1.0, high: float = 1.0) -> Value:
    return argument(TensorType(F32, shape), low, high)


def both(op: Operator) -> tuple[list[Array], list[Array]]:
    """What the reference and the lowered kernel make of seeded operands."""
    arrays = operand_arrays(op)
    kernel = expanded(lower_op(op))
    given = [a if t is not None else None for t, a in zip(kernel.operands, arrays, strict=True)]
    return list(evaluate_op(op, arrays)), interpret(kernel, given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reshape(of(2, 3, 4), constant([3, 8])),
        lambda: Reshape(of(4, 3, 2), constant([2, 3, 4])),
        lambda: ConvTranspose(of(1, 4, 5, 4), of(4, 3, 2, 5), of(6), group=2),
        lambda: Pad(of(), constant(np.zeros(0, np.int64))),
        lambda: Pad(of(), constant(np.zeros(0, np.int64)), mode="wrap"),
        lambda: Pad(of(3, 5), constant([0, 2, 0, -1]), mode="edge"),
        lambda: Pad(of(3, 5), constant([0, -2, 0, 2]), mode="reflect"),
        lambda: Pad(of(3, 5), constant([1, -1, -1, 3]), mode="wrap"),
        lambda: DynamicQuantizeLinear(of(4, low=0, high=0)),
        lambda: AveragePool(of(1, 1, 9), (3,), dilations=(2,), pads=(1, 1)),
        lambda: AveragePool(of(1, 1, 9), (2,), dilations=(3,), pads=(2, 1), strides=(2,)),
        lambda: QuantizeLinear(of(9, low=-300, high=300), constant(1.0), constant(3, np.uint8)),
    ],
)
def test_reference_and_lowering_agree(make: Callable[[], Operator]) -> None:
    op = make()
    for expected, actual in zip(*both(op), strict=True):
        assert not (wrong := mismatch(actual, expected, op.tolerance)), wrong


def test_negative_padding_cuts_first() -> None:
    x = np.arange(5, dtype=np.float32)
    for mode, expected in (("edge", [0, 0, 0, 1, 2, 3]), ("reflect", [2, 1, 0, 1, 2, 3])):
        (found,) = evaluate_op(Pad(of(5), constant([2, -1]), mode=mode), [x, np.array([2, -1]), None, None])
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(("zero", "ends"), [(np.int8(3), [-128, 127]), (np.uint8(3), [0, 255])])
def test_quantizing_reaches_both_ends(zero: np.generic, ends: list[int]) -> None:
    op = QuantizeLinear(
        constant(np.array([-500, 500], np.float32)), constant(1.0), constant(zero, zero.dtype)
    )
    for (found,) in both(op):
        assert np.array_equal(found, ends)


def test_zeros_alone_are_quantized_to_zero() -> None:
    for stored, scale, zero in both(DynamicQuantizeLinear(of(4, low=0, high=0))):
        assert not stored.any() and scale == 0 and zero == 0


def test_a_step_of_one_is_no_step_of_zero() -> None:
    x = np.array([-100, 0, 155], np.float32)
    op = DynamicQuantizeLinear(constant(x))
    for stored, scale, zero in both(op):
        assert scale == 1 and zero == 100 and np.array_equal(stored, [0, 100, 255])


def test_halves_are_rounded_to_even() -> None:
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 3.5], np.float32)
    (found,) = evaluate_op(Round(of(6)), [halves])
    assert np.array_equal(found, [0, 2, 2, 0, -2, 4])


def test_half_precision_is_summed_in_more() -> None:
    """From 2048 on, halves are two apart: adding ones to them one by one would change nothing."""
    ones = TensorType(F16, (4096,))
    for sums in both(ReduceSum(argument(ones, 1, 1), constant([0]), keepdims=0)):
        assert sums[0] == 4096
    few = TensorType(F16, (1,))
    op = Sum(tuple(argument(few, low, low) for low in (2048, 1, 1)))
    for sums in both(op):
        assert sums[0] == 2050


def test_zero_points_of_a_left_side_go_along_its_rows() -> None:
    a, b = np.array([[5, 6], [7, 8]], np.uint8), np.eye(2, dtype=np.uint8)
    op = MatMulInteger(argument(TensorType(U8, (2, 2))), constant(b), constant([1, 2], np.uint8))
    (found,) = evaluate_op(op, [a, b, np.array([1, 2], np.uint8), None])
    assert np.array_equal(found, [[4, 5], [5, 6]])


@pytest.mark.parametrize("end", [-6, -5, -4, 0, 1])
def test_slices_backwards_end_where_those_of_numpy_do(end: int) -> None:
    x, bounds = np.arange(5, dtype=np.float32), ([4], [end], [0], [-1])
    op = Slice(of(5), *map(constant, bounds))
    (found,) = evaluate_op(op, [x, *(np.array(bound, np.int64) for bound in bounds)])
    assert np.array_equal(found, x[4 : None if end == -6 else end : -1])
    for expected, actual in zip(*both(op), strict=True):
        assert np.array_equal(actual, expected)


def test_means_of_integers_are_truncated() -> None:
    x = np.array([[-3, -4], [3, 4]], np.int32)
    (found,) = evaluate_op(ReduceMean(argument(TensorType(I32, (2, 2))), constant([1])), [x, np.array([1])])
    assert np.array_equal(found, [[-3], [3]])


@pytest.mark.parametrize(("where", "expected"), [("SAME_UPPER", [2, 3, 4, 4]), ("SAME_LOWER", [1, 2, 3, 4])])
def test_the_odd_element_of_padding_is_where_the_name_says(where: str, expected: list[float]) -> None:
    x = np.array([[[1, 2, 3, 4]]], np.float32)
    (found,) = evaluate_op(MaxPool(of(1, 1, 4), (2,), auto_pad=where), [x])
    assert np.array_equal(found.ravel(), expected)


def test_scales_of_a_left_side_go_along_its_rows() -> None:
    steps = np.array([[10, 20], [30, 40]], np.uint8)
    rows, one = constant([1.0, 0.5]), constant(1.0)
    zeros, zero = constant([0, 0], np.uint8), constant(0, np.uint8)
    a, b = argument(TensorType(U8, (2, 2)), 0, 9), constant(np.eye(2, dtype=np.uint8))
    op = QLinearMatMul(a, rows, zeros, b, one, zero, one, zero)
    arrays = [steps, *operand_arrays(op)[1:]]
    (found,) = evaluate_op(op, arrays)
    assert np.array_equal(found, [[10, 20], [15, 20]])


def test_contents_are_known() -> None:
    assert known_content(Range(constant(1), constant(7), constant(2)).result) == (1, 3, 5)
    n = symbol("n")
    body = Graph("sizes")
    sizes, more = (body.add_input(TensorType(I64, (1,))) for _ in range(2))
    body.outputs = [body.add(Add(sizes, more)).result]
    x = argument(TensorType(F32, (n,)))
    assert known_content(Group((Shape(x).result, constant([2])), body).result) == (n + 2,)


@pytest.mark.parametrize(
    ("start", "end", "size"),
    [
        (1, 2**31 - 1, symbol("n") - 1),
        (-(2**31) + 1, 2**31 - 1, symbol("n")),
        (-(2**31) + 1, 2, minimum(symbol("n"), 2)),
    ],
)
def test_bounds_far_away_are_the_ends_of_a_symbolic_axis(start: int, end: int, size: object) -> None:
    sliced = Slice(argument(TensorType(F32, (symbol("n"),))), constant([start]), constant([end]))
    assert sliced.result.type.shape == (size,)


@pytest.mark.parametrize("mode", ["asymmetric", "half_pixel"])
def test_elements_repeated_a_whole_number_of_times_are_found_by_integers_alone(mode: str) -> None:
    nearest = "floor" if mode == "asymmetric" else "round_prefer_floor"
    scales = constant(np.array([1, 1, 2, 3], np.float32))
    op = Resize(of(1, 1, 4, 5), None, scales, coordinate_transformation_mode=mode, nearest_mode=nearest)
    (stage,) = lower_op(op).stages
    assert isinstance(stage, Compute)
    assert not any(isinstance(part, Cast) for part in walk(stage.value))
