"""Graphs and arrays at the edge of what is allowed, on every target."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm import CUDA
from gcomp.compiler import optimize
from gcomp.ir import Graph, Value
from gcomp.op import constant
from gcomp.ops import (
    Add,
    Cast,
    Clip,
    Concat,
    Conv,
    Gemm,
    MatMul,
    Max,
    Min,
    Mul,
    ReduceSum,
    Relu,
    Reshape,
    Softmax,
    Transpose,
)
from gcomp.target import Module
from gcomp.types import F16, F32, F64, I8, I64, U8, Array, DType, TensorType
from tests.emulated_gpu import EmulatedLibrary, emulated

TARGETS = ["llvm", "llvm{templates=off}", "reference", "cuda"]


def build(make: Callable[..., list[Value]], *shapes: tuple[int, ...], dtype: DType = F32) -> Graph:
    """A graph whose outputs `make` gives for inputs of these shapes."""
    graph = Graph("edge")
    inputs = [graph.add_input(TensorType(dtype, shape), f"x{index}") for index, shape in enumerate(shapes)]
    for value in make(*inputs):
        if value.producer is not None and value.producer.parent is None:
            graph.add(value.producer)
        graph.outputs.append(value)
    graph.output_names = [f"y{index}" for index in range(len(graph.outputs))]
    return graph


def compiled(target: str, make: Callable[..., list[Value]], *shapes: tuple[int, ...]) -> Module:
    return compiled_graph(target, build(make, *shapes))


def compiled_graph(target: str, graph: Graph) -> Module:
    """For a GPU: run on this processor."""
    if target == "cuda":
        return emulated(optimize(graph, CUDA().pipeline), CUDA().arch, EmulatedLibrary())
    return gcomp.compile(graph, target=target, host_steps=False)


def seeded(*shape: int) -> Array:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


pytestmark = pytest.mark.parametrize("target", TARGETS)


def test_an_output_that_is_an_input(target: str) -> None:
    module, x = compiled(target, lambda x: [x, Relu(x).result], (3, 4)), seeded(3, 4)
    same, positive = module(x)
    assert np.array_equal(same, x)
    assert same is not x and not np.shares_memory(same, x)
    assert np.array_equal(positive, np.maximum(x, 0))


def test_an_output_that_is_a_constant(target: str) -> None:
    module = compiled(target, lambda x: [constant(np.arange(6.0, dtype=np.float32).reshape(2, 3))], (2,))
    (result,) = module(seeded(2))
    assert np.array_equal(result, np.arange(6.0).reshape(2, 3))


def test_the_same_value_returned_twice(target: str) -> None:
    def make(x: Value) -> list[Value]:
        y = Add(x, x).result
        return [y, y, Reshape(y, constant([8])).result]

    x = seeded(2, 4)
    first, second, flat = compiled(target, make, (2, 4))(x)
    assert (
        np.array_equal(first, x + x) and np.array_equal(second, first) and np.array_equal(flat, first.ravel())
    )
    assert not np.shares_memory(first, second)


def test_the_same_value_joined_twice(target: str) -> None:
    def make(x: Value) -> list[Value]:
        y = Relu(x).result
        return [Concat((y, y, x, y), 0).result, Mul(y, y).result]

    x = seeded(2, 3)
    joined, squared = compiled(target, make, (2, 3))(x)
    y = np.maximum(x, 0)
    assert np.array_equal(joined, np.concatenate([y, y, x, y])) and np.array_equal(squared, y * y)


def test_joined_parts_that_are_read_again(target: str) -> None:
    def make(x: Value) -> list[Value]:
        a, b = Relu(x).result, Mul(x, x).result
        whole = Concat((a, b), 1).result
        return [Relu(Add(whole, whole).result).result, Add(a, b).result, Mul(b, b).result]

    x = seeded(2, 3)
    a, b = np.maximum(x, 0), x * x
    whole, total, squared = compiled(target, make, (2, 3))(x)
    assert np.array_equal(whole, np.maximum(2 * np.concatenate([a, b], 1), 0))
    assert np.array_equal(total, a + b) and np.array_equal(squared, b * b)


def test_an_input_that_nothing_reads(target: str) -> None:
    module = compiled(target, lambda x, unused: [Relu(x).result], (2,), (1 << 10,))
    assert np.array_equal(module(seeded(2), seeded(1 << 10))[0], np.maximum(seeded(2), 0))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_nothing_in_it(target: str, shape: tuple[int, int]) -> None:
    def make(x: Value) -> list[Value]:
        rows = ReduceSum(x, constant([1]), keepdims=0).result
        return [Relu(x).result, rows, MatMul(Transpose(x, (1, 0)).result, x).result, Softmax(x).result]

    x = np.zeros(shape, np.float32)
    same, rows, product, soft = compiled(target, make, shape)(x)
    assert same.shape == soft.shape == shape
    assert np.array_equal(rows, np.zeros(shape[0])) and np.array_equal(
        product, np.zeros((shape[1], shape[1]))
    )


def test_no_depth_leaves_the_bias(target: str) -> None:
    bias = seeded(5)
    module = compiled(
        target, lambda x: [Gemm(x, constant(np.zeros((0, 5), np.float32)), constant(bias)).result], (3, 0)
    )
    assert np.array_equal(module(np.zeros((3, 0), np.float32))[0], np.broadcast_to(bias, (3, 5)))


def test_a_single_number(target: str) -> None:
    module = compiled(target, lambda x, y: [Add(x, y).result, Mul(y, y).result], (), (3,))
    total, square = module(np.float32(2.5), seeded(3))
    assert np.array_equal(total, seeded(3) + np.float32(2.5)) and square.shape == (3,)


def test_absent_optional_operands(target: str) -> None:
    module = compiled(target, lambda x: [Clip(x, None, constant(0.5)).result, Clip(x).result], (9,))
    upper, free = module(seeded(9))
    assert np.array_equal(upper, np.minimum(seeded(9), np.float32(0.5))) and np.array_equal(free, seeded(9))


def arrays_of_any_kind() -> dict[str, Array]:
    x = seeded(6, 8)
    wide = np.repeat(x, 2, axis=1)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(6, 8)
    unaligned[:] = x
    frozen = x.copy()
    frozen.setflags(write=False)
    return {
        "plain": x,
        "strided": wide[:, ::2],
        "transposed": np.ascontiguousarray(x.T).T,
        "reversed": np.ascontiguousarray(x[::-1])[::-1],
        "unaligned": unaligned,
        "read-only": frozen,
        "wrong-endian": x.astype(">f4"),
        "broadcast": np.broadcast_to(x[:1, :1], (6, 8)),
    }


@pytest.mark.parametrize("kind", arrays_of_any_kind())
def test_arrays_of_any_kind(target: str, kind: str) -> None:
    x = arrays_of_any_kind()[kind]
    before = x.copy()
    module = compiled(target, lambda x: [Relu(MatMul(x, constant(seeded(8, 5))).result).result], (6, 8))
    (result,) = module(x)
    expected = np.maximum(x.astype(np.float32).astype(np.float64) @ seeded(8, 5), 0)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    assert np.array_equal(x, before)


def test_integers_pass_through_exactly(target: str) -> None:
    graph = build(lambda x: [Add(x, x).result], (4,), dtype=I64)
    x = np.array([0, -1, 2**62, -(2**63)], np.int64)
    assert np.array_equal(compiled_graph(target, graph)(x)[0], x + x)


SPECIAL = np.array([1.0, np.nan, -1.0, 0.0, np.inf, -np.inf, np.nan], np.float32)


def test_extremes_propagate_nan(target: str) -> None:
    module = compiled(target, lambda x, y: [Max((x, y)).result, Min((x, y)).result], (7, 7), (7, 7))
    x, y = np.meshgrid(SPECIAL, SPECIAL)
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    most, least = module(x, y)
    assert np.array_equal(most, np.maximum(x, y), equal_nan=True)
    assert np.array_equal(least, np.minimum(x, y), equal_nan=True)


def test_floats_saturate_at_the_ends_of_integers(target: str) -> None:
    ends = [127.0, 127.5, 128.0, 128.5, -128.0, -128.5, -129.0, 255.5, 256.0, 256.5, -0.5, -1.0, 3e9, np.nan]
    graph = build(lambda x: [Cast(x, I8.code).result, Cast(x, U8.code).result], (14,))
    signed, unsigned = compiled_graph(target, graph)(np.array(ends, np.float32))
    whole = np.nan_to_num(np.trunc(np.array(ends)))
    assert np.array_equal(signed, np.clip(whole, -128, 127))
    assert np.array_equal(unsigned, np.clip(whole, 0, 255))


def test_doubles_are_rounded_to_halves_once(target: str) -> None:
    """A little more than halfway between two halves, and less than a float can tell from halfway."""
    x = np.array([1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11, 1 + 3 * 2.0**-11 - 2.0**-40] * 6)
    graph = build(lambda x: [Cast(x, F16.code).result], (18,), dtype=F64)
    (found,) = compiled_graph(target, graph)(x)
    assert np.array_equal(found, x.astype(np.float16))


def test_batches_inside_another_value_are_products_of_their_own(target: str) -> None:
    """The left sides lie between others, further apart than their rows are long."""
    weights = seeded(4, 5)

    def make(x: Value, y: Value) -> list[Value]:
        part = Relu(x).result
        return [Concat((part, y), 1).result, MatMul(part, constant(weights)).result]

    x, y = seeded(2, 3, 4), seeded(2, 6, 4)
    joined, product = compiled(target, make, (2, 3, 4), (2, 6, 4))(x, y)
    assert np.array_equal(joined, np.concatenate([np.maximum(x, 0), y], 1))
    np.testing.assert_allclose(product, np.maximum(x, 0) @ weights, rtol=1e-5, atol=1e-5)


def test_a_convolution_of_a_single_row(target: str) -> None:
    """The row is known when compiling, and with it the taps that lie in the input."""
    weights = seeded(16, 16, 3, 3)

    def make(x: Value) -> list[Value]:
        return [Conv(x, constant(weights), pads=(1, 1, 1, 1)).result]

    x = seeded(1, 16, 1, 20)
    (found,) = compiled(target, make, (1, 16, 1, 20))(x)
    around = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (2, 3))
    expected = np.einsum("nchwij,mcij->nmhw", windows.astype(np.float64), weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_two_threads_at_once(target: str) -> None:
    module = compiled(target, lambda x: [Softmax(MatMul(x, constant(seeded(16, 16))).result).result], (8, 16))
    inputs = [np.random.default_rng(seed).standard_normal((8, 16)).astype(np.float32) for seed in (1, 2)]
    expected = [module(x)[0] for x in inputs]
    assert not np.array_equal(expected[0], expected[1])
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(1000):
            if not np.array_equal(module(inputs[index])[0], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
