"""`gcomp bisect` and `gcomp explain` as their users have them: what they print, write and end with."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.commands import fail, invoke, succeed, write

SOUND = '''
from gcomp import RewritePass, require, rewrite
from gcomp.ops import Add, Mul

@rewrite
def double(add: Add) -> Mul:
    """Add(x, x) -> Mul(x, 2)"""
    from gcomp.op import constant
    require(add.lhs is add.rhs, "the same value twice")
    return Mul(add.lhs, constant(2.0))

PASS = RewritePass("double", [double])
'''
WRONG = SOUND.replace("constant(2.0)", "constant(3.0)")


@pytest.fixture
def model(tmp_path: Path) -> str:
    """`z = relu(s + s)` where `s = x + y`."""
    nodes = [
        helper.make_node("Add", ["x", "y"], ["s"], "first"),
        helper.make_node("Add", ["s", "s"], ["d"], "second"),
        helper.make_node("Relu", ["d"], ["z"], "third"),
    ]
    return write(tmp_path / "sums.onnx", nodes, ["x", "y"], ["z"])


def script(folder: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "repro.py")]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(repository)})


def test_a_wrong_pass_file_is_found_and_shown(model: str, tmp_path: Path, repository: Path) -> None:
    (tmp_path / "double.py").write_text(WRONG)
    out = tmp_path / "found"
    words = ("bisect", model, "--dim", "batch=2", "--pass", tmp_path / "double.py", "-o", out)
    result = invoke(*words)
    assert result.exit_code == 1, result.output
    assert "by: pass double, rule double, at its step 1, from ONNX second" in result.stdout
    assert "inputs are synthetic, of seed 0" in result.stdout and "a model of 1 operator" in result.stdout
    assert {path.name for path in out.iterdir()} == {"repro.onnx", "repro.npz", "repro.py", "double.py"}
    nodes = onnx.load(out / "repro.onnx").graph.node
    assert [(node.op_type, len(set(node.input))) for node in nodes] == [("Add", 1)]

    shown = script(out, repository)
    assert shown.returncode == 1 and "differs from what is right" in shown.stdout, shown.stderr
    (out / "double.py").write_text(SOUND)
    assert script(out, repository).returncode == 0

    facts = json.loads(invoke(*words, "--json").stdout)
    assert not facts["agrees"] and facts["verified"] and facts["nodes"] == 1
    assert (facts["culprit"]["name"], facts["culprit"]["rule"]) == ("double", "double")
    assert facts["culprit"]["origin"] == ["second"] and len(facts["files"]) == 4


def test_a_right_model_has_no_culprit(model: str, tmp_path: Path) -> None:
    told = succeed("bisect", model, "--dim", "batch=2", "-o", tmp_path / "found")
    assert "all agree" in told and not (tmp_path / "found").exists()
    facts = json.loads(succeed("bisect", model, "--dim", "batch=2", "--against", "onnxruntime", "--json"))
    assert facts["agrees"] and facts["culprit"] is None


def test_bisect_needs_sizes(model: str) -> None:
    assert "all sizes must be known" in fail("bisect", model)


def test_explain_tells_where_rules_fired_and_why_not(model: str, tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text(SOUND)
    told = succeed("explain", model, "--dim", "batch=2", "--pass", tmp_path / "double.py")
    assert "double: 1 step\n  double: Add(x, x) -> Mul(x, 2)\n    fired on %d = Add(%s, %s)" in told
    assert 'gives %d = Mul(%s, %0) : f32[2,3] from "second"' in told
    assert "not on   %s = Add(%x, %y)" in told and "why not the same value twice" in told
    before, after = told.split("  after:\n")
    assert "  before:\n" in before and "Add(%s, %s)" in before and "Mul(%s, %0)" in after
    assert "simplify" not in told and "nor on" not in told and "nothing to try" not in told


def test_explain_names_the_nodes_of_kernels(model: str) -> None:
    told = succeed("explain", model, "--dim", "batch=2")
    assert "fuse: 1 step" in told and "nest  Add+Add+Relu  first, second, third" in told
    facts = json.loads(succeed("explain", model, "--dim", "batch=2", "--json"))
    assert [step["nodes"] for step in facts["kernels"]] == [["first", "second", "third"]]
    (fuse,) = (story for story in facts["passes"] if story["name"] == "fuse")
    assert fuse["changed"] and [rule["name"] for rule in fuse["rules"]] == [""]


def test_explain_tells_of_one_pass_or_rule(model: str) -> None:
    told = succeed("explain", model, "--pass", "simplify", "--rule", "short_sum")
    assert told.startswith("simplify: changed nothing") or told.startswith("simplify: 0 steps")
    assert "nothing to try here for short_sum" in told and told.count('graph "g"') == 2
    told = succeed("explain", model, "--rule", "conv_offset", "--misses", "1")
    assert told.count("not on") == 1 and "nor on 1 more" in told and "needs a Conv, finds" in told
    assert "no pass 'fuse-all' runs here; these do: fold-constants" in fail(
        "explain", model, "--pass", "fuse-all"
    )
    assert "no rule 'luck'; there are" in fail("explain", model, "--rule", "luck")
