"""Runs what the README tells its readers to type: the Python blocks, and the lines that call `gcomp`."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def gcomp_lines() -> list[str]:
    """The command lines, those continued with a backslash as one."""
    text = "".join(blocks("sh")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith("gcomp ")]


@pytest.fixture
def reader(repository: Path, tmp_path: Path) -> Path:
    """A folder with the examples in it, as the README's paths need, and nothing else."""
    shutil.copytree(
        repository / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def run(command: list[str], folder: Path, repository: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(repository)}
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_there_is_something_to_run() -> None:
    assert len(blocks("python")) >= 4 and len(gcomp_lines()) >= 3


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_block(number: int, reader: Path, repository: Path) -> None:
    script = reader / "block.py"
    script.write_text(blocks("python")[number])
    run([sys.executable, str(script)], reader, repository)


def test_the_example_pass_is_sound_and_applies(reader: Path, repository: Path) -> None:
    """The pass of the README, on a model that it fits."""
    (block,) = [block for block in blocks("python") if "PASS =" in block]
    (reader / "fuse_gemm.py").write_text(block)
    script = """
import onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np
random = np.random.default_rng(0)
arrays = {"w": random.standard_normal((4, 5), np.float32), "c": random.standard_normal(5, np.float32)}
weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [3, 4]), ("y", [3, 5]))]
nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "c"], ["y"])]
graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "linear.onnx")
"""
    run([sys.executable, "-c", script], reader, repository)
    gcomp = [sys.executable, "-m", "gcomp"]
    assert "Gemm(" in run([*gcomp, "inspect", "linear.onnx", "--pass", "fuse_gemm.py"], reader, repository)
    told = run([*gcomp, "verify", "linear.onnx", "--pass", "fuse_gemm.py"], reader, repository)
    assert "all agree" in told and "did not change" not in told


@pytest.mark.parametrize("line", gcomp_lines())
def test_command_line(line: str, reader: Path, repository: Path) -> None:
    words = shlex.split(line, comments=True)
    assert run([sys.executable, "-m", "gcomp", *words[1:]], reader, repository)
