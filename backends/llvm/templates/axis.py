"""The axes of a convolution's result, and their tiles: which of them read all their taps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..emit import Value
from .schedule import Run


@dataclass(frozen=True)
class Axis:
    """One axis of results: each is a sum over `kernel` taps of an input of `size`, `step` elements apart."""

    extent: int
    size: int
    step: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    def reads(self, place: int, tap: int) -> bool:
        """Whether a tap of the result at `place` lies in the input."""
        return 0 <= place * self.stride + tap * self.dilation - self.pad < self.size

    def at_tap(self, tap: int) -> Axis:
        """The axis of the same results where only one tap is summed."""
        return replace(self, kernel=1, pad=self.pad - tap * self.dilation)

    def taps(self, place: int) -> int:
        """How many taps of the result at `place` lie in the input."""
        return sum(self.reads(place, tap) for tap in range(self.kernel))

    def least_taps(self, count: int) -> int:
        """The least number of taps, but 1 or more, of any block of `count` results that are cut in such."""
        taps = [self.taps(place) for place in range(self.extent)]
        blocks = range(0, len(taps) - count + 1, count)
        return max(1, min(sum(taps[start : start + count]) for start in blocks))

    def interior(self, first: int, count: int) -> bool:
        """Whether all taps of these results lie in the input."""
        return self.reads(first, 0) and self.reads(first + count - 1, self.kernel - 1)


@dataclass(frozen=True)
class Part:
    """Neighbouring tiles of `size` rows from number `number` on; `edge`: the place of one that lacks taps."""

    start: Value | int
    stop: Value | int
    size: int
    count: int
    number: int
    edge: int | None


def parts_of(runs: Sequence[Run], axis: Axis) -> list[Part]:
    """Runs of tiles cut where they begin and cease to read all their taps; those that do not, one by one."""
    parts: list[Part] = []
    number = 0
    for run in runs:
        for place in range(run.start, run.stop, run.size):
            last = parts[-1] if parts else None
            edge = None if axis.interior(place, run.size) else place
            if last and edge is None and last.edge is None and last.size == run.size:
                parts[-1] = replace(last, stop=place + run.size, count=last.count + 1)
            else:
                parts.append(Part(place, place + run.size, run.size, 1, number, edge))
            number += 1
    return parts
