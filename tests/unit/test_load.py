"""Loading shared objects from Python, and what is no module of ours."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gcomp import native
from gcomp.backends.llvm.cpu import from_options, host
from gcomp.backends.llvm.jit import emit_object
from gcomp.backends.llvm.link import link_shared
from gcomp.diagnostics import BuildError
from gcomp.native import load

from . import doubler

X = np.array([1, 2, 3, 4], np.float32)
DOUBLED = [2, 4, 6, 8]


def test_loading_needs_neither_llvm_nor_onnx(tmp_path: Path) -> None:
    path = doubler.shared(tmp_path)
    script = (
        "import sys, numpy as np\n"
        "from gcomp.native import load\n"
        "print(load(sys.argv[1])(np.array([1, 2, 3, 4], np.float32))[0].tolist())\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('llvmlite', 'onnx') or 'backends' in m])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[float(v) for v in DOUBLED]}\n[]\n"


def test_a_replaced_file_is_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(doubler.shared(tmp_path, weight=2.0))
    second = load(doubler.shared(tmp_path, weight=5.0))
    third = load(doubler.shared(tmp_path, weight=7.0))
    monkeypatch.chdir(tmp_path)
    assert [m(X)[0][0] for m in (first, second, third, load("doubler.so"))] == [2, 5, 7, 7]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=f"{tmp_path}/none.so: there is no such file"):
        load(tmp_path / "none.so")
    with pytest.raises(BuildError, match="there is no such file"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF" + bytes(200)])
def test_a_file_of_another_kind_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.so"
    path.write_bytes(content)
    with pytest.raises(BuildError, match=r"m\.so: cannot be loaded as a shared object"):
        load(path)


def test_an_archive_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be loaded as a shared object"):
        load(doubler.static(tmp_path))


def library(folder: Path, manifest: object, symbol: str = "gcomp_manifest") -> Path:
    """A shared object with nothing but a manifest."""
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    source, out = folder / "manifest.o", folder / "other.so"
    quoted = text.replace('"', "\\22")
    source.write_bytes(
        emit_object(f'@{symbol} = constant [{len(text) + 1} x i8] c"{quoted}\\00"', host(), False)
    )
    link_shared([source], out, [symbol])
    return out


EMPTY = {"abi": 1, "name": "m", "inputs": [], "outputs": [], "arena_bytes": 0}


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("no JSON", "is no module made by gcomp"),
        ([1, 2], "has no interface version"),
        ({"name": "m"}, "has no interface version"),
        ({"abi": 99, "name": "m"}, "version 99 of gcomp's interface, this gcomp speaks version 1"),
        ({"abi": 1, "name": "m"}, "the manifest lacks arena_bytes, inputs, outputs"),
        (EMPTY, "is no module made by gcomp: .*m_run"),
    ],
)
def test_a_manifest_that_does_not_fit_is_told(tmp_path: Path, manifest: object, message: str) -> None:
    with pytest.raises(BuildError, match=rf"other\.so: .*{message}"):
        load(library(tmp_path, manifest))


def test_a_library_of_somebody_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is no module made by gcomp"):
        load(library(tmp_path, "text", symbol="something"))


@pytest.mark.skipif(host().arch != "x86_64", reason="emulates an x86-64 processor")
def test_a_processor_that_lacks_something_is_told(tmp_path: Path) -> None:
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-x86_64 is not installed")
    path = doubler.shared(tmp_path, cpu=from_options({"cpu": "skylake-avx512"}))
    script = (
        "import sys\n"
        "from gcomp.diagnostics import RunError\n"
        "from gcomp.native import load\n"
        "try:\n    load(sys.argv[1])\n"
        "except RunError as error:\n    print(error)\n"
    )
    command = [qemu, "-cpu", "Haswell,-avx2", sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (
        "doubler: the processor lacks an instruction set that the code was compiled for (error 2)"
        in done.stdout
    ), done
    assert "needed: " in done.stdout and "avx512f" in done.stdout


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : pni ssse3 sse4_1 avx avx2 abm lahf_lm avx512_vnni\n")
    needed = ["sse3", "sse4.1", "avx2", "lzcnt", "sahf", "avx512vnni", "avx512f", "bmi"]
    assert native._shortage(needed, str(cpuinfo)).endswith("missing here: avx512f, bmi")
    assert "missing" not in native._shortage(["avx2"], str(cpuinfo))
    assert native._shortage(["avx2"], str(tmp_path / "none")) == "\n  needed: avx2"


def test_a_program_that_python_runs_is_no_library(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pyz", "w") as archive:
        archive.writestr("__main__.py", "")
    with pytest.raises(BuildError, match=r"is a program and no library: run it, by python model.pyz$"):
        load(tmp_path / "model.pyz")
