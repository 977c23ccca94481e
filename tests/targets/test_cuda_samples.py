"""Each operator's samples as GPU kernels: run thread by thread on this processor, assembled by `ptxas`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcomp.backends.llvm import CUDA
from gcomp.backends.llvm.cuda.build import build
from gcomp.backends.llvm.cuda.codegen import compiled, joined
from gcomp.backends.llvm.cuda.module import compile_graph
from gcomp.evaluate import evaluate
from gcomp.plan import plan
from gcomp.testing.samples import graph_of, native_samples, sample
from gcomp.tolerance import mismatch
from tests.assembler import assembled
from tests.emulated_gpu import EmulatedLibrary, emulated


@pytest.mark.parametrize(("name", "place"), native_samples())
def test_agrees_with_the_reference(name: str, place: int) -> None:
    op = sample(name, place)
    graph, arrays = graph_of(op)
    expected = evaluate(graph, arrays)
    modules = [emulated(graph, "sm_80", EmulatedLibrary())]
    if any("gemm" in launch.kernel for launch in modules[0].program.launches):
        modules.append(emulated(graph, "sm_80", EmulatedLibrary(), templates=False))
    for module in modules:
        for actual, wanted in zip(module(*arrays), expected, strict=True):
            assert not (why := mismatch(actual, wanted, op.tolerance)), why


@pytest.mark.gpu
@pytest.mark.skipif(CUDA().runs_here() is not None, reason=f"{CUDA().runs_here()}")
def test_a_gpu_agrees_with_the_reference() -> None:
    wrong: list[str] = []
    for name, place in native_samples():
        op = sample(name, place)
        graph, arrays = graph_of(op)
        results = compile_graph(graph, CUDA().arch, name)(*arrays)
        for actual, wanted in zip(results, evaluate(graph, arrays), strict=True):
            if why := mismatch(actual, wanted, op.tolerance):
                wrong.append(f"{name}-{place}: {why}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_ptxas_takes_every_kernel(arch: str, tmp_path: Path) -> None:
    texts: dict[str, str] = {}
    for name, place in native_samples():
        graph, _ = graph_of(sample(name, place))
        for templates in (True, False):
            texts.update(build(plan(graph), arch, name, templates).texts)
    facts = assembled(joined(compiled(list(texts.values()), arch)), arch, tmp_path)
    assert facts.keys() == texts.keys() and len(texts) > 500
    assert {name for name, of in facts.items() if of.spilled} == set()
