"""Trained models as code for ARM processors, run under qemu, against their recorded outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

import gcomp
from gcomp.backends.llvm.module import LLVMModule
from gcomp.types import Array
from tests.cross import TRIPLE, cross_program, emulate
from tests.models.model_rule import trained_model

NAMES = ("mnist_cnn", "mnist_mlp", "kws_fp32", "ultraface_rfb320")

pytestmark = pytest.mark.arm


@pytest.mark.parametrize("cpu", ["cortex-a72", "cortex-a76"])
def test_arm_code_keeps_the_model_rule(models_dir: Path, tmp_path: Path, cpu: str) -> None:
    known = [trained_model(models_dir, name) for name in NAMES]
    samples = [next(model.samples()) for model in known]
    models: list[tuple[LLVMModule, list[Array]]] = []
    for model, (inputs, _) in zip(known, samples, strict=True):
        shapes = {name: array.shape for name, array in inputs.items()}
        target = f"llvm{{triple={TRIPLE},cpu={cpu}}}"
        module = gcomp.compile(model.path, target=target, shapes=shapes, name=model.name, host_steps=False)
        assert isinstance(module, LLVMModule)
        models.append((module, [inputs[port.name] for port in module.inputs]))
    found = emulate(cross_program(tmp_path, models, "a"), models, cpu)
    for model, (module, _), (_, expected), outcome in zip(known, models, samples, found, strict=True):
        assert (outcome.init, outcome.run) == (0, 0), model.name
        names = [port.name for port in module.outputs]
        assert model.mismatches(outcome.outputs, names, expected) == [], model.name
