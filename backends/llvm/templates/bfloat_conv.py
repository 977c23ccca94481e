"""Convolutions of f32 with constant bf16 filters: images are rounded to pairs of channels, sums are f32."""

from __future__ import annotations

import numpy as np

from gcomp.op import Operator
from gcomp.ops.bfloat import BfloatConv
from gcomp.types import BF16, Array

from ..emit import Value
from ..problem import Emitted, Problem, View
from .bfloats import PAIRS, in_pairs, rounded_row, row_of_pairs
from .conv import Convolution
from .frame import is_f32
from .schedule import lanes_of
from .windows import is_channels_last

ANCHORS: tuple[type[Operator], ...] = (BfloatConv,)


def match(problem: Problem) -> Emitted | None:
    """A kernel for a BfloatConv of one group with constant filters between channels-last images."""
    op, x, w, out = problem.anchor, problem.view(0), problem.view(1), problem.results[0]
    if (
        problem.strict
        or not problem.cpu.multiplies_bfloats
        or not isinstance(op, BfloatConv)
        or x is None
        or w is None
    ):
        return None
    if w.array is None or w.type.dtype != BF16 or w.type.rank != 4 or op.group != 1:
        return None
    bias = problem.view(2)
    if not is_f32(x, bias, out) or (op.b is not None and bias is None) or 0 in w.type.static_shape:
        return None
    if not is_channels_last(out, lanes_of(problem.cpu)) or not is_channels_last(x, 1):
        return None
    return _Convolution(problem, op, x, w.array).emit()


class _Convolution(Convolution):
    """The convolution of one problem; an element of its depth is a pair."""

    unit = PAIRS

    def __init__(self, problem: Problem, op: BfloatConv, x: View, w: Array) -> None:
        super().__init__(problem, op, x, w)
        channels, *self.sizes = x.type.inner_shape
        self.numbers, self.depth, self.channel_step = channels, -(-channels // 2), 1
        self.source_steps, step = self.steps, row_of_pairs(channels)
        self.steps = [self.sizes[1] * step, step]

    def image(self, x: Value) -> Value:
        fn, (down, across) = self.fn, self.source_steps
        pairs = self.frame.scratch(self.sizes[0] * self.steps[0] * 4)

        def pixel(row: Value, column: Value) -> None:
            source = fn.add(fn.mul(row, down), fn.mul(column, across))
            target = fn.add(fn.mul(row, self.steps[0]), fn.mul(column, self.steps[1]))
            rounded_row(fn, fn.element(x, source, "float"), fn.element(pairs, target, "i32"), self.numbers)

        fn.loop(
            0,
            self.sizes[0],
            1,
            lambda row, _: fn.loop(0, self.sizes[1], 1, lambda column, _: pixel(row, column)) and None,
        )
        return pairs

    def filters_of(self, w: Array) -> Array:
        outputs, channels, *taps = w.shape
        last = np.moveaxis(w, 1, 3).reshape(-1, channels)
        return np.moveaxis(in_pairs(last).reshape(outputs, *taps, -1), 3, 1)
