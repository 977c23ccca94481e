"""Random small graphs of operators that passes and plans have most to do with, for property tests."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from gcomp.ir import Graph, Op, Value
from gcomp.op import Constant
from gcomp.ops import (
    Abs,
    Add,
    AveragePool,
    BatchNormalization,
    Clip,
    Concat,
    Conv,
    Dropout,
    Flatten,
    Gemm,
    GlobalAveragePool,
    Identity,
    MatMul,
    MaxPool,
    Mul,
    Neg,
    Pad,
    ReduceMean,
    Relu,
    Reshape,
    Shape,
    Sigmoid,
    Slice,
    Softmax,
    Squeeze,
    Sub,
    Sum,
    Transpose,
    Unsqueeze,
)
from gcomp.types import F32, TensorType


@dataclass
class Growth:
    """A graph that grows by drawn operators over values that fit."""

    draw: Callable
    graph: Graph = field(default_factory=Graph)
    values: list[Value] = field(default_factory=list)

    def pick(self, wanted: Callable[[tuple[int, ...]], bool]) -> Value:
        """One of the values whose shape is wanted, of which there are some."""
        fit = [value for value in self.values if wanted(value.type.static_shape)]
        return fit[self.number(0, len(fit) - 1)]

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def floats(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Value:
        seed = self.number(0, 99)
        return Constant(np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)).result

    def integers(self, *values: int) -> Value:
        return Constant(np.array(values, np.int64)).result


def number(value: float) -> Value:
    return Constant(np.array(value, np.float32)).result


def any_shape(shape: tuple[int, ...]) -> bool:
    return True


def is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4


def is_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2


def unary(g: Growth, x: Value) -> Op:
    return g.draw(st.sampled_from([Abs, Neg, Relu, Sigmoid, Identity, Dropout]))(x)


def binary(g: Growth, x: Value) -> Op:
    other = g.pick(lambda shape: shape == x.type.shape)
    cls = g.draw(st.sampled_from([Add, Sub, Mul]))
    return cls(x, other) if g.draw(st.booleans()) else cls(other, x)


def with_constant(g: Growth, x: Value) -> Op:
    shape = x.type.static_shape
    known = g.draw(
        st.sampled_from(
            [
                number(1.0),
                number(-0.0),
                g.floats(),
                g.floats(*shape[-1:]),
                g.floats(*shape[1:2], *[1] * (len(shape) - 2)),
                g.floats(2, *shape),
            ]
        )
    )
    cls = g.draw(st.sampled_from([Add, Sub, Mul]))
    return cls(x, known) if g.draw(st.booleans()) else cls(known, x)


def conv(g: Growth, x: Value) -> Op:
    channels, height, width = x.type.static_shape[1:]
    kernel = min(g.number(1, 3), height, width)
    filters, depth, group = g.number(1, 5), channels, 1
    if g.draw(st.booleans()):
        filters, depth, group = channels, 1, channels
    bias = g.floats(filters) if g.draw(st.booleans()) else None
    pads = (g.number(0, 1),) * 4
    return Conv(x, g.floats(filters, depth, kernel, kernel), bias, group=group, pads=pads)


def batchnorm(g: Growth, x: Value) -> Op:
    channels = x.type.static_shape[1]
    scale, bias, mean = (g.floats(channels) for _ in range(3))
    return BatchNormalization(x, scale, bias, mean, g.floats(channels, low=0.5, high=2.0))


def pad(g: Growth, x: Value) -> Op:
    amounts = [g.number(0, 1) for _ in range(4)]
    value = g.draw(st.sampled_from([None, number(0.0), number(2.0)]))
    return Pad(x, g.integers(0, 0, *amounts[:2], 0, 0, *amounts[2:]), value)


def pool(g: Growth, x: Value) -> Op:
    size = min(2, *x.type.static_shape[2:])
    cls = g.draw(st.sampled_from([MaxPool, AveragePool, GlobalAveragePool, "mean"]))
    if cls == "mean":
        return ReduceMean(x, g.integers(2, 3), keepdims=g.number(0, 1))
    return GlobalAveragePool(x) if cls is GlobalAveragePool else cls(x, (size, size))


def view(g: Growth, x: Value) -> Op:
    shape = x.type.static_shape
    choice = g.number(0, 4)
    if choice == 0 and len(shape) < 5:
        return Unsqueeze(x, g.integers(g.number(0, len(shape))))
    if choice == 1 and 1 in shape:
        return Squeeze(x, g.integers(shape.index(1)))
    if choice == 2:
        return Flatten(x, g.number(0, len(shape)))
    if choice == 3:
        return Reshape(x, Shape(x).result)
    return Reshape(x, g.integers(-1, shape[-1]))


def move(g: Growth, x: Value) -> Op:
    rank = x.type.rank
    choice = g.number(0, 2)
    if choice == 0:
        return Transpose(x, tuple(g.draw(st.permutations(range(rank)))))
    if choice == 1:
        return Slice(x, g.integers(0), g.integers(g.number(1, 9)), g.integers(rank - 1))
    other = g.pick(lambda shape: shape == x.type.shape)
    return Concat((x, other), axis=g.number(0, rank - 1))


def matrix(g: Growth, x: Value) -> Op:
    rows, columns = x.type.static_shape[1], g.number(1, 4)
    if g.draw(st.booleans()):
        return MatMul(x, g.floats(rows, columns))
    bias = g.draw(st.sampled_from([None, g.floats(columns), g.floats()]))
    return Gemm(x, g.floats(columns, rows), bias, trans_b=1, alpha=0.5, beta=2.0)


def rest(g: Growth, x: Value) -> Op:
    choice = g.number(0, 3)
    if choice == 0:
        return Softmax(x, axis=g.number(0, x.type.rank - 1))
    if choice == 1:
        return Sum((x, x)[: g.number(1, 2)])
    if choice == 2:
        return Clip(x, number(0.0), None if g.draw(st.booleans()) else number(1.0))
    return Neg(Add(g.floats(3), g.floats(3)).result)


STEPS: list[tuple[Callable[[tuple[int, ...]], bool], Callable[[Growth, Value], Op]]] = [
    (any_shape, unary),
    (any_shape, binary),
    (lambda shape: len(shape) > 1, with_constant),
    (is_image, conv),
    (is_image, conv),
    (lambda shape: len(shape) > 1, batchnorm),
    (is_image, pad),
    (is_image, pool),
    (lambda shape: len(shape) > 0, view),
    (lambda shape: len(shape) > 0, move),
    (is_matrix, matrix),
    (lambda shape: len(shape) > 0, rest),
]


@st.composite
def graphs(draw: Callable) -> Graph:
    """A graph of a few operators, of which some are dead, some double and some outputs."""
    g = Growth(draw)
    for place in range(g.number(1, 2)):
        shape = (g.number(1, 2), g.number(1, 5), g.number(1, 4), g.number(1, 4))
        g.values.append(g.graph.add_input(TensorType(F32, shape), f"x{place}"))
    for place in range(g.number(1, 10)):
        fits, step = draw(st.sampled_from(STEPS))
        if not any(fits(value.type.static_shape) for value in g.values):
            continue
        op = g.graph.add(step(g, g.pick(fits)))
        op.origin = (f"node{place}",)
        if op.results[0].type.size <= 5000:
            g.values.append(op.results[0])
    for place in range(g.number(1, 3)):
        value = g.pick(any_shape) if place else g.values[-1]
        g.graph.outputs.append(value)
        g.graph.output_names.append(f"y{place}")
    return g.graph
