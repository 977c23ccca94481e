"""The pytest plugin: at the end of a run, what `check_pass` tried, rule by rule.

Loads nothing else of gcomp: pytest imports it at every start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Tallied(Protocol):
    """What is told of a rule: its name, the cases grown for it, and the graphs on which it fired."""

    @property
    def line(self) -> tuple[str, int, int]: ...


REPORTS: list[tuple[str, Tallied]] = []
"""What `check_pass` found in this process: the name of a pass, and the tally of a rule."""


def lines() -> Iterator[str]:
    """The table of what was tried, one rule a line."""
    for name, tally in REPORTS:
        rule, cases, fired = tally.line
        rate = f"{fired / cases:.0%}" if cases else "never"
        yield f"{name}: {rule}: {cases} cases, fired on {fired} ({rate})"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the table, if a test checked a pass."""
    if REPORTS:
        terminalreporter.section("passes checked by gcomp")
        for line in lines():
            terminalreporter.write_line(line)
