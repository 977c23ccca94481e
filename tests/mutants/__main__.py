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
@click.option("--slice", "part", type=int, help="Only every so many'th by hand, by its killer; no ledger.")
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
    verdicts, excused = ledger.read(), ledger.arguments()
    mutants = {mutant.id: mutant for mutant in (*handwritten(), *drawn())}
    reach = Reach(MEASURED)
    chosen = [
        mutant
        for name, mutant in mutants.items()
        if (name.startswith(names) if names else True)
        and (again == "all" or not is_known(mutant, verdicts.get(name), excused, again == "survivors"))
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
    verdicts = ledger.read()
    PAGE.write_text(page(mutants.values(), verdicts, excused), "utf-8")
    still_open = [
        mutant for name, mutant in mutants.items() if not is_known(mutant, verdicts.get(name), excused, True)
    ]
    for mutant in still_open:
        click.echo(f"open: {told(mutant, verdicts.get(mutant.id))}")
    sys.exit(bool(still_open))


def is_known(
    mutant: Mutant, verdict: ledger.Verdict | None, excused: dict[str, dict[str, str]], killed: bool
) -> bool:
    """Whether the mutant, as it is, was tried, with success if `killed`, or is argued to be equivalent."""
    key = mutant.key()
    tried = verdict is not None and verdict.key == key and (verdict.killed or not killed)
    return tried or excused.get(mutant.id, {}).get("key") == key


def check_slice(part: int, jobs: int) -> int:
    """Tries every `part`th fault by the test that noticed it before; the number that stay unnoticed now."""
    verdicts = ledger.read()
    noticed = (mutant for mutant in handwritten() if mutant.id in verdicts and verdicts[mutant.id].killed)
    chosen = list(noticed)[::part]
    tasks = ((mutant, stages(mutant, verdicts[mutant.id], None, (), 0)) for mutant in chosen)
    missed = 0
    for mutant, verdict in run(tasks, {}, jobs, time.monotonic() + 1800):
        click.echo(told(mutant, verdict))
        missed += not verdict.killed
    return missed


def told(mutant: Mutant, verdict: ledger.Verdict | None) -> str:
    """One line about a mutant and what became of it."""
    what = f"{mutant.id} ({mutant.file}, line {mutant.lines().start}: {mutant.note})"
    if verdict is None or not verdict.killed:
        return f"{what} {'was not tried' if verdict is None else 'SURVIVES'}"
    return f"{what} {verdict.how}: {verdict.by}"


if __name__ == "__main__":
    main()
