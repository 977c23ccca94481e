"""Direct convolution of f32 in two dimensions into channels-last results; Winograd's where that is faster."""

from __future__ import annotations

import numpy as np

from gcomp.op import Operator
from gcomp.ops.convolution import Conv
from gcomp.types import Array

from ..emit import Value
from ..problem import Emitted, Epilogue, Problem, View
from . import blocks, winograd
from .axis import Axis
from .frame import Frame, is_f32
from .packing import pack
from .schedule import choose, lanes_of
from .tile import Contraction, Weights
from .unit import FLOATS
from .windows import axes_of, channels_in_memory, is_channels_last, outer_and_inner

ANCHORS: tuple[type[Operator], ...] = (Conv,)


def match(problem: Problem) -> Emitted | None:
    """A kernel for a Conv with constant filters and a channels-last result; the input may be row-major.

    Groups must divide evenly into vectors.
    """
    op, x, w, out = problem.anchor, problem.view(0), problem.view(1), problem.results[0]
    if not isinstance(op, Conv) or x is None or w is None or w.array is None or w.type.rank != 4:
        return None
    bias = problem.view(2)
    if not is_f32(x, w, bias, out) or (op.b is not None and bias is None):
        return None
    lanes = lanes_of(problem.cpu)
    if not is_channels_last(out, lanes) or not (x.type.layout is None or is_channels_last(x, 1)):
        return None
    if op.group > 1 and (w.type.static_shape[0] // op.group) % lanes:
        return None
    return winograd.match(problem, op, x, w.array) or Convolution(problem, op, x, w.array).emit()


class Convolution:
    """The convolution of one problem."""

    unit = FLOATS

    def __init__(self, problem: Problem, op: Conv, x: View, w: Array) -> None:
        self.problem, self.op, self.w = problem, op, w
        self.frame = Frame(problem)
        self.fn = self.frame.fn
        self.lanes = lanes_of(problem.cpu)
        self.group = op.group
        self.filters, self.depth = w.shape[0] // op.group, w.shape[1]
        room = self.filters if op.group > 1 else channels_in_memory(problem.results[0])
        self.vectors = room // self.lanes
        batch, channel, *space = (0, 3, 1, 2) if x.type.layout is not None else (0, 1, 2, 3)
        self.batch_step, self.channel_step = x.strides[batch], x.strides[channel]
        self.steps = [x.strides[axis] for axis in space]

    def emit(self) -> Emitted:
        x = self.frame.operand(0)
        bias = self.frame.operand(2) if self.op.b is not None else None
        w = self.frame.packed(1, self._pack)
        epilogue = self.frame.epilogue()
        height, width = axes_of(self.op.geometry, self.steps)
        outer, inner, self.transposed = outer_and_inner(height, width, epilogue.mergeable(2, 3))
        self.tile = choose(
            self.problem.cpu,
            inner.extent,
            self.vectors,
            self.depth,
            outer.kernel,
            inner.kernel,
            inner.stride,
            inner.dilation,
            self.problem.strict,
            in_turn=epilogue.is_short,
        )
        panel = self.depth * outer.kernel * inner.kernel * self.lanes

        def one(n: Value, g: Value) -> None:
            fn = self.fn
            at = fn.add(fn.mul(n, self.batch_step), fn.mul(g, self.depth * self.channel_step))
            weights = fn.element(w, fn.mul(g, self.vectors * panel), "float")
            self._image(fn.element(x, at, "float"), weights, panel, bias, n, g, outer, inner, epilogue)

        images = self.fn.size(self.problem.results[0].type.shape[0])
        self.fn.loop(
            0, images, 1, lambda n, _: self.fn.loop(0, self.group, 1, lambda g, _: one(n, g)) and None
        )
        return self.frame.finish("conv")

    def _image(
        self,
        x: Value,
        w: Value,
        panel: int,
        bias: Value | None,
        n: Value,
        g: Value,
        outer: Axis,
        inner: Axis,
        epilogue: Epilogue,
    ) -> None:
        """One group of filters over one image."""
        fn, lanes, x = self.fn, self.lanes, self.image(x)
        first = fn.mul(g, self.filters)

        def active(column: Value) -> int:
            return lanes if column.startswith("%") else min(lanes, max(0, self.filters - int(column) * lanes))

        def initial(_y: Value, _x: Value, count: int, column: Value, vectors: int) -> list[Value]:
            if bias is None:
                return ["zeroinitializer"] * (count * vectors)
            columns = [fn.add(column, v) for v in range(vectors)]
            return [
                self.frame.lanes_at(bias, fn.add(first, fn.mul(c, lanes)), active(c), lanes) for c in columns
            ] * count

        def store(value: Value, y: Value, x: Value, column: Value) -> None:
            places = [x, y] if self.transposed else [y, x]
            channel = fn.add(first, fn.mul(column, lanes))
            epilogue.store(value, [n, channel, *places], 1, lanes, active(column))

        weights = Weights(w, None, panel, self.problem.cpu.vector_bytes, self.filters)
        whole = self.filters // lanes
        contraction = Contraction(
            fn,
            lanes,
            outer,
            inner,
            self.depth,
            self.channel_step,
            self.vectors,
            whole,
            self.tile,
            x,
            weights,
            initial,
            store,
            self.unit,
        )
        blocks.emit(contraction, self.frame.scratch)

    def image(self, x: Value) -> Value:
        """One image of the input, which starts at `x`, in elements of the unit."""
        return x

    def filters_of(self, w: Array) -> Array:
        """The filters in elements of the unit."""
        return w

    def _pack(self) -> Array:
        """The filters of each group, their taps in the order of the axes."""
        w = self.filters_of(self.w)
        w = np.swapaxes(w, 2, 3) if self.transposed else w
        groups = np.split(w, self.group)
        return np.concatenate([pack(part, self.lanes, self.vectors, self.tile) for part in groups])
