"""Whole modules in the cache: restored in a later run, compiled anew when damaged, shared by processes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import gcomp
from gcomp import registry
from gcomp.backends.llvm.module import LLVMModule
from gcomp.ir import Graph
from gcomp.types import Array
from gcomp.version import LIBRARIES, fingerprint

IMAGE = np.random.default_rng(5).random((1, 1, 8, 8), np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    path = tmp_path / "cache"
    monkeypatch.setenv("GCOMP_CACHE", str(path))
    return path


@pytest.fixture(scope="module")
def model(repository: Path) -> str:
    return str(repository / "examples" / "digits.onnx")


@pytest.fixture(scope="module")
def expected(model: str) -> Array:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCOMP_CACHE", "off")
        return compiled(model)(IMAGE)[0]


def compiled(model: str, **options: str) -> LLVMModule:
    module = gcomp.compile(model, shapes={"image": (1, 1, 8, 8)}, host_steps=False, **options)  # pyright: ignore[reportArgumentType]
    assert isinstance(module, LLVMModule)
    return module


def is_restored(module: LLVMModule) -> bool:
    return "codegen" not in module.timings


def test_a_restored_module_gives_the_same_bits(model: str, folder: Path, expected: Array) -> None:
    first, second = compiled(model), compiled(model)
    assert (is_restored(first), is_restored(second)) == (False, True)
    for module in (first, second):
        assert module(IMAGE)[0].tobytes() == expected.tobytes()
    assert second.artefact.weights.tobytes() == first.artefact.weights.tobytes()
    assert second.manifest == first.manifest


@pytest.mark.skipif(sys.platform != "linux", reason="links ELF")
@pytest.mark.parametrize("suffix", ["so", "a", "o", "h", "ll", "s"])
def test_a_restored_module_is_saved_as_the_first_was(
    suffix: str, model: str, folder: Path, tmp_path: Path
) -> None:
    saved: list[bytes] = []
    for number in range(2):
        module = compiled(model)
        assert is_restored(module) == bool(number)
        module.save(tmp_path / f"{number}.{suffix}")
        saved.append((tmp_path / f"{number}.{suffix}").read_bytes())
    assert saved[0] == saved[1]


def test_a_restored_module_still_shows_its_graph(model: str, folder: Path) -> None:
    first, second = compiled(model), compiled(model)
    assert is_restored(second) and str(second.graph) == str(first.graph)
    assert second.program.entry == first.program.entry


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"},
        {"target": "llvm{templates=off}"},
        {"passes": "fold-constants"},
        {"target": "llvm{cpu=x86-64}"},
    ],
)
def test_other_options_are_another_module(other: dict[str, str], model: str, folder: Path) -> None:
    compiled(model)
    assert not is_restored(compiled(model, **other))
    assert is_restored(compiled(model))


def test_a_changed_file_is_another_module(model: str, folder: Path, tmp_path: Path, expected: Array) -> None:
    copy = tmp_path / "digits.onnx"
    copy.write_bytes(Path(model).read_bytes())
    assert not is_restored(compiled(str(copy)))
    assert is_restored(compiled(model))  # the content counts, not the place
    proto = gcomp.lift(str(copy), shapes={"image": (1, 1, 8, 8)})
    gcomp.save_onnx(gcomp.optimize(proto, "fold-constants,fold-batchnorm"), copy)
    changed = compiled(str(copy))
    assert not is_restored(changed)
    np.testing.assert_allclose(changed(IMAGE)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", ["other bytes", "gone"])
def test_what_a_changed_file_was_made_into_runs_but_shows_no_graph(
    change: str, model: str, folder: Path, tmp_path: Path, expected: Array
) -> None:
    compiled(model)
    copy = tmp_path / "digits.onnx"
    copy.write_bytes(Path(model).read_bytes())
    restored = compiled(str(copy))
    assert is_restored(restored)
    if change == "gone":
        copy.unlink()
    else:
        copy.write_bytes(copy.read_bytes() + b"\x12\x00")
    assert restored(IMAGE)[0].tobytes() == expected.tobytes()
    for look in (lambda: restored.graph, lambda: restored.program, lambda: restored.save(tmp_path / "d.ll")):
        with pytest.raises(gcomp.ModelError, match=r"digits.onnx has changed, or cannot be read,"):
            look()


def test_a_file_that_changes_while_it_is_compiled_is_not_kept(
    model: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "digits.onnx"
    copy.write_bytes(Path(model).read_bytes())

    def replaced(*arguments: Any, **options: Any) -> Graph:
        graph = gcomp.lift(*arguments, **options)
        copy.write_bytes(copy.read_bytes() + b"\x12\x00")
        return graph

    monkeypatch.setattr("gcomp.compiler.as_graph", replaced)
    compiled(str(copy))
    monkeypatch.undo()
    monkeypatch.setenv("GCOMP_CACHE", str(folder))
    assert not is_restored(compiled(model))


@pytest.mark.parametrize("library", [*LIBRARIES, "LLVM"])
def test_another_version_of_a_library_makes_another_module(
    library: str, model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(model)
    if library == "LLVM":
        monkeypatch.setattr("gcomp.backends.llvm.stored.llvm_version", lambda: "0.0")
    else:
        monkeypatch.setattr("gcomp.version.version", lambda name: "0.0" if name == library else version(name))
        monkeypatch.setattr("gcomp.compiler.fingerprint", fingerprint.__wrapped__)
    assert not is_restored(compiled(model))


def test_changed_weights_in_a_file_beside_the_model_are_read_anew(folder: Path, tmp_path: Path) -> None:
    x = np.ones((1, 4), np.float32)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in "xy"]
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(4, 4))
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="w.bin")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    for value in (1.0, 2.0):
        (tmp_path / "w.bin").write_bytes(np.full((4, 4), value, np.float32).tobytes())
        assert gcomp.compile(tmp_path / "model.onnx")(x)[0].tolist() == [[4 * value] * 4]


def test_the_passes_of_other_distributions_run_each_time(
    model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tells whether their code has changed."""
    monkeypatch.setattr(registry, "_entry_points", lambda kind: [Stranger()])
    for _ in range(2):
        assert not is_restored(compiled(model, passes="fold-constants,stranger"))


