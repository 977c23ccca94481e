"""Graphs run by their references, and symbolic sizes given values."""

from typing import Any

import numpy as np
import pytest

from gcomp.diagnostics import (
    GcompError,
    InferenceError,
    InputError,
    ReferenceFault,
    RunError,
    UnsupportedError,
)
from gcomp.dim import symbol
from gcomp.evaluate import evaluate, evaluate_op
from gcomp.ir import Graph, Value
from gcomp.op import Operator, argument, constant
from gcomp.ops import Add, Gemm, MatMul, Relu
from gcomp.specialise import bind
from gcomp.text import parse
from gcomp.types import F32, F64, Array, TensorType, channels_last
from gcomp.wellformed import check
from tests.constant_arrays import array_of

TEXT = """
graph "main" (%x: f32[n,3], %y: f32[n,m]) -> (%c "c", %x "x", %c "again") {
  %w = Constant {value=f32[3,1] dense<1.0, 2.0, 3.0>}
  %a = MatMul(%x, %w)
  %b = Add(%a, %y)
  %c = Relu(%b)
}
"""
X = np.arange(6, dtype=np.float32).reshape(2, 3)
Y = np.array([[-100.0] * 5, [1.0] * 5], np.float32)


def test_outputs_come_in_order():
    c, x, again = evaluate(parse(TEXT), [X, Y])
    assert np.array_equal(c, [[0.0] * 5, [27.0] * 5])
    assert np.array_equal(x, X)
    assert again is c


def test_inputs_go_by_name_or_place():
    graph = parse(TEXT)
    assert np.array_equal(evaluate(graph, {"y": Y, "x": X})[0], evaluate(graph, [X, Y])[0])


def test_an_observer_sees_every_value_once():
    graph, seen = parse(TEXT), {}
    evaluate(graph, [X, Y], lambda value, array: seen.setdefault(value.name, []).append(array.shape))
    assert seen == {
        "x": [(2, 3)],
        "y": [(2, 5)],
        "w": [(3, 1)],
        "a": [(2, 1)],
        "b": [(2, 5)],
        "c": [(2, 5)],
    }


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ([X], "takes 2 inputs, got 1"),
        ({"x": X}, "'y' is missing"),
        ({"x": X, "y": Y, "z": Y}, "'z' is unknown"),
        ([X.astype(np.float64), Y], r"input 'x' is f32\[n,3\], got float64\[2, 3\]"),
        ([X.astype(complex), Y], r"input 'x' is f32\[n,3\], got complex128"),
        ([X[0], Y], r"got float32\[3\]"),
        ([X[:, :2], Y], r"input 'x' is f32\[n,3\], got float32\[2, 2\]"),
        ([X, Y[:1]], r"input 'y' is f32\[n,m\], got float32\[1, 5\] where m=5, n=2"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, complaint):
    with pytest.raises(InputError, match=complaint):
        evaluate(parse(TEXT), inputs)


def test_sizes_that_are_more_than_a_symbol_are_checked():
    n = symbol("n")
    graph = Graph()
    long, short = (
        graph.add_input(TensorType(F32, (n * 2,)), "long"),
        graph.add_input(TensorType(F32, (n,)), "short"),
    )
    graph.outputs, graph.output_names = [long, short], ["a", "b"]
    evaluate(graph, [np.zeros(6, np.float32), np.zeros(3, np.float32)])
    with pytest.raises(InputError, match="'long'"):
        evaluate(graph, [np.zeros(5, np.float32), np.zeros(3, np.float32)])


class Odd(Operator):
    """A reference that gives what it is told to."""

    x: Value
    given: Any = None

    def infer(self) -> TensorType | tuple[TensorType, ...]:
        return self.x.type

    def reference(self, x: Array) -> Array:
        if isinstance(self.given, GcompError):
            raise self.given
        return x if self.given is None else self.given


class Two(Odd):
    """The same for two results."""

    def infer(self):
        return self.x.type, self.x.type


class Silent(Operator):
    """No reference at all."""

    def infer(self) -> TensorType:
        return TensorType(F32, ())


ARGUMENT = argument(TensorType(F32, (2,)))


def test_a_result_is_an_array_of_the_declared_dtype():
    for given in (np.zeros(2), np.zeros(2, np.float32), (np.zeros(2),)):
        (array,) = evaluate_op(Odd(ARGUMENT, given), [np.ones(2, np.float32)])
        assert array.dtype == np.float32
    scalar = Odd(argument(TensorType(F32, ())), np.float64(3))
    assert evaluate_op(scalar, [np.array(1, np.float32)])[0].shape == ()


def test_a_reference_that_breaks_its_word_is_refused():
    operand = [np.ones(2, np.float32)]
    with pytest.raises(InferenceError, match=r"gives shape \[3\] where f32\[2\] is promised") as caught:
        evaluate_op(Odd(ARGUMENT, np.zeros(3)), operand)
    assert "Odd(" in caught.value.line
    with pytest.raises(InferenceError, match="gives 1 results, not 2"):
        evaluate_op(Two(ARGUMENT, np.zeros(2)), operand)
    with pytest.raises(UnsupportedError, match="Silent has no reference"):
        evaluate_op(Silent(), [])


