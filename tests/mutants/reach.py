"""Which tests reach a line, and how long each takes: measured by running all of them under coverage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from coverage import CoverageData

from .mutant import ROOT, SOURCES, Mutant


class Reach:
    """What one run of the tests showed, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.coverage, self.times = folder / "coverage", folder / "times.xml"

    def is_current(self) -> bool:
        """Whether there is a measurement, and no source has changed since."""
        if not (self.coverage.exists() and self.times.exists()):
            return False
        sources = (path for folder in SOURCES.values() for path in (ROOT / folder).rglob("*.py"))
        return self.times.stat().st_mtime > max(path.stat().st_mtime for path in sources)

    def measure(self, jobs: int) -> None:
        """Runs all tests but the slow ones. Raises `CalledProcessError` where one fails."""
        self.coverage.parent.mkdir(exist_ok=True)
        folders = [f"--cov={folder}" for folder in SOURCES.values()]
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "-m", "not slow"]
        command += ["-p", "no:cacheprovider", *folders, "--cov-context=test", "--cov-report="]
        command += [f"--junitxml={self.times}"]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(self.coverage)}, check=True)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """What each test took."""
        return {
            f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}": float(
                case.attrib["time"]
            )
            for case in ElementTree.parse(self.times).iter("testcase")
        }

    @cached_property
    def _data(self) -> CoverageData:
        data = CoverageData(str(self.coverage))
        data.read()
        return data

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that run a line of the mutant, or its file if none of the lines is run by a test itself.

        The cheapest of each test function come first, then the second cheapest: neighbours among the
        parameters of one function seldom see what the others do not.
        """
        contexts = self._data.contexts_by_lineno(str((ROOT / mutant.file).resolve()))
        found = _names(context for line in mutant.lines() for context in contexts.get(line, ()))
        if not found:
            found = _names(context for line in contexts.values() for context in line)
        families: dict[str, list[str]] = defaultdict(list)
        for test in sorted(found & self.seconds.keys(), key=lambda test: (self.seconds[test], test)):
            families[test.partition("[")[0]].append(test)
        rounds = [(place, test) for family in families.values() for place, test in enumerate(family)]
        return [test for _, test in sorted(rounds, key=lambda turn: (turn[0], self.seconds[turn[1]]))]


def _names(contexts: Iterable[str]) -> set[str]:
    """Tests by the contexts that pytest-cov gives their phases; what ran outside of any has none."""
    return {context.rpartition("|")[0] for context in contexts} - {""}
