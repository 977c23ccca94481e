"""One pass on one case: whether it fired, and whether all held that has to hold for every pass."""

from __future__ import annotations

from dataclasses import dataclass

from ..diagnostics import GcompError
from ..evaluate import evaluate
from ..pipeline import Pass, run_pipeline
from ..rewrite import RewritePass
from .case import Case, fits, sizes_of
from .meaning import tolerance_between, truth


@dataclass(frozen=True)
class Trial:
    """What came of a pass on a case; `complaint` is empty if it held. One that is no model is not `valid`."""

    fired: bool
    complaint: str = ""
    valid: bool = True
    tolerance: str = "exact"


def tried(one: Pass, case: Case, tolerance: str | None = None) -> Trial:
    """Runs `one` on a copy of the case's graph.

    It has to leave a well-formed graph of the same interface and the same meaning within `tolerance`, by
    default that of the operators that changed; it has to say whether it changed the text, and to have nothing
    left to do when it runs again.
    """
    after = case.graph.clone()
    if not fits(case.graph, sizes_of(case)):
        return Trial(False, valid=False)
    try:
        (run,) = run_pipeline(after, [one], check="text")
    except GcompError as error:
        return Trial(True, str(error)) if has_answer(case) else Trial(False, valid=False)
    if not run.changed:
        return Trial(False, valid=has_answer(case))
    rung = tolerance or declared(one) or tolerance_between(case.graph, after)
    if rung != "exact":
        case = case.tame()
    try:
        wanted = truth(case.graph, case.inputs, rung)
    except GcompError:  # an index out of range, say
        return Trial(False, valid=False)
    try:
        found = truth(after, case.inputs, rung)
        wrong = wanted.complaint(found.arrays, case.graph.output_names, found)
    except GcompError as error:
        wrong = f"after {one.name}: {error}"
    return Trial(True, wrong, tolerance=rung)


def declared(one: Pass) -> str | None:
    """The tolerance of a pass of one rule, if that rule has one."""
    return one.rules[0].tolerance if isinstance(one, RewritePass) and len(one.rules) == 1 else None


def has_answer(case: Case) -> bool:
    """Whether there is an answer that could change: no operator refuses the inputs."""
    try:
        evaluate(case.graph, case.inputs)
    except GcompError:
        return False
    return True
