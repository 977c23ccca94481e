"""Small seeded networks whose sizes meet the edges of what templates handle in whole vectors and tiles."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gcomp.ir import Graph, Value
from gcomp.op import constant
from gcomp.ops import (
    Add,
    AveragePool,
    Cast,
    Clip,
    Concat,
    Conv,
    ConvInteger,
    Erf,
    Flatten,
    Gemm,
    GlobalAveragePool,
    HardSwish,
    MatMul,
    MatMulInteger,
    MaxPool,
    Mul,
    QuantizeLinear,
    Relu,
    Sigmoid,
    Softmax,
)
from gcomp.types import F32, Array, TensorType
from tests.transformer import encoder_layer


class _Maker:
    """A graph under construction, with a generator for its weights."""

    def __init__(self, name: str) -> None:
        self.graph = Graph("network")
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.arrays: list[Array] = []

    def normal(self, *shape: int) -> Array:
        return self.random.standard_normal(shape).astype(np.float32)

    def input(self, *shape: int) -> Value:
        self.arrays.append(self.normal(*shape))
        return self.graph.add_input(TensorType(F32, shape), f"x{len(self.arrays)}")

    def weights(self, *shape: int) -> Value:
        return constant(self.normal(*shape))

    def bytes(self, *shape: int) -> Value:
        return constant(self.random.integers(-127, 128, shape).astype(np.int8))

    def conv(
        self, x: Value, filters: int, kernel: tuple[int, int], bias: Value | None = None, **options: Any
    ) -> Value:
        """A convolution; its bias is a weight unless given."""
        channels = x.type.static_shape[1] // int(options.get("group", 1))
        w = self.weights(filters, channels, *kernel)
        return self.graph.add(Conv(x, w, bias or self.weights(filters), **options)).result

    def finish(self, outputs: list[Value]) -> tuple[Graph, list[Array]]:
        self.graph.outputs = outputs
        self.graph.output_names = [f"y{place}" for place in range(len(outputs))]
        return self.graph, self.arrays


def _product(m: _Maker, a: tuple[int, ...], b: tuple[int, ...], fixed: bool) -> list[Value]:
    """A product with bias, a chain of operators and a residual behind it."""
    right = m.weights(*b) if fixed else m.input(*b)
    y = m.graph.add(MatMul(m.input(*a), right)).result
    y = m.graph.add(Add(y, m.weights(b[-1]))).result
    y = m.graph.add(Mul(y, m.graph.add(Sigmoid(y)).result)).result
    return [m.graph.add(Add(y, m.input(*y.type.static_shape))).result]


PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...], bool]] = [
    ((1, 1), (1, 1), True),
    ((1, 17), (17, 33), True),
    ((1, 300), (300, 517), True),
    ((2, 5), (5, 16), True),
    ((3, 5), (5, 1), True),
    ((7, 64), (64, 31), True),
    ((13, 9), (9, 48), True),
    ((31, 3), (3, 130), True),
    ((65, 70), (70, 15), True),
    ((2, 3, 5, 7), (7, 19), True),
    ((1, 17), (17, 33), False),
    ((6, 11), (11, 7), False),
    ((34, 10), (10, 512), False),
    ((33, 16), (16, 100), False),
    ((34, 600), (600, 512), False),
    ((3, 1, 5, 8), (2, 8, 18), False),
]

# (input, filters, kernel, attributes)
CONVOLUTIONS: list[tuple[tuple[int, ...], int, tuple[int, int], dict[str, Any]]] = [
    ((1, 3, 9, 7), 5, (3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 3, 11, 13), 20, (7, 7), {"pads": (3, 3, 3, 3), "strides": (2, 2)}),
    ((1, 1, 8, 8), 16, (3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 16, 5, 5), 17, (1, 1), {}),
    ((2, 17, 6, 7), 33, (1, 1), {"strides": (2, 2)}),
    ((1, 24, 1, 1), 40, (1, 1), {}),
    ((1, 20, 1, 9), 16, (1, 3), {"pads": (0, 2, 0, 0)}),
    ((1, 20, 9, 1), 16, (3, 1), {"pads": (0, 0, 2, 0)}),
    ((1, 18, 7, 9), 31, (3, 3), {"dilations": (2, 2), "pads": (2, 1, 2, 3)}),
    ((1, 16, 4, 4), 16, (5, 5), {"pads": (4, 4, 4, 4)}),
    ((1, 16, 13, 15), 48, (3, 2), {"strides": (3, 2), "pads": (0, 1, 1, 0)}),
    ((1, 24, 9, 8), 24, (3, 3), {"group": 24, "pads": (1, 1, 1, 1)}),
    ((2, 19, 8, 7), 19, (5, 5), {"group": 19, "pads": (2, 2, 2, 2), "strides": (2, 2)}),
    ((1, 40, 6, 11), 40, (3, 3), {"group": 40, "pads": (0, 2, 1, 0), "dilations": (1, 2)}),
    ((1, 33, 1, 12), 33, (1, 5), {"group": 33}),
    ((1, 6, 8, 8), 64, (3, 3), {"group": 2}),
]


def _image(
    m: _Maker, x: tuple[int, ...], filters: int, kernel: tuple[int, int], options: dict[str, Any]
) -> list[Value]:
    """A convolution with a short chain behind it, another with a residual and a long one, and pools."""
    y = m.graph.add(Relu(m.conv(m.input(*x), filters, kernel, m.input(filters), **options))).result
    z = m.conv(y, filters, (3, 3), pads=(1, 1, 1, 1))
    z = m.graph.add(HardSwish(m.graph.add(Add(z, y)).result)).result
    joined = m.graph.add(Concat((z, y), 1)).result
    largest = m.graph.add(MaxPool(joined, (3, 3), pads=(1, 1, 1, 1), strides=(2, 2))).results[0]
    average = m.graph.add(AveragePool(y, (2, 3), pads=(1, 1, 1, 1), strides=(1, 2))).result
    return [largest, average]


def _head(m: _Maker) -> list[Value]:
    x = m.conv(m.input(2, 3, 10, 9), 23, (3, 3), strides=(2, 2))
    x = m.graph.add(GlobalAveragePool(m.graph.add(Clip(x, constant(0.0), constant(6.0))).result)).result
    return [m.graph.add(Erf(x)).result]


def _gemms(m: _Maker) -> list[Value]:
    x = m.graph.add(
        Gemm(m.input(9, 21), m.weights(21, 9), m.weights(21), trans_a=1, trans_b=1, beta=0.5)
    ).result
    x = m.graph.add(Gemm(x, m.weights(21, 37), m.weights(21, 1), alpha=2.0)).result
    return [m.graph.add(Softmax(x)).result]


# (input, filters, kernel, attributes, whether activations are signed)
INTEGERS: list[tuple[tuple[int, ...], int, tuple[int, int], dict[str, Any], bool]] = [
    ((1, 1, 8, 8), 12, (3, 3), {"pads": (1, 1, 1, 1)}, False),
    ((2, 7, 9, 5), 17, (1, 1), {}, True),
    ((1, 5, 11, 33), 20, (3, 2), {"strides": (2, 2), "pads": (0, 1, 2, 1)}, False),
    ((1, 12, 6, 19), 6, (3, 3), {"group": 3, "dilations": (2, 1)}, True),
    ((1, 8, 7, 7), 8, (3, 3), {"group": 8, "strides": (1, 3)}, False),
]


def _integers(
    m: _Maker,
    x: tuple[int, ...],
    filters: int,
    kernel: tuple[int, int],
    options: dict[str, Any],
    signed: bool,
) -> list[Value]:
    """A convolution and a product of bytes between which bytes are kept."""
    zero = constant(-7, np.int8) if signed else constant(130, np.uint8)
    q = m.graph.add(QuantizeLinear(m.input(*x), constant(0.02), zero)).result
    w = m.bytes(filters, x[1] // int(options.get("group", 1)), *kernel)
    y = m.graph.add(ConvInteger(q, w, zero, **options)).result
    y = m.graph.add(Mul(Cast(y, F32.code).result, constant(abs(m.normal(filters, 1, 1)) / 99))).result
    q = m.graph.add(Flatten(QuantizeLinear(y, constant(1.0), zero).result)).result
    return [q, m.graph.add(MatMulInteger(q, m.bytes(q.type.static_shape[1], 37), zero)).result]


def networks() -> dict[str, Callable[[], tuple[Graph, list[Array]]]]:
    """By name: what makes the graph, and arrays for its inputs."""

    def made(name: str, body: Callable[[_Maker], list[Value]]) -> tuple[Graph, list[Array]]:
        maker = _Maker(name)
        return maker.finish(body(maker))

    bodies: dict[str, Callable[[_Maker], list[Value]]] = {"head": _head, "gemms": _gemms}
    for a, b, fixed in PRODUCTS:
        name = f"{'x'.join(map(str, a))}@{'x'.join(map(str, b))}{'' if fixed else '-inputs'}"
        bodies[name] = lambda m, a=a, b=b, fixed=fixed: _product(m, a, b, fixed)
    for number, case in enumerate(CONVOLUTIONS):
        bodies[f"conv-{number}"] = lambda m, case=case: _image(m, *case)
    for number, case in enumerate(INTEGERS):
        bodies[f"integers-{number}"] = lambda m, case=case: _integers(m, *case)
    return {
        **{name: lambda name=name, body=body: made(name, body) for name, body in bodies.items()},
        "encoder": lambda: encoder_layer(batch=2, tokens=19, width=36, heads=3, inner=70),
    }
