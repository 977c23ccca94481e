"""How long the phases of some work take, and how far it is, told to whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")

Watcher = Callable[[str, float | None], None]
"""Is told what is going on, and which share of that is done, from 0 to 1, or None where nobody knows."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Generator[None]:
    """Within the block `watcher` is told what goes on in this thread."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell(what: str, done: float | None = None) -> None:
    """Tells the watcher, if there is one."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(what, done)


def counted(what: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items, telling before each how many of them are done."""
    for number, item in enumerate(items):
        tell(what, number / len(items))
        yield item


@contextmanager
def phase(timings: dict[str, float], name: str) -> Generator[None]:
    """Adds the seconds that the block takes to `timings[name]`."""
    tell(name)
    start = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = timings.get(name, 0.0) + time.perf_counter() - start
