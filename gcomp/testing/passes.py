"""check_pass: passes on graphs grown for them, and the smallest on which they go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from ..arguments import checked
from ..diagnostics import InputError
from ..pipeline import Pass, parse_pipeline, print_pipeline
from ..rewrite import RewritePass, Rule
from ..timing import tell
from .case import Case
from .counterexample import Counterexample
from .growth import whole
from .plugin import REPORTS
from .smallest import smallest
from .strategies import around
from .trial import Trial, tried

EXAMPLES = 200
"""Graphs on which each rule has to fire."""

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
"""What Hypothesis need not warn of: graphs are large."""


@dataclass
class Tally:
    """What came of the trials of one rule; without one, of a pass or of several in turn, as a whole."""

    rule: str | None
    passes: tuple[str, ...]
    cases: int = 0
    fired: int = 0
    changed: Counter[int] = field(default_factory=Counter[int])
    """How many graphs a pass changed, by its place."""
    texts: set[str] = field(default_factory=set[str])
    traits: Counter[str] = field(default_factory=Counter[str])

    def count(self, case: Case, trial: Trial) -> None:
        """Adds a trial that held."""
        self.cases += trial.valid
        if trial.fired and case.key not in self.texts:
            self.texts.add(case.key)
            self.traits.update(case.traits())
        self.fired += trial.fired
        self.changed.update(trial.changed)

    @property
    def line(self) -> str:
        """The cases, and on how many of them it fired; where passes ran in turn, which ones did how often."""
        rate = f"{self.rate:.0%}" if self.cases else "never"
        line = f"{self._prefix}{self.cases} cases, fired on {self.fired} ({rate})"
        return f"{line}: {self._shares}" if self._shares else line

    @property
    def rate(self) -> float:
        """The share of the cases on which something fired."""
        return self.fired / self.cases if self.cases else 0.0

    def facts(self) -> dict[str, Any]:
        """What was counted, for machines."""
        held = len(self.texts)
        changed = [{"pass": text, "changed": self.changed[place]} for place, text in enumerate(self.passes)]
        told = {"rule": self.rule, "cases": self.cases, "fired": held, "rate": self.rate, **self.traits}
        return told if self.rule else told | {"passes": changed}

    @property
    def _prefix(self) -> str:
        return f"{self.rule}: " if self.rule else ""

    @property
    def _shares(self) -> str:
        if len(self.passes) < 2:
            return ""
        return ", ".join(f"{text} {self.changed[place]}" for place, text in enumerate(self.passes))

    def __str__(self) -> str:
        held = f"{self._prefix}held on {len(self.texts)} graphs on which it fired, of {self.cases}"
        return f"{held} grown for it{f': {self._shares}' if self._shares else ''}"


@dataclass
class PassReport:
    """What `check_pass` found out about a pass, or about several in turn, whose text is the `name`."""

    name: str
    tallies: list[Tally] = field(default_factory=list[Tally])

    def __str__(self) -> str:
        return "\n".join(f"{self.name}: {tally}" for tally in self.tallies)


@checked
def check_pass(
    passes: Pass | str | Sequence[Pass],
    examples: int = EXAMPLES,
    tolerance: str | None = None,
    seed: int = 0,
) -> PassReport:
    """Runs a pass, or a pipeline, on `examples` graphs grown for it; holds if all of them mean the same.

    Each rule of a pass runs alone, on graphs grown around its pattern: over the element types, ranks,
    symbolic and empty shapes that it admits. A pass without rules runs on whole graphs, whether it changes
    them or not. A pipeline, which is given as `gcomp.compile` takes it, as text or a sequence of passes, runs
    as a whole, on whole graphs; half of what these are made of are patterns of its rules, one over another.

    `tolerance` is a rung of `gcomp.tolerance.LADDER`; by default the loosest of the operators that are taken
    away or put there. Raises `Counterexample` with the smallest graph that was found on which something is
    wrong, `InputError` for a rule that no graph was found for and a pipeline without passes.
    """
    if isinstance(passes, Pass) and not isinstance(passes, RewritePass):
        return _report([passes], [_on_whole_graphs([passes], tolerance, examples, seed)])
    if isinstance(passes, Pass):
        tallies = [_around(passes, rule, tolerance, examples, seed) for rule in passes.rules]
        return _report([passes], tallies)
    pipeline = parse_pipeline(passes) if isinstance(passes, str) else passes
    if not pipeline:
        raise InputError("check_pass: a pipeline must have a pass, got none")
    return _report(pipeline, [_on_whole_graphs(pipeline, tolerance, examples, seed)])


def _around(one: RewritePass, rule: Rule, tolerance: str | None, examples: int, seed: int) -> Tally:
    """Tries one rule of a pass on graphs grown around it."""
    alone = [one.only(rule.name)]
    tally = _tally(alone, rule.name)

    def is_wrong(case: Case) -> bool:
        trial = tried(alone, case, tolerance)
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
    try:
        case = find(around(rule), is_wrong, settings=limits, random=Random(seed))
    except NoSuchExample:
        return tally
    trial = tried(alone, case, tolerance)
    raise Counterexample(alone, rule.name, case, trial.complaint, trial.tolerance)


def _on_whole_graphs(passes: Sequence[Pass], tolerance: str | None, examples: int, seed: int) -> Tally:
    """Tries passes, in turn, on whole graphs with patterns of their rules, if there are several of them."""
    rules = [rule for one in passes if isinstance(one, RewritePass) for rule in one.rules]
    tally = _tally(passes, None)
    for number in range(examples):
        tell(f"graph {number}", number / examples)
        case = whole(Random(f"{seed}.{number}"), rules=rules)
        trial = tried(passes, case, tolerance)
        if trial.complaint:
            case = smallest(case, lambda smaller: bool(tried(passes, smaller, tolerance).complaint))
            trial = tried(passes, case, tolerance)
            culprit = _first_wrong(passes, case, tolerance)
            raise Counterexample(passes, culprit, case, trial.complaint, trial.tolerance)
        tally.count(case, trial)
    return tally


def _first_wrong(passes: Sequence[Pass], case: Case, tolerance: str | None) -> str:
    """The text of the first pass after which the case is wrong, as it is after the last one."""
    ends = range(1, len(passes))
    found = next((end for end in ends if tried(passes[:end], case, tolerance).complaint), len(passes))
    return print_pipeline([passes[found - 1]])


def _tally(passes: Sequence[Pass], rule: str | None) -> Tally:
    tally = Tally(rule, tuple(print_pipeline([one]) for one in passes))
    REPORTS.append((print_pipeline(passes), tally))
    return tally


def _report(passes: Sequence[Pass], tallies: list[Tally]) -> PassReport:
    return PassReport(print_pipeline(passes), tallies)
