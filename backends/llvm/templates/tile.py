"""The kernel under matrix products and convolutions: register tiles, and the loops around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..emit import Function, Value, lane_mask, vector
from .axis import Axis, Part, parts_of
from .place import Place, place_at
from .prefetch import Prefetch, unrolled
from .schedule import UNROLLED, Run, Tile, balanced, pieces
from .unit import FLOATS, Unit

ROLLED = 8
"""Groups of taps beyond which they are a loop, where none of them may lack an input."""

CACHE = 1 << 20
"""Bytes that are taken to stay close: half of what the second level holds on most processors."""
RESIDENT_BLOCK = 1 << 15
"""Bytes of the input in a block where all weights stay close."""

Initial = Callable[[Value, Value, int, Value, int], list[Value]]
"""`(outer, row, rows, column, vectors)` to the first values of sums, row by row; `column` counts vectors."""
Store = Callable[[Value, Value, Value, Value], None]
"""`(value, outer, row, column)` puts one vector of results away."""


@dataclass(frozen=True)
class Weights:
    """Where weights lie: `step` elements from one depth to the next, `panel` from one column of vectors on.

    `step` is None where they are packed. The first `active` lanes are there; others are read only if packed.
    """

    pointer: Value
    step: int | None
    panel: int
    align: int
    active: int


@dataclass
class Contraction:
    """`out[outer, row, column] = initial + sum x[...] * weights[...]` over depth and the taps of both axes.

    `vectors` counts those of columns; `whole` of them have all lanes. A row is a place along `inner`. Packed
    weights lie as [panel][outer tap][tap group][depth][tap][column]; `next_depth` is that of what follows.
    """

    fn: Function
    lanes: int
    outer: Axis
    inner: Axis
    depth: int
    depth_step: int
    vectors: int
    whole: int
    tile: Tile
    x: Value
    weights: Weights
    initial: Initial
    store: Store
    unit: Unit = FLOATS
    next_depth: int | None = None

    def emit(self) -> None:
        """The whole loop nest: blocks of places, panels of columns, outer places, rows."""
        fn, runs = self.fn, balanced(self.inner.extent, self.tile.rows)
        block = self._block()
        if self.outer.extent > 1 or block is None:
            parts, tiles = parts_of(runs, self.inner), sum(run.count for run in runs)
            most = block or self.outer.extent
            fn.loop(
                0,
                self.outer.extent,
                most,
                lambda y, _: self._region(y, self._stop(y, most), most, parts, tiles),
            )
            return
        for run in runs:

            def one(x: Value, _: object, run: Run = run) -> None:
                stop = self._stop(x, block * run.size, run.stop)
                part = Part(x, stop, run.size, min(block, run.count), 0, None)
                self._region(0, 1, 1, [part], part.count)

            fn.loop(run.start, run.stop, block * run.size, one)

    def _stop(self, start: Value, count: int, end: int | None = None) -> Value | int:
        """The end of a block."""
        end = self.outer.extent if end is None else end
        if not start.startswith("%"):
            return min(int(start) + count, end)
        return self.fn.call("i64", "llvm.smin.i64", [("i64", self.fn.add(start, count)), ("i64", str(end))])

    def _block(self) -> int | None:
        """How many outer places, or tiles where there is only one place, make a block; None for all.

        Blocks pay where what one panel reads and writes leaves the cache before the next reads it again.
        """
        panels = pieces(self.vectors, self.tile.vectors)
        depth = self.depth * 4
        place = depth * self.inner.size * self.outer.stride
        x, out = (
            place * self.outer.extent,
            self.outer.extent * self.inner.extent * self.vectors * self.lanes * 4,
        )
        weights = depth * self.outer.kernel * self.inner.kernel * self.vectors * self.lanes
        if panels == 1 or x + out // panels <= CACHE:
            return None
        resident = weights <= CACHE // 2
        blocks = pieces(x, RESIDENT_BLOCK if resident else CACHE)
        if not resident and blocks * weights + x > panels * x + weights:
            return None
        if self.outer.extent > 1:
            return pieces(self.outer.extent, blocks)
        if not self.inner.interior(0, self.inner.extent):
            return None
        return max(4, pieces(pieces(self.inner.extent, self.tile.rows), blocks))

    def panels(self) -> list[Run]:
        """Runs of panels; those with lanes that are not there stand alone, so that their place is known."""
        runs: list[Run] = []
        for run in balanced(self.vectors, self.tile.vectors):
            full = min(run.count, max(0, (self.whole - run.start) // run.size))
            runs.append(Run(run.start, full, run.size))
            runs += [Run(run.start + i * run.size, 1, run.size) for i in range(full, run.count)]
        return [run for run in runs if run.count]

    def _region(
        self, first: Value | int, stop: Value | int, places: int, parts: Sequence[Part], tiles: int
    ) -> None:
        """All panels over some outer places, `places` at most, and parts of the rows."""
        fn = self.fn

        def panel(column: Value, _: object, vectors: int = 1) -> None:
            weights = fn.element(self.weights.pointer, fn.mul(column, self.weights.panel), self.unit.element)

            def rows(y: Value, done: list[Value]) -> list[Value]:
                place = place_at(fn, self.outer, y, first, places, tiles, done[0])
                for part in parts:
                    fn.loop(
                        part.start,
                        part.stop,
                        part.size,
                        lambda x, _, part=part: _TileBody(
                            self, place, x, part, column, vectors, weights
                        ).emit(),
                    )
                return [fn.add(done[0], place.taps(fn))]

            fn.loop(first, stop, 1, rows, [("i64", "0")])

        for run in self.panels():
            fn.loop(run.start, run.stop, run.size, lambda c, _, run=run: panel(c, None, run.size))


@dataclass
class _TileBody:
    """One register tile: accumulators, the loops over taps and depth, the stores."""

    of: Contraction
    place: Place
    x: Value
    part: Part
    column: Value
    vectors: int
    weights: Value

    def emit(self) -> None:
        of, fn, rows = self.of, self.of.fn, self.part.size
        type = vector(of.unit.sum, of.lanes)
        values = of.initial(self.place.y, self.x, rows, self.column, self.vectors)
        self.last = self._last_steps()
        self.prefetch = Prefetch(of, self.place, self.x, self.part, self.vectors, self.weights)
        values = fn.loop(
            self.place.first, self.place.stop, 1, self._outer_tap, [(type, value) for value in values]
        )
        self._finish(values)

    def _last_steps(self) -> int:
        """The steps of the depth that are left to `_finish`: none where several taps are summed."""
        of, place = self.of, self.place
        one_tap = of.inner.kernel == 1 and self.part.edge is None and (place.first, place.stop) == (0, 1)
        return min(of.tile.last, of.depth - 1) if one_tap else 0

    def _finish(self, values: list[Value]) -> None:
        """The last steps, row by row, and the stores of each row as soon as it is complete."""
        of, fn, vectors, element = self.of, self.of.fn, self.vectors, self.of.unit.element
        before, source = of.depth - self.last, self._source("0")
        x = fn.element(source, before * of.depth_step, element)
        step = of.weights.step or vectors * of.lanes
        weights = [
            [self._weight(self.weights, (before + u) * step, 0, v) for v in range(vectors)]
            for u in range(self.last)
        ]
        if self.last and before % UNROLLED == 0:  # an iteration that the loop lacks
            self.prefetch.ask(str(before // UNROLLED), source, self.prefetch.ahead("0", "0", 1))
        for row in range(self.part.size):
            sums = values[row * vectors : (row + 1) * vectors]
            place = (row * of.inner.stride - of.inner.pad) * of.inner.step
            for u in range(self.last):
                spread = self._spread(x, place + u * of.depth_step)
                sums = [
                    of.unit.multiply_add(fn, spread, w, value, of.lanes)
                    for w, value in zip(weights[u], sums, strict=True)
                ]
            for v, value in enumerate(sums):
                of.store(value, self.place.y, fn.add(self.x, row), fn.add(self.column, v))

    def _source(self, tap: Value) -> Value:
        """Where the tile's input starts for a tap of the outer axis."""
        fn, y, x = self.of.fn, self.of.outer, self.of.inner
        place = fn.add(fn.mul(self.place.y, y.stride * y.step), fn.mul(tap, y.dilation * y.step))
        place = fn.add(fn.add(place, -y.pad * y.step), fn.mul(self.x, x.stride * x.step))
        return fn.element(self.of.x, place, self.of.unit.element)

    def _outer_tap(self, tap: Value, values: list[Value]) -> list[Value]:
        of, fn, x, columns = self.of, self.of.fn, self.of.inner, self.vectors * self.of.lanes
        source = self._source(tap)
        weights = fn.element(self.weights, fn.mul(tap, x.kernel * of.depth * columns), of.unit.element)
        groups = balanced(x.kernel, of.tile.taps)
        number = 0
        for group in groups:

            def one(
                i: Value,
                values: list[Value],
                shift: Value,
                first: int,
                group: Run = group,
                before: int = number,
            ) -> list[Value]:
                """The i-th of some groups, whose first tap is `first`, `shift` elements into the row."""
                rows = fn.add(fn.mul(i, group.size * of.depth * columns), group.start * of.depth * columns)
                start = fn.element(weights, rows, of.unit.element)
                ahead = self.prefetch.ahead(tap, fn.add(i, before), group.size)
                at = fn.element(source, shift, of.unit.element)
                return self._depth(at, start, range(first, first + group.size), ahead, values)

            if group.count > ROLLED and self.part.edge is None:
                step = x.dilation * x.step
                values = fn.loop(
                    0,
                    group.count,
                    1,
                    lambda i, values, g=group, one=one, step=step: one(
                        i, values, fn.mul(fn.add(fn.mul(i, g.size), g.start), step), 0
                    ),
                    [(vector(of.unit.sum, of.lanes), value) for value in values],
                )
            else:
                for i in range(group.count):
                    values = one(str(i), values, "0", group.start + i * group.size)
            number += group.count
        return values

    def _depth(
        self, source: Value, weights: Value, taps: range, ahead: Value | None, values: list[Value]
    ) -> list[Value]:
        """The sum over the depth for some taps of one row of them."""
        of, fn = self.of, self.of.fn
        uses = self._uses(taps)
        if not uses:
            return values
        step = of.weights.step or len(taps) * self.vectors * of.lanes
        depth = of.depth - self.last
        unroll = min(unrolled(len(taps)), depth)

        def body(k: Value, values: list[Value], steps: int = unroll) -> list[Value]:
            x = fn.element(source, fn.mul(k, of.depth_step), of.unit.element)
            w = fn.element(weights, fn.mul(k, step), of.unit.element)
            iteration = fn.value(f"udiv exact i64 {k}, {unroll}") if unroll > 1 and k != "0" else k
            self.prefetch.ask(iteration, source, ahead)
            for u in range(steps):
                values = self._step(x, u * of.depth_step, w, u * step, uses, values)
            return values

        whole = depth // unroll * unroll
        values = fn.loop(0, whole, unroll, body, [(vector(of.unit.sum, of.lanes), value) for value in values])
        return body(str(whole), values, depth - whole) if whole < depth else values

    def _uses(self, taps: range) -> dict[int, list[tuple[int, int]]]:
        """Per input element, by its distance from the tile's first place: the (row, tap) that it enters."""
        axis = self.of.inner
        found: dict[int, list[tuple[int, int]]] = {}
        for row in range(self.part.size):
            for number, tap in enumerate(taps):
                if self.part.edge is None or axis.reads(self.part.edge + row, tap):
                    place = row * axis.stride + tap * axis.dilation - axis.pad
                    found.setdefault(place * axis.step, []).append((row, number))
        return dict(sorted(found.items()))

    def _step(
        self,
        x: Value,
        x_at: int,
        w: Value,
        w_at: int,
        uses: dict[int, list[tuple[int, int]]],
        values: Sequence[Value],
    ) -> list[Value]:
        """All products of one depth, each input element read once."""
        of, fn, values = self.of, self.of.fn, list(values)
        known: dict[int, list[Value]] = {}
        for offset, targets in uses.items():
            spread = self._spread(x, offset + x_at)
            for row, tap in targets:
                if tap not in known:
                    known[tap] = [self._weight(w, w_at, tap, v) for v in range(self.vectors)]
                for v in range(self.vectors):
                    at = row * self.vectors + v
                    values[at] = of.unit.multiply_add(fn, spread, known[tap][v], values[at], of.lanes)
        return values

    def _spread(self, x: Value, at: int) -> Value:
        """An element of the input in all lanes."""
        fn, unit = self.of.fn, self.of.unit
        return fn.splat(
            fn.load(fn.element(x, at, unit.element), unit.element, unit.align), unit.element, self.of.lanes
        )

    def _weight(self, w: Value, w_at: int, tap: int, v: int) -> Value:
        of, fn = self.of, self.of.fn
        pointer = fn.element(w, w_at + (tap * self.vectors + v) * of.lanes, of.unit.element)
        if of.weights.step is not None and not self.column.startswith("%"):
            active = of.weights.active - (int(self.column) + v) * of.lanes
            if active < of.lanes:
                return fn.masked_load(pointer, lane_mask(max(0, active), of.lanes), of.unit.element, of.lanes)
        return fn.load(pointer, vector(of.unit.element, of.lanes), of.weights.align)
