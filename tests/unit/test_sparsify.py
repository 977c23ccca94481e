"""Which form weights are stored in: by their zeros, the structure of these, and the shape of the layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm import LLVM
from gcomp.compiler import optimize
from gcomp.ir import Graph
from gcomp.op import Constant, Operator, Storage, constant
from gcomp.ops import Conv, Gemm, MatMul
from gcomp.passes.sparsify import Sparsify
from gcomp.pipeline import run_pipeline, with_options
from gcomp.text import parse, print_graph
from gcomp.types import F32, Array, TensorType
from gcomp.watch import Decisions, watching
from tests.unit.test_templates import numbers


def pruned(zeros: float, block: int, outputs: int, *others: int) -> Array:
    """[outputs, ...] with that share of blocks of neighbouring outputs zero."""
    keep = np.random.default_rng(0).random((-(-outputs // block), *others)) >= zeros
    return numbers(0, outputs, *others) * np.repeat(keep, block, axis=0)[:outputs]


def product(rows: int, weights: Array) -> Graph:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (rows, weights.shape[1])))
    return of(graph, MatMul(x, constant(np.ascontiguousarray(weights.T))))


def convolution(channels: int, size: int, weights: Array, stride: int = 1, group: int = 1) -> Graph:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, channels, size, size)))
    pad = weights.shape[2] // 2
    return of(graph, Conv(x, constant(weights), strides=(stride, stride), pads=(pad,) * 4, group=group))


def of(graph: Graph, op: Operator) -> Graph:
    for value in op.inputs:
        if isinstance(value.owner, Constant):
            graph.add(value.owner)
    op.origin = ("layer",)
    graph.outputs = [graph.add(op).result]
    graph.output_names = ["y"]
    return graph


def decided(graph: Graph, by: Sparsify | None = None) -> tuple[Storage, list[str]]:
    """What the largest constant is stored as, and what watchers were told."""
    with watching(Decisions()) as told:
        run_pipeline(graph, [by or Sparsify()], check="text")
    largest = max((op for op in graph.ops if isinstance(op, Constant)), key=lambda op: op.value.size)
    return largest.storage, [str(decision) for decision in told.found]


@pytest.mark.parametrize(
    ("zeros", "block", "form"),
    [
        (0.3, 1, "dense"),
        (0.5, 1, "dense"),
        (0.8, 1, "unstructured"),
        (0.95, 1, "unstructured"),
        (0.1, 4, "dense"),
        (0.5, 4, "4x1"),
        (0.8, 4, "4x1"),
        (0.95, 4, "4x1"),
    ],
)
def test_a_wide_product(zeros: float, block: int, form: Storage) -> None:
    found, told = decided(product(128, pruned(zeros, block, 768, 768)))
    assert found == form
    (line,) = told
    assert line.startswith(f"sparsify: layer: {form}, as ")
    assert f"{form} takes 0." in line or form == "dense"
    assert line.endswith("% zeros)") and "4x1 takes" in line and "unstructured takes" in line


@pytest.mark.parametrize(
    ("zeros", "stride", "form"),
    [(0.5, 1, "dense"), (0.7, 1, "dense"), (0.95, 1, "unstructured"), (0.8, 2, "unstructured")],
)
def test_a_convolution_competes_with_winograd_where_that_is_used(
    zeros: float, stride: int, form: Storage
) -> None:
    assert decided(convolution(128, 28, pruned(zeros, 1, 128, 128, 3, 3), stride))[0] == form


@pytest.mark.parametrize(
    ("rows", "depth", "options", "dense", "single", "blocks"),
    [
        # 8 vectors of rows, in two chunks of 4
        (
            128,
            64,
            {},
            128 * 4 * 64 / 2 / 0.9,
            lambda n: 2 * (n * (4 / 2 / 0.6 + 1) + 64 * 4) + 8 * 128 * 2.3 * 5,
            lambda n: 2 * (n * (4 * 4 / 2 / 0.92 + 1) + 16 * 4) + 8 * 128 * 2.3 * 5,
        ),
        # one vector: weights come from memory where all are stored, and each block takes at least 4 cycles
        (
            1,
            64,
            {},
            4 * 64 * 64 / 8,
            lambda n: n * (2 / 0.6 + 1) + 64 * 4 + 128 * 2.3 * 5,
            lambda n: n * (2 / 0.92 + 1) + 16 * 4 + 128 * 2.3 * 5,
        ),
        # the inputs of 4 vectors fill two sections: rows of single weights are begun in each
        (
            64,
            256,
            {},
            64 * 4 * 256 / 2 / 0.9,
            lambda n: n * (4 / 2 / 0.6 + 1) + 2 * 64 * 4 + 4 * 320 * 2.3 * 5,
            lambda n: n * (4 * 4 / 2 / 0.92 + 1) + 16 * 4 + 4 * 320 * 2.3 * 5,
        ),
        # with few registers blocks take one vector of rows at a time
        (
            64,
            64,
            {"registers": 8},
            64 * 4 * 64 / 2 / 0.9,
            lambda n: n * (4 / 2 / 0.6 + 1) + 64 * 4 + 4 * 128 * 2.3 * 5,
            lambda n: 4 * (n * (4 / 2 / 0.92 + 1) + 16 * 4) + 4 * 128 * 2.3 * 5,
        ),
    ],
)
def test_estimates_are_what_counting_cycles_gives(
    rows: int,
    depth: int,
    options: dict[str, int],
    dense: float,
    single: Callable[[int], float],
    blocks: Callable[[int], float],
) -> None:
    weights = pruned(0.9, 4, 64, depth)
    stored = int(np.count_nonzero(weights))
    _, (told,) = decided(product(rows, weights), Sparsify(**options))
    assert f"unstructured takes {single(stored) / dense:.2f} " in told
    assert f"4x1 takes {blocks(stored // 4) / dense:.2f} " in told


def test_without_zeros_nothing_is_told() -> None:
    assert decided(product(128, numbers(0, 64, 64))) == ("dense", [])


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (lambda: convolution(64, 28, pruned(0.9, 1, 64, 32, 3, 3), group=2), "its filters are in groups"),
        (lambda: convolution(64, 28, pruned(0.9, 1, 64, 64, 7, 7)), "its filters have more than 32 taps"),
        (lambda: convolution(4, 28, pruned(0.9, 1, 64, 4, 3, 3)), "it has few input channels"),
    ],
)
def test_what_stays_dense_whatever_its_zeros(graph: Callable[[], Graph], reason: str) -> None:
    form, (told,) = decided(graph())
    assert form == "dense" and told.startswith(f"sparsify: layer: dense, as {reason} (")


def test_weights_of_two_layers_take_the_form_that_is_best_for_both() -> None:
    shared = Constant(np.ascontiguousarray(pruned(0.9, 1, 512, 512).T))
    graph, weights = Graph(), shared.result
    graph.add(shared)
    for rows in (256, 64):
        x = graph.add_input(TensorType(F32, (rows, 512)))
        graph.outputs.append(graph.add(MatMul(x, weights)).result)
    graph.output_names = ["a", "b"]
    form, told = decided(graph)
    assert form == "unstructured" and len(told) == 2


def test_its_text_is_read_again() -> None:
    graph = product(128, pruned(0.9, 1, 256, 256))
    assert decided(graph)[0] == "unstructured"
    text = print_graph(graph)
    assert 'storage="unstructured"' in text and parse(text) == graph


@pytest.mark.parametrize(
    ("shape", "form"),
    [
        ((256,), "unstructured"),
        ((1, 256), "unstructured"),
        ((128, 256), "dense"),
        ((1,), "dense"),
        ((), "dense"),
    ],
)
def test_an_addend_that_is_no_bias_stays_dense(shape: tuple[int, ...], form: Storage) -> None:
    graph = Graph()
    a, c = graph.add_input(TensorType(F32, (128, 256))), graph.add_input(TensorType(F32, shape))
    of(graph, Gemm(a, constant(pruned(0.9, 1, 256, 256)), c))
    found, (told,) = decided(graph)
    assert found == form
    assert ("its addend is not one per output" in told) is (form == "dense")


@pytest.mark.parametrize("options", [{}, {"cpu": "haswell"}, {"triple": "aarch64-linux-gnu"}])
@pytest.mark.parametrize("block", [1, 4])
def test_what_it_chooses_gets_a_sparse_kernel(options: dict[str, str], block: int) -> None:
    target = with_options(LLVM(), options)
    for graph in (
        product(200, pruned(0.95, block, 320, 512)),
        convolution(64, 20, pruned(0.95, block, 200, 64, 3, 3), 2),
        convolution(64, 20, pruned(0.95, block, 200, 64, 1, 1)),
    ):
        module = target.build(optimize(graph, target.pipeline), name="m", threads=1, host_steps=False)
        assert "sparse" in [facts.code for facts in module.steps()]


def test_modules_tell_what_was_decided_also_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCOMP_CACHE", str(tmp_path))
    graph = product(128, pruned(0.9, 1, 256, 256))
    gcomp.save_onnx(graph, tmp_path / "m.onnx")
    first, again = gcomp.compile(tmp_path / "m.onnx"), gcomp.compile(tmp_path / "m.onnx")
    assert first.timings and not again.timings
    assert first.decisions == again.decisions
    (told,) = again.decisions
    assert told.by == "sparsify" and told.decision.startswith("unstructured, as ")
