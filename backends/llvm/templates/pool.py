"""Pooling over windows and whole images, channels-last: vectors run over channels."""

from __future__ import annotations

from math import prod

import numpy as np

from gcomp.op import Operator
from gcomp.ops.pool import AveragePool, GlobalAveragePool, MaxPool
from gcomp.ops.window import numbers
from gcomp.types import F32, I8, U8, DType

from ..emit import Function, Value, mangled, number, scalar, vector
from ..problem import Emitted, Problem, View
from .axis import Axis
from .frame import Frame, has_elements, is_f32
from .schedule import Run, balanced, lanes_of, pieces
from .windows import Span, axes_of, channels_in_memory, is_channels_last, over_windows, taps_of

ANCHORS: tuple[type[Operator], ...] = (MaxPool, AveragePool, GlobalAveragePool)

MOST_TAPS = 64
TOGETHER = 8
"""Vectors of channels summed at once over an image, which hides the latency of an addition."""


def match(problem: Problem) -> Emitted | None:
    """A kernel for a pool of channels-last f32 into that layout, GlobalAveragePool also into row-major.

    A MaxPool may also be of bytes.
    """
    op, x, out = problem.anchor, problem.view(0), problem.results[0]
    lanes = lanes_of(problem.cpu)
    if x is None or x.type.rank != 4 or not is_channels_last(x, lanes):
        return None
    bytes = isinstance(op, MaxPool) and x.type.dtype in (U8, I8) and has_elements(out)
    if not bytes and not is_f32(x, out):
        return None
    if isinstance(op, GlobalAveragePool):
        plain = out.type.layout is None
        return _whole_images(problem, x) if plain or is_channels_last(out, lanes) else None
    if not isinstance(op, (MaxPool, AveragePool)) or x.type.layout != out.type.layout:
        return None
    if len(op.results) != 1 or prod(op.geometry.kernel) > MOST_TAPS:
        return None
    return _Windows(problem, op, x).emit()


