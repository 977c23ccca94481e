"""Operator classes: each is exported, has samples, and says what tests and tools need to know of it."""

from __future__ import annotations

import numpy as np
import onnx.defs
import pytest

from gcomp import ops
from gcomp.diagnostics import InferenceError
from gcomp.op import Argument, Constant, Operator, argument, constant, operator_for, operators
from gcomp.ops import (
    Cast,
    DequantizeLinear,
    EyeLike,
    Gemm,
    LayerNormalization,
    OneHot,
    QuantizeLinear,
    Range,
    Relayout,
    Reshape,
    Resize,
)
from gcomp.tolerance import LADDER
from gcomp.types import F32, I64, TensorType, channels_last

CLASSES = {name: cls for name, cls in operators().items() if cls not in (Argument, Constant)}
every_class = pytest.mark.parametrize("name", sorted(CLASSES))


def test_each_class_is_exported() -> None:
    assert sorted(ops.__all__) == sorted(CLASSES)
    assert all(getattr(ops, name) is cls for name, cls in CLASSES.items())


@every_class
def test_each_class_has_samples_of_its_own(name: str) -> None:
    cls = CLASSES[name]
    samples = list(cls.samples())
    assert samples
    assert all(type(sample) is cls for sample in samples)


@every_class
def test_each_class_has_a_known_tolerance_and_counts_its_work(name: str) -> None:
    assert CLASSES[name].tolerance in LADDER
    for sample in CLASSES[name].samples():
        assert isinstance(sample.flops, int) and sample.flops >= 0
        assert isinstance(sample.bytes, int) and sample.bytes >= 0


@every_class
def test_each_class_says_what_it_is(name: str) -> None:
    assert CLASSES[name].__doc__ != Operator.__doc__
    assert (CLASSES[name].__doc__ or "").strip().endswith((".", "`"))


def schemas() -> list[tuple[str, str]]:
    return [(name, cls.onnx) for name, cls in sorted(CLASSES.items()) if cls.onnx and not cls.domain]


@pytest.mark.parametrize(("name", "onnx_name"), schemas())
def test_versions_are_those_of_the_standard(name: str, onnx_name: str) -> None:
    """A class begins with a version of its schema, and is what a model of that opset gets."""
    cls = CLASSES[name]
    assert onnx.defs.get_schema(onnx_name, cls.since).since_version == cls.since
    assert operator_for("", onnx_name, cls.since) is cls


def test_operators_of_no_version_are_unknown() -> None:
    assert operator_for("", "NoSuchOperator", 20) is None
    assert operator_for("elsewhere", "Relu", 20) is None


def test_constants_hold_arrays_whatever_they_are_given() -> None:
    for value in (np.float32(0.5), np.array(0.5, np.float32)):
        held = Constant(value)  # pyright: ignore[reportArgumentType]  # a scalar of numpy is no array
        assert isinstance(held.value, np.ndarray)
        assert held.result.type == TensorType(F32, ())
    mapped = np.zeros(3, np.float32)
    assert Constant(mapped).value is mapped
    assert constant(2.5).type == TensorType(F32, ())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda x: EyeLike(x, 0), "a type that gcomp has"),
        (
            lambda x: LayerNormalization(x, constant(np.ones(4, np.float32)), stash_type=-1),
            "a type that gcomp has",
        ),
        (lambda x: LayerNormalization(x, constant(np.ones(4, np.float32)), stash_type=7), "a type among f32"),
        (lambda x: QuantizeLinear(x, constant(0.5), output_dtype=-1), "a type that gcomp has"),
        (
            lambda x: DequantizeLinear(Cast(x, 3).result, constant(0.5), output_dtype=-1),
            "a type that gcomp has",
        ),
        (lambda x: Resize(x, None, constant([1.0, np.inf])), "a finite scale"),
        (lambda x: Range(constant(0.0), constant(np.inf), constant(1.0)), "finite bounds"),
        (lambda x: OneHot(Cast(x, 7).result, constant(np.inf), constant([0.0, 1.0])), "a finite depth"),
        (lambda x: Reshape(x, constant([-3, -4])), "sizes of at least -1"),
        (lambda x: Relayout(x, channels_last(4, 16)), "a layout of the operand's axes"),
    ],
)
def test_nonsense_in_attributes_is_an_error_of_the_operator(make, complaint) -> None:
    with pytest.raises(InferenceError, match=complaint):
        make(argument(TensorType(F32, (3, 4))))


def test_gemm_of_integers_wraps_as_matmul_does() -> None:
    a = np.array([[2**62, 3], [-5, 2**63 - 1]], np.int64)
    gemm = Gemm(argument(TensorType(I64, (2, 2))), argument(TensorType(I64, (2, 2))), alpha=-3.0)
    assert (gemm.reference(a, a, None) == -3 * (a @ a)).all()
