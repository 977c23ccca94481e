"""Trials of many mutants side by side: which tests are tried first, and which next."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from .mutant import Mutant
from .reach import Reach
from .trial import Verdict, Workshop

QUICK = 4.0
"""Seconds, as tests take without a fault, of the first trial: most mutants are noticed by it."""
LOADING = 0.5
"""Seconds to load a file of tests."""


def stages(
    mutant: Mutant,
    before: Verdict | None,
    reach: Reach | None,
    first: Sequence[str],
    most: float,
    near: Container[str] = (),
) -> list[list[str]]:
    """The tests of each trial: what noticed the mutant before, then `first`, then those that reach it.

    What noticed it is tried as it was called, then with all its parameters, whose names may have moved on.
    Of those that reach it as many as take up to `most` seconds without a fault, the cheapest in a trial of
    their own, those of functions `near` it before others.
    """
    found: list[list[str]] = []
    if before is not None and before.by.startswith("tests/"):
        found = [[name] for name in dict.fromkeys((before.by, before.by.partition("[")[0]))]
    if first:
        found.append(list(first))
    if reach is None:
        return found
    quick, rest, files, total = list[str](), list[str](), set[str](), 0.0
    for test in reach.tests(mutant, near):
        file = test.partition("::")[0]
        total += reach.seconds[test] + LOADING * (file not in files)
        files.add(file)
        if total <= most or not quick:
            (quick if total <= QUICK or not quick else rest).append(test)
    return [*found, *(part for part in (quick, rest) if part)]


def run(
    tasks: Iterable[tuple[Mutant, list[list[str]]]],
    seconds: Mapping[str, float],
    jobs: int,
    end: float,
) -> Iterator[tuple[Mutant, Verdict]]:
    """Verdicts as they come, `jobs` trials at a time; none is begun after `end`, a `time.monotonic`."""
    queue = iter(tasks)
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as folder,
        ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _open, (Path(folder),)) as pool,
    ):
        pending: dict[Future[Verdict], Mutant] = {}
        while True:
            while len(pending) < jobs and time.monotonic() < end and (task := next(queue, None)):
                mutant, trials = task
                known = {test: seconds[test] for tests in trials for test in tests if test in seconds}
                pending[pool.submit(_tried, mutant, trials, known)] = mutant
            if not pending:
                return
            for done in wait(pending, return_when=FIRST_COMPLETED).done:
                yield pending.pop(done), done.result()


def failing_without_fault(tests: Iterable[str]) -> list[str]:
    """Those of the tests that fail on the sources as they are: that they fail with a fault says nothing."""
    rest, failing = list(tests), list[str]()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        shop = Workshop(Path(folder))
        while rest and (verdict := shop.trial(None, rest)).killed:
            failing.append(verdict.by)
            rest = [test for test in rest if test != verdict.by]
    return failing


_shop: list[Workshop] = []
"""The workshop of a process of the pool."""


def _open(folder: Path) -> None:
    _shop.append(Workshop(folder / str(os.getpid())))


def _tried(mutant: Mutant, trials: list[list[str]], seconds: Mapping[str, float]) -> Verdict:
    (shop,) = _shop
    verdict = Verdict(mutant.key(shop.tree), False)
    for tests in trials:
        verdict = shop.trial(mutant, tests, seconds)
        if verdict.killed:
            break
    return verdict
