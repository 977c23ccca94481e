"""The range of a value that 8 bits are to cover, found from what the value takes on, piece by piece."""

from __future__ import annotations

import math

import numpy as np

from .diagnostics import InputError
from .types import Array

BINS = 4096
"""Of a histogram: half of them for each sign. At least half of these lie in what has been seen."""
LEVELS = 256
"""Numbers that 8 bits tell apart."""
LEAST, STEP = 128, 16
"""Bins of each sign in the narrowest range that is tried, and how many more each further one has."""
SMALLEST = 2.0**-100
"""What a histogram reaches to at least, so that the width of a bin is a normal f32."""
TRACE = 1e-4
"""The share of a bin that counts as full where a distribution has nothing."""


class Extremes:
    """The least and the greatest element."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def add(self, array: Array) -> None:
        """Takes in the elements of a nonempty array. Raises `InputError` where one is not finite."""
        low, high = float(array.min()), float(array.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(f"a value is not finite: it lies in [{low}, {high}]")
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> tuple[float, float]:
        return self.low, self.high


class Entropy(Extremes):
    """The range that keeps most of the distribution's information: rare large elements may lie outside.

    Of ranges that are cut at both sides alike, it is the one of least Kullback-Leibler divergence between the
    elements, those outside moved to the ends, and what 8 bits make of those inside: Migacz, "8-bit inference
    with TensorRT", GPU Technology Conference 2017. Elements that are 0 are exact in any case and do not
    count; the range has 0 in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limit = 0.0
        """What the histogram reaches to on both sides, a power of 2 that grows with what is seen."""
        self.counts = np.zeros(BINS, np.int64)

    def add(self, array: Array) -> None:
        super().add(array)
        self._reach(max(-self.low, self.high))
        if not self.limit:
            return
        places = array.ravel() * np.float32(BINS / 2 / self.limit) + np.float32(BINS / 2)
        self.counts += np.bincount(places.astype(np.intp).clip(0, BINS - 1), minlength=BINS)
        self.counts[BINS // 2] -= array.size - np.count_nonzero(array)

    def _reach(self, most: float) -> None:
        """Widens the histogram up to `most`, two bins becoming one as often as it takes."""
        if most and not self.limit:
            self.limit = max(SMALLEST, 2.0 ** math.ceil(math.log2(most)))
        while self.limit < most:
            quarter = np.zeros(BINS // 4, np.int64)
            self.counts = np.concatenate([quarter, self.counts.reshape(-1, 2).sum(1), quarter])
            self.limit *= 2

    def range(self) -> tuple[float, float]:
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if not self.counts.any():
            return low, high
        width = 2 * self.limit / BINS
        first, last = (math.floor(x / width) + BINS // 2 for x in (low, high))
        most = math.ceil(max(-low, high) / width)

        def clipped(cut: int) -> tuple[int, int]:
            return max(BINS // 2 - cut, first, 0), min(BINS // 2 + cut, last + 1)

        cuts = [*range(LEAST, most, STEP), most]
        cut = min(cuts, key=lambda cut: divergence(self.counts, *clipped(cut)))
        return max(low, -cut * width), min(high, cut * width)


CALIBRATIONS = {"min-max": Extremes, "entropy": Entropy}
"""How to find ranges, by name."""


def divergence(counts: Array, start: int, stop: int) -> float:
    """What is lost of a histogram if 8 bits stand for its bins from `start` to `stop`, ends for the rest."""
    inside = counts[start:stop].astype(np.float64)
    all_ = inside.copy()
    all_[0] += counts[:start].sum()
    all_[-1] += counts[stop:].sum()
    level = np.arange(inside.size) * LEVELS // max(inside.size, LEVELS)
    sums, filled = np.bincount(level, inside), np.bincount(level, inside > 0)
    shared = np.where(inside > 0, sums[level] / np.maximum(filled, 1)[level], 0)
    p, q = _spread(all_), _spread(shared)
    return float((p * np.log(p / q)).sum())


def _spread(counts: Array) -> Array:
    """Shares of a whole; what is empty has a trace."""
    shares = np.where(counts > 0, counts, TRACE)
    return shares / shares.sum()
