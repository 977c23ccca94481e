"""Times calls side by side: in turn, so that a machine that slows down slows all of them down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .timing import tell

WARMUP_CALLS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median, the quartiles around it, and how many calls were timed."""

    median: float
    low: float
    high: float
    calls: int


def interleaved(
    calls: Mapping[str, Callable[[], object]], seconds: float = 3.0, least: int = 5, most: int = 1000
) -> dict[str, Timing]:
    """Times the calls in turn, one of each, for about `seconds` in all: `least` to `most` rounds.

    Warm-up calls come first and are not counted.
    """
    for call in calls.values():
        for _ in range(WARMUP_CALLS):
            call()
    spent: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for done in range(most):
        elapsed = time.perf_counter() - start
        if done >= least and elapsed >= seconds:
            break
        tell(f"{done} runs", share_done(done, most, elapsed, seconds))
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            spent[name].append(time.perf_counter() - before)
    return {name: _summary(times) for name, times in spent.items()}


def share_done(runs: int, most: int, elapsed: float, seconds: float) -> float:
    """How far measurements are that end after `most` runs or so many seconds, from 0 to 1."""
    return max(runs / most, min(elapsed / seconds, 1.0) if seconds else 0.0)


def _summary(times: list[float]) -> Timing:
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
    return Timing(float(median), float(low), float(high), len(times))
