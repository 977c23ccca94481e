"""What a tile asks memory for ahead of its use: weights that follow its panel, rows of the next tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..emit import Value
from .axis import Part
from .place import Place
from .schedule import UNROLLED, balanced, pieces

if TYPE_CHECKING:
    from .tile import Contraction

CACHE_LINE = 64
STRAIGHT = 4
"""Lines of weights asked for ahead of a tile rather than from within its loops."""
NEAR = 1 << 14
"""Bytes of rows that may be fetched into the first level ahead of their tile."""


def unrolled(taps: int) -> int:
    """Steps of the depth in one iteration where so many taps are taken together."""
    return UNROLLED if taps == 1 else 1


class Prefetch:
    """The share of one tile, whose rows start at `x`, in what follows the panel of weights at `weights`.

    It is asked for in `streams`, given by the lines before them, a line of each in every iteration: memory
    delivers sooner from several places at once.
    """

    def __init__(
        self, of: Contraction, place: Place, x: Value, part: Part, vectors: int, weights: Value
    ) -> None:
        self.of, self.fn, self.part, self.x = of, of.fn, part, x
        self.streams: list[int] = []
        self.rows = self._lines_of_next_rows()
        if of.weights.step is None:
            self._plan(place, vectors, weights)

    def _plan(self, place: Place, vectors: int, weights: Value) -> None:
        """Asks for a few lines at once; for more, finds where each tap of the outer axis would start."""
        of, fn = self.of, self.fn
        panel = of.outer.kernel * of.inner.kernel * of.depth * vectors * of.lanes
        following = panel // of.depth * (of.next_depth or of.depth)
        lines = pieces(following * 4, CACHE_LINE)
        share = pieces(lines, place.places * place.tiles)
        after = fn.element(weights, panel, of.unit.element)
        if share <= STRAIGHT:
            number = fn.add(fn.mul(place.number, place.tiles), self._number())
            pointer = fn.element(after, fn.mul(number, share * CACHE_LINE), "i8")
            for line in range(share):
                fn.prefetch(fn.element(pointer, line * CACHE_LINE, "i8"), 2)
            return
        tiles = place.tiles * of.outer.least_taps(place.places)
        groups = sum(run.count for run in balanced(of.inner.kernel, of.tile.taps))
        count = pieces(pieces(lines, tiles), groups * self._iterations(of.tile.taps))
        self.share = pieces(lines, tiles * count)
        self.streams = [stream * self.share * tiles for stream in range(count)]
        taps = fn.add(fn.mul(place.done, place.tiles), fn.mul(self._number(), place.taps(fn)))
        taps = fn.add(taps, fn.mul(place.first, -1))
        self.start = fn.element(after, fn.mul(taps, self.share * CACHE_LINE), "i8")

    def _number(self) -> Value:
        """How many tiles of this place came before."""
        fn, part = self.fn, self.part
        if part.count == 1:
            return str(part.number)
        distance = fn.add(self.x, fn.mul(part.start, -1))
        passed = fn.value(f"udiv exact i64 {distance}, {part.size}") if distance != "0" else "0"
        return fn.add(passed, part.number)

    def _iterations(self, taps: int) -> int:
        return pieces(self.of.depth, unrolled(taps))

    def _lines_of_next_rows(self) -> int:
        """The lines of the next tile's input that each iteration asks for, where that follows in memory."""
        of = self.of
        plain = of.outer.kernel * of.inner.kernel == of.inner.stride == of.depth_step == 1
        size = self.part.size * of.inner.step * 4
        if not plain or size > NEAR or of.inner.extent <= self.part.size:
            return 0
        return pieces(pieces(size, CACHE_LINE), self._iterations(1))

    def ahead(self, tap: Value, group: Value, taps: int) -> Value | None:
        """Where the lines begin that a group of `taps` asks for, as one of a tap of the outer axis."""
        if not self.streams:
            return None
        fn = self.fn
        line = fn.add(fn.mul(tap, self.share), fn.mul(group, self._iterations(taps)))
        return fn.element(self.start, fn.mul(line, CACHE_LINE), "i8")

    def ask(self, iteration: Value, source: Value, ahead: Value | None) -> None:
        """The share of one iteration over the depth; the tile's own input is at `source`."""
        fn = self.fn
        if self.rows:
            rows = fn.element(source, self.part.size * self.of.inner.step, self.of.unit.element)
            first = fn.element(rows, fn.mul(iteration, self.rows * CACHE_LINE), "i8")
            for line in range(self.rows):
                fn.prefetch(fn.element(first, line * CACHE_LINE, "i8"), 3)
        if ahead is not None:
            first = fn.element(ahead, fn.mul(iteration, CACHE_LINE), "i8")
            for stream in self.streams:
                fn.prefetch(fn.element(first, stream * CACHE_LINE, "i8"), 2)
