"""Pruning: how much of which layers becomes zero, in which structure, and what is left alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcomp.ir import Graph, Value
from gcomp.op import Constant, Operator, constant
from gcomp.ops import Add, Conv, Gemm, MatMul, Transpose
from gcomp.pipeline import parse_pipeline, run_pipeline
from gcomp.types import BF16, F16, F32, Array, TensorType
from gcomp.weights import layers, matrices, zero_share


def numbers(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def graph_of(op: Operator, *inputs: Value) -> Graph:
    """A graph that computes `op`; `inputs` are arguments made by `source`."""
    graph = Graph()
    values = {value: graph.add_input(value.type, f"x{i}") for i, value in enumerate(inputs)}
    for value, own in values.items():
        op.replace_operand(value, own)
    graph.add(op)
    graph.outputs, graph.output_names = [op.result], ["y"]
    return graph


def source(*shape: int, dtype: Any = F32) -> Value:
    return Graph().add_input(TensorType(dtype, shape))


def pruned(graph: Graph, options: str) -> Array:
    """The weights of the only layer after pruning, as matrices."""
    run_pipeline(graph, parse_pipeline(f"prune{{{options}}}"), check="text")
    (layer,) = layers(graph)
    return matrices(layer.op, layer.array)


def made(kind: str) -> Graph:
    x = source(3, 12) if kind != "conv" else source(1, 24, 4, 4)
    match kind:
        case "gemm":
            return graph_of(Gemm(x, constant(numbers(12, 20))), x)
        case "transposed":
            return graph_of(Gemm(x, constant(numbers(20, 12)), trans_b=1), x)
        case "matmul":
            return graph_of(MatMul(x, constant(numbers(2, 12, 20))), x)
        case _:
            return graph_of(Conv(x, constant(numbers(20, 12, 3, 3)), group=2), x)


KINDS = ("gemm", "transposed", "matmul", "conv")


@pytest.mark.parametrize("kind", KINDS)
@given(sparsity=st.floats(0, 0.99), scope=st.sampled_from(["layer", "global", "balanced"]))
def test_what_is_kept_outweighs_what_is_dropped(kind: str, sparsity: float, scope: str) -> None:
    graph = made(kind)
    (layer,) = layers(graph)
    before = matrices(layer.op, layer.array).copy()
    after = pruned(graph, f"sparsity={sparsity},scope={scope}")
    dropped = after == 0
    np.testing.assert_array_equal(after[~dropped], before[~dropped])
    rows = dropped.reshape(dropped.shape[0] * dropped.shape[1], -1) if scope == "balanced" else [dropped]
    values = before.reshape(len(rows), -1)
    for drop, row in zip(rows, values, strict=True):
        assert drop.sum() == round(sparsity * row.size)
        kept, gone = np.abs(row[~drop.ravel()]), np.abs(row[drop.ravel()])
        assert not gone.size or kept.min() >= gone.max()


@pytest.mark.parametrize("kind", KINDS)
@given(block=st.integers(2, 7), scope=st.sampled_from(["layer", "balanced"]))
def test_blocks_are_kept_or_dropped_whole(kind: str, block: int, scope: str) -> None:
    dropped = pruned(made(kind), f"sparsity=0.7,structure={block}x1,scope={scope}") == 0
    for start in range(0, dropped.shape[1], block):
        rows = dropped[:, start : start + block]
        assert (rows == rows[:, :1]).all()
        if scope == "balanced":
            inside = dropped[0, start].size
            assert (rows[:, 0].reshape(len(rows), -1).sum(axis=1) == round(0.7 * inside)).all()
    assert 0.5 < dropped.mean() < 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("kept", "of"), [(2, 4), (1, 3), (4, 4)])
def test_n_of_m_holds_in_every_group_of_inputs(kind: str, kept: int, of: int) -> None:
    dropped = pruned(made(kind), f"sparsity={1 - kept / of},structure={kept}:{of}") == 0
    groups = dropped.reshape(*dropped.shape[:-1], -1, of)
    assert (groups.sum(axis=-1) == of - kept).all()


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_narrow_floats(dtype: Any) -> None:
    x = source(3, 12, dtype=dtype)
    after = pruned(graph_of(MatMul(x, constant(numbers(12, 20).astype(dtype.numpy))), x), "sparsity=0.75")
    assert after.dtype == dtype.numpy
    assert zero_share(after) == 0.75


def test_shared_weights_are_pruned_once_and_stay_shared() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2, 8)), "x")
    w = constant(numbers(8, 8))
    y = graph.add(MatMul(MatMul(x, w).result, w))
    graph.outputs, graph.output_names = [y.result], ["y"]
    run_pipeline(graph, parse_pipeline("prune{sparsity=0.25}"))
    first, second = layers(graph)
    assert first.weights is second.weights
    assert zero_share(first.array) == 0.25


def test_weights_that_cannot_be_replaced_say_why() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (8, 8)), "x")
    w, u = constant(numbers(8, 8)), constant(numbers(8, 8))
    first = MatMul(x, w)
    second = Gemm(first.result, w, trans_b=1)
    third = MatMul(Add(second.result, x).result, Transpose(u).result)
    fourth = graph.add(MatMul(third.result, x))
    graph.outputs, graph.output_names = [fourth.result, w], ["y", "w"]
    before = [op.value for op in graph.ops if isinstance(op, Constant)]
    assert not run_pipeline(graph, parse_pipeline("prune"), check="text")[0].changed
    assert [layer.obstacle for layer in layers(graph)] == [
        "its weights are an output of the graph",
        "its weights are an output of the graph",
        "its weights are computed by Transpose",
    ]
    graph.outputs, graph.output_names = [fourth.result], ["y"]
    run_pipeline(graph, parse_pipeline("prune"))
    assert [op.value for op in graph.ops if isinstance(op, Constant)] == before
    assert [layer.obstacle for layer in layers(graph)][:2] == [
        "its weights are also read by Gemm",
        "its weights are also read by MatMul",
    ]
    with pytest.raises(ValueError, match="computed by Transpose"):
        _ = layers(graph)[2].array
