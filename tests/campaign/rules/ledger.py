"""What the campaign found out about each rule, as of the source that the rule had then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

LEDGER = Path(__file__).with_name("ledger.json")

GRAPHS = 10_000
"""Distinct graphs that each rule has to fire and hold on."""

QUOTAS = {"empty": 0.05, "broadcasting": 0.2, "symbolic": 0.2}
"""Shares of these that have a trait, if the rule admits it at all."""

Counts = dict[str, int]


@dataclass
class Entry:
    """What came of the cases of the seeds below `next`; `key` is the digest of the rule.

    Of the `cases`, those whose graph is a model for its inputs, the rule `fired` on some, and held;
    `distinct` texts were among them, and of those are the counts: by traits, element types and rank of the
    pattern, the trait `surrounded` for operators around it. `wished` counts how often a trait was asked for.
    `proof` is the verdict of z3 and what that means.
    """

    key: str
    next: int = 0
    cases: int = 0
    fired: int = 0
    distinct: int = 0
    traits: Counts = field(default_factory=Counts)
    wished: Counts = field(default_factory=Counts)
    dtypes: Counts = field(default_factory=Counts)
    ranks: Counts = field(default_factory=Counts)
    proof: tuple[str, str] | None = None


def read() -> dict[str, Entry]:
    """The entries by rule."""
    return {name: Entry(**entry) for name, entry in json.loads(LEDGER.read_text("utf-8")).items()}


def record(found: Mapping[str, Entry | None]) -> None:
    """Adds entries, or takes those that are None away. A rule has a line, so that changes are seen."""
    entries = {name: entry for name, entry in {**read(), **found}.items() if entry is not None}
    lines = [f'"{name}": {json.dumps(asdict(entry))}' for name, entry in sorted(entries.items())]
    LEDGER.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def shortcomings(entry: Entry | None, key: str) -> list[str]:
    """What is missing from the entry of a rule that has this digest now."""
    if entry is None:
        return ["never tried"]
    if entry.key != key:
        return ["changed since it was tried"]
    found: list[str] = []
    if entry.distinct < GRAPHS:
        found.append(f"held on {entry.distinct} graphs, not {GRAPHS}")
    for trait, share in QUOTAS.items():
        count = entry.traits.get(trait, 0)
        if 0 < count < share * entry.distinct:
            found.append(f"{trait} on {count / entry.distinct:.1%} of the graphs, not {share:.0%}")
        if not count and entry.wished.get(trait, 0) < share * entry.distinct:
            found.append(f"{trait} was hardly wished for")
    if entry.proof is None:
        found.append("no proof was tried")
    elif entry.proof[0] == "wrong":
        found.append(entry.proof[1])
    return found
