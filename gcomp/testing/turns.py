"""Turns a pattern of a rule to another rank or element type, if the rule admits that."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from ..ir import Op
from ..rewrite import Rule
from ..types import STRING
from .climb import climbed, hints
from .ranks import reranked
from .samples import cone
from .variation import Variation, attempted, with_dtype

STEPS = 16
"""Of a climb from what a variation leaves, which the rule may refuse, to a pattern."""

TURNS = 24
"""Attempts to add or drop an axis."""


def rank_of(root: Op) -> int:
    """How many axes the first result has, which a rule replaces."""
    return root.results[0].type.rank


def dtypes_of(root: Op) -> frozenset[str]:
    """The names of the element types of all values."""
    return frozenset(value.type.dtype.name for op in cone(root) for value in op.results)


def turned(random: Random, rule: Rule, root: Op, variation: Variation) -> Op | None:
    """A pattern that a climb finds from what the variation makes of `root`."""
    changed = attempted(random, root, variation)
    if changed is None or changed is root:
        return None
    reached, found = climbed(random, rule, changed, STEPS, hints(rule).wider)
    return reached if found.fires else None


def of_rank(random: Random, rule: Rule, root: Op, rank: int) -> Op | None:
    """A pattern of that rank, an axis more or less at a time from the pattern `root`."""
    for _ in range(TURNS):
        if rank_of(root) == rank:
            return root
        found = turned(random, rule, root, reranked)
        if found is not None and abs(rank_of(found) - rank) < abs(rank_of(root) - rank):
            root = found
    return None


def with_type(random: Random, rule: Rule, root: Op, name: str) -> Op | None:
    """A pattern with the element type of that name, in the place of one of those in the pattern `root`."""
    return next((found for found in _retyped(random, rule, root, name) if name in dtypes_of(found)), None)


def _retyped(random: Random, rule: Rule, root: Op, name: str) -> Iterator[Op]:
    for old in sorted(dtypes_of(root) - {STRING.name}):
        found = turned(random, rule, root, lambda _, root, old=old: with_dtype(root, old, name))
        if found is not None:
            yield found
