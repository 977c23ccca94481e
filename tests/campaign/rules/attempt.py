"""The case of a seed for a rule: whether the rule fired and held, and what the graph was like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic

from gcomp.op import Argument
from gcomp.rewrite import RewritePass, Rule
from gcomp.testing.counterexample import Counterexample
from gcomp.testing.patterns import draw_wishes, example, traits_of, within
from gcomp.testing.samples import cone
from gcomp.testing.sources import digest
from gcomp.testing.trial import Trial, tried

from .ledger import Counts, Entry

BYTES = 8
"""Of the hash of a graph's text that is kept."""


@dataclass(frozen=True)
class Attempt:
    """What came of a seed: the trial, a hash of the graph's text, what the rule's pattern in it is like."""

    trial: Trial
    text: bytes
    wishes: list[str]
    traits: list[str]
    dtypes: set[str]
    rank: int


def attempt(one: RewritePass, rule: Rule, seed: int) -> Attempt:
    """Tries `one`, the pass of `rule` alone, on the case of a seed. Raises `Counterexample` if wrong."""
    random = Random(seed)
    wishes = draw_wishes(random)
    root = example(random, rule, wishes)
    ops = cone(root)
    case = within(random, root)
    trial = tried([one], case)
    if trial.complaint:
        raise Counterexample([one], rule.name, case, trial.complaint, trial.tolerance)
    stand_ins = sum(isinstance(op, Argument) for op in ops)
    around = ["surrounded"] * (len(case.graph.inputs) > stand_ins)
    return Attempt(
        trial,
        hashlib.sha256(str(case.graph).encode()).digest()[:BYTES],
        wishes,
        [*traits_of(root), *around],
        {value.type.dtype.name for op in ops for value in op.results},
        root.results[0].type.rank,
    )


def count(entry: Entry, found: Attempt, texts: set[bytes]) -> None:
    """Adds an attempt to an entry, and its text to those seen before."""
    entry.next += 1
    entry.cases += found.trial.valid
    entry.fired += found.trial.fired
    if found.trial.valid:
        _add(entry.wished, found.wishes)
    if found.trial.fired and found.text not in texts:
        texts.add(found.text)
        entry.distinct += 1
        _add(entry.traits, found.traits)
        _add(entry.dtypes, sorted(found.dtypes))
        _add(entry.ranks, [str(found.rank)])


def _add(counts: Counts, names: Iterable[str]) -> None:
    for name in names:
        counts[name] = counts.get(name, 0) + 1


def advanced(
    one: RewritePass, rule: Rule, entry: Entry | None, graphs: int, seconds: float, folder: Path
) -> Entry:
    """The entry after more seeds: up to so many distinct graphs, or for so many seconds.

    The hashes of texts are kept in `folder`; where they are not, or the rule has changed, it starts anew.
    Raises `Counterexample`.
    """
    end, key = monotonic() + seconds, digest(rule)
    file = folder / f"{rule.name}-{key}.texts"
    known = file.read_bytes() if file.exists() else b""
    if entry is None or entry.key != key or len(known) != BYTES * entry.distinct:
        entry, known = Entry(key), b""
    texts = {known[at : at + BYTES] for at in range(0, len(known), BYTES)}
    while entry.distinct < graphs and monotonic() < end:
        try:
            count(entry, attempt(one, rule, entry.next), texts)
        except Exception as error:
            error.add_note(f"seed {entry.next} of {rule.name}")
            raise
    folder.mkdir(exist_ok=True)
    file.write_bytes(b"".join(sorted(texts)))
    return entry
