"""`python -m tests.campaign rules`: each shipped rule on thousands of graphs that it fires on, and proofs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import monotonic

import click

from gcomp.rewrite import RewritePass, Rule
from gcomp.testing import Counterexample, check_pass
from gcomp.testing.proof import prove
from gcomp.testing.sources import digest

from . import ledger
from .admitted import beyond
from .attempt import advanced
from .ledger import Entry
from .report import PAGE, page
from .shipped import shipped

FOLDER = ledger.LEDGER.parents[3] / ".campaign"
SLICE = 20.0
"""Seconds after which the ledger is written."""

SEARCH = 1000
"""Graphs of the search for a smaller counterexample."""


@click.command("rules")
@click.argument("names", nargs=-1)
@click.option("--graphs", default=ledger.GRAPHS, show_default=True, help="Distinct graphs for each rule.")
@click.option("--minutes", default=1e9, help="Begin nothing after so many minutes.")
def command(names: tuple[str, ...], graphs: int, minutes: float) -> None:
    """Tries the rules that have changed or were not tried enough, of all or those whose names hold a NAME.

    Ends with status 1 if one is wrong, or something is missing still: an element type or a rank, say, that a
    rule admits but no graph had. More `--graphs` may have it.
    """
    rules, entries, wrong = shipped(), ledger.read(), list[str]()
    ledger.record({name: None for name in entries if name not in rules})
    end = monotonic() + 60 * minutes
    chosen = [name for name in rules if not names or any(part in name for part in names)]
    for name in chosen:
        one, rule = rules[name]
        try:
            for entry in entries_of(one, rule, entries.get(name), graphs, end):
                ledger.record({name: entry})
                proof = entry.proof[1] if entry.proof else "not tried"
                click.echo(f"{name}: {entry.distinct} graphs of {entry.next}; proof: {proof}")
        except Counterexample as found:
            wrong.append(name)
            click.echo(f"{' '.join(found.__notes__)}: {smaller(one, found)}")
    entries = ledger.read()
    PAGE.write_text(page(entries), "utf-8")
    left = {name: ledger.shortcomings(entries.get(name), digest(rule)) for name, (_, rule) in rules.items()}
    for name in chosen:
        if not left[name] and monotonic() < end:
            left[name] = [f"{what} is admitted, not drawn" for what in beyond(rules[name][1], entries[name])]
    for name, missing in left.items():
        if missing:
            click.echo(f"open: {name}: {'; '.join(missing)}")
    sys.exit(bool(wrong or any(left.values())))


def entries_of(one: RewritePass, rule: Rule, entry: Entry | None, graphs: int, end: float) -> Iterator[Entry]:
    """The entry of a rule as it grows. Raises `Counterexample`."""
    key = digest(rule)
    while (entry is None or entry.key != key or entry.distinct < graphs) and monotonic() < end:
        entry = advanced(one, rule, entry, graphs, min(SLICE, end - monotonic()), FOLDER)
        yield entry
    if entry is not None and entry.key == key and entry.proof is None and monotonic() < end:
        proof = prove(rule)
        entry.proof = (proof.verdict, str(proof))
        yield entry


def smaller(one: RewritePass, found: Counterexample) -> Counterexample:
    """A smaller one, if a search that makes them small comes upon the fault too."""
    try:
        check_pass(one, SEARCH)
    except Counterexample as other:
        return other
    return found
