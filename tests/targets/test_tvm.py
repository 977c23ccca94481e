"""Each operator's samples through TVM against the reference; what fails there is listed, in its words."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends import tvm as target
from gcomp.diagnostics import BuildError, InputError, RunError, UnsupportedError
from gcomp.evaluate import evaluate
from gcomp.target import Module
from gcomp.testing.samples import graph_of, native_samples, sample
from gcomp.tolerance import mismatch
from tests.models.model_rule import NAMES, TrainedModel, trained_model
from tests.targets.tvm_ignored import FATAL, IGNORED

REASON = target.TVM().available()
needs_tvm = pytest.mark.skipif(REASON is not None, reason=REASON or "")
COMPILERS = ("g++", "clang++")


def complaint(name: str, place: int) -> str:
    """What is wrong with the answer for a sample, or what TVM says to it; empty if it is right."""
    op = sample(name, place)
    graph, arrays = graph_of(op)
    expected = evaluate(graph, arrays)
    before = [array.copy() for array in arrays]
    try:
        actual = target.TVM().build(graph, name=name, threads=1, host_steps=False)(*arrays)
    except BuildError as error:
        return error.message
    assert [array.tobytes() for array in arrays] == [array.tobytes() for array in before]
    told = (mismatch(a, wanted, op.tolerance) for a, wanted in zip(actual, expected, strict=True))
    return "; ".join(filter(None, told))


@needs_tvm
@pytest.mark.tvm
@pytest.mark.parametrize(("name", "place"), [at for at in native_samples() if at not in {*IGNORED, *FATAL}])
def test_agrees_with_the_reference(name: str, place: int) -> None:
    assert complaint(name, place) == ""


@needs_tvm
@pytest.mark.tvm
@pytest.mark.parametrize(("name", "place"), IGNORED)
def test_what_is_ignored_still_fails_in_the_same_words(name: str, place: int) -> None:
    assert IGNORED[name, place] in complaint(name, place), "take it off the list"


@needs_tvm
@pytest.mark.tvm
@pytest.mark.parametrize(("name", "place"), FATAL)
def test_what_ends_the_process_still_does(repository: Path, name: str, place: int) -> None:
    script = f"from tests.targets.test_tvm import complaint; complaint({name!r}, {place})"
    done = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True)
    assert signal.strsignal(-done.returncode) == FATAL[name, place], "take it off the list"


def test_nearly_nothing_is_ignored() -> None:
    samples = native_samples()
    assert {*IGNORED, *FATAL} <= set(samples)
    assert len(IGNORED) + len(FATAL) <= len(samples) // 100


@needs_tvm
@pytest.mark.tvm
@pytest.mark.parametrize("name", NAMES)
def test_models_keep_the_model_rule(models_dir: Path, name: str) -> None:
    model = trained_model(models_dir, name)
    inputs, _ = next(model.samples())
    shapes = {key: array.shape for key, array in inputs.items()}
    module = gcomp.compile(model.path, target="tvm", shapes=shapes, host_steps=False)
    assert _complaints(model, module) == []


def _complaints(model: TrainedModel, module: Module) -> list[str]:
    found: list[str] = []
    for inputs, expected in model.samples():
        results = module.run(inputs)
        found += model.mismatches(list(results.values()), list(results), expected)
    return found


GATHER = """
graph "rows" (%x: f32[3,4], %k: i64[2]) -> (%y "y") {
  %y = Gather(%x, %k) : f32[2,4]
}
"""


@needs_tvm
@pytest.mark.tvm
@pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason=f"none of {', '.join(COMPILERS)} is here to link"
)
def test_saved_and_loaded_again(tmp_path: Path) -> None:
    module = gcomp.compile(gcomp.parse(GATHER), target="tvm", name="rows")
    x, k = np.arange(12, dtype=np.float32).reshape(3, 4), np.array([2, 0])
    (file,) = module.save(tmp_path / "rows.tvm.so")
    again = target.load(file)
    assert (again.name, again.inputs, again.outputs) == ("rows", module.inputs, module.outputs)
    for runnable in (module, again):
        assert np.array_equal(runnable(x, k)[0], x[[2, 0]])
        assert np.array_equal(runnable.run({"k": k, "x": x[::1]})["y"], x[[2, 0]])
    with pytest.raises(BuildError, match="cannot be saved again"):
        again.save(tmp_path / "b.tvm.so")


QUANTIZED = """
graph "weights" () -> (%y "y") {
  %w = Constant {value=i8[2] dense<3, -4>}
  %scale = Constant {value=f32[] dense<0.5>}
  %zero = Constant {value=i8[] dense<0>}
  %y = DequantizeLinear(%w, %scale, %zero) : f32[2]
}
"""


@needs_tvm
@pytest.mark.tvm
def test_a_zero_point_that_is_known_to_be_zero() -> None:
    module = target.TVM().build(gcomp.parse(QUANTIZED), name="weights", threads=1, host_steps=False)
    assert module()[0].tolist() == [1.5, -2.0]


@needs_tvm
@pytest.mark.tvm
def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    module = gcomp.compile(gcomp.parse(GATHER), target="tvm")
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(RunError, match="index is out of range"):
        module(x, np.array([3, 0]))
    assert module(x, np.array([1, 0]))[0].shape == (2, 4)  # an error leaves the module usable
    with pytest.raises(InputError, match="takes 2 inputs"):
        module(x)
    with pytest.raises(InputError, match=r"input k must be i64\[2\], got i32\[2\]"):
        module(x, np.array([1, 0], np.int32))
    with pytest.raises(InputError, match="takes inputs x, k, got x"):
        module.run({"x": x})
    with pytest.raises(BuildError, match=r"saved as NAME\.tvm\.so"):
        module.save(tmp_path / "rows.so")
    with pytest.raises(BuildError, match="there is no such file"):
        target.load(tmp_path / "none.tvm.so")
    (tmp_path / "text.tvm.so").write_text("text")
    with pytest.raises(BuildError, match="is no module of the target tvm"):
        target.load(tmp_path / "text.tvm.so")


def test_without_tvm_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(target, "find_spec", lambda name: None)
    assert target.TVM().available() == "TVM is not installed: pip install 'gcomp[tvm]'"
    with pytest.raises(UnsupportedError, match="target tvm cannot be used here: TVM is not installed"):
        gcomp.compile(gcomp.parse(GATHER), target="tvm")
    with pytest.raises(UnsupportedError, match="TVM is not installed"):
        target.load(tmp_path / "m.tvm.so")
