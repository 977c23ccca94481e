"""One place of the outer axis: which of its taps lie in the input, and what its block did before it."""

from __future__ import annotations

from dataclasses import dataclass

from ..emit import Function, Value
from .axis import Axis


@dataclass(frozen=True)
class Place:
    """A place `y` of a block of `places`, of which `number`, and `done` taps, came before.

    Taps from `first` to `stop` lie in the input. `tiles` is the number of tiles in each place.
    """

    y: Value
    number: Value
    places: int
    tiles: int
    first: Value | int
    stop: Value | int
    done: Value

    def taps(self, fn: Function) -> Value:
        """The number of taps that are multiplied."""
        return fn.add(self.stop, fn.mul(self.first, -1))


def place_at(
    fn: Function, axis: Axis, y: Value, start: Value | int, places: int, tiles: int, done: Value
) -> Place:
    """The place `y` of the block that begins at `start`."""
    number = fn.add(y, fn.mul(start, -1))
    if axis.interior(0, axis.extent):
        return Place(y, number, places, tiles, 0, axis.kernel, done)
    before = fn.value(f"sub i64 {axis.pad}, {fn.mul(y, axis.stride)}")
    first, stop = (_taps_below(fn, axis, distance) for distance in (before, fn.add(before, axis.size)))
    return Place(y, number, places, tiles, first, stop, done)


def _taps_below(fn: Function, axis: Axis, distance: Value) -> Value:
    """How many taps lie before `distance`: none if that is negative."""
    distance = fn.call("i64", "llvm.smax.i64", [("i64", distance), ("i64", "0")])
    if axis.dilation > 1:
        distance = fn.value(f"udiv i64 {fn.add(distance, axis.dilation - 1)}, {axis.dilation}")
    return fn.call("i64", "llvm.smin.i64", [("i64", distance), ("i64", str(axis.kernel))])
