"""check_target: whole random graphs compiled for a target, and the smallest on which it goes wrong."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

from ..apart import apart
from ..arguments import checked
from ..compiler import compile, parse_target
from ..diagnostics import CrashError, UnsupportedError, raised
from ..pipeline import parse_pipeline, print_pipeline
from ..reduce import Case as Bound
from ..repro import Repro
from ..target import Target
from ..timing import tell
from ..trial import ByReference, Compiled, Failure
from .case import Case
from .counterexample import case_source, described
from .growth import whole
from .meaning import Disagreement, loosest, truth
from .plugin import REPORTS
from .smallest import smallest

EXAMPLES = 200
"""Graphs that a target has to be right on."""

TOGETHER = 20
"""Graphs that are compiled and run in one process."""


_SCRIPT = '''\
"""Shows what {target} gets wrong. Ends with status 1 while that is so."""

import sys

import numpy as np
from numpy import inf, nan

import gcomp
from gcomp.testing.meaning import truth
from gcomp.text import parse
from gcomp.types import DTYPES

{case}

print(graph)
right = truth(graph, inputs)
found = list(gcomp.compile(graph, {target!r}).run(inputs).values())
for name, one, other in zip(graph.output_names, right.arrays, found, strict=True):
    print(name, "by the reference:", one, "compiled:", other)
sys.exit(right.complaint(found, graph.output_names) or 0)
'''


@dataclass
class TargetReport:
    """What `check_target` tried: graphs that held, those that the target `refused`, and operators by kind."""

    name: str
    held: int = 0
    refused: list[str] = field(default_factory=list[str])
    operators: Counter[str] = field(default_factory=Counter[str])
    traits: Counter[str] = field(default_factory=Counter[str])

    def count(self, verdict: Verdict) -> None:
        """Adds a graph that held or was refused."""
        if verdict.refused:
            self.refused.append(verdict.refused)
            return
        self.held += 1
        self.operators.update(verdict.kinds)
        self.traits.update(verdict.traits)

    @property
    def line(self) -> str:
        """What was tried, for the table at the end of a test run."""
        kinds = f"{self.held} whole graphs of {len(self.operators)} operators agree with the reference"
        return kinds + (f", {len(self.refused)} refused" if self.refused else "")

    def facts(self) -> dict[str, Any]:
        """What was counted, for machines."""
        return {
            "held": self.held,
            "refused": self.refused,
            "operators": dict(self.operators),
            "traits": dict(self.traits),
        }

    def __str__(self) -> str:
        return f"{self.name}: {self.line}"


class Miscompiled(Disagreement):
    """A graph on which the code of a target goes wrong; its sizes are known.

    `failure` says how; `save` writes it as a model with inputs and a script.
    """

    def __init__(self, target: Target, case: Case, failure: Failure, seed: str) -> None:
        self.target, self.case, self.failure, self.seed = target, case, failure, seed
        super().__init__(f"{named(target)}: {failure.complaint}\n{described(case)}")

    def script(self) -> str:
        """A Python program that shows the fault; the target is that of its name."""
        return _SCRIPT.format(target=named(self.target), case=case_source(self.case))

    @checked
    def save(self, folder: str | Path) -> list[Path]:
        """Writes `repro.onnx` (`repro.gc` where ONNX lacks an operator), inputs and a script `repro.py`."""
        pipeline = tuple(parse_pipeline(self.target.pipeline))
        bound = Bound(self.case.graph, dict(self.case.inputs))
        rung = loosest(self.case.graph.ops)
        title = f"Shows what {named(self.target)} gets wrong: {self.failure.complaint}"
        suspect = Compiled(self.target, pipeline) if self.target.is_native else ByReference(pipeline)
        return Repro(bound, self.failure, ByReference(), suspect, rung, title).save(folder)


@dataclass(frozen=True)
class Verdict:
    """What came of the graph of one seed: right unless it was `refused` or there is a `failure`."""

    seed: str
    kinds: tuple[str, ...]
    traits: tuple[str, ...]
    failure: Failure | None = None
    refused: str = ""


@checked
def check_target(target: str | Target = "llvm", examples: int = EXAMPLES, seed: int = 0) -> TargetReport:
    """Compiles `examples` whole random graphs for a target; holds if each agrees with the reference.

    An output has to agree within the loosest tolerance of the operators that it depends on; NaN has to meet
    NaN, an infinity the same infinity; elements that rounding alone decides do not count. Graphs that the
    target says it cannot compile are counted. Code may end its process: it runs in copies of this one. Raises
    `Miscompiled` with a graph made small, `UnsupportedError` where the target cannot be used here.
    """
    chosen = parse_target(target) if isinstance(target, str) else target
    if reason := chosen.available() or chosen.runs_here():
        raise UnsupportedError(f"check_target: target {named(chosen)} cannot be used here: {reason}")
    report = TargetReport(named(chosen))
    REPORTS.append((report.name, report))
    seeds = [f"{seed}.{number}" for number in range(examples)]
    for start in range(0, examples, TOGETHER):
        tell(f"graph {start}", start / examples)
        for verdict in verdicts(chosen, seeds[start : start + TOGETHER]):
            if verdict.failure is not None:
                raise _miscompiled(chosen, whole(Random(verdict.seed)), verdict.failure, verdict.seed)
            report.count(verdict)
    return report


def verdicts(target: Target, seeds: Sequence[str]) -> list[Verdict]:
    """What comes of the graphs of some seeds, in one copy of this process unless one of them ends it."""
    try:
        return apart(lambda: [_verdict(target, seed, whole(Random(seed))) for seed in seeds])
    except CrashError as error:
        if len(seeds) > 1:
            return [verdict for seed in seeds for verdict in verdicts(target, [seed])]
        case = whole(Random(seeds[0]))
        kinds = tuple(op.kind for op in case.operators)
        return [Verdict(seeds[0], kinds, (), Failure("CrashError", str(error)))]


def _verdict(target: Target, seed: str, case: Case) -> Verdict:
    kinds, traits = tuple(op.kind for op in case.operators), tuple(case.traits())
    try:
        return Verdict(seed, kinds, traits, failure_of(target, case))
    except UnsupportedError as error:
        return Verdict(seed, kinds, traits, refused=error.message)


def failure_of(target: Target, case: Case) -> Failure | None:
    """What is wrong with the code that `target` makes of a case. Raises `UnsupportedError`."""
    wanted = truth(case.graph, case.inputs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which operators run on the host is said when a user compiles
            module = compile(case.graph, target)
        found = module(*(case.inputs[name] for name in case.graph.input_names))
    except UnsupportedError:
        raise
    except Exception as error:  # whatever a stranger's target raises is a fault of that target
        return Failure(type(error).__name__, raised(error))
    complaint = wanted.complaint(found, case.graph.output_names)
    return Failure("differs", complaint) if complaint else None


def _miscompiled(target: Target, case: Case, failure: Failure, seed: str) -> Miscompiled:
    """The case made small while it fails as it did."""

    def fails(smaller: Case) -> bool:
        found = _failure_apart(target, smaller)
        return found is not None and found.kind == failure.kind

    small = smallest(case, fails)
    return Miscompiled(target, small, _failure_apart(target, small) or failure, seed)


def _failure_apart(target: Target, case: Case) -> Failure | None:
    try:
        return apart(lambda: failure_of(target, case))
    except CrashError as error:
        return Failure("CrashError", str(error))


def named(target: Target) -> str:
    """The target as text, with its options."""
    return print_pipeline([cast(Any, target)])
