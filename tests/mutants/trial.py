"""One trial: some tests on a copy of the tree with one fault in it, in a process of its own."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from .mutant import ROOT, Mutant

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".mutants", ".hypothesis", "__pycache__", "build", "dist")
HEAVY = (
    "numpy",
    "onnx",
    "onnxruntime",
    "hypothesis",
    "llvmlite.binding",
    "networkx",
    "rich.console",
    "click",
)
"""Foreign modules that are loaded once for all trials."""

PATIENCE = 20
"""A test that takes this many times as long as without a fault, or `SHORTEST` seconds, has no end."""
SHORTEST = 60
MEMORY = 12 << 30
"""Bytes of address space for a trial."""


@dataclass(frozen=True)
class Verdict:
    """Whether a test noticed the fault, which, and how: it fails, crashes, has no end, cannot be loaded."""

    key: str
    killed: bool
    by: str = ""
    how: str = ""


class Workshop:
    """A copy of the tree, where one fault at a time is put in and taken out again."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.log, self.progress = folder / "tree", folder / "log", folder / "progress"
        shutil.copytree(ROOT, self.tree, symlinks=True, ignore=LEFT_OUT)
        self._version = 1
        for name in HEAVY:
            importlib.import_module(name)

    def trial(
        self, mutant: Mutant | None, tests: Sequence[str], seconds: Mapping[str, float] | None = None
    ) -> Verdict:
        """Runs `tests` in this order up to the first that fails, with the fault, or without one."""
        if mutant is None:
            return self._verdict("", tests, seconds or {})
        file, before, key = self.tree / mutant.file, mutant.source(self.tree), mutant.key(self.tree)
        try:
            self._write(file, mutant.mutated(self.tree))
            return self._verdict(key, tests, seconds or {})
        finally:
            self._write(file, before)

    def _write(self, file: Path, content: bytes) -> None:
        """Bytecode is found by its source's time and size, so each version gets a time of its own."""
        file.write_bytes(content)
        self._version += 1
        os.utime(file, (self._version, self._version))

    def _verdict(self, key: str, tests: Sequence[str], seconds: Mapping[str, float]) -> Verdict:
        self.progress.write_text("")
        child = os.fork()
        if child == 0:
            _run(self, tests, seconds)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        last = self.progress.read_text("utf-8").splitlines()
        how, _, where = last[-1].partition(" ") if last else ("", "", "")
        if (code == pytest.ExitCode.OK and how == "done") or code == pytest.ExitCode.NO_TESTS_COLLECTED:
            return Verdict(key, False)
        if code == -signal.SIGALRM:
            return Verdict(key, True, where or "loading the tests", "no end")
        if code < 0:
            return Verdict(key, True, where or "loading the tests", "crash")
        if how in ("failed", "unloadable"):
            return Verdict(key, True, where, "fails" if how == "failed" else "cannot be loaded")
        raise RuntimeError(f"{key}: a trial ended with status {code}:\n{self.log.read_text('utf-8')[-2000:]}")


class _Watcher:
    """Picks and orders the tests, sets the alarm for each, and writes down how far they came."""

    def __init__(self, tests: Sequence[str], seconds: Mapping[str, float], progress: Path) -> None:
        self.places = {test: place for place, test in enumerate(tests)}
        self.seconds, self.progress = seconds, progress

    def _write(self, line: str) -> None:
        with self.progress.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if self._place(item.nodeid) is not None),
            key=lambda item: self._place(item.nodeid) or 0,
        )

    def _place(self, test: str) -> int | None:
        """By its name, or by that of its function or file, which stand for all that they hold."""
        for name in (test, test.partition("[")[0], test.partition("::")[0]):
            if name in self.places:
                return self.places[name]
        return None

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        signal.alarm(SHORTEST + int(PATIENCE * self.seconds.get(nodeid, 0)))
        self._write(f"started {nodeid}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._write(f"failed {report.nodeid}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(f"unloadable {report.nodeid}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.testscollected and not session.testsfailed:
            self._write("done")


def _run(shop: Workshop, tests: Sequence[str], seconds: Mapping[str, float]) -> NoReturn:
    """The child's part, which never comes back."""
    status = 99
    try:
        with shop.log.open("w", encoding="utf-8") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5 * SHORTEST)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(shop.tree)
        os.environ["PYTHONPATH"] = str(shop.tree)
        sys.path[:] = [str(shop.tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
        for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "gcomp")]:
            del sys.modules[name]
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:cov", "--rootdir", str(shop.tree)]
        options += ["--hypothesis-profile=mutants", f"--basetemp={shop.tree.parent / 'scratch'}"]
        watcher = _Watcher(tests, seconds, shop.progress)
        status = int(pytest.main([*options, *files], plugins=[watcher]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
