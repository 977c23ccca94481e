"""Depthwise convolution of f32 or bytes, channels-last: one filter per channel, vectors run over channels.

Bytes are multiplied as f32, which is exact: all sums of products stay below 2 ** 24.
"""

from __future__ import annotations

from math import prod

import numpy as np

from gcomp.op import Operator
from gcomp.ops.convolution import Conv
from gcomp.ops.integer import ConvInteger
from gcomp.types import F32, Array

from ..emit import Value, lane_mask, number, scalar, vector
from ..problem import Emitted, Problem, View
from .axis import Axis
from .dots import zero_of
from .frame import Frame, has_elements, is_f32
from .schedule import lanes_of
from .unit import multiply_add
from .windows import Span, axes_of, channels_in_memory, is_channels_last, over_windows, taps_of

ANCHORS: tuple[type[Operator], ...] = (Conv, ConvInteger)

LONGEST_BODY = 640
"""Products in one tile, at most: larger filters get smaller tiles."""
MOST_TAPS = 128
"""Products in one sum. Those of bytes less their zero points are below 2 ** 16: f32 holds the sum of 255."""


def match(problem: Problem) -> Emitted | None:
    """A kernel for a channels-last Conv or ConvInteger with a constant filter for each channel."""
    op, x, w, out = problem.anchor, problem.view(0), problem.view(1), problem.results[0]
    if not isinstance(op, Conv | ConvInteger) or x is None or w is None or w.array is None:
        return None
    if w.type.rank != 4 or not has_elements(out):
        return None
    filters, depth, *kernel = w.type.static_shape
    if op.group != filters or depth != 1 or op.group == 1 or not 0 < prod(kernel) <= MOST_TAPS:
        return None
    lanes = lanes_of(problem.cpu)
    if not is_channels_last(x, lanes) or not is_channels_last(out, lanes) or x.type.layout != out.type.layout:
        return None
    if isinstance(op, ConvInteger):
        zero, of_filters = zero_of(problem, 2), zero_of(problem, 3)
        if zero is None or of_filters is None:
            return None
        return _Depthwise(problem, op, x, w.array.astype(np.float32) - of_filters, zero).emit()
    bias = problem.view(2)
    if not is_f32(x, w, bias, out) or (op.b is not None and bias is None):
        return None
    return _Depthwise(problem, op, x, w.array, 0).emit()


