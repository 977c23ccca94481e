"""What the tests of one file run, line by line, and how long each takes: measured under coverage.

Where every function was is kept with it, so that a measurement serves on when code moves.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

import pytest
from coverage import CoverageData

from .mutant import ROOT, SOURCES, Mutant, definition, first_line

Places: TypeAlias = dict[str, dict[str, list[str | int]]]
"""By source file and function: the hash of the function, its first line and its last."""


class Measurement:
    """Of one file of tests, kept in a folder of its own."""

    def __init__(self, folder: Path, file: str) -> None:
        self.file = file
        self._folder = folder / file
        self._facts = self._folder / "facts.json"
        self._contexts: dict[str, dict[int, set[str]]] = {}

    @property
    def _hash(self) -> str:
        return _hash((ROOT / self.file).read_text("utf-8"))

    @property
    def exists(self) -> bool:
        return self._facts.exists()

    def is_current(self, sources: bool) -> bool:
        """Whether the file of tests is as it was when measured; with `sources`, all functions as well."""
        if not self.exists:
            return False
        facts = json.loads(self._facts.read_text("utf-8"))
        return facts["tests"] == _hash((ROOT / self.file).read_text("utf-8")) and (
            not sources or facts["places"] == places()
        )

    def run(self) -> None:
        """Measures anew, all but the slow tests. Raises `RuntimeError` where one fails."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        facts = json.dumps({"tests": self._hash, "places": places()})
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
        command += [f"--cov={folder}" for folder in SOURCES.values()]
        command += ["--cov-context=test", "--cov-report=", f"--junitxml={self._folder / 'times.xml'}"]
        environment = {**os.environ, "COVERAGE_FILE": str(self._folder / "coverage")}
        done = subprocess.run(
            [*command, self.file], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise RuntimeError(f"{self.file} fails without a fault:\n{done.stdout[-2000:]}{done.stderr}")
        self._facts.write_text(facts, "utf-8")

    @cached_property
    def seconds(self) -> dict[str, float]:
        """What each test took."""
        cases = ElementTree.parse(self._folder / "times.xml").iter("testcase")
        return {f"{self.file}::{case.attrib['name']}": float(case.attrib["time"]) for case in cases}

    def running(self, mutant: Mutant) -> set[str]:
        """The tests that run a line of it; where its function has changed since, a line of the function."""
        contexts, lines = self._by_line(mutant.file), mutant.lines()
        node, name = definition(ast.parse(mutant.source()), lines.start)
        place = self._places.get(mutant.file, {}).get(name)
        if place is None or not isinstance(node, ast.FunctionDef):
            return set()
        text, first, last = place[0], int(place[1]), int(place[2])
        moved = first - first_line(node)
        same = text == _hash(ast.unparse(node))
        lines = range(lines.start + moved, lines.stop + moved) if same else range(first, last + 1)
        return {test for line in lines for test in contexts.get(line, ())}

    def entering(self, file: str) -> set[str]:
        """The tests that run any line of a source file."""
        return {test for tests in self._by_line(file).values() for test in tests}

    @cached_property
    def _places(self) -> Places:
        return json.loads(self._facts.read_text("utf-8"))["places"]

    @cached_property
    def _coverage(self) -> CoverageData:
        data = CoverageData(str(self._folder / "coverage"))
        data.read()
        return data

    def _by_line(self, file: str) -> Mapping[int, Iterable[str]]:
        """Tests by the contexts that pytest-cov gives their phases; what ran outside of any has none."""
        if file not in self._contexts:
            found = self._coverage.contexts_by_lineno(str((ROOT / file).resolve()))
            self._contexts[file] = {
                line: {context.rpartition("|")[0] for context in contexts} & self.seconds.keys()
                for line, contexts in found.items()
            }
        return self._contexts[file]


@cache
def places() -> Places:
    """Where the functions of the sources are now."""
    files = (path for folder in SOURCES.values() for path in (ROOT / folder).rglob("*.py"))
    return {
        path.relative_to(ROOT).as_posix(): dict(_functions(ast.parse(path.read_bytes()))) for path in files
    }


def _functions(tree: ast.Module | ast.ClassDef, scope: str = "") -> Iterator[tuple[str, list[str | int]]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{scope}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield scope + node.name, [_hash(ast.unparse(node)), first_line(node), node.end_lineno or 0]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
