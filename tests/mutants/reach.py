"""Which tests to run on a mutant, and in which order, by what was measured of each file of tests.

What is not known, or no longer true, costs time or leaves a mutant alive: it never lets one count as noticed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from .measurement import Measurement
from .mutant import ROOT, Mutant


class Reach:
    """What runs of the tests showed, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def measure(self, jobs: int, end: float, anew: bool) -> list[str]:
        """Runs the files of tests that changed since they were measured; with `anew`, or any source did.

        None is begun after `end`, a `time.monotonic`: what was not is returned. Raises `RuntimeError` where
        a test fails.
        """
        old = [one for one in self._of_all_files() if not one.is_current(anew)]

        def measure(one: Measurement) -> bool:
            if begun := time.monotonic() < end:
                one.run()
            return begun

        with ThreadPoolExecutor(jobs) as pool:
            return [one.file for one, done in zip(old, pool.map(measure, old), strict=True) if not done]

    def _of_all_files(self) -> list[Measurement]:
        files = (path for path in (ROOT / "tests").rglob("test_*.py") if "mutants" not in path.parts)
        return [Measurement(self._folder, path.relative_to(ROOT).as_posix()) for path in sorted(files)]

    @cached_property
    def _measurements(self) -> list[Measurement]:
        return [one for one in self._of_all_files() if one.exists]

    @cached_property
    def seconds(self) -> dict[str, float]:
        """What each test took."""
        return {test: spent for one in self._measurements for test, spent in one.seconds.items()}

    def tests(self, mutant: Mutant, first: Container[str] = ()) -> list[str]:
        """The tests that run a line of the mutant; if there are none, its file, or else all tests.

        The test functions in `first` come first. Of each function the cheapest test comes before any second:
        neighbours among the parameters of one function seldom see what the others do not.
        """
        found = {test for one in self._measurements for test in one.running(mutant)}
        found = found or {test for one in self._measurements for test in one.entering(mutant.file)}
        families: dict[str, list[str]] = defaultdict(list)
        for test in sorted(found or self.seconds, key=lambda test: (self.seconds[test], test)):
            families[test.partition("[")[0]].append(test)
        rounds = [
            (place, family not in first, self.seconds[test], test)
            for family, tests in families.items()
            for place, test in enumerate(tests)
        ]
        return [test for *_, test in sorted(rounds)]
