"""Whole random graphs as native code, from templates and from nests, against the reference."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

import click

from gcomp.apart import apart
from gcomp.compiler import parse_target
from gcomp.diagnostics import CrashError, UnsupportedError, raised
from gcomp.evaluate import evaluate
from gcomp.target import Target
from gcomp.testing.growth import whole
from gcomp.testing.samples import native_classes
from gcomp.testing.targets import failure_of

LEDGER = Path(__file__).with_name("graphs.json")
TARGETS = ("llvm", "llvm{templates=off}")

TOGETHER = 25
"""Graphs that one process runs, so that few of them are begun; a graph that ends it is found singly."""

LIMIT = 60
"""Seconds after which a process counts as one that never ends."""


@dataclass
class Ledger:
    """How far the search is: the next seed, what held, and what went wrong by seed."""

    seed: int = 0
    held: int = 0
    operators: Counter[str] = field(default_factory=Counter[str])
    traits: Counter[str] = field(default_factory=Counter[str])
    sizes: Counter[str] = field(default_factory=Counter[str])
    wrong: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def read(cls) -> Ledger:
        """The ledger of the file, or an empty one."""
        if not LEDGER.exists():
            return cls()
        kept = json.loads(LEDGER.read_text("utf-8"))
        counts = {name: Counter[str](kept[name]) for name in ("operators", "traits", "sizes")}
        return cls(kept["seed"], kept["held"], **counts, wrong=kept["wrong"])

    def write(self) -> None:
        """Keeps the ledger, sorted, so that changes are seen."""
        sizes = dict(sorted(self.sizes.items(), key=lambda item: int(item[0])))
        counts = {
            "operators": dict(sorted(self.operators.items())),
            "traits": dict(sorted(self.traits.items())),
        }
        kept = {"seed": self.seed, "held": self.held, "median": self.median, **counts, "sizes": sizes}
        LEDGER.write_text(json.dumps(kept | {"wrong": self.wrong}, indent=1) + "\n", "utf-8")

    @property
    def median(self) -> float:
        """The median of the graphs' numbers of operators, constants left out."""
        return median(int(size) for size in self.sizes.elements()) if self.sizes else 0.0

    def add(self, found: Tried) -> None:
        """Counts a graph."""
        if found.wrong:
            self.wrong[str(found.seed)] = found.wrong
            return
        self.wrong.pop(str(found.seed), None)
        self.held += 1
        self.operators.update(found.kinds)
        self.traits.update(found.traits)
        self.sizes[str(len(found.kinds))] += 1


@dataclass(frozen=True)
class Tried:
    """What came of a seed: the operators and traits of its graph, and what is wrong, if anything is."""

    seed: int
    kinds: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    wrong: str = ""


def tried(seed: int, targets: Sequence[Target]) -> Tried:
    """Compiles the graph of a seed for each target and compares."""
    signal.alarm(LIMIT)
    try:
        case = whole(Random(seed))
        evaluate(case.graph, case.inputs)
    except Exception as error:  # a reference raises what inference let pass
        return Tried(seed, wrong=f"the reference: {raised(error)}")
    kinds, traits = tuple(op.kind for op in case.operators), tuple(case.traits())
    for target, text in zip(targets, TARGETS, strict=True):
        try:
            failure = failure_of(target, case)
        except UnsupportedError as error:
            return Tried(seed, kinds, traits, f"{text}: refused: {error.message}")
        if failure is not None:
            return Tried(seed, kinds, traits, f"{text}: {failure.kind}: {failure.complaint}")
    return Tried(seed, kinds, traits)


def slice_of(seeds: Sequence[int]) -> list[Tried]:
    """What comes of some seeds, in a process of their own; in one each where that is ended by one of them."""
    targets = [parse_target(text) for text in TARGETS]
    try:
        return apart(lambda: [tried(seed, targets) for seed in seeds])
    except CrashError as error:
        if len(seeds) == 1:
            return [Tried(seeds[0], wrong=f"CrashError: {error.message}")]
        return [found for seed in seeds for found in slice_of([seed])]


@click.command("graphs")
@click.option("--seconds", default=60.0, show_default=True, help="Begin no graphs after so many.")
@click.option("--again", is_flag=True, help="Only the seeds that went wrong before.")
def command(seconds: float, again: bool) -> None:
    """Whole random graphs as native code against the reference. Ends with status 1 where one is wrong.

    Compiled kernels are kept in the folder GCOMP_CACHE for later graphs, else in one for this run.
    """
    ledger, start = Ledger.read(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("GCOMP_CACHE", folder)
        if again:
            for seed in list(ledger.wrong):
                ledger.add(slice_of([int(seed)])[0])
        while not again:
            for found in slice_of(range(ledger.seed, ledger.seed + TOGETHER)):
                ledger.add(found)
                if found.wrong:
                    click.echo(f"{found.seed}: {found.wrong}")
            ledger.seed += TOGETHER
            if time.monotonic() - start > seconds:
                break
    ledger.write()
    for line in summary(ledger):
        click.echo(line)
    sys.exit(bool(ledger.wrong))


def summary(ledger: Ledger) -> list[str]:
    """What the ledger shows, in words."""
    seldom = min(
        ((ledger.operators[cls.__name__], cls.__name__) for cls in native_classes()), default=(0, "")
    )
    shares = ", ".join(f"{count / max(ledger.held, 1):.0%} {name}" for name, count in ledger.traits.items())
    return [
        f"{ledger.held} graphs held, {ledger.median:g} operators in the median; {shares}",
        f"least often: {seldom[1]}, {seldom[0]} times",
        f"{len(ledger.wrong)} wrong",
    ]
