"""`gcomp quantize` as its users have it."""

import json
from pathlib import Path

import numpy as np
import onnx
from click.testing import CliRunner

from gcomp.cli import commands


def succeed(*words: str | Path) -> str:
    result = CliRunner().invoke(commands, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_what_it_writes_is_standard_and_compiles(tmp_path: Path, repository: Path) -> None:
    with np.load(repository / "examples" / "digits.npz") as stored:
        np.savez(tmp_path / "typical.npz", image=stored["calibration"].astype(np.float32) / 16)
    digits, written = repository / "examples" / "digits.onnx", tmp_path / "q.onnx"
    facts = json.loads(
        succeed("quantize", digits, "--data", tmp_path / "typical.npz", "-o", written, "--json")
    )
    assert (facts["activations"], facts["constants"]) == (5, 10)
    kinds = [node.op_type for node in onnx.load(written).graph.node]
    assert kinds.count("QuantizeLinear") == 5 and kinds.count("DequantizeLinear") == 15
    assert "all agree" in succeed("verify", written, "--dim", "batch=2", "--tolerance", "reduced")


def test_without_data_it_says_what_it_needs(tmp_path: Path, repository: Path) -> None:
    digits = repository / "examples" / "digits.onnx"
    result = CliRunner().invoke(commands, ["quantize", str(digits), "-o", str(tmp_path / "q.onnx")])
    assert result.exit_code == 2 and "--data" in result.output
    assert list(tmp_path.iterdir()) == []
