"""check_pass: sound rules hold, unsound ones are found, made small, and shown by a program of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from gcomp import RewritePass, made_by, require, rewrite
from gcomp.diagnostics import InputError
from gcomp.ir import Graph, Value
from gcomp.ops import Abs, Add, Exp, Gemm, MatMul, Neg, Sub
from gcomp.registry import find
from gcomp.rewrite import supersede
from gcomp.testing import Counterexample, Disagreement, check_pass, same_meaning
from gcomp.testing.meaning import tolerance_between, truth
from gcomp.text import parse
from tests.commands import invoke
from tests.weak_rule import FUSE_GEMM

SLOPPY = '''
from gcomp import RewritePass, either_order, require, rewrite
from gcomp.ir import Value
from gcomp.op import Constant
from gcomp.ops import Add


@rewrite
def drop_zero(add: Add) -> Value:
    """x + c -> x, where the sum of c is 0"""
    c, x = either_order(add, Constant)
    require(c.value.size > 0 and c.value.sum() == 0, "a sum of 0")
    require(x.type == add.result.type, "a result of the operand's type")
    return x


PASS = RewritePass("sloppy", [drop_zero])
'''


@rewrite
def narrow_add_to_gemm(add: Add) -> Gemm:
    """Add(MatMul(a, b), c) -> Gemm(a, b, c)"""
    product = made_by(add.lhs, MatMul)
    require(product.a.type.rank == product.b.type.rank == 2, "Gemm takes matrices")
    require(add.rhs.type.shape == product.result.type.shape[1:], "a bias per column")
    return Gemm(product.a, product.b, add.rhs)


@rewrite
def never(neg: Neg) -> Value:
    """-x -> x"""
    require(False, "what never is")
    return neg.x


@rewrite
def endless(sub: Sub) -> Neg:
    """a - b -> -(b - a)"""
    return Neg(Sub(sub.rhs, sub.lhs).result)


def test_a_bias_that_widens_the_product_is_refused() -> None:
    with pytest.raises(Counterexample, match=r"Gemm needs c to broadcast to \w+\[.*\], got c: ") as found:
        check_pass(FUSE_GEMM)
    assert found.value.rule == "matmul_add_to_gemm"
    assert len(found.value.case.operators) <= 3


def test_the_rule_with_its_guard_holds() -> None:
    report = check_pass(RewritePass("fuse-gemm", [narrow_add_to_gemm]), examples=100)
    (tally,) = report.tallies
    assert tally.fired >= 60 and len(tally.texts) >= 40
    assert tally.rate > 0.8
    assert "held on" in str(report)


@dataclass(frozen=True)
class Unsigned:
    """Abs(x) -> x, in a pass without rules."""

    name: str = field(default="unsigned", init=False)

    def run(self, graph: Graph) -> bool:
        found = [op for op in graph.ops if isinstance(op, Abs)]
        for op in found:
            supersede(op, [op.x], [op])
        return bool(found)


def test_a_pass_without_rules_runs_on_whole_graphs() -> None:
    (tally,) = check_pass(find("passes", "clean"), examples=30).tallies
    assert tally.rule is None and tally.cases >= 25
    with pytest.raises(Counterexample, match="unsigned: unsigned is wrong") as found:
        check_pass(Unsigned(), examples=1000)
    assert "Abs" in [op.kind for op in found.value.case.operators]


def test_a_rule_that_ends_nowhere_is_found() -> None:
    with pytest.raises(Counterexample, match=r"no end after .*: endless -> endless"):
        check_pass(RewritePass("swap", [endless]), examples=20)


def test_a_rule_that_cannot_be_made_to_fire_is_named() -> None:
    with pytest.raises(InputError, match="never: found no graph on which it fires: what never is"):
        check_pass(RewritePass("idle", [never]), examples=20)


def test_a_wrong_answer_is_shown_by_a_program(tmp_path: Path) -> None:
    file = tmp_path / "sloppy.py"
    file.write_text(SLOPPY)
    words = [
        sys.executable,
        "-m",
        "gcomp",
        "verify",
        "--graphs",
        "500",
        "--pass",
        str(file),
        "--script",
        str(tmp_path / "show.py"),
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert "sloppy: drop_zero is wrong: y0: " in done.stdout and "= Add(" in done.stdout
    shown = subprocess.run([sys.executable, str(tmp_path / "show.py")], capture_output=True, text=True)
    assert shown.returncode == 1
    assert "Disagreement: y0: " in shown.stderr and "y0 before:" in shown.stdout


def test_the_facts_of_a_wrong_rule_name_it(tmp_path: Path) -> None:
    file = tmp_path / "careless.py"
    file.write_text(SLOPPY.replace("and c.value.sum() == 0", "").replace("sloppy", "careless"))
    result = invoke("verify", "--pass", file, "--graphs", "50", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 1 and facts["passes"] == "careless" and facts["holds"] is False
    assert facts["rule"] == "drop_zero" and facts["complaint"].startswith("y0: ")
    assert "Add(" in facts["graph"] and "same_meaning" in facts["script"]


def graph(text: str) -> Graph:
    return parse(text)


SUM = 'graph "g" (%x: f32[n]) -> (%0 "y") {\n  %0 = Add(%x, %x) : f32[n]\n}\n'
TWICE = (
    'graph "g" (%x: f32[n]) -> (%1 "y") {\n  %0 = Constant {value=f32[] dense<2.0>}\n'
    "  %1 = Mul(%x, %0) : f32[n]\n}\n"
)


def test_same_meaning_compares_by_the_reference() -> None:
    same_meaning(graph(SUM), graph(TWICE))
    with pytest.raises(Disagreement, match=r"y: 2 of 3 elements; at \[2\] 3.0 where 6.0 is wanted"):
        same_meaning(
            graph(SUM),
            graph(SUM.replace("Add(%x, %x)", "Identity(%x)")),
            {"x": np.array([1, 0, 3], np.float32)},
        )


def test_nan_meets_nan_and_an_infinity_the_same() -> None:
    inputs = {"x": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)}
    same_meaning(graph(SUM), graph(TWICE), inputs)
    with pytest.raises(Disagreement, match="2 of 4 elements"):
        same_meaning(graph(SUM), graph(SUM.replace("Add(%x, %x)", "Neg(%x)")), inputs)


def test_what_depends_on_rounding_does_not_count() -> None:
    """Floor of a value beside an integer: no tolerance tells right from wrong there, but does elsewhere."""
    floor = parse(
        'graph "g" (%x: f32[n]) -> (%2 "y") {\n  %0 = Exp(%x) : f32[n]\n  %1 = Log(%0) : f32[n]\n'
        "  %2 = Floor(%1) : f32[n]\n}\n"
    )
    found = truth(floor, {"x": np.array([2.0, 2.5], np.float32)})
    assert [mask.tolist() for mask in found.stable] == [[False, True]]
    assert found.share == 0.5
    assert not found.complaint([np.array([1.0, 2.0], np.float32)], ["y"])
    assert found.complaint([np.array([1.0, 1.0], np.float32)], ["y"])


def test_what_the_sign_of_a_zero_decides_is_not_stable() -> None:
    """Nobody promises which of two zeros is the greater; an odd power tells them apart."""
    text = """
