"""check_pass: a pass on graphs grown for it, and the smallest on which it goes wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample
from hypothesis.strategies import SearchStrategy

from ..pipeline import Pass
from ..rewrite import RewritePass
from .case import Case
from .counterexample import Counterexample
from .plugin import REPORTS
from .strategies import around, graphs
from .trial import Trial, tried

EXAMPLES = 200
"""Graphs on which each rule has to fire."""

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
"""What Hypothesis need not warn of: graphs are large."""


@dataclass
class Tally:
    """What came of the trials of one rule, or of a pass that has none."""

    rule: str
    cases: int = 0
    fired: int = 0
    texts: set[str] = field(default_factory=set[str])
    traits: Counter[str] = field(default_factory=Counter[str])

    def count(self, case: Case, trial: Trial) -> None:
        """Adds a trial that held."""
        self.cases += trial.valid
        if trial.fired and case.key not in self.texts:
            self.texts.add(case.key)
            self.traits.update(case.traits())
        self.fired += trial.fired

    @property
    def line(self) -> str:
        """The rule, its cases, and on how many of them it fired."""
        rate = f"{self.rate:.0%}" if self.cases else "never"
        return f"{self.rule}: {self.cases} cases, fired on {self.fired} ({rate})"

    @property
    def rate(self) -> float:
        """The share of the cases on which the rule fired."""
        return self.fired / self.cases if self.cases else 0.0

    def facts(self) -> dict[str, Any]:
        """What was counted, for machines."""
        held = len(self.texts)
        return {"rule": self.rule, "cases": self.cases, "fired": held, "rate": self.rate, **self.traits}

    def __str__(self) -> str:
        return (
            f"{self.rule}: held on {len(self.texts)} graphs on which it fired, of {self.cases} grown for it"
        )


@dataclass
class PassReport:
    """What `check_pass` found out about a pass."""

    name: str
    tallies: list[Tally] = field(default_factory=list[Tally])

    def __str__(self) -> str:
        return "\n".join(f"{self.name}: {tally}" for tally in self.tallies)


def check_pass(
    one: Pass, examples: int = EXAMPLES, tolerance: str | None = None, seed: int = 0
) -> PassReport:
    """Runs each rule of a pass, alone, on `examples` graphs on which it fires; holds if all means the same.

    Graphs are grown around the rule: over the element types, ranks, symbolic and empty shapes that it admits.
    A pass without rules runs on as many whole graphs, whether it changes them or not. `tolerance` is a rung
    of `gcomp.tolerance.LADDER`; by default the loosest of the operators that are taken away or put there.
    Raises `Counterexample` with the smallest graph that was found on which something is wrong, `InputError`
    for a rule that no graph was found for.
    """
    report = PassReport(one.name)
    if not isinstance(one, RewritePass):
        report.tallies.append(_searched(one, one.name, graphs(), tolerance, examples, seed))
        return report
    for rule in one.rules:
        single = one.only(rule.name)
        report.tallies.append(_searched(single, rule.name, around(rule), tolerance, examples, seed))
    return report


def _searched(
    one: Pass, name: str, cases: SearchStrategy[Case], tolerance: str | None, examples: int, seed: int
) -> Tally:
    tally = Tally(name)

    def is_wrong(case: Case) -> bool:
        trial = tried(one, case, tolerance)
        if not trial.complaint:
            tally.count(case, trial)
        return bool(trial.complaint)

    limits = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=SLOW,
    )
    REPORTS.append((one.name, tally))
    try:
        smallest = find(cases, is_wrong, settings=limits, random=Random(seed))
    except NoSuchExample:
        return tally
    trial = tried(one, smallest, tolerance)
    raise Counterexample(one, name, smallest, trial.complaint, trial.tolerance)
