"""Native code for networks of Q and DQ equals the references of the lowered graph, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gcomp
from gcomp.backends.llvm.cpu import from_options, host
from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Value
from gcomp.op import Operator, constant
from gcomp.ops import Add, Conv, DequantizeLinear, Gemm, MatMul, Mul, QuantizeLinear, Relu
from gcomp.ops.integer import ConvInteger
from gcomp.ops.linear import MatMulInteger
from gcomp.types import F32, I8, U8, DType, TensorType

SHAPES = {"conv": (1, 5, 6, 7), "depthwise": (1, 16, 6, 7), "gemm": (4, 19), "matmul": (2, 4, 19)}
FILTERS = 16


def processors() -> list[Any]:
    """Targets that this machine can run: the nests, and the templates of each generation of its family."""
    found: list[Any] = ["llvm", "llvm{templates=off}"]
    if host().arch == "x86_64":
        older = [name for name in ("x86-64", "haswell") if host().has(*from_options({"cpu": name}).features)]
        found += [f"llvm{{cpu={name}}}" for name in older]
    return found


class Network:
    """A product of bytes, what may be added to it, and what comes after; `random` draws the numbers."""

    def __init__(self, seed: int) -> None:
        self.random, self.graph = np.random.default_rng(seed), Graph("q")

    def step(self, *shape: int) -> Value:
        """Scales with all their bits in use, of a size that leaves most results within a byte."""
        return constant(self.random.uniform(0.01, 0.03, shape).astype(np.float32))

    def restored(self, value: Value, dtype: DType) -> Value:
        zero = constant(self.random.integers(0, 20), dtype.numpy)
        return DequantizeLinear(value, self.step(), zero).result

    def weights(self, axis: int, *shape: int) -> Value:
        stored = constant(self.random.integers(-127, 128, shape).astype(np.int8))
        return DequantizeLinear(stored, self.step(shape[axis]), axis=axis).result

    def product(self, form: str, dtype: DType) -> Operator:
        shape = SHAPES[form]
        x = self.restored(self.graph.add_input(TensorType(dtype, shape), "x"), dtype)
        bias = constant(self.random.normal(0, 2, FILTERS).astype(np.float32))
        match form:
            case "conv":
                return Conv(x, self.weights(0, FILTERS, 5, 3, 3), bias, pads=(1, 1, 1, 1))
            case "depthwise":
                return Conv(x, self.weights(0, FILTERS, 1, 3, 3), bias, group=FILTERS, pads=(1, 1, 1, 1))
            case "gemm":
                return Gemm(x, self.weights(0, FILTERS, 19), bias, trans_b=1)
            case _:
                return MatMul(x, self.weights(1, 19, FILTERS))

    def sum(self, y: Value, addend: str) -> Value:
        """`y` and a residual: bytes in steps of their own, floats, or constants; or no residual."""
        match addend:
            case "bytes":
                other = self.restored(self.graph.add_input(TensorType(U8, y.type.shape), "r"), U8)
            case "floats":
                other = self.graph.add_input(y.type, "r")
            case "scaled":
                other = Mul(self.graph.add_input(y.type, "r"), self.step()).result
            case "constant":
                other = constant(self.random.normal(0, 2, y.type.static_shape[-1:]).astype(np.float32))
            case _:
                return y
        return Add(y, other).result if self.random.random() < 0.5 else Add(other, y).result

    def finished(self, y: Value, relu: bool, dtype: DType | None) -> Graph:
        y = Relu(y).result if relu else y
        if dtype is not None:
            zero = constant(self.random.integers(0, 20), dtype.numpy)
            y = QuantizeLinear(y, constant(self.random.uniform(0.1, 0.4)), zero).result
        self.place(y)
        self.graph.outputs, self.graph.output_names = [y], ["y"]
        return self.graph

    def place(self, value: Value) -> None:
        """Puts all that `value` comes from into the graph, operands first."""
        op = value.producer
        if op is not None and op.parent is None:
            for operand in op.inputs:
                self.place(operand)
            self.graph.add(op)


def arrays(graph: Graph, random: np.random.Generator) -> list[Any]:
    return [
        random.normal(0, 3, value.type.static_shape).astype(np.float32)
        if value.type.dtype == F32
        else random.integers(0, 256, value.type.static_shape).astype(np.uint8).view(value.type.dtype.numpy)
        for value in graph.inputs
    ]


@pytest.mark.parametrize("target", processors())
@given(
    form=st.sampled_from(sorted(SHAPES)),
    addend=st.sampled_from(["bytes", "floats", "scaled", "constant", "none"]),
    taken=st.sampled_from([U8, I8]),
    given_=st.sampled_from([None, U8, I8]),
    relu=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_bit_is_that_of_the_reference(
    target: str, form: str, addend: str, taken: DType, given_: DType | None, relu: bool, seed: int
) -> None:
    network = Network(seed)
    graph = network.finished(network.sum(network.product(form, taken).result, addend), relu, given_)
    module = gcomp.compile(graph, target, host_steps=False)
    assert any(isinstance(op, ConvInteger | MatMulInteger) for op in module.graph.walk())
    inputs = arrays(graph, network.random)
    (expected,) = evaluate(module.graph, inputs)
    np.testing.assert_array_equal(module(*inputs)[0], expected)
