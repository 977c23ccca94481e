"""The command line as its users have it: what each verb prints and writes."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import gcomp
from gcomp.cli import VERBS
from gcomp.tolerance import LADDER
from tests.commands import fail, invoke, process, succeed, write

SOUND_PASS = """
from gcomp import RewritePass, rewrite
from gcomp.ops.arithmetic import Add

@rewrite
def swap(add: Add) -> Add:
    "Add(x, y) -> Add(y, x), once"
    from gcomp import require
    require(add.lhs.name == "x", "the first operand is x")
    return Add(add.rhs, add.lhs)

PASS = RewritePass("swap-add", [swap])
"""
WRONG_PASS = SOUND_PASS.replace("return Add(add.rhs, add.lhs)", "return Add(add.rhs, add.rhs)").replace(
    "swap-add", "spoil-add"
)


@pytest.fixture(scope="session")
def digits(repository: Path) -> str:
    return str(repository / "examples" / "digits.onnx")


@pytest.fixture
def sums(tmp_path: Path) -> str:
    """`total = x + y` over f32[batch,3]."""
    return write(
        tmp_path / "sums.onnx", [helper.make_node("Add", ["x", "y"], ["total"])], ["x", "y"], ["total"]
    )


# the whole


def test_every_verb_explains_itself() -> None:
    listed = succeed("--help")
    for verb in VERBS:
        assert f"  {verb} " in listed
        assert "Usage:" in succeed(verb, "--help")


def test_verify_names_every_tolerance() -> None:
    listed = " ".join(succeed("verify", "--help").split())
    assert f"{', '.join([*LADDER][:-1])} or {[*LADDER][-1]};" in listed


def test_version() -> None:
    assert succeed("--version") == f"gcomp {gcomp.__version__}\n"


def test_a_process_ends_with_the_right_status(digits: str, tmp_path: Path) -> None:
    fine = process("inspect", digits, "--summary")
    assert (fine.returncode, fine.stderr) == (0, "")
    failed = process("inspect", str(tmp_path / "nothing.onnx"))
    assert failed.returncode == 1
    assert failed.stdout == "" and "Traceback" not in failed.stderr and "nothing.onnx" in failed.stderr
    misused = process("inspect", "--no-such-option", digits)
    assert misused.returncode == 2 and "--no-such-option" in misused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("compiel", "x.onnx"),
        ("compile", "x.onnx"),
        ("run",),
        ("run", "x.onnx", "--shape", "x"),
        ("run", "x.onnx", "--shape", "x=1,b"),
        ("run", "x.onnx", "--shape", "x=-1"),
        ("run", "x.onnx", "--dim", "batch"),
        ("run", "x.onnx", "--dim", "batch=x"),
        ("run", "x.onnx", "--threads", "0"),
        ("run", "x.onnx", "--precision", "fp7"),
        ("verify", "x.onnx", "--samples", "0"),
        ("bench", "x.onnx", "--seconds", "0"),
    ],
)
def test_wrong_usage_ends_with_2(words: tuple[str, ...]) -> None:
    assert "Error: " in fail(*words, status=2)


# compile and run


def test_compile_writes_a_library_with_its_header(digits: str, tmp_path: Path) -> None:
    out = tmp_path / "lib" / "digits.so"
    out.parent.mkdir()
    facts = json.loads(succeed("compile", digits, "--shape", "image=1,1,8,8", "-o", out, "--json"))
    assert facts["files"] == {str(path): path.stat().st_size for path in (out, out.with_suffix(".h"))}
    assert sorted(out.parent.iterdir()) == [out.with_suffix(".h"), out]
    assert facts["inputs"] == {"image": "f32[1,1,8,8]"} and facts["outputs"] == {"logits": "f32[1,10]"}
    assert facts["arena_bytes"] > 0 and facts["weights_bytes"] > 4 * 15000 and facts["seconds"] > 0
    assert "int digits_run(" in out.with_suffix(".h").read_text()

    given = np.random.default_rng(3).random((1, 1, 8, 8), np.float32)
    np.savez(tmp_path / "x.npz", image=given)
    result = tmp_path / "y.npz"
    succeed("run", out, "--data", tmp_path / "x.npz", "-o", result)
    np.testing.assert_array_equal(np.load(result)["logits"], gcomp.load(out)(given)[0])


def test_a_library_takes_no_options_of_compilation(digits: str, tmp_path: Path) -> None:
    out = tmp_path / "digits.so"
    succeed("compile", digits, "--dim", "batch=1", "-o", out)
    for words in (["--dim", "batch=2"], ["--passes", "fuse"], ["--target", "reference"]):
        assert "digits.so: compiled already" in fail("run", out, *words)


def test_compile_says_where_the_time_went(
    digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCOMP_CACHE", str(tmp_path / "cache"))
    words = ("compile", digits, "--dim", "batch=1", "-o", tmp_path / "digits.so")
    assert "codegen" in succeed(*words)
    assert "(from the cache)" in succeed(*words)


def test_the_symbols_are_named_after_the_output(digits: str, tmp_path: Path) -> None:
    text = succeed("compile", digits, "--dim", "batch=2", "-o", tmp_path / "2 of-them.h")
    assert "compiled in" in text and "working memory" in text
    assert "int m2_of_them_run(" in (tmp_path / "2 of-them.h").read_text()
    succeed("compile", digits, "--dim", "batch=2", "-o", tmp_path / "x.h", "--name", "reader")
    assert "int reader_run(" in (tmp_path / "x.h").read_text()


@pytest.mark.parametrize("target", ["reference", "llvm"])
def test_run_prints_and_saves_the_outputs(sums: str, tmp_path: Path, target: str) -> None:
    random = np.random.default_rng(1)
    x, y = (random.standard_normal((4, 3)).astype(np.float32) for _ in range(2))
    np.savez(tmp_path / "data.npz", x=x, y=y)
    out = tmp_path / "out.npz"
    words = ("run", sums, "--target", target, "--data", tmp_path / "data.npz", "-o", out)
    assert "total: f32[4,3]" in succeed(*words)
    np.testing.assert_array_equal(np.load(out)["total"], x + y)
    (facts,) = json.loads(succeed(*words, "--json"))["outputs"]
    assert facts["total"]["values"] == (x + y).ravel().tolist()
    assert facts["total"]["max"] == float((x + y).max())

    succeed(*words, "--dim", "batch=2")
    np.testing.assert_array_equal(np.load(out)["total"], x + y)  # two samples of two, joined again


def test_a_seed_decides_the_inputs(sums: str) -> None:
    words = ("run", sums, "--target", "reference", "--dim", "batch=2", "--json")
    first, again, other = (json.loads(succeed(*words, "--seed", seed)) for seed in ("5", "5", "6"))
    assert first == again
    assert first["seed"] == 5 and first["outputs"] != other["outputs"]
    assert len(set(first["outputs"][0]["total"]["values"])) == 6


# inspect and optimize


def test_inspect_prints_a_model_again(digits: str, tmp_path: Path) -> None:
    text = succeed("inspect", digits)
    assert "# 19862 parameters" in text and "Conv 3" in text and "# symbolic sizes: batch" in text
    assert gcomp.parse(text, gcomp_constants(digits)) == gcomp.lift(digits)
    facts = json.loads(succeed("inspect", digits, "--dim", "batch=2", "--json"))
    assert facts["operators"]["Conv"] == 3 and facts["inputs"] == {"image": "f32[2,1,8,8]"}
    half = json.loads(succeed("inspect", digits, "--dim", "batch=1", "--summary", "--json"))
    assert facts["flops"] == 2 * half["flops"] > 1e6
    assert "text" in facts and "text" not in half


def gcomp_constants(model: str) -> dict[str, np.ndarray]:
    from gcomp.text import large_constants

    return large_constants(gcomp.lift(model))


def test_inspect_shows_what_passes_and_targets_make_of_a_model(digits: str) -> None:
    plain = json.loads(succeed("inspect", digits, "--json"))["operators"]
    assert "BatchNormalization" in plain
    folded = succeed("inspect", digits, "--passes", "fold-constants,fold-batchnorm,clean")
    assert "BatchNormalization" not in folded and "Conv(" in folded
    assert succeed("inspect", digits, "--target", "reference") == succeed("inspect", digits)
    native = json.loads(succeed("inspect", digits, "--dim", "batch=1", "--target", "llvm", "--json"))
    assert native["operators"] != plain
    fused, apart = (
        json.loads(succeed("inspect", digits, "--dim", "batch=1", "--json", "--passes", passes))
        for passes in ("fold-batchnorm,clean,fuse", "fold-batchnorm,clean")
    )
    assert "Group" in fused["operators"] and fused["flops"] == apart["flops"]


def test_optimize_writes_a_model(digits: str, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    text = succeed("optimize", digits, "--passes", "fold-batchnorm,clean", "-o", out)
    assert "BatchNormalization: 3 -> 0" in text
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(out).graph.node}
    assert json.loads(succeed("verify", out, "--dim", "batch=1", "--target", "reference", "--json"))["agrees"]
    as_text = tmp_path / "o.gc"
    succeed("optimize", digits, "--passes", "fold-batchnorm,clean", "-o", as_text)
    same = ("run", "--dim", "batch=1", "--target", "reference", "--json")
    assert succeed(*same, as_text) == succeed(*same, out)


def test_a_loose_pass_runs_where_it_is_named_or_first(sums: str, tmp_path: Path) -> None:
    loose = tmp_path / "swap.py"
    loose.write_text(SOUND_PASS)
    for words in (["--pass", loose], ["--pass", loose, "--passes", "clean,swap-add"]):
        assert "Add(%y, %x)" in succeed("inspect", sums, *words)
    assert "swap-add" in fail("inspect", sums, "--passes", "swap-add")
    spoiled = tmp_path / "spoil.py"
    spoiled.write_text(WRONG_PASS)
    words = ("run", sums, "--dim", "batch=1", "--json", "--pass", spoiled)
    for target in ("reference", "llvm"):
        (facts,) = json.loads(succeed(*words, "--target", target))["outputs"]
        (right,) = json.loads(succeed(*words[:5], "--target", target))["outputs"]
        assert facts["total"]["values"] != right["total"]["values"]


# verify, bench, targets


@pytest.mark.parametrize("target", ["reference", "llvm"])
def test_verify_agrees_with_both_sources(digits: str, target: str) -> None:
    words = ("verify", digits, "--dim", "batch=2", "--target", target, "--samples", "2")
    facts = json.loads(succeed(*words, "--json"))
    assert facts["agrees"] and facts["tolerance"] == "approximate"
    assert [one["against"] for one in facts["comparisons"]] == ["the reference", "ONNX Runtime"] * 2
    against_runtime = facts["comparisons"][1]
    assert 0 < against_runtime["scaled"] < 1e-5 and len(against_runtime["index"]) == 2
    assert abs(against_runtime["actual"] - against_runtime["expected"]) == against_runtime["absolute"]
    text = succeed(*words)
    assert text.endswith("all agree\n") and "logits[" in text


def test_verify_finds_a_wrong_model(sums: str, tmp_path: Path) -> None:
    spoiled = tmp_path / "spoil.py"
    spoiled.write_text(WRONG_PASS)
    result = invoke("verify", sums, "--dim", "batch=2", "--pass", spoiled)
    assert result.exit_code == 1
    assert re.search(r"^total, sample \d: differs from the graph before: 6 of 6", result.stdout, re.MULTILINE)
    assert result.stdout.endswith("DIFFERS\n")
    facts = json.loads(invoke("verify", sums, "--dim", "batch=2", "--pass", spoiled, "--json").stdout)
    assert not facts["agrees"] and all(one["complaint"] for one in facts["comparisons"])


def test_verify_tests_a_sound_pass(sums: str, digits: str, tmp_path: Path) -> None:
    loose = tmp_path / "swap.py"
    loose.write_text(SOUND_PASS)
    facts = json.loads(succeed("verify", sums, "--dim", "batch=2", "--pass", loose, "--json"))
    assert facts["agrees"] and facts["comparisons"][0]["absolute"] == 0
    assert not any("did not change" in note for note in facts["notes"])
    assert "swap-add did not change this model" in succeed(
        "verify", digits, "--dim", "batch=1", "--pass", loose
    )


def test_verify_by_a_tighter_tolerance(digits: str) -> None:
    words = ("verify", digits, "--dim", "batch=2", "--target", "reference", "--samples", "1")
    result = invoke(*words, "--tolerance", "exact")
    assert result.exit_code == 1 and "differs from ONNX Runtime" in result.stdout
    assert "ONNX Runtime itself differs from the reference" in result.stdout
    assert "agrees with the reference" in result.stdout
    assert "no tolerance is called 'loose'; there are exact, close" in fail(*words, "--tolerance", "loose")


def test_bench_times_both_engines(digits: str) -> None:
    words = ("bench", digits, "--dim", "batch=1", "--seconds", "0.1")
    facts = json.loads(succeed(*words, "--json"))
    assert facts["compile_seconds"] > 0
    ours, theirs = facts["engines"]["gcomp"], facts["engines"]["ONNX Runtime"]
    for one in (ours, theirs):
        assert 0 < one["low"] <= one["median"] <= one["high"] and one["calls"] >= 5
    assert theirs["ratio"] == theirs["median"] / ours["median"] and ours["ratio"] == 1
    assert theirs["difference"] < 1e-5
    assert "ONNX Runtime" in succeed(*words)


def test_targets_says_what_is_there() -> None:
    facts = json.loads(succeed("targets", "--json"))
    assert facts["targets"]["llvm"]["available"] and "cpu" in facts["targets"]["llvm"]["options"]
    assert facts["targets"]["reference"]["reason"] is None
    assert facts["host"]["cores"] >= 1
    assert re.search(r"^reference +yes +none$", succeed("targets"), re.MULTILINE)


def test_check_mode_holds_and_stops_at_a_wrong_rewrite(digits: str, tmp_path: Path) -> None:
    done = invoke("run", digits, "--dim", "batch=1", "--check")
    assert done.exit_code == 0
    assert re.search(r"^check: [1-9]\d* replacements hold$", done.stderr, re.MULTILINE)
    assert "not checked" not in done.stderr
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG_RULE)
    told = fail("compile", digits, "--dim", "batch=1", "--check", "--pass", wrong, "-o", tmp_path / "m.o")
    assert "drop_relu_too changes the answer" in told and "v0 = " in told and "from ONNX node" in told
    unbound = fail("compile", digits, "--check", "-o", tmp_path / "m.o")
    assert "--check needs all sizes: bind batch by --dim" in unbound


WRONG_RULE = '''
from gcomp import RewritePass, rewrite
from gcomp.ir import Value
from gcomp.ops import Relu


@rewrite
def drop_relu_too(relu: Relu) -> Value:
    """Relu(x) -> x"""
    return relu.x


PASS = RewritePass("wrong", [drop_relu_too])
'''
