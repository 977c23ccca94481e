"""The pytest plugin: at the end of a run, what `check_pass` and `check_target` tried.

Loads nothing else of gcomp: pytest imports it at every start.
"""

from __future__ import annotations

from typing import Any, Protocol


class Tallied(Protocol):
    """What was tried, as a line."""

    @property
    def line(self) -> str: ...


REPORTS: list[tuple[str, Tallied]] = []
"""What was tried in this process: the name of a pass or target, and the tally of a rule or of graphs."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints a line for each, if a test checked any."""
    if REPORTS:
        terminalreporter.section("checked by gcomp")
        for name, tally in REPORTS:
            terminalreporter.write_line(f"{name}: {tally.line}")