def test_an_error_within_a_reference_names_the_operator():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2,)), "x")
    op = graph.add(Odd(x, InputError("no")))
    op.origin = ("node",)
    graph.outputs, graph.output_names = [op.result], ["y"]
    with pytest.raises(InputError, match="no") as caught:
        evaluate(graph, [np.ones(2, np.float32)])
    assert caught.value.origin == ("node",)
    assert "Odd(%x)" in caught.value.line or "Odd(" in caught.value.line


def test_a_size_that_depends_on_data_holds_from_there_on():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2,)), "x")

    class Count(Odd):
        def infer(self) -> TensorType:
            return TensorType(F32, (symbol("count"),))

    first = graph.add(Count(x, np.zeros(3, np.float32)))
    second = graph.add(Count(x, np.zeros(4, np.float32)))
    graph.outputs, graph.output_names = [first.result, second.result], ["a", "b"]
    with pytest.raises(InferenceError, match=r"gives shape \[4\]"):
        evaluate(graph, [np.ones(2, np.float32)])


def test_sizes_are_bound_throughout():
    graph = parse(TEXT)
    graph.metadata = {"opset": {"": 13}}
    graph.ops[3].result.type = graph.ops[3].result.type.with_layout(channels_last(2, 4))
    bound = bind(graph, {"n": 2})
    check(bound)
    assert [str(value.type) for value in bound.inputs] == ["f32[2,3]", "f32[2,m]"]
    assert str(bound.ops[1].result.type) == "f32[2,1]"
    assert bound.ops[3].result.type.layout == channels_last(2, 4)
    assert bound.metadata == graph.metadata
    assert array_of(bound.ops[0].result) is array_of(graph.ops[0].result)
    assert np.array_equal(evaluate(bound, [X, Y])[0], evaluate(graph, [X, Y])[0])
    assert bind(bound, {"m": 5}).inputs[1].type == TensorType(F32, (2, 5))
    assert bind(graph, {"n": symbol("m")}).inputs[1].type == TensorType(F32, (symbol("m"), symbol("m")))


def test_binding_reaches_attributes_and_regions():
    n = symbol("n")
    graph, body = Graph(), Graph("body")
    x = graph.add_input(TensorType(F32, (n,)), "x")
    y = body.add_input(TensorType(F32, (n,)), "y")
    body.outputs = [body.add(Add(x, y)).result]

    class Holder(Operator):
        x: Value
        body: Graph
        sizes: object

        def infer(self) -> TensorType:
            return self.body.outputs[0].type

    holder = graph.add(Holder(x, body, (n * 2, (n, "n", TensorType(F64, (n,))))))
    graph.outputs, graph.output_names = [holder.result], ["z"]
    copy = bind(graph, {"n": 3}).ops[0]
    assert isinstance(copy, Holder)
    assert copy.sizes == (6, (3, "n", TensorType(F64, (3,))))
    assert copy.body.inputs[0].type == TensorType(F32, (3,))
    assert copy.result.type == TensorType(F32, (3,))
    assert copy.body.ops[0].operands[0] is copy.x


def test_sizes_that_cannot_be_bound_are_refused():
    with pytest.raises(InputError, match="has the size 'k'; symbolic sizes: m, n"):
        bind(parse(TEXT), {"k": 3})
    graph = Graph()
    a, b = graph.add_input(TensorType(F32, (2, symbol("k"))), "a"), constant(np.zeros((3, 3), np.float32))
    op = graph.add(Gemm(MatMul(a, graph.add_input(TensorType(F32, (symbol("k"), 3)), "c")).result, b))
    op.origin = ("gemm",)
    graph.outputs, graph.output_names = [op.result], ["y"]
    assert bind(graph, {"k": 7}).outputs[0].type == TensorType(F32, (2, 3))
    text = 'graph "g" (%x: f32[n,3], %y: f32[m,3]) -> (%z "z") {\n  %z = Add(%x, %y) from "add"\n}'
    with pytest.raises(InferenceError) as caught:
        bind(parse(text), {"n": 2, "m": 5})
    assert caught.value.origin == ("add",)
    assert caught.value.line.startswith("%z = Add(%x, %y)")


def test_relu_is_what_it_is():
    assert np.array_equal(evaluate_op(Relu(ARGUMENT), [np.array([-1, 2], np.float32)])[0], [0, 2])


class Stumbling(Operator):
    """Its reference raises whatever it is given."""

    error: type[Exception]

    def infer(self) -> TensorType:
        return TensorType(F32, ())

    def reference(self) -> Array:
        raise self.error("none such")


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (IndexError, RunError, "Stumbling: none such"),
        (KeyError, ReferenceFault, r"the reference of Stumbling raises KeyError: 'none such' \(.*line \d+\)"),
    ],
)
def test_what_a_reference_raises_is_told(error: type[Exception], kind: type[GcompError], told: str):
    with pytest.raises(kind, match=told):
        evaluate_op(Stumbling(error), [])
