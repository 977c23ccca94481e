"""What a rule admits beyond what was drawn: its patterns turned to other element types and ranks."""

from __future__ import annotations

from random import Random

from gcomp.rewrite import Rule
from gcomp.testing.patterns import example
from gcomp.testing.turns import of_rank, with_type
from gcomp.testing.variation import RANKS
from gcomp.types import DTYPES, STRING

from .ledger import Entry

EXAMPLES = 12
"""Patterns that are turned; none of them is of a seed of the campaign."""


def beyond(rule: Rule, entry: Entry) -> list[str]:
    """Element types and ranks that the entry lacks, though the rule fires on patterns with them.

    Each was found by running the rule, so it is true of all that are told; others may have escaped.
    """
    dtypes = [name for name in DTYPES if name not in {STRING.name, *entry.dtypes}]
    ranks = [rank for rank in range(RANKS + 1) if str(rank) not in entry.ranks]
    found: dict[str, None] = {}
    for seed in range(EXAMPLES if dtypes or ranks else 0):
        random = Random(f"beyond {seed}")
        root = example(random, rule)
        for name in dtypes:
            if name not in found and with_type(random, rule, root, name):
                found[name] = None
        for rank in ranks:
            if f"rank {rank}" not in found and of_rank(random, rule, root, rank):
                found[f"rank {rank}"] = None
    return list(found)
