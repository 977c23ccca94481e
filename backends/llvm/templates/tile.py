"""The kernel under matrix products and convolutions: register tiles, loops around them, prefetch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..emit import Function, Value, lane_mask, vector
from .axis import Axis, Part, parts_of
from .place import Place, place_at
from .schedule import UNROLLED, Run, Tile, balanced, pieces
from .unit import FLOATS, Unit

CACHE_LINE = 64
ROLLED = 8
"""Groups of taps beyond which they are a loop, where none of them may lack an input."""
STRAIGHT = 4
"""Lines prefetched ahead of a tile rather than from within its loops."""

CACHE = 1 << 20
"""Bytes that are taken to stay close: half of what the second level holds on most processors."""
NEAR = 1 << 14
"""Bytes of rows that may be fetched into the first level ahead of their tile."""
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
        self.fetch, self.per_tap, self.per_iteration = self._plan_prefetch()
        values = fn.loop(
            self.place.first, self.place.stop, 1, self._outer_tap, [(type, value) for value in values]
        )
        for row in range(rows):
            for v in range(self.vectors):
                of.store(
                    values[row * self.vectors + v], self.place.y, fn.add(self.x, row), fn.add(self.column, v)
                )

    def _plan_prefetch(self) -> tuple[Value | None, int, int]:
        """The tile's share of the next panel: where tap 0 would start, lines of a tap and of an iteration."""
        of, fn, place = self.of, self.of.fn, self.place
        if of.weights.step is not None:
            return None, 0, 0
        panel = of.outer.kernel * of.inner.kernel * of.depth * self.vectors * of.lanes
        following = panel // of.depth * (of.next_depth or of.depth)
        lines = pieces(following * 4, CACHE_LINE)
        share = pieces(lines, place.places * place.tiles)
        after = fn.element(self.weights, panel, of.unit.element)
        if share <= STRAIGHT:
            number = fn.add(fn.mul(place.number, place.tiles), self._number())
            pointer = fn.element(after, fn.mul(number, share * CACHE_LINE), "i8")
            for line in range(share):
                fn.prefetch(fn.element(pointer, line * CACHE_LINE, "i8"), 2)
            return None, 0, 0
        share = pieces(lines, place.tiles * of.outer.least_taps(place.places))
        taps = fn.add(fn.mul(place.done, place.tiles), fn.mul(self._number(), place.taps(fn)))
        taps = fn.add(taps, fn.mul(place.first, -1))
        groups = sum(run.count for run in self._groups())
        iterations = groups * pieces(of.depth, self._unroll(of.tile.taps))
        return fn.element(after, fn.mul(taps, share * CACHE_LINE), "i8"), share, pieces(share, iterations)

    def _number(self) -> Value:
        """How many tiles of this place came before."""
        fn, part = self.of.fn, self.part
        if part.count == 1:
            return str(part.number)
        distance = fn.add(self.x, fn.mul(part.start, -1))
        passed = fn.value(f"udiv exact i64 {distance}, {part.size}") if distance != "0" else "0"
        return fn.add(passed, part.number)

    def _groups(self) -> list[Run]:
        return balanced(self.of.inner.kernel, self.of.tile.taps)

    def _unroll(self, taps: int) -> int:
        return UNROLLED if taps == 1 else 1

    def _outer_tap(self, tap: Value, values: list[Value]) -> list[Value]:
        of, fn = self.of, self.of.fn
        y, x, columns = of.outer, of.inner, self.vectors * of.lanes
        place = fn.add(fn.mul(self.place.y, y.stride * y.step), fn.mul(tap, y.dilation * y.step))
        place = fn.add(fn.add(place, -y.pad * y.step), fn.mul(self.x, x.stride * x.step))
        source = fn.element(of.x, place, of.unit.element)
        weights = fn.element(self.weights, fn.mul(tap, x.kernel * of.depth * columns), of.unit.element)
        groups = self._groups()
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
                start, ahead = fn.element(weights, rows, of.unit.element), None
                if self.fetch is not None:
                    lines = pieces(of.depth, self._unroll(group.size)) * self.per_iteration
                    line = fn.add(fn.mul(tap, self.per_tap), fn.mul(fn.add(i, before), lines))
                    ahead = fn.element(self.fetch, fn.mul(line, CACHE_LINE), "i8")
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
        unroll = min(self._unroll(len(taps)), of.depth)

        def body(k: Value, values: list[Value], steps: int = unroll) -> list[Value]:
            x = fn.element(source, fn.mul(k, of.depth_step), of.unit.element)
            w = fn.element(weights, fn.mul(k, step), of.unit.element)
            iteration = fn.value(f"udiv exact i64 {k}, {unroll}") if unroll > 1 and k != "0" else k
            for start, count, level in ((following, following_lines, 3), (ahead, self.per_iteration, 2)):
                lines = fn.mul(iteration, count * CACHE_LINE)
                for line in range(count if start else 0):
                    fn.prefetch(fn.element(start or "", fn.add(lines, line * CACHE_LINE), "i8"), level)
            for u in range(steps):
                values = self._step(x, u * of.depth_step, w, u * step, uses, values)
            return values

        following_lines = self._lines_of_next_rows(unroll)
        following = (
            fn.element(source, self.part.size * of.inner.step, of.unit.element) if following_lines else None
        )
        whole = of.depth // unroll * unroll
        values = fn.loop(0, whole, unroll, body, [(vector(of.unit.sum, of.lanes), value) for value in values])
        return body(str(whole), values, of.depth - whole) if whole < of.depth else values

    def _lines_of_next_rows(self, unroll: int) -> int:
        """The lines of the next tile's input that each iteration asks for, where that follows in memory."""
        of = self.of
        plain = of.outer.kernel * of.inner.kernel == of.inner.stride == of.depth_step == 1
        size = self.part.size * of.inner.step * 4
        if not plain or size > NEAR or of.inner.extent <= self.part.size:
            return 0
        return pieces(pieces(size, CACHE_LINE), pieces(of.depth, unroll))

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
        of, fn, element, values = self.of, self.of.fn, self.of.unit.element, list(values)
        known: dict[int, list[Value]] = {}
        for offset, targets in uses.items():
            scalar = fn.load(fn.element(x, offset + x_at, element), element, of.unit.align)
            spread = fn.splat(scalar, element, of.lanes)
            for row, tap in targets:
                if tap not in known:
                    known[tap] = [self._weight(w, w_at, tap, v) for v in range(self.vectors)]
                for v in range(self.vectors):
                    at = row * self.vectors + v
                    values[at] = of.unit.multiply_add(fn, spread, known[tap][v], values[at], of.lanes)
        return values

    def _weight(self, w: Value, w_at: int, tap: int, v: int) -> Value:
        of, fn = self.of, self.of.fn
        pointer = fn.element(w, w_at + (tap * self.vectors + v) * of.lanes, of.unit.element)
        if of.weights.step is not None and not self.column.startswith("%"):
            active = of.weights.active - (int(self.column) + v) * of.lanes
            if active < of.lanes:
                return fn.masked_load(pointer, lane_mask(max(0, active), of.lanes), of.unit.element, of.lanes)
        return fn.load(pointer, vector(of.unit.element, of.lanes), of.weights.align)