graph "g" (%x: f32[3], %e: f32[]) -> (%2 "y") {
  %0 = Constant {value=f32[] dense<0.0>}
  %1 = Max(%x, %0) : f32[3]
  %2 = Pow(%1, %e) : f32[3]
}
"""
    inputs = {"x": np.array([-0.0, 2.0, -3.0], np.float32), "e": np.array(-1, np.float32)}
    found = truth(graph(text), inputs)
    assert [mask.tolist() for mask in found.stable] == [[False, True, False]]


def test_a_rewrite_need_not_be_better_than_its_roundings() -> None:
    """A sum that is nearly 0 counts neither for nor against what takes the place of a difference."""
    before = graph(
        'graph "g" (%x: f32[2]) -> (%3 "y") {\n  %0 = Constant {value=f32[] dense<1.0>}\n'
        "  %1 = Sub(%x, %0) : f32[2]\n  %2 = Constant {value=f32[] dense<0.3>}\n"
        "  %3 = Mul(%1, %2) : f32[2]\n}\n"
    )
    after = graph(
        'graph "g" (%x: f32[2]) -> (%3 "y") {\n  %0 = Constant {value=f32[] dense<0.3>}\n'
        "  %1 = Mul(%x, %0) : f32[2]\n  %2 = Constant {value=f32[] dense<0.3>}\n"
        "  %3 = Sub(%1, %2) : f32[2]\n}\n"
    )
    near, far = ({"x": np.array(x, np.float32)} for x in ([1.000001, 1.000002], [3, 4]))
    same_meaning(before, after, near, "close")
    same_meaning(before, after, far, "close")
    with pytest.raises(Disagreement, match="2 of 2 elements"):
        same_meaning(before, graph(str(after).replace("0.3>", "0.31>")), far, "close")


def test_integers_beside_floats_count_within_their_steps() -> None:
    """Quantized numbers may be a step off, and those at the end of their type do not turn around."""
    text = (
        'graph "g" (%x: f32[3]) -> (%3 "y") {\n  %0 = Constant {value=f32[] dense<1.0>}\n'
        "  %1 = Constant {value=u8[] dense<0>}\n  %2 = Exp(%x) : f32[3]\n"
        "  %3 = QuantizeLinear(%2, %0, %1) : u8[3]\n}\n"
    )
    inputs = {"x": np.array([-9, 2, 9], np.float32)}
    found = truth(graph(text), inputs)
    assert found.tolerances == ["sampled"] or found.tolerances == ["quantized"]
    assert [mask.tolist() for mask in found.stable] == [[True, True, True]]
    assert not found.complaint([found.arrays[0] + np.array([1, 1, 0], np.uint8)], ["y"])
    assert found.complaint([found.arrays[0] + np.array([2, 0, 0], np.uint8)], ["y"])


def test_what_comes_of_overflow_counts_only_where_it_stays() -> None:
    """A sum in f16 that is too large is infinite; whoever rounds later gets another answer from there on."""
    product = (
        'graph "g" (%x: f16[2,1]) -> (%1 "y", %3 "z") {\n  %0 = Constant {value=f16[1,1] dense<512.0>}\n'
        "  %1 = MatMul(%x, %0) : f16[2,1]\n  %2 = Constant {value=f16[] dense<0.0>}\n"
        "  %3 = Mul(%1, %2) : f16[2,1]\n}\n"
    )
    with np.errstate(over="ignore", invalid="ignore"):
        found = truth(graph(product), {"x": np.array([[2], [256]], np.float16)}, "approximate")
        assert [mask.ravel().tolist() for mask in found.stable] == [[True, True], [True, False]]
    nothing = np.zeros((2, 1), np.float16)
    assert np.isinf(found.arrays[0][1]) and np.isnan(found.arrays[1][1])
    assert not found.complaint([found.arrays[0], nothing], ["y", "z"])
    assert found.complaint(
        [np.where(np.isinf(found.arrays[0]), np.float16(60000), found.arrays[0]), nothing], "yz"
    )


def test_the_tolerance_is_that_of_what_changed() -> None:
    before = graph(
        'graph "g" (%x: f32[n]) -> (%1 "y", %2 "z") {\n  %0 = Identity(%x) : f32[n]\n'
        "  %1 = Neg(%0) : f32[n]\n  %2 = Exp(%x) : f32[n]\n}\n"
    )
    after = graph(
        'graph "g" (%x: f32[n]) -> (%1 "y", %2 "z") {\n  %1 = Neg(%x) : f32[n]\n  %2 = Exp(%x) : f32[n]\n}\n'
    )
    assert tolerance_between(before, after) == "exact"
    assert tolerance_between(graph(SUM), graph(SUM.replace("Add(%x, %x)", "Exp(%x)"))) == Exp.tolerance
