"""check_pass on pipelines: those that hold, and the first pass of one after which the answer is another."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from gcomp import RewritePass, made_by, require, rewrite
from gcomp.diagnostics import InputError
from gcomp.ir import Graph, Value
from gcomp.ops import Abs, Add, Neg, Relu, Sub
from gcomp.pipeline import parse_pipeline
from gcomp.testing import Counterexample, check_pass
from gcomp.testing.growth import whole
from gcomp.testing.trial import declared, tried
from gcomp.watch import Record, watching
from tests.commands import fail, invoke, succeed

LOOSE = '''
"""loose: differences become sums, which is wrong."""

from gcomp import RewritePass, rewrite
from gcomp.ops import Add, Sub


@rewrite
def difference_to_sum(op: Sub) -> Add:
    """x - y -> x + y"""
    return Add(op.lhs, op.rhs)


PASS = RewritePass("loose", [difference_to_sum])
'''


@rewrite
def difference_to_sum(op: Sub) -> Add:
    """x - y -> x + -y"""
    require(op.result.type.dtype.is_float, "floats")
    return Add(op.lhs, Neg(op.rhs).result)


@rewrite
def forgotten_sign(op: Add) -> Add:
    """x + -y -> x + y, which is wrong"""
    return Add(op.lhs, made_by(op.rhs, Neg).x)


SPELT = RewritePass("spell", [difference_to_sum])
FORGETFUL = RewritePass("forget", [forgotten_sign])


@dataclass(frozen=True)
class OpenDrop:
    """f(x) -> x, where a size of x is a symbol."""

    name: str = field(default="open-drop", init=False)

    def run(self, graph: Graph) -> bool:
        return RewritePass("open", [dropped]).run(graph)


@rewrite
def dropped(op: Abs | Neg | Relu) -> Value:
    """|x|, -x or Relu(x) -> x"""
    require(not op.x.type.is_static, "a symbol")
    return op.x


PIPELINE = "fold-constants,lower-quantized,fold-batchnorm,clean,layout{block=4},clean,fuse"


def test_passes_hold_together() -> None:
    """On graphs that nearly each of them changes."""
    report = check_pass(PIPELINE, examples=80)
    (tally,) = report.tallies
    assert report.name == PIPELINE and tally.cases == 80 and tally.fired >= 72
    assert min(tally.changed[place] for place in (0, 1, 2, 3, 6)) >= 16 and tally.changed[4]
    assert str(report).startswith(f"{PIPELINE}: held on ")
    assert f"fold-batchnorm {tally.changed[2]}, " in str(report)


def test_rules_fire_in_combination() -> None:
    passes = parse_pipeline("fold-constants,fold-batchnorm")
    rules = [rule for one in passes if isinstance(one, RewritePass) for rule in one.rules]
    together = 0
    for seed in range(40):
        graph = whole(Random(seed), rules=rules).graph
        with watching(Record()) as record:
            for one in passes:
                one.run(graph)
        together += len({made.rule for made in record.applications} - {""}) > 1
    assert together >= 10


def test_the_pass_that_is_wrong_is_named() -> None:
    with pytest.raises(Counterexample, match=r"^spell,clean,forget: forget is wrong: y") as found:
        check_pass([SPELT, *parse_pipeline("clean"), FORGETFUL])
    assert len(found.value.case.operators) <= 2
    with pytest.raises(Counterexample, match=r"^forget,spell: forget is wrong: y"):
        check_pass([FORGETFUL, SPELT])


def test_a_fault_of_open_sizes_is_made_small_too() -> None:
    with pytest.raises(Counterexample) as found:
        check_pass([*parse_pipeline("clean"), OpenDrop()], examples=1000)
    graph = found.value.case.graph
    assert graph.symbols() and len(found.value.case.operators) == 1


def test_a_pass_by_its_text_runs_as_a_whole() -> None:
    (tally,) = check_pass("clean", examples=10).tallies
    assert tally.rule is None and tally.passes == ("clean",)
    assert tally.facts()["passes"] == [{"pass": "clean", "changed": tally.changed[0]}]


def test_tolerances_are_those_of_all_rules_that_may_have_fired() -> None:
    assert "approximate" in declared(parse_pipeline("simplify,fold-batchnorm"))
    assert declared(parse_pipeline("clean")) == []


def test_a_trial_tells_which_passes_changed_the_graph() -> None:
    case = next(case for seed in range(99) if len((case := whole(Random(seed))).operators) > 3)
    assert tried(parse_pipeline("clean,clean"), case).changed in ((), (0,))


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ("", "check_pass: a pipeline must have a pass, got none"),
        ("simplfy", "did you mean simplify"),
        (3, "check_pass: passes must be a Pass, a str or a sequence, got int 3"),
        ([3], r"check_pass: passes\[0\] must be a Pass, got int 3"),
    ],
)
def test_what_is_no_pipeline_is_refused(passes: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_pass(passes)  # pyright: ignore[reportArgumentType]


def test_the_command_line_tries_a_pipeline(tmp_path: Path) -> None:
    assert succeed("verify", "--passes", "fold-constants,clean", "--graphs", "10").startswith(
        "fold-constants,clean: held on "
    )
    file, show = tmp_path / "loose.py", tmp_path / "show.py"
    file.write_text(LOOSE)
    words = ("verify", "--pass", file, "--passes", "fold-constants,loose,clean")
    result = invoke(*words, "--script", show, "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 1 and facts["passes"] == "fold-constants,loose,clean"
    assert facts["rule"] == "loose" and facts["script"] == show.read_text()
    shown = subprocess.run([sys.executable, show], capture_output=True, text=True)
    assert shown.returncode == 1
    assert f"Disagreement: {facts['complaint']}" in shown.stderr and " before: " in shown.stdout


def test_options_that_do_not_apply_are_refused() -> None:
    assert "--threads does not go with passes" in fail(
        "verify", "--passes", "clean", "--threads", "2", status=2
    )
    assert "--graphs does not go with a model" in fail("verify", "x.onnx", "--graphs", "9", status=2)
    assert "MODEL, or --pass, --passes or --target" in fail("verify", status=2)
