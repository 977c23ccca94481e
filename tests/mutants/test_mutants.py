"""The faults fit the sources, the draw is steady, trials tell what they should, and a slice is noticed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter

import pytest

from tests.mutants import ledger
from tests.mutants.handwritten import fault, handwritten
from tests.mutants.mechanical import QUOTAS, candidates, drawn
from tests.mutants.mutant import ROOT, SOURCES, Mutant
from tests.mutants.trial import Workshop

SLICE = 16
"""Every so many'th mutant that was noticed is tried whenever the tests run."""


def test_every_fault_fits_its_source_and_is_python() -> None:
    faults = handwritten()
    assert len(faults) >= 60
    assert min(Counter(fault.group for fault in faults).values()) >= 10
    for one in faults:
        assert one.mutated() != one.source()
        ast.parse(one.mutated())


def test_a_fault_whose_text_is_gone_is_refused() -> None:
    table = {"file": "gcomp/dim.py", "old": "no such text", "new": "", "why": "none"}
    with pytest.raises(ValueError, match=r"the text to break occurs 0 times in gcomp/dim\.py"):
        fault("planning", "gone", table)


def test_the_draw_holds_what_it_should() -> None:
    mutants = drawn()
    assert Counter(mutant.group for mutant in mutants) == QUOTAS
    assert sum(QUOTAS.values()) == 200 and QUOTAS.keys() == SOURCES.keys()
    assert len({mutant.id for mutant in mutants}) == 200
    for mutant in mutants:
        ast.parse(mutant.mutated())


SOURCE = """
class Box:
    def area(self, sides, scale=1):
        if sides.shape[0] < 2 and not self.flat:
            raise ValueError(f"{sides.shape[0]} sides")
        self.seen = sides[1:]
        return scale * sides.sum(axis=0)
"""


def names(source: str) -> set[str]:
    return {mutant.name for _, _, mutant in candidates("core", "box.py", source.encode())}


def test_changes_are_those_of_statements_and_expressions_but_not_of_messages() -> None:
    found = Counter((kind, mutant.new) for kind, _, mutant in candidates("core", "box.py", SOURCE.encode()))
    assert found == Counter(
        {
            ("axis", "1"): 2,
            ("comparison", "(sides.shape[0] <= 2)"): 1,
            ("constant", "3"): 1,
            ("index", "2"): 1,
            ("line", "pass"): 3,
            ("operator", "(self.flat)"): 1,
            ("operator", "(sides.shape[0] < 2 or not self.flat)"): 1,
            ("operator", "(scale + sides.sum(axis=0))"): 1,
        }
    )


def test_a_change_elsewhere_renames_no_mutant() -> None:
    assert names(f"import math\n\nSIZE = math.pi\n{SOURCE}") >= names(SOURCE)
    assert names(SOURCE.replace("self.flat", "self.round")) & names(SOURCE)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("mutants"))


def change(old: str, new: str) -> Mutant:
    return fault("inference", "one", {"file": "gcomp/dim.py", "old": old, "new": new, "why": "to see"})


@pytest.mark.parametrize(
    ("old", "new", "how"),
    [
        ('"""The product of the sizes; 1 for none."""', '"""The product."""', None),
        ("total = total * dim", "total = total + dim", "fails"),
        ("total = total * dim", "__import__('os').abort()", "crash"),
        ("import operator\n", "import no_such_module\n", "cannot be loaded"),
    ],
)
def test_a_trial_tells_how_a_fault_was_noticed(
    workshop: Workshop, old: str, new: str, how: str | None
) -> None:
    tests = ["tests/unit/test_types.py"]
    verdict = workshop.trial(change(old, new), tests)
    assert verdict.killed is (how is not None)
    assert verdict.how == (how or "")
    assert not workshop.trial(None, tests).killed  # the fault is gone again


def test_a_slice_of_the_mutants_is_noticed_still() -> None:
    """By the tests that noticed them before: what one of them no longer sees has to be seen by another."""
    command = [sys.executable, "-m", "tests.mutants", "--slice", str(SLICE), "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nrun `make mutants`, which looks for others"
    assert len(done.stdout.splitlines()) > 200 // SLICE


def test_the_ledger_says_that_nearly_all_are_noticed() -> None:
    """Of each group; functions that changed since leave few out, of which nothing is known."""
    mutants = (*handwritten(), *drawn())
    known, groups = ledger.outcomes(mutants), dict[str, list[ledger.Outcome]]()
    for mutant in mutants:
        groups.setdefault(mutant.group, []).append(known[mutant.id])
    shares = {group: ledger.share(outcomes) for group, outcomes in groups.items()}
    assert min(shares.values()) >= 0.95, f"{shares}: run `make mutants`"
    tried = {group: 1 - outcomes.count("not tried") / len(outcomes) for group, outcomes in groups.items()}
    assert min(tried.values()) >= 0.5, f"{tried}: run `make mutants`"
