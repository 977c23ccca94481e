"""Makes a whole graph on which something goes wrong small."""

from __future__ import annotations

from collections.abc import Callable

from ..reduce import Case as Reduced
from ..reduce import Reducer
from .case import Case

EFFORT = 300
"""Questions that the reduction of a graph may ask."""


def smallest(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The case, which `fails`, made small while it does; with sizes for symbols if those are not needed."""

    def fails_still(smaller: Reduced) -> bool:
        return fails(Case(smaller.graph, smaller.sample))

    bound = case.bound()
    start = bound if bound is not case and fails(bound) else case
    least = Reducer(fails_still, EFFORT).reduced(Reduced(start.graph, dict(start.inputs)))
    return Case(least.graph, least.sample)
