"""Trained models as GPU kernels, run thread by thread on this processor, and on a GPU where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

import gcomp
from gcomp.backends.llvm import CUDA
from gcomp.backends.llvm.cuda.build import build
from gcomp.backends.llvm.cuda.codegen import compiled, joined
from gcomp.compiler import optimize
from gcomp.plan import plan
from tests.assembler import assembled
from tests.emulated_gpu import EmulatedLibrary, emulated
from tests.models.model_rule import NAMES, trained_model
from tests.models.test_native import complaints, shapes_of


@pytest.mark.parametrize("name", NAMES)
def test_gpu_kernels_keep_the_model_rule(models_dir: Path, name: str) -> None:
    model = trained_model(models_dir, name)
    graph = optimize(gcomp.lift(model.path, shapes=shapes_of(model)), CUDA().pipeline)
    library = EmulatedLibrary()
    assert complaints(model, emulated(graph, "sm_80", library)) == []
    assert library.launched


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_ptxas_takes_the_kernels_of_models(models_dir: Path, arch: str, tmp_path: Path) -> None:
    texts: dict[str, str] = {}
    for name in NAMES:
        model = trained_model(models_dir, name)
        graph = optimize(gcomp.lift(model.path, shapes=shapes_of(model)), CUDA().pipeline)
        texts.update(build(plan(graph), arch, name).texts)
    facts = assembled(joined(compiled(list(texts.values()), arch)), arch, tmp_path)
    assert facts.keys() == texts.keys() and len(texts) > 100


@pytest.mark.gpu
@pytest.mark.skipif(CUDA().runs_here() is not None, reason=f"{CUDA().runs_here()}")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_keeps_the_model_rule(models_dir: Path, name: str) -> None:
    model = trained_model(models_dir, name)
    module = gcomp.compile(model.path, target="cuda", shapes=shapes_of(model), host_steps=False)
    assert complaints(model, module) == []
