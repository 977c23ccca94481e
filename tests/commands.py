"""The command line in this process or a new one, and small models to give it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from gcomp.cli import commands


def write(path: Path, nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str]) -> str:
    def port(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])

    graph = helper.make_graph(nodes, "g", list(map(port, inputs)), list(map(port, outputs)))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def invoke(*words: str | Path) -> Result:
    result = CliRunner().invoke(commands, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*words: str | Path) -> str:
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*words: str | Path, status: int = 1) -> str:
    """What the command says on standard error; it must not print anything else."""
    result = invoke(*words)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    return result.stderr


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gcomp", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
