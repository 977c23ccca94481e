"""`python -m bench kernels`: templates on known shapes, as a share of the peak measured in the same run."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import cache

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from gcomp.backends.llvm.cpu import Cpu, host
from gcomp.backends.llvm.peak import peak
from gcomp.types import Array

from .rows import BARRED, ROWS, Row
from .single import BLOB, copied, empty, in_memory, logical, single

FLUSHED = 96 << 20
"""Bytes streamed through the caches before each run: weights are then out of the caches of this core."""
COPIES = 4
"""Of the weights, which are timed in turn: where memory happens to lie matters by some percent."""
OTHERS = 2
"""Calls with other weights before each: after as many, all but the weights lies as close as it gets."""
ROUNDS = 3
"""Visits to each row: what else the machine does for a second then moves few of its calls."""
CLOSE = 1e-5
"""Largest error allowed, relative to the largest element."""


@dataclass(frozen=True)
class Measured:
    """Medians over the runs; `share` is that of the peak measured just before and after each run."""

    row: Row
    seconds: float
    share: float
    peak: float
    template: str

    @property
    def rate(self) -> float:
        return self.row.flops / self.seconds


class Timing:
    """A kernel that is timed in single calls, weights being out of the caches.

    Calls with other weights go before each, as in a network that runs over and over: code, what feeds and
    takes the results are then in the caches as far as they fit. So is what the interpreter needs for a call,
    which a network does not pay for each kernel.
    """

    def __init__(self, row: Row, cpu: Cpu) -> None:
        """Checks the kernel against numpy.

        Raises `ArithmeticError` for a wrong result, `LookupError` where no template takes the row.
        """
        problem, arrays, expected = row.make(cpu)
        kernel = single(problem)
        if kernel is None:
            raise LookupError(f"{row.name}: no template takes it")
        operands = [view for view in problem.operands if view is not None]
        memory = [copied(in_memory(a, view.type), BLOB) for a, view in zip(arrays, operands, strict=True)]
        out = copied(empty(problem.results[0].type), BLOB)
        bind = kernel.load()
        self.row, self.template = row, kernel.emitted.template
        self._calls = [bind([*memory, out]) for _ in range(COPIES)]
        self._calls[0]()
        error = float(np.abs(logical(out, problem.results[0].type) - expected).max() / np.abs(expected).max())
        if not error <= CLOSE:
            raise ArithmeticError(
                f"{row.name}: off by {error:.2g} of the largest element, {CLOSE} is allowed"
            )
        self._best = peak(cpu, row.unit)
        self._overhead = self._best.overhead()
        self._times: list[float] = []
        self._peaks: list[float] = []

    def add(self, runs: int, cold: bool = True) -> None:
        """Times some more calls."""
        best, flush = self._best, _flush()
        for run in range(len(self._times), len(self._times) + runs):
            call, *others = (self._calls[(run + n) % COPIES] for n in range(1 + OTHERS))
            if cold:
                flush.sum()
            for other in others if cold else [call] * OTHERS:
                other()
            call.rehearse()
            before = best()
            start = time.perf_counter()
            call()
            self._times.append(time.perf_counter() - start - self._overhead)
            self._peaks.append((before + best()) / 2)

    def measured(self) -> Measured:
        median = statistics.median
        pairs = zip(self._times, self._peaks, strict=True)
        share = median(self.row.flops / seconds / top for seconds, top in pairs)
        return Measured(self.row, median(self._times), share, median(self._peaks), self.template)


@cache
def _flush() -> Array:
    """What is streamed through the caches; zeros would be one page, read over and over."""
    return np.ones(FLUSHED // 4, np.float32)


@click.command()
@click.option("--filter", "wanted", default="", help="Only rows whose kind or name holds this text.")
@click.option("--runs", default=24, show_default=True, help="Timed calls of each kernel.")
@click.option("--hot", is_flag=True, help="Leave the weights in the caches.")
def main(wanted: str, runs: int, hot: bool) -> None:
    """Time the kernel templates of the llvm target on this machine.

    Exit status 1 if a matrix product or convolution misses its share of the peak. Rows of bf16 have a peak of
    their own, and stand only where the processor multiplies it.
    """
    cpu = host()
    table = Table(title=f"kernels, one thread, {'hot' if hot else 'cold'} weights, {cpu.name}")
    for heading in ("kind", "shape", "template"):
        table.add_column(heading)
    for heading in ("us", "GFLOP/s", "peak", "% of peak"):
        table.add_column(heading, justify="right")
    rows = [row for row in ROWS if wanted in f"{row.kind} {row.name}" and row.is_for(cpu)]
    timings = [Timing(row, cpu) for row in rows]
    for _ in range(ROUNDS):
        for timing in timings:
            timing.add(-(-runs // ROUNDS), not hot)
    missed = 0
    for timing in timings:
        found, row = timing.measured(), timing.row
        low = found.share < BARRED.get(row.kind, 0.0)
        missed += low
        share = f"{100 * found.share:.1f}"
        table.add_row(
            row.kind,
            row.name,
            found.template,
            f"{found.seconds * 1e6:.1f}",
            f"{found.rate / 1e9:.1f}",
            f"{found.peak / 1e9:.1f}",
            f"[red]{share}[/red]" if low else share,
        )
    Console().print(table)
    if missed:
        raise SystemExit(1)
