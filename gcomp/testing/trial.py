"""Passes on one case: whether they fired, and whether all held that has to hold for every pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..diagnostics import GcompError
from ..evaluate import evaluate
from ..pipeline import Pass, print_pipeline, run_pipeline
from ..rewrite import RewritePass
from .case import Case, fits, sizes_of
from .meaning import covering, tolerance_between, truth


@dataclass(frozen=True)
class Trial:
    """What came of passes on a case; `complaint` is empty if all held. One that is no model is not `valid`.

    `fired` says whether any pass changed the graph, and `changed`, by their places, which ones did.
    """

    fired: bool
    complaint: str = ""
    valid: bool = True
    tolerance: str = "exact"
    changed: tuple[int, ...] = ()


def tried(passes: Sequence[Pass], case: Case, tolerance: str | None = None) -> Trial:
    """Runs the passes, one after the other, on a copy of the case's graph.

    They have to leave a well-formed graph of the same interface and the same meaning within `tolerance`, by
    default that of the operators that changed; each has to say whether it changed the text, and to have
    nothing left to do when it runs again.
    """
    after = case.graph.clone()
    if not fits(case.graph, sizes_of(case)):
        return Trial(False, valid=False)
    try:
        runs = run_pipeline(after, passes, check="text")
    except GcompError as error:
        return Trial(True, str(error)) if has_answer(case) else Trial(False, valid=False)
    changed = tuple(place for place, run in enumerate(runs) if run.changed)
    if not changed:
        return Trial(False, valid=has_answer(case))
    allowed = declared(passes[place] for place in changed)
    rung = tolerance or covering([*allowed, tolerance_between(case.graph, after)])
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
        wrong = f"after {print_pipeline(passes)}: {error}"
    return Trial(True, wrong, tolerance=rung, changed=changed)


def declared(passes: Iterable[Pass]) -> list[str]:
    """The tolerances of those rules of the passes that have one of their own."""
    rules = [rule for one in passes if isinstance(one, RewritePass) for rule in one.rules]
    return [rule.tolerance for rule in rules if rule.tolerance is not None]


def has_answer(case: Case) -> bool:
    """Whether there is an answer that could change: no operator refuses the inputs."""
    try:
        evaluate(case.graph, case.inputs)
    except GcompError:
        return False
    return True
