"""Convolution of bytes in two dimensions, channels-last and exact in 32 bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gcomp.op import Operator
from gcomp.ops.integer import ConvInteger
from gcomp.ops.window import numbers
from gcomp.types import Array

from ..emit import Value, vector
from ..problem import Emitted, Epilogue, Problem, View
from . import blocks
from .dots import Dots, corrections, dots_for, is_signed_matrix, zero_of
from .frame import Frame, has_elements
from .schedule import choose, lanes_of
from .staging import copy_numbers, fill
from .tile import Contraction, Weights
from .windows import axes_of, channels_in_memory, is_channels_last, outer_and_inner

ANCHORS: tuple[type[Operator], ...] = (ConvInteger,)


def match(problem: Problem) -> Emitted | None:
    """A kernel for ConvInteger with constant filters of i8 without zero points.

    Groups must divide evenly into vectors of results and elements of the input.
    """
    op, x, w, dots = problem.anchor, problem.view(0), problem.view(1), dots_for(problem.cpu)
    if not isinstance(op, ConvInteger) or dots is None or x is None:
        return None
    if w is None or w.array is None or not is_signed_matrix(w, 4):
        return None
    out, zero, lanes = problem.results[0], zero_of(problem, 2), lanes_of(problem.cpu)
    if zero is None or zero_of(problem, 3) != 0 or not has_elements(out) or 0 in w.array.shape:
        return None
    if not is_channels_last(x, dots.together) or not is_channels_last(out, lanes):
        return None
    filters, depth = w.array.shape[:2]
    if op.group > 1 and (filters // op.group % lanes or depth % dots.together):
        return None
    return _Convolution(problem, op, x, w.array, zero, dots).emit()


class _Convolution:
    """The convolution of one problem.

    Images are read in place where they are stored as products need them; taps in the padding are left out,
    if zero is stored as 0. Others are copied with the zero point around them.
    """

    def __init__(self, problem: Problem, op: ConvInteger, x: View, w: Array, zero: int, dots: Dots) -> None:
        self.problem, self.x, self.w, self.dots = problem, x, w, dots
        self.zero = zero + dots.offset(x.type.dtype)
        self.frame = Frame(problem)
        self.fn, self.lanes = self.frame.fn, lanes_of(problem.cpu)
        self.group, self.filters = op.group, w.shape[0] // op.group
        self.depth = dots.elements(w.shape[1])
        out = problem.results[0]
        self.vectors = (self.filters if op.group > 1 else channels_in_memory(out)) // self.lanes
        self.axes = axes_of(op.geometry, x.strides[1:3])
        ends = numbers(op.geometry.pads_end)
        uneven = any(stride % dots.together for stride in x.strides[:3])
        padded = any(axis.pad or end for axis, end in zip(self.axes, ends, strict=True))
        self.staged = dots.stored != x.type.dtype or uneven or (padded and self.zero != 0)
        if self.staged:
            self.pixel = channels_in_memory(x) // dots.together
            rooms = [axis.size + axis.pad + end for axis, end in zip(self.axes, ends, strict=True)]
            steps = (rooms[1] * self.pixel, self.pixel)
            self.read = [
                replace(axis, size=room, step=step, pad=0)
                for axis, room, step in zip(self.axes, rooms, steps, strict=True)
            ]
        else:
            self.read = [replace(axis, step=axis.step // dots.together) for axis in self.axes]

    def emit(self) -> Emitted:
        fn = self.fn
        x, w = self.frame.operand(0), self.frame.packed(1, self._pack)
        first = self.frame.packed(
            1, lambda: corrections(self.w, self.zero, self.group * self.vectors * self.lanes)
        )
        epilogue = self.frame.epilogue()
        height, width = self.read
        scratch = self.frame.scratch(height.size * height.step * 4) if self.staged else ""
        self.outer, self.inner, self.transposed = outer_and_inner(height, width, epilogue.mergeable(2, 3))
        self.tile = choose(
            self.problem.cpu,
            self.inner.extent,
            self.vectors,
            self.depth,
            self.outer.kernel,
            self.inner.kernel,
            self.inner.stride,
            self.inner.dilation,
            products=self.dots.products,
            in_turn=epilogue.is_short,
        )
        panel = self.depth * self.outer.kernel * self.inner.kernel * self.lanes

        def image(n: Value, _: object) -> None:
            source = fn.element(x, fn.mul(n, self.x.strides[0]), "i8")
            if self.staged:
                self._copy(source, scratch)
                source = scratch

            def group(g: Value, _: object) -> None:
                here = fn.element(source, fn.mul(g, self.depth), "i32")
                filters = fn.element(w, fn.mul(g, self.vectors * panel), "i32")
                start = fn.element(first, fn.mul(g, self.filters), "i32")
                self._contract(here, filters, panel, start, n, g, epilogue)

            fn.loop(0, self.group, 1, group)

        fn.loop(0, fn.size(self.problem.results[0].type.shape[0]), 1, image)
        return self.frame.finish("integer_conv")

    def _contract(
        self, x: Value, w: Value, panel: int, first: Value, n: Value, g: Value, epilogue: Epilogue
    ) -> None:
        """One group of filters over one image."""
        fn, lanes = self.fn, self.lanes

        def initial(_y: Value, _x: Value, rows: int, column: Value, vectors: int) -> list[Value]:
            places = [fn.element(first, fn.mul(fn.add(column, v), lanes), "i32") for v in range(vectors)]
            return [fn.load(place, vector("i32", lanes), 4) for place in places] * rows

        def store(value: Value, y: Value, x: Value, column: Value) -> None:
            places = [x, y] if self.transposed else [y, x]
            channel = fn.add(fn.mul(g, self.filters), fn.mul(column, lanes))
            known = not column.startswith("%")
            active = min(lanes, max(0, self.filters - int(column) * lanes)) if known else None
            epilogue.store(value, [n, channel, *places], 1, lanes, active)

        contraction = Contraction(
            fn,
            lanes,
            self.outer,
            self.inner,
            self.depth,
            1,
            self.vectors,
            self.filters // lanes,
            self.tile,
            x,
            Weights(w, None, panel, self.problem.cpu.vector_bytes, self.filters),
            initial,
            store,
            self.dots.unit,
        )
        blocks.emit(contraction, self.frame.scratch)

    def _copy(self, image: Value, target: Value) -> None:
        """An image in the form in which it is read, with the zero point around it."""
        fn, stored, dtype = self.fn, self.dots.stored, self.x.type.dtype
        channels = self.pixel * self.dots.together
        (high, wide), (height, width) = self.axes, self.read
        line = width.size * channels

        def around(place: Value | int, count: int) -> None:
            if count:
                at = fn.mul(place, channels * stored.bytes)
                fill(fn, fn.element(target, at, "i8"), count, self.zero, stored)

        def row(y: Value, _: object) -> None:
            start = fn.mul(fn.add(y, high.pad), width.size)
            around(start, wide.pad * channels)
            first = fn.add(start, wide.pad)
            source = fn.element(image, fn.mul(y, high.step), "i8")
            run = wide.size if wide.step == channels else 1

            def pixels(x: Value, _: object) -> None:
                there = fn.element(target, fn.mul(fn.add(first, x), self.pixel), "i32")
                here = fn.element(source, fn.mul(x, wide.step), "i8")
                copy_numbers(fn, here, there, run * channels, dtype, stored)

            fn.loop(0, wide.size, run, pixels)
            around(fn.add(first, wide.size), (width.size - wide.size - wide.pad) * channels)

        around(0, high.pad * line)
        fn.loop(0, high.size, 1, row)
        around((high.pad + high.size) * width.size, (height.size - high.size - high.pad) * line)

    def _pack(self) -> Array:
        """The filters of each group, their taps in the order of the axes."""
        w = np.swapaxes(self.w, 2, 3) if self.transposed else self.w
        groups = np.split(w, self.group)
        return np.concatenate(
            [self.dots.packed(part, self.lanes, self.vectors, self.tile) for part in groups]
        )
