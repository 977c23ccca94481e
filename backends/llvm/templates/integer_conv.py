"""Convolution of bytes in two dimensions, row-major: pixels gathered in blocks, four channels together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcomp.dim import Dim
from gcomp.op import Operator
from gcomp.ops.integer import ConvInteger
from gcomp.types import I8, Array

from ..emit import Function, Value, vector
from ..problem import Emitted, Epilogue, Problem, View
from .dots import GROUP, Dots, copy_bytes, corrections, has_dots, in_groups, offset_of, tile_for, zero_of
from .frame import Frame
from .schedule import balanced, lanes_of, pieces

ANCHORS: tuple[type[Operator], ...] = (ConvInteger,)

PIXELS = 16
"""Neighbouring results that are gathered at once."""
BLOCK = 192 << 10
"""Bytes of gathered input, which all filters read, that stay in the second level of cache."""
WIDEST_STRIDE = 4


def match(problem: Problem) -> Emitted | None:
    """A kernel for ConvInteger with constant filters of i8 without zero points, not for one per channel."""
    op, x, w = problem.anchor, problem.view(0), problem.view(1)
    if not isinstance(op, ConvInteger) or not has_dots(problem.cpu) or x is None or w is None:
        return None
    out = problem.results[0].type
    if w.array is None or w.type.dtype != I8 or w.type.rank != 4 or op.geometry.strides[1] > WIDEST_STRIDE:
        return None
    if x.type.layout is not None or out.layout is not None or 0 in (*out.static_shape, *w.array.shape):
        return None
    zero = zero_of(problem, 2)
    if zero is None or zero_of(problem, 3) != 0 or (op.group > 1 and w.array.shape[1] < GROUP):
        return None
    return _Convolution(problem, op, x, w.array, zero).emit()


def _numbers(sizes: Sequence[Dim]) -> tuple[int, ...]:
    return tuple(size for size in sizes if isinstance(size, int))


def _shuffle(fn: Function, a: Value, b: Value, lanes: int, places: Sequence[int]) -> Value:
    """Bytes of two vectors of `lanes`, by their places in both together."""
    type, mask = vector("i8", lanes), ", ".join(f"i32 {place}" for place in places)
    return fn.value(f"shufflevector {type} {a}, {type} {b}, <{len(places)} x i32> <{mask}>")


class _Convolution:
    """The convolution of one problem: of each image and group, a padded copy, then block by block its rows.

    A row of results ends where the next one begins, also while it is gathered: what a whole vector writes
    beyond a row is overwritten by the next row, and nobody reads what lies beyond the last one.
    """

    def __init__(self, problem: Problem, op: ConvInteger, x: View, w: Array, zero: int) -> None:
        self.problem, self.x, self.w = problem, x, w
        self.offset = offset_of(x)
        self.zero = zero + self.offset
        self.frame = Frame(problem)
        self.fn, self.lanes = self.frame.fn, lanes_of(problem.cpu)
        self.windows, self.group = op.geometry, op.group
        self.filters, self.depth = w.shape[0] // op.group, w.shape[1]
        self.images, _, self.height, self.width = problem.results[0].type.static_shape
        begin, end = _numbers(self.windows.pads_begin), _numbers(self.windows.pads_end)
        self.begin, self.sizes = begin, x.type.static_shape[2:]
        self.room = [size + a + b for size, a, b in zip(self.sizes, begin, end, strict=True)]
        self.plane = self.room[0] * self.room[1]
        self.quads = pieces(self.depth, GROUP)
        taps = self.windows.kernel[0] * self.windows.kernel[1]
        self.groups = taps * self.quads
        self.block = min(self.height, max(1, BLOCK // (self.groups * GROUP * self.width)))

    def emit(self) -> Emitted | None:
        fn = self.fn
        x, w = self.frame.operand(0), self.frame.packed(1, self._pack)
        first = self.frame.packed(1, lambda: corrections(self.w, self.zero))
        epilogue = self.frame.epilogue()
        if self.height > 1 and not epilogue.mergeable(2, 3):
            return None
        self.tile = tile_for(self.problem.cpu, self.filters, self.block * self.width, self.groups)
        self.step = pieces(self.block * self.width, self.lanes) * self.lanes * GROUP
        if self.step % 128 == 0:
            self.step += 64  # neighbouring groups would share a few cache sets
        slack = PIXELS * (self.windows.strides[1] + 1)
        copied = pieces(self.quads * GROUP * self.plane + slack, 64) * 64
        copy = self.frame.scratch(copied + self.groups * self.step + PIXELS * GROUP)
        gathered = fn.element(copy, copied, "i8")

        def one(n: Value, g: Value) -> None:
            channel = fn.mul(fn.mul(g, self.depth), self.x.strides[1])
            image = fn.element(x, fn.add(fn.mul(n, self.x.strides[0]), channel), "i8")
            self._copy(image, copy)
            filters = fn.element(w, fn.mul(g, self.filters * self.groups), "i32")
            whole = self.height // self.block * self.block

            def rows(y: Value, count: int) -> None:
                self._gather(copy, gathered, y, count)
                self._products(filters, first, gathered, n, g, y, count, epilogue)

            fn.loop(0, whole, self.block, lambda y, _: rows(y, self.block))
            if whole < self.height:
                rows(str(whole), self.height - whole)

        fn.loop(0, self.images, 1, lambda n, _: fn.loop(0, self.group, 1, lambda g, _: one(n, g)) and None)
        return self.frame.finish("integer_conv")

    def _copy(self, image: Value, copy: Value) -> None:
        """The channels of a group as u8, with the zero point around them."""
        fn = self.fn
        if any(room > size for room, size in zip(self.room, self.sizes, strict=True)):
            fill = fn.splat(str(self.zero - 256 * (self.zero > 127)), "i8", PIXELS)
            place = vector("i8", PIXELS)
            fn.loop(
                0,
                self.depth * self.plane,
                PIXELS,
                lambda at, _: fn.store(fill, fn.element(copy, at, "i8"), place),
            )

        def line(c: Value, y: Value) -> None:
            source = fn.add(fn.mul(c, self.x.strides[1]), fn.mul(y, self.x.strides[2]))
            row = fn.mul(fn.add(y, self.begin[0]), self.room[1])
            target = fn.add(fn.add(fn.mul(c, self.plane), row), self.begin[1])
            source, target = fn.element(image, source, "i8"), fn.element(copy, target, "i8")
            copy_bytes(fn, source, target, self.sizes[1], self.offset)

        fn.loop(0, self.depth, 1, lambda c, _: fn.loop(0, self.sizes[0], 1, lambda y, _: line(c, y)) and None)

    def _gather(self, copy: Value, gathered: Value, y: Value, count: int) -> None:
        """What `count` rows of results from `y` on read, as [tap][four channels][pixel][4]."""
        fn, windows = self.fn, self.windows

        def row(tap: Sequence[Value], quad: Value, local: Value) -> None:
            place = fn.add(fn.mul(fn.add(y, local), windows.strides[0]), fn.mul(tap[0], windows.dilations[0]))
            at = fn.add(fn.mul(place, self.room[1]), fn.mul(tap[1], windows.dilations[1]))
            source = fn.element(copy, fn.add(fn.mul(quad, GROUP * self.plane), at), "i8")
            group = fn.add(fn.mul(fn.add(fn.mul(tap[0], windows.kernel[1]), tap[1]), self.quads), quad)
            start = fn.add(fn.mul(group, self.step), fn.mul(local, self.width * GROUP))
            target = fn.element(gathered, start, "i8")
            fn.loop(0, self.width, PIXELS, lambda x, _: self._interleave(source, target, x))

        def tap(ky: Value, kx: Value) -> None:
            fn.loop(
                0,
                self.quads,
                1,
                lambda quad, _: fn.loop(0, count, 1, lambda at, _: row((ky, kx), quad, at)) and None,
            )

        high, wide = windows.kernel
        fn.loop(0, high, 1, lambda ky, _: fn.loop(0, wide, 1, lambda kx, _: tap(ky, kx)) and None)

    def _interleave(self, source: Value, target: Value, x: Value) -> None:
        """`PIXELS` results' inputs from four channels, the bytes of a pixel side by side."""
        fn, stride = self.fn, self.windows.strides[1]
        room = PIXELS * stride
        channels = [
            fn.load(fn.element(source, fn.add(c * self.plane, fn.mul(x, stride)), "i8"), vector("i8", room))
            for c in range(GROUP)
        ]
        alternately = [place for i in range(room) for place in (i, room + i)]
        first, second = (_shuffle(fn, a, b, room, alternately) for a, b in (channels[:2], channels[2:]))
        places = [
            part + place
            for pixel in range(0, room, stride)
            for part in (0, 2 * room)
            for place in (2 * pixel, 2 * pixel + 1)
        ]
        value = _shuffle(fn, first, second, 2 * room, places)
        fn.store(value, fn.element(target, fn.mul(x, GROUP), "i8"), vector("i8", PIXELS * GROUP))

    def _products(
        self,
        w: Value,
        first: Value,
        gathered: Value,
        n: Value,
        g: Value,
        y: Value,
        count: int,
        epilogue: Epilogue,
    ) -> None:
        """The results of gathered rows, of one group of filters."""
        fn, base = self.fn, self.fn.mul(y, self.width)

        def scalar(row: Value, r: int, rows: int, group: Value) -> Value:
            within = fn.add(fn.mul(group, rows), r)
            return fn.element(w, fn.add(fn.mul(row, self.groups), within), "i32")

        def wide(column: Value, v: int, _: int, group: Value) -> Value:
            pixels = fn.mul(fn.add(column, v), self.lanes * GROUP)
            return fn.element(gathered, fn.add(fn.mul(group, self.step), pixels), "i8")

        def channel(row: Value) -> Value:
            return fn.add(fn.mul(g, self.filters), row)

        def initial(row: Value, _column: Value, _v: int) -> Value:
            return fn.splat(fn.load(fn.element(first, channel(row), "i32"), "i32"), "i32", self.lanes)

        def store(value: Value, row: Value, column: Value, active: int) -> None:
            pixel = fn.add(base, fn.mul(column, self.lanes))
            epilogue.store(value, [n, channel(row), "0", pixel], 3, self.lanes, active)

        size = (self.filters, count * self.width, self.groups)
        Dots(fn, self.problem.cpu, *size, self.tile, scalar, wide, "scalar", initial, store).emit()

    def _pack(self) -> Array:
        """The filters as [group][tile of filters][tap][four channels][filter][4]."""
        parts: list[Array] = []
        for filters in np.split(self.w, self.group):
            taps = filters.transpose(0, 2, 3, 1).reshape(-1, self.depth)
            grouped = in_groups(taps).reshape(self.filters, self.groups, GROUP)
            for run in balanced(self.filters, self.tile.rows):
                for start in range(run.start, run.stop, run.size):
                    parts.append(grouped[start : start + run.size].transpose(1, 0, 2).ravel())
        return np.concatenate(parts)
