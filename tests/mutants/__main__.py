"""`python -m tests.mutants`: breaks the compiler in many small ways and asks whether a test notices."""

from __future__ import annotations

import sys
import time
from collections import defaultdict

import click

from . import ledger
from .campaign import failing_without_fault, run, stages
from .handwritten import handwritten
from .mechanical import drawn
from .mutant import ROOT, Mutant
from .reach import Reach
from .report import PAGE, page

MEASURED = ROOT / ".mutants"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1)
@click.option(
    "--again",
    type=click.Choice(["survivors", "all"]),
    help="Also those whose verdict is known: that no test notices them, or any.",
)
@click.option("--first", multiple=True, metavar="TEST", help="A test or file of tests to try before others.")
@click.option("--jobs", default=2, show_default=True)
@click.option("--minutes", default=1e9, help="Begin nothing after so many minutes.")
@click.option("--seconds", default=60.0, help="Of tests that a mutant survives before it is left.")
@click.option("--measure", is_flag=True, help="Measure all tests on the sources as they are.")
@click.option(
    "--slice", "part", type=int, help="Only every so many'th noticed one, by what noticed it; no ledger."
)
def main(
    names: tuple[str, ...],
    again: str | None,
    first: tuple[str, ...],
    jobs: int,
    minutes: float,
    seconds: float,
    measure: bool,
    part: int | None,
) -> None:
    """Tries the mutants of which no verdict is known, or those whose id begins with one of NAMES.

    Ends with status 1 if one survives that is not argued to be equivalent.
    """
    if part is not None:
        sys.exit(check_slice(part, jobs))
    verdicts = ledger.read()
    mutants = {mutant.id: mutant for mutant in (*handwritten(), *drawn())}
    reach, known = Reach(MEASURED), ledger.outcomes(mutants.values())
    wanted = {"not tried", *{"survivors": ["survives"], "all": ["survives", "noticed"]}.get(again or "", [])}
    chosen = [
        mutant
        for name, mutant in mutants.items()
        if (name.startswith(names) if names else True) and known[name] in wanted
    ]
    end = time.monotonic() + 60 * minutes
    if measure or chosen:
        click.echo("measuring which tests reach what, where they changed")
        if left := reach.measure(jobs, end, measure):
            click.echo(f"not measured yet: {', '.join(left)}")
            sys.exit(1)
    near: dict[str, set[str]] = defaultdict(set)
    for name, verdict in verdicts.items():
        if verdict.killed and name in mutants:
            near[mutants[name].file].add(verdict.by.partition("[")[0])
    tasks = (
        (mutant, stages(mutant, verdicts.get(mutant.id), reach, first, seconds, near[mutant.file]))
        for mutant in chosen
    )
    found: dict[str, ledger.Verdict] = {}
    for mutant, verdict in run(tasks, reach.seconds if chosen else {}, jobs, end):
        found[mutant.id] = verdict
        ledger.record({mutant.id: verdict})
        click.echo(f"{len(found)}/{len(chosen)} {told(mutant, verdict)}")
    click.echo("checking that these tests pass without a fault")
    for test in failing_without_fault(dict.fromkeys(v.by for v in found.values() if "::" in v.by)):
        click.echo(f"fails without a fault: {test}")
        ledger.record({name: None for name, verdict in found.items() if verdict.by == test})
    ledger.record({name: None for name in ledger.read() if name not in mutants})
    PAGE.write_text(page(mutants.values()), "utf-8")
    known = ledger.outcomes(mutants.values())
    for name in ledger.arguments():
        if known.get(name) != "equivalent":
            click.echo(f"argues about a mutant that is no more: {name}")
    open_ones = [mutant for name, mutant in mutants.items() if known[name] in ("survives", "not tried")]
    for mutant in open_ones:
        click.echo(f"open: {mutant.told} {known[mutant.id]}")
    sys.exit(bool(open_ones))


def check_slice(part: int, jobs: int) -> int:
    """Tries every `part`th mutant by the test that noticed it before; the number that stay unnoticed now.

    Those are left out whose file of tests is gone: they are to be tried again by all tests.
    """
    noticed = {
        name: verdict
        for name, verdict in ledger.read().items()
        if verdict.killed and (ROOT / verdict.by.partition("::")[0]).exists()
    }
    chosen = [mutant for mutant in (*handwritten(), *drawn()) if mutant.id in noticed][::part]
    tasks = ((mutant, stages(mutant, noticed[mutant.id], None, (), 0)) for mutant in chosen)
    missed = 0
    for mutant, verdict in run(tasks, {}, jobs, time.monotonic() + 1800):
        click.echo(told(mutant, verdict))
        missed += not verdict.killed
    return missed


def told(mutant: Mutant, verdict: ledger.Verdict) -> str:
    """One line about a mutant and what became of it."""
    return f"{mutant.told} {f'{verdict.how}: {verdict.by}' if verdict.killed else 'SURVIVES'}"


if __name__ == "__main__":
    main()
