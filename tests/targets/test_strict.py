"""precision="strict": the same bits from AVX-512, AVX2 and 64-bit ARM, and for a row in any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm import LLVM
from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.module import LLVMModule
from gcomp.diagnostics import UnsupportedError
from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Value
from gcomp.op import constant
from gcomp.ops import (
    AveragePool,
    Conv,
    Flatten,
    Gemm,
    GlobalAveragePool,
    MatMul,
    Relu,
    Reshape,
    Sigmoid,
    Transpose,
)
from gcomp.testing.samples import graph_of, native_samples, sample
from gcomp.tolerance import mismatch
from gcomp.types import F32, Array, TensorType
from tests.cross import TRIPLE, cross_program, emulate
from tests.networks import networks
from tests.transformer import encoder_layer

CHUNKS = 4

here = pytest.mark.skipif(
    host().arch != "x86_64" or not host().has("avx2", "fma"), reason="this processor cannot run the code"
)
chunked = pytest.mark.parametrize("chunk", range(CHUNKS))


def cases(chunk: int) -> Iterator[tuple[str, Graph, list[Array], str]]:
    """Name, graph, inputs and passes: samples whose results have floats, each as it is, and networks."""
    for name, place in native_samples()[chunk::CHUNKS]:
        op = sample(name, place)
        if any(value.type.dtype.is_float for value in op.results):
            yield f"{name}_{place}", *graph_of(op), "precision"
    larger = [lambda: images(2), lambda: encoder_layer(1, 40, 96, 2, 320)]
    for number, make in enumerate([*networks().values(), *larger][chunk::CHUNKS]):
        yield f"network_{number}", *make(), LLVM().pipeline_for("strict")


def images(batch: int) -> tuple[Graph, list[Array]]:
    """Where templates choose by the processor: taps at once, Winograd, zeros skipped, depth in blocks."""
    rng = np.random.default_rng(5)
    graph = Graph("images")

    def normal(*shape: int) -> Value:
        return constant(rng.standard_normal(shape).astype(np.float32) / 20)

    x = graph.add_input(TensorType(F32, (batch, 3, 33, 29)), "x")
    x = Conv(x, normal(36, 3, 5, 5), normal(36), strides=(2, 2), pads=(2, 2, 2, 2)).result
    x = Conv(Relu(x).result, normal(40, 36, 3, 3), normal(40), pads=(1, 1, 1, 1)).result
    x = Sigmoid(Conv(x, normal(40, 1, 3, 3), group=40).result).result
    x = graph.add(AveragePool(x, (3, 3), strides=(2, 2))).result
    rows = Reshape(Transpose(x, (0, 2, 3, 1)).result, constant([batch, 42, 40])).result
    zeros = np.where(rng.random((700, 64)) < 0.1, rng.standard_normal((700, 64)), 0).astype(np.float32)
    deep = graph.add(MatMul(MatMul(rows, normal(40, 700)).result, constant(zeros)))
    pooled = Flatten(GlobalAveragePool(x).result).result
    classes = graph.add(Gemm(pooled, normal(19, 40), normal(19), trans_b=1))
    graph.outputs = [deep.result, classes.result]
    graph.output_names = ["rows", "classes"]
    return graph, [rng.standard_normal((batch, 3, 33, 29)).astype(np.float32)]


def compiled(graph: Graph, target: str, name: str, passes: str | None = None) -> LLVMModule:
    module = gcomp.compile(
        graph, target=target, precision="strict", passes=passes, name=name, host_steps=False
    )
    assert isinstance(module, LLVMModule)
    return module


def same_bits(a: Array, b: Array) -> bool:
    """Whether all bits are the same but those of NaNs, whose sign and payload processors choose."""
    if a.dtype.kind not in "iub":
        a, b = (np.where(np.isnan(x), np.full_like(x, np.nan), x) for x in (a, b))
    return a.tobytes() == b.tobytes()


@here
@chunked
def test_narrower_vectors_give_the_same_bits(chunk: int) -> None:
    wrong: list[str] = []
    for name, graph, arrays, passes in cases(chunk):
        mine, lesser = (
            compiled(graph, target, name, passes)(*arrays) for target in ("llvm", "llvm{cpu=haswell}")
        )
        wrong += [name for a, b in zip(mine, lesser, strict=True) if not same_bits(a, b)]
    assert wrong == []


@here
@pytest.mark.arm
@chunked
def test_arm_gives_the_same_bits(chunk: int, tmp_path: Path) -> None:
    models: list[tuple[LLVMModule, list[Array]]] = []
    expected: dict[str, list[Array]] = {}
    for name, graph, arrays, passes in cases(chunk):
        expected[name] = compiled(graph, "llvm", name, passes)(*arrays)
        arm = compiled(graph, f"llvm{{triple={TRIPLE},cpu=cortex-a72}}", name, passes)
        models.append((arm, arrays))
    found = emulate(cross_program(tmp_path, models, "o"), models, "cortex-a72")
    wrong: list[str] = []
    for (name, wanted), outcome in zip(expected.items(), found, strict=True):
        assert (outcome.init, outcome.run) == (0, 0), name
        wrong += [name for a, b in zip(outcome.outputs, wanted, strict=True) if not same_bits(a, b)]
    assert wrong == []


@pytest.mark.parametrize(
    "make",
    [images, lambda batch: encoder_layer(batch, 21, 64, 2, 150)],  # pyright: ignore[reportUnknownLambdaType]
    ids=["images", "encoder"],
)
def test_a_row_does_not_see_its_batch(make: Callable[[int], tuple[Graph, list[Array]]]) -> None:
    graph, arrays = make(3)
    together = compiled(graph, "llvm", "together")(*arrays)
    alone = compiled(make(1)[0], "llvm", "alone")
    for row in range(3):
        results = alone(*(array[row : row + 1] for array in arrays))
        for one, all_of_them in zip(results, together, strict=True):
            assert same_bits(one[0], all_of_them[row])


def test_sums_round_where_they_are_written() -> None:
    """No kernel leaves it to LLVM whether a product and a sum are rounded once or twice."""
    graph, _ = encoder_layer(1, 8, 32, 2, 48)
    texts = [unit.text for unit in compiled(graph, "llvm", "m").program.units.values()]
    assert any("@llvm.fma." in text for text in texts)
    assert not any(" contract " in text for text in texts)


@pytest.mark.parametrize(
    ("target", "why"), [("llvm{cpu=x86-64-v2}", "fused multiply-add"), ("reference", "fp32 only")]
)
def test_others_refuse(target: str, why: str) -> None:
    graph, _ = networks()["gemms"]()
    with pytest.raises(UnsupportedError, match=f"precision=strict: target .*: .*{why}"):
        gcomp.compile(graph, target=target, precision="strict")
    with pytest.raises(UnsupportedError, match=why):
        gcomp.compile(graph, target=target, passes="precision{mode=strict}")


@pytest.mark.parametrize("name", networks())
def test_agrees_with_the_reference(name: str) -> None:
    graph, arrays = networks()[name]()
    results = gcomp.compile(graph, precision="strict", host_steps=False)(*arrays)
    for actual, expected in zip(results, evaluate(graph, arrays), strict=True):
        assert not (why := mismatch(actual, expected, "approximate")), why
