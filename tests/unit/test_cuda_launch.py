"""Saved GPU programs: what is in them, that they need Python alone, what they say of right and wrong."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm import CUDA
from gcomp.backends.llvm.cuda import launch
from gcomp.backends.llvm.cuda.driver import Driver
from gcomp.backends.llvm.cuda.launch import difference, main
from gcomp.ir import Graph
from gcomp.ops import Cast, Gather, MatMul
from gcomp.tolerance import allowance, mismatch
from gcomp.types import BF16, BOOL, F16, F32, F64, I8, I64, Array, DType, TensorType, dtype_of
from tests.emulated_gpu import EmulatedLibrary, emulated

NO_DRIVER = CUDA().runs_here()


def network() -> Graph:
    """Rows of a table by index, times a matrix; also as halves, and whether they are zero."""
    graph = Graph("rows")
    table = graph.add_input(TensorType(F32, (30, 20)), "table")
    matrix = graph.add_input(TensorType(F32, (20, 17)), "matrix")
    index = graph.add_input(TensorType(I64, (12,)), "index")
    rows = graph.add(Gather(table, index, 0)).result
    product = graph.add(MatMul(rows, matrix)).result
    graph.outputs = [product, *(graph.add(Cast(product, dtype.code)).result for dtype in (F16, BF16, BOOL))]
    graph.output_names = ["product", "half", "short", "any"]
    return graph


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, EmulatedLibrary]:
    monkeypatch.setattr(launch, "SECONDS", 0.0)
    gpu = EmulatedLibrary()
    module = emulated(network(), "sm_80", gpu)
    (path,) = module.save(tmp_path / "rows.pyz")
    return path, gpu


def run(path: Path, gpu: EmulatedLibrary, *arguments: str) -> int:
    return main(arguments, path, lambda: Driver(gpu))


def test_a_right_program(saved: tuple[Path, EmulatedLibrary], capsys: pytest.CaptureFixture[str]) -> None:
    path, gpu = saved
    assert run(path, gpu) == 0
    first, *outputs, timing = capsys.readouterr().out.splitlines()
    assert first == "rows, for sm_80, on this processor (sm_90)"
    assert [line.split(":")[0].strip() for line in outputs] == ["product", "half", "short", "any"]
    assert all(": agrees, at most " in line for line in outputs)
    assert "a run takes" in timing and "with copies" in timing


def test_as_a_folder_with_each_kernel(
    saved: tuple[Path, EmulatedLibrary], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, gpu = saved
    zipfile.ZipFile(path).extractall(tmp_path / "rows")
    assert run(tmp_path / "rows", gpu, "--kernels") == 0
    plan = json.loads((tmp_path / "rows" / "plan.json").read_text())
    told = capsys.readouterr().out.splitlines()[-len(plan["launches"]) :]
    assert [line.split(":")[0].strip() for line in told] == [launch["kernel"] for launch in plan["launches"]]


def test_a_wrong_program(saved: tuple[Path, EmulatedLibrary], capsys: pytest.CaptureFixture[str]) -> None:
    path, gpu = saved
    (program,) = gpu.programs.values()
    (name,) = (name for name in program.texts if "gemm" in name)
    program.texts[name] = program.texts[name].replace("call float @llvm.fma.f32(", "call float @wrong(", 1)
    program.texts[name] += "\ndefine float @wrong(float %a, float %b, float %c) {\n  ret float %c\n}\n"
    assert run(path, gpu) == 1
    assert "  product: " in (told := capsys.readouterr().out)
    assert "204 of 204 elements differ" in told


def test_errors_of_the_program_are_told(
    saved: tuple[Path, EmulatedLibrary], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, gpu = saved
    folder = tmp_path / "rows"
    zipfile.ZipFile(path).extractall(folder)
    data = bytearray((folder / "example.bin").read_bytes())
    place = (30 * 20 + 20 * 17) * 4
    data[place : place + 8] = (99).to_bytes(8, "little")
    (folder / "example.bin").write_bytes(data)
    assert run(folder, gpu) == 1
    assert capsys.readouterr().err == "error: rows: an index is out of range (error 5)\n"
    assert run(path, EmulatedLibrary(capability=(7, 5))) == 1
    assert "error: rows: compiled for sm_80, this GPU is sm_75" in capsys.readouterr().err


def test_it_needs_python_alone(saved: tuple[Path, EmulatedLibrary], tmp_path: Path) -> None:
    path, _ = saved
    archive = zipfile.ZipFile(path)
    for name in archive.namelist():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(archive.read(name))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names.append(node.module or "")
                for imported in names:
                    top = imported.split(".")[0]
                    inside = imported.replace(".", "/") + ".py" in archive.namelist()
                    assert top in sys.stdlib_module_names or inside, f"{name} imports {imported}"
    command = [sys.executable, "-I", "-S", str(path), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "usage: rows.pyz" in done.stdout


@pytest.mark.skipif(NO_DRIVER is None, reason="there is a GPU here")
def test_without_a_driver(saved: tuple[Path, EmulatedLibrary], tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(saved[0])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cuda: ") and "Traceback" not in done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(NO_DRIVER is not None, reason=f"{NO_DRIVER}")
def test_on_a_gpu(tmp_path: Path) -> None:
    (path,) = gcomp.compile(network(), target="cuda", name="rows").save(tmp_path / "rows.pyz")
    done = subprocess.run([sys.executable, "-I", "-S", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_twice(saved: tuple[Path, EmulatedLibrary], tmp_path: Path) -> None:
    (again,) = emulated(network(), "sm_80", EmulatedLibrary()).save(tmp_path / "again.pyz")
    assert again.read_bytes() == saved[0].read_bytes()


def said(actual: Array, expected: Array, tolerance: str, dtype: DType) -> str:
    port = {"dtype": dtype.name, "bound": allowance(tolerance, dtype)}
    return difference(port, actual.tobytes(), expected.tobytes())


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64, I8, I64], ids=str)
@pytest.mark.parametrize("tolerance", ["exact", "close", "approximate", "quantized"])
def test_right_and_wrong_are_those_of_the_ladder(dtype: DType, tolerance: str) -> None:
    rng, verdicts = np.random.default_rng(4), set[bool]()
    for scale in (0.0, 1e-7, 1e-5, 1e-3, 0.1, 10.0):
        expected = (rng.standard_normal(40) * 20).astype(dtype.numpy)
        actual = (expected + rng.standard_normal(40) * scale * 20).astype(dtype.numpy)
        if dtype.is_float:
            expected[[0, 1]] = actual[[0, 1]] = [np.nan, np.inf]
        agrees = not mismatch(actual, expected, tolerance)
        assert said(actual, expected, tolerance, dtype).startswith("agrees") == agrees
        verdicts.add(agrees)
    assert verdicts == {True, False}
    for special in (np.nan, np.inf, -np.inf) if dtype.is_float else ():
        actual, expected = (np.array([value, 1], dtype.numpy) for value in (special, 0.5))
        assert "1 of 2" in said(actual, expected, tolerance, dtype_of(actual))
