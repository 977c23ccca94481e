"""precision="bf16": its instructions, the errors that it promises, and who refuses it."""

from __future__ import annotations

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.module import LLVMModule
from gcomp.diagnostics import InputError, UnsupportedError
from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.op import constant
from gcomp.ops import MatMul
from gcomp.tolerance import mismatch
from gcomp.types import F32, TensorType
from gcomp.verify import tolerance_for
from tests.networks import networks
from tests.transformer import encoder_layer

here = pytest.mark.skipif(not host().multiplies_bfloats, reason="this processor has no products of bf16")


@here
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(1, 128, 256, 4, 1024), (2, 37, 100, 5, 270), (3, 1, 64, 2, 96)])
def test_an_encoder_layer_is_within_its_bound(sizes: tuple[int, int, int, int, int], seed: int) -> None:
    """And beyond that of f32, or nothing would be in bf16."""
    graph, arrays = encoder_layer(*sizes, seed)
    (actual,) = gcomp.compile(graph, precision="bf16")(*arrays)
    (expected,) = evaluate(graph, arrays)
    assert not (why := mismatch(actual, expected, tolerance_for("bf16"))), why
    assert mismatch(actual, expected, tolerance_for("fp32"))


@here
@pytest.mark.parametrize("shape", [(1, 64, 10), (33, 501, 40), (128, 768, 96)])
def test_a_product_is_within_what_two_roundings_allow(shape: tuple[int, int, int]) -> None:
    """Each operand is off by 2 ** -8 of itself at most, so each product by 2 ** -7; f32 sums add little."""
    m, k, n = shape
    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal(sizes).astype(np.float32) for sizes in ((m, k), (k, n)))
    graph = Graph("product")
    x = graph.add_input(TensorType(F32, a.shape), "x")
    graph.outputs, graph.output_names = [graph.add(MatMul(x, constant(b))).result], ["y"]
    (actual,) = gcomp.compile(graph, precision="bf16")(a)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    allowed = (2.0**-7 + 2.0**-16 + k * 2.0**-23) * (abs(wide_a) @ abs(wide_b))
    assert (abs(actual - wide_a @ wide_b) <= allowed).all()


@here
def test_weights_are_stored_in_half_the_bytes() -> None:
    graph, _ = encoder_layer(1, 16, 64, 2, 256)
    full, half = (gcomp.compile(graph, precision=precision) for precision in ("fp32", "bf16"))
    assert half.manifest["weights_bytes"] < 0.55 * full.manifest["weights_bytes"]
    assert isinstance(half, LLVMModule)
    assert sum("dpbf16ps" in call.unit.text for call in half.program.calls) == 6


@here
@pytest.mark.parametrize("name", networks())
def test_networks_keep_the_bound(name: str) -> None:
    graph, arrays = networks()[name]()
    results = gcomp.compile(graph, precision="bf16", host_steps=False)(*arrays)
    for actual, expected in zip(results, evaluate(graph, arrays), strict=True):
        assert not (why := mismatch(actual, expected, tolerance_for("bf16"))), why


@pytest.mark.parametrize(
    ("target", "why"), [("llvm{cpu=haswell}", "haswell has no products of bf16"), ("cuda", "fp32 only")]
)
def test_others_refuse(target: str, why: str) -> None:
    graph, _ = networks()["gemms"]()
    with pytest.raises(UnsupportedError, match=f"precision=bf16: target .*: .*{why}"):
        gcomp.compile(graph, target=target, precision="bf16")


def test_what_there_is_not_yet_is_told() -> None:
    graph, _ = networks()["gemms"]()
    with pytest.raises(InputError, match="'fp16' is none of strict, fp32, bf16"):
        gcomp.compile(graph, precision="fp16")