class _Windows:
    """The pool over windows of one problem."""

    def __init__(self, problem: Problem, op: MaxPool | AveragePool, x: View) -> None:
        self.problem, self.op, self.view = problem, op, x
        self.frame = Frame(problem)
        self.fn = self.frame.fn
        self.lanes = lanes_of(problem.cpu)
        self.dtype = x.type.dtype
        self.element = scalar(self.dtype)
        self.type = vector(self.element, self.lanes)
        self.height, self.width = axes_of(op.geometry, x.strides[1:3])
        self.channels = x.type.inner_shape[0]

    def emit(self) -> Emitted:
        self.x = self.frame.operand(0)
        self.epilogue = self.frame.epilogue()
        vectors = channels_in_memory(self.problem.results[0]) // self.lanes
        images = self.fn.size(self.view.type.shape[0])
        tile = (1, max(1, min(self.width.extent, self.problem.cpu.vector_registers // 4)))
        whole = self.channels // self.lanes
        over_windows(self.fn, images, vectors, whole, self.height, self.width, tile, self._body)
        return self.frame.finish("pool")

    def _body(self, n: Value, c: Value, rows: Span, columns: Span) -> None:
        """One row of windows; overlapping ones share what they read."""
        fn, height, width = self.fn, self.height, self.width
        known: dict[tuple[int, int], Value] = {}
        base = fn.mul(n, self.view.strides[0])
        for place, step in (
            (rows.place, height.stride * height.step),
            (columns.place, width.stride * width.step),
            (c, self.lanes),
        ):
            base = fn.add(base, fn.mul(place, step))
        source = fn.element(self.x, base, self.element)
        for j in range(columns.size):
            value: Value | None = None
            for ky in taps_of(height, rows.known):
                for kx in taps_of(width, columns.known + j):
                    place = (
                        ky * height.dilation - height.pad,
                        j * width.stride + kx * width.dilation - width.pad,
                    )
                    if place not in known:
                        at = place[0] * height.step + place[1] * width.step
                        pointer = fn.element(source, at, self.element)
                        known[place] = fn.load(pointer, self.type, self.dtype.bytes)
                    value = known[place] if value is None else self._combine(value, known[place])
            value = self._leave(value, rows.known, columns.known + j)
            index = [n, fn.mul(c, self.lanes), fn.add(rows.place, 0), fn.add(columns.place, j)]
            active = (
                None if c.startswith("%") else min(self.lanes, max(0, self.channels - int(c) * self.lanes))
            )
            self.epilogue.store(value, index, 1, self.lanes, active)

    def _combine(self, a: Value, b: Value) -> Value:
        if isinstance(self.op, AveragePool):
            return self.fn.value(f"fadd {self.type} {a}, {b}")
        return greatest(self.fn, a, b, self.dtype, self.lanes)

    def _leave(self, value: Value | None, row: int, column: int) -> Value:
        """The result of a window from what its elements gave; None if it has none."""
        if not isinstance(self.op, AveragePool):
            least = float("-inf") if self.dtype == F32 else np.iinfo(self.dtype.numpy).min
            return value or self.fn.splat(number(least, self.dtype), self.element, self.lanes)
        count = self._count(self.height, 0, row) * self._count(self.width, 1, column)
        total = value or "zeroinitializer"
        divisor = self.fn.splat(number(float(count), F32), "float", self.lanes)
        return self.fn.value(f"fdiv {self.type} {total}, {divisor}")

    def _count(self, axis: Axis, which: int, place: int) -> int:
        """The elements of a window along an axis that count: those in the input, or in its padding too."""
        if not (isinstance(self.op, AveragePool) and self.op.count_include_pad):
            return len(taps_of(axis, place))
        end = numbers(self.op.geometry.pads_end)[which]
        padded = Axis(axis.extent, axis.size + axis.pad + end, 1, axis.kernel, axis.stride, axis.dilation, 0)
        return len(taps_of(padded, place))


def greatest(fn: Function, a: Value, b: Value, dtype: DType, lanes: int) -> Value:
    """The larger per lane, NaN where either is."""
    if dtype != F32:
        type = vector(scalar(dtype), lanes)
        name = f"llvm.{'s' if dtype.is_signed else 'u'}max.{mangled(scalar(dtype), lanes)}"
        return fn.call(type, name, [(type, a), (type, b)])
    type, test = vector("float", lanes), vector("i1", lanes)
    more = fn.value(f"fcmp ogt {type} {a}, {b}")
    best = fn.value(f"select {test} {more}, {type} {a}, {type} {b}")
    nan = fn.value(f"fcmp uno {type} {a}, {a}")
    return fn.value(f"select {test} {nan}, {type} {a}, {type} {best}")


def _whole_images(problem: Problem, x: View) -> Emitted:
    """The mean of each channel: a few vectors of channels at once, pixels in order."""
    frame, lanes = Frame(problem), lanes_of(problem.cpu)
    fn, type = frame.fn, vector("float", lanes)
    source, epilogue = frame.operand(0), frame.epilogue()
    channels, height, width = x.type.inner_shape
    out = problem.results[0]
    room = channels if out.type.layout is None else channels_in_memory(out)
    vectors, whole = pieces(room, lanes), channels // lanes
    divisor = fn.splat(number(float(height * width), F32), "float", lanes)

    def sums(n: Value, c: Value, size: int) -> None:
        start = fn.add(fn.mul(n, x.strides[0]), fn.mul(c, lanes))

        def row(y: Value, values: list[Value]) -> list[Value]:
            def pixel(at: Value, values: list[Value]) -> list[Value]:
                place = fn.add(start, fn.add(fn.mul(y, x.strides[1]), fn.mul(at, x.strides[2])))
                base = fn.element(source, place, "float")
                loads = [fn.load(fn.element(base, v * lanes, "float"), type, 4) for v in range(size)]
                return [
                    fn.value(f"fadd {type} {value}, {load}")
                    for value, load in zip(values, loads, strict=True)
                ]

            return fn.loop(0, width, 1, pixel, [(type, value) for value in values])

        totals = fn.loop(0, height, 1, row, [(type, "zeroinitializer")] * size)
        for v, total in enumerate(totals):
            column = fn.add(c, v)
            active = None if column.startswith("%") else min(lanes, max(0, channels - int(column) * lanes))
            mean = fn.value(f"fdiv {type} {total}, {divisor}")
            epilogue.store(mean, [n, fn.mul(column, lanes), "0", "0"], 1, lanes, active)

    def image(n: Value, _: object) -> None:
        full = balanced(whole, TOGETHER) if whole else []
        for run in [*full, *(Run(v, 1, 1) for v in range(whole, vectors))]:
            fn.loop(run.start, run.stop, run.size, lambda c, _, run=run: sums(n, c, run.size))

    fn.loop(0, fn.size(x.type.shape[0]), 1, image)
    return frame.finish("pool")
