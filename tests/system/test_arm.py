"""Artefacts for ARM: each form in a C program under qemu, lesser processors, networks at templates' edges."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm.idregisters import FIELDS
from gcomp.backends.llvm.module import LLVMModule
from gcomp.diagnostics import BuildError
from gcomp.evaluate import evaluate
from gcomp.native import ErrorCode
from gcomp.tolerance import mismatch
from gcomp.types import Array
from tests.cross import SYSROOT, TRIPLE, cross_program, emulate
from tests.networks import networks
from tests.programs import run, tool

pytestmark = pytest.mark.arm


def target(cpu: str) -> str:
    return f"llvm{{triple={TRIPLE},cpu={cpu}}}"


def digits(repository: Path, cpu: str, name: str = "digits") -> LLVMModule:
    model = repository / "examples" / "digits.onnx"
    module = gcomp.compile(model, target=target(cpu), shapes={"image": (1, 1, 8, 8)}, name=name)
    assert isinstance(module, LLVMModule)
    return module


@pytest.fixture(scope="module")
def image(repository: Path) -> Array:
    with np.load(repository / "examples" / "digits.npz") as data:
        return (data["test_images"][:1] / 16).astype(np.float32)


@pytest.mark.parametrize("suffix", ["a", "o", "so"])
def test_each_form_runs_on_arm(suffix: str, repository: Path, image: Array, tmp_path: Path) -> None:
    module = digits(repository, "cortex-a76")
    program = cross_program(tmp_path, [(module, [image])], suffix, static=suffix != "so")
    options: list[object] = []
    if suffix == "so":
        if not (SYSROOT / "lib").is_dir():
            pytest.skip(f"there is no C library for aarch64 in {SYSROOT}")
        options = ["-L", SYSROOT]
    (outcome,) = emulate(program, [(module, [image])], "cortex-a76", *options)
    assert (outcome.init, outcome.run) == (0, 0)
    (expected,) = evaluate(module.graph, [image])
    assert not (why := mismatch(outcome.outputs[0], expected, "approximate")), why


@pytest.mark.parametrize(
    ("built_for", "runs_on", "code"),
    [
        ("cortex-a76", "cortex-a72", ErrorCode.CPU),
        ("cortex-a78", "cortex-a76", ErrorCode.OK),
        ("neoverse-n2", "max", ErrorCode.OK),
        ("neoverse-n2", "max,sve=off", ErrorCode.CPU),
        ("cortex-a53", "cortex-a53", ErrorCode.OK),
    ],
)
def test_a_lesser_processor_gets_a_code(
    built_for: str, runs_on: str, code: ErrorCode, repository: Path, image: Array, tmp_path: Path
) -> None:
    models = [(digits(repository, built_for), [image])]
    (outcome,) = emulate(cross_program(tmp_path, models, "a"), models, runs_on)
    assert (outcome.init, outcome.run) == (code, code)


@pytest.mark.parametrize(("runs_on", "code"), [("cortex-a53", ErrorCode.CPU), ("max", ErrorCode.OK)])
def test_each_feature_is_asked_for(
    runs_on: str, code: ErrorCode, repository: Path, image: Array, tmp_path: Path
) -> None:
    """A cortex-a53 has none of them; each is asked for in a module of its own."""
    models = [(digits(repository, f"cortex-a53,features=+{feature}", feature), [image]) for feature in FIELDS]
    found = emulate(cross_program(tmp_path, models, "o"), models, runs_on)
    assert [(outcome.init, outcome.run) for outcome in found] == [(code, code)] * len(FIELDS)


def test_networks_agree_with_the_reference(tmp_path: Path) -> None:
    models: list[tuple[LLVMModule, list[Array]]] = []
    expected: list[list[Array]] = []
    for number, make in enumerate(networks().values()):
        graph, arrays = make()
        expected.append(evaluate(graph, arrays))
        module = gcomp.compile(graph, target=target("cortex-a76"), name=f"n{number}", host_steps=False)
        assert isinstance(module, LLVMModule)
        models.append((module, arrays))
    found = emulate(cross_program(tmp_path, models, "o"), models, "cortex-a76")
    for name, outcome, wanted in zip(networks(), found, expected, strict=True):
        assert (outcome.init, outcome.run) == (0, 0), name
        for actual, array in zip(outcome.outputs, wanted, strict=True):
            assert not (why := mismatch(actual, array, "approximate")), f"{name}: {why}"


def test_the_document_holds(repository: Path, tmp_path: Path) -> None:
    """What docs/cross-compiling.md tells its readers to type."""
    for name in (f"{TRIPLE}-gcc", "qemu-aarch64"):
        tool(name)
    text = (repository / "docs" / "cross-compiling.md").read_text("utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shutil.copytree(repository / "examples", tmp_path / "examples")
    script = "set -e\n" + re.sub(r"^gcomp ", f"'{sys.executable}' -m gcomp ", block, flags=re.MULTILINE)
    variables = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.endswith("class 7\n"), done


def test_the_library_stands_alone(repository: Path, tmp_path: Path) -> None:
    library, _ = digits(repository, "cortex-a76").save(tmp_path / "digits.so")
    assert "AArch64" in run(tool("readelf"), "-hW", library)
    dynamic = run("readelf", "-Wd", library)
    assert not [word for word in ("NEEDED", "TEXTREL", "RUNPATH", "RPATH", "INIT") if word in dynamic]


def test_the_module_says_where_it_would_run(repository: Path, image: Array) -> None:
    with pytest.raises(BuildError, match=r"digits: compiled for aarch64-unknown-linux-gnu, this machine is"):
        digits(repository, "cortex-a76")(image)
