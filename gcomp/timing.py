"""How long the phases of a compilation take."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def phase(timings: dict[str, float], name: str) -> Generator[None]:
    """Adds the seconds that the block takes to `timings[name]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = timings.get(name, 0.0) + time.perf_counter() - start