class _Depthwise:
    """The depthwise convolution of one problem."""

    def __init__(self, problem: Problem, op: Conv | ConvInteger, x: View, w: Array, zero: int) -> None:
        self.problem, self.x_view, self.w, self.zero = problem, x, w, zero
        self.frame = Frame(problem)
        self.fn = self.frame.fn
        self.lanes = lanes_of(problem.cpu)
        self.channels = w.shape[0]
        self.vectors = channels_in_memory(problem.results[0]) // self.lanes
        self.height, self.width = axes_of(op.geometry, x.strides[1:3])
        self.type = vector("float", self.lanes)
        self.has_bias = isinstance(op, Conv) and op.b is not None
        self.element = scalar(x.type.dtype)

    def emit(self) -> Emitted:
        frame = self.frame
        self.x = frame.operand(0)
        self.bias = frame.operand(2) if self.has_bias else None
        self.weights = frame.packed(1, self._pack)
        self.epilogue = frame.epilogue()
        images = self.fn.size(self.problem.results[0].type.shape[0])
        whole = self.channels // self.lanes
        over_windows(self.fn, images, self.vectors, whole, self.height, self.width, self._tile(), self._body)
        return frame.finish("depthwise")

    def _pack(self) -> Array:
        """[vector of channels][tap][channel], padded with zeros."""
        taps = self.w.reshape(self.channels, -1)
        padded = np.zeros((self.vectors * self.lanes, taps.shape[1]), np.float32)
        padded[: self.channels] = taps
        return np.ascontiguousarray(padded.reshape(self.vectors, self.lanes, -1).transpose(0, 2, 1))

    def _tile(self) -> tuple[int, int]:
        """Rows and columns of results in registers, beside the weights if those leave room for four."""
        taps = self.height.kernel * self.width.kernel
        room = self.problem.cpu.vector_registers - 2
        if room - taps >= 4:
            room -= taps
        room = max(1, min(room - 1, 12, LONGEST_BODY // taps))
        columns = min(room, self.width.extent, 4 if room >= 8 and self.height.extent > 1 else room)
        return max(1, min(room // columns, self.height.extent)), columns

    def _body(self, n: Value, c: Value, rows: Span, columns: Span) -> None:
        """One tile: each input element is read once and enters all results that it is a tap of."""
        fn, lanes, height, width = self.fn, self.lanes, self.height, self.width
        weights = fn.element(self.weights, fn.mul(c, height.kernel * width.kernel * lanes), "float")
        known: dict[int, Value] = {}
        start = self._bias(fn.mul(c, lanes), c)
        values = {(i, j): start for i in range(rows.size) for j in range(columns.size)}
        uses = self._uses(rows, columns)
        base = fn.mul(n, self.x_view.strides[0])
        for place, step in (
            (rows.place, height.stride * height.step),
            (columns.place, width.stride * width.step),
            (c, lanes),
        ):
            base = fn.add(base, fn.mul(place, step))
        source = fn.element(self.x, base, self.element)
        for (down, across), targets in sorted(uses.items()):
            place = fn.element(source, down * height.step + across * width.step, self.element)
            element = self._input(place)
            for at, tap in targets:
                if tap not in known:
                    known[tap] = fn.load(fn.element(weights, tap * lanes, "float"), self.type, 4)
                values[at] = multiply_add(fn, element, known[tap], values[at], lanes)
        for (i, j), value in values.items():
            if self.x_view.type.dtype != F32:
                value = fn.value(f"fptosi {self.type} {value} to {vector('i32', lanes)}")
            index = [n, fn.mul(c, lanes), fn.add(rows.place, i), fn.add(columns.place, j)]
            self.epilogue.store(value, index, 1, lanes, self._active(c))

    def _input(self, place: Value) -> Value:
        """A vector of channels as f32, less their zero point."""
        fn, dtype = self.fn, self.x_view.type.dtype
        if dtype == F32:
            return fn.load(place, self.type, 4)
        bytes, kind = vector(self.element, self.lanes), "s" if dtype.is_signed else "u"
        value = fn.value(f"{kind}itofp {bytes} {fn.load(place, bytes)} to {self.type}")
        if not self.zero:
            return value
        zero = fn.splat(number(float(self.zero), F32), "float", self.lanes)
        return fn.value(f"fsub {self.type} {value}, {zero}")

    def _uses(self, rows: Span, columns: Span) -> dict[tuple[int, int], list[tuple[tuple[int, int], int]]]:
        """Per input element, by its distance from the tile's first place: the (result, tap) that it is in."""
        found: dict[tuple[int, int], list[tuple[tuple[int, int], int]]] = {}
        for i in range(rows.size):
            for j in range(columns.size):
                for ky in taps_of(self.height, rows.known + i):
                    for kx in taps_of(self.width, columns.known + j):
                        place = (_distance(self.height, i, ky), _distance(self.width, j, kx))
                        found.setdefault(place, []).append(((i, j), ky * self.width.kernel + kx))
        return found

    def _active(self, c: Value) -> int | None:
        """Channels of a vector that are there; the place of a vector that lacks some is known."""
        return None if c.startswith("%") else min(self.lanes, max(0, self.channels - int(c) * self.lanes))

    def _bias(self, channel: Value, c: Value) -> Value:
        if self.bias is None:
            return "zeroinitializer"
        active = self._active(c)
        if active == 0:
            return "zeroinitializer"
        place = self.fn.element(self.bias, channel, "float")
        if active is not None and active < self.lanes:
            return self.fn.masked_load(place, lane_mask(active, self.lanes), "float", self.lanes)
        return self.fn.load(place, self.type, 4)


def _distance(axis: Axis, result: int, tap: int) -> int:
    return result * axis.stride + tap * axis.dilation - axis.pad