class Stranger:
    """An entry point."""

    name, value = "stranger", "elsewhere"

    def load(self) -> object:
        return registry.find("passes", "clean")


def damage(data: bytes, kind: str) -> bytes:
    at = len(data) // 2
    return {
        "empty": b"",
        "cut": data[:at],
        "one bit": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
        "other": b"something else",
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "cut", "one bit", "other"])
def test_damaged_entries_are_compiled_anew(kind: str, model: str, folder: Path, expected: Array) -> None:
    compiled(model)
    entries = {path: path.read_bytes() for path in folder.iterdir()}
    assert entries
    for path, data in entries.items():
        path.write_bytes(damage(data, kind))
    module = compiled(model)
    assert not is_restored(module)
    assert module(IMAGE)[0].tobytes() == expected.tobytes()
    assert {path: path.read_bytes() for path in entries} == entries
    assert is_restored(compiled(model))


PROCESS = """
import sys
import numpy as np
from tests.system.test_stored import IMAGE, compiled
print("ready", flush=True)
sys.stdin.readline()
sys.stdout.write(compiled(sys.argv[1])(IMAGE)[0].tobytes().hex())
"""

RESTORED = """
import sys
from tests.system.test_stored import compiled, is_restored
sys.stdout.write(str(is_restored(compiled(sys.argv[1]))))
"""


def test_two_processes_fill_one_cache(model: str, folder: Path, expected: Array, repository: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, model],
            cwd=repository,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        out, errors = child.communicate(timeout=120)
        assert (child.returncode, errors, out) == (0, "", expected.tobytes().hex())
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    third = subprocess.run(
        [sys.executable, "-c", RESTORED, model], cwd=repository, capture_output=True, text=True, check=True
    )
    assert third.stdout == "True"
