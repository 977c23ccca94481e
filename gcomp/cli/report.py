"""What verbs print: JSON or text to standard output, progress to a terminal on standard error."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, cast

import click

REDRAWN = 0.1
"""Seconds between two drawings, but for what begins."""


def report(as_json: bool, facts: dict[str, Any], lines: Iterable[str]) -> None:
    """Prints `facts` as JSON if asked for, else the `lines`."""
    if as_json:
        click.echo(json.dumps(_jsonable(facts), indent=2))
    else:
        for line in lines:
            click.echo(line)


@contextmanager
def progress(message: str) -> Generator[None, None, None]:
    """Shows on standard error what goes on and how far it is, where somebody watches at a terminal.

    It is drawn when there is news, never from a thread of its own, which would disturb what is timed.
    """
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from ..timing import watched

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bars:
        bars.add_task(message, total=None)
        (task,) = bars.tasks
        bars.refresh()
        drawn = time.monotonic()

        def show(what: str, done: float | None) -> None:
            nonlocal drawn
            now = time.monotonic()
            task.description, task.completed = f"{message}: {what}", done or 0.0
            task.total = None if done is None else 1.0
            if not done or now - drawn >= REDRAWN:
                bars.refresh()
                drawn = now

        with watched(show):
            yield


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of aligned columns; those of numbers are aligned to the right."""
    body = list(map(list, rows))
    columns = list(zip(header, *body, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = [all(not cell or cell[0].isdigit() for cell in column[1:]) for column in columns]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in (header, *body)
    ]


def size(count: int) -> str:
    """Bytes for people: `1.5 MiB`."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds for people: `3.21 ms`."""
    if seconds >= 1:
        return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def _jsonable(value: Any) -> Any:
    """JSON has no infinities and no NaN: they become words."""
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {str(key): _jsonable(inner) for key, inner in items}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in cast("list[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)
