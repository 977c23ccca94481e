"""Sliding windows: how kernel sizes, strides, dilations and padding of an ONNX node resolve."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..dim import Dim, ceildiv, floordiv, maximum, minimum
from ..kernel import Expr, as_index, binary
from ..op import Operator
from ..types import Array
from .index import all_of


@dataclass(frozen=True)
class Geometry:
    """Where the windows lie, per spatial axis: `sizes` are those of the input, `extents` of the result."""

    sizes: tuple[Dim, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads_begin: tuple[Dim, ...]
    pads_end: tuple[Dim, ...]
    extents: tuple[Dim, ...]
    group: int = 1
    ceil: bool = False

    @property
    def is_padded(self) -> bool:
        """Whether any window may reach beyond the input."""
        return self.ceil or any(pad != 0 for pad in (*self.pads_begin, *self.pads_end))

    def positions(self, place: Sequence[Expr], tap: Sequence[Expr]) -> tuple[Expr, ...]:
        """The index that element `tap` of the window at `place` reads; it may lie in the padding."""
        return tuple(
            o * s + t * d - as_index(pad)
            for o, t, s, d, pad in zip(place, tap, self.strides, self.dilations, self.pads_begin, strict=True)
        )

    def inside(self, positions: Sequence[Expr]) -> Expr | None:
        """Whether the index lies in the input; None where it always does."""
        conditions: list[Expr] = []
        for position, size, begin, end in zip(
            positions, self.sizes, self.pads_begin, self.pads_end, strict=True
        ):
            if begin != 0:
                conditions.append(position >= 0)
            if end != 0 or self.ceil:
                conditions.append(position < as_index(size))
        return all_of(conditions)

    def counts(self, place: Sequence[Expr], padding: bool) -> list[Expr]:
        """Per axis: how many elements of the window at `place` lie in the input, or in it and its padding."""
        found: list[Expr] = []
        for o, size, taps, s, d, begin, end in zip(
            place,
            self.sizes,
            self.kernel,
            self.strides,
            self.dilations,
            self.pads_begin,
            self.pads_end,
            strict=True,
        ):
            low, high = (as_index(-begin), as_index(size + end)) if padding else (as_index(0), as_index(size))
            start = o * s - as_index(begin)
            first = binary("max", (low - start + (d - 1)) // d, 0)
            last = binary("min", (high - 1 - start) // d, taps - 1)
            found.append(binary("max", last - first + 1, 0))
        return found

    def views(self, x: Array, fill: float) -> Iterator[tuple[tuple[int, ...], Array]]:
        """For each element of the window, its index and the array of what all windows read there.

        `x` has the spatial axes last; beyond it, `fill` is read.
        """
        extents, begin = numbers(self.extents), numbers(self.pads_begin)
        margin: list[tuple[int, int]] = []
        for axis, out in enumerate(extents):
            reach = (out - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
            size = x.shape[axis - len(extents)]
            margin.append((begin[axis], max(0, reach - begin[axis] - size)))
        whole = [(0, 0)] * (x.ndim - len(extents))
        padded = np.pad(x, [*whole, *margin], constant_values=fill)
        for tap in itertools.product(*map(range, self.kernel)):
            starts = [t * d for t, d in zip(tap, self.dilations, strict=True)]
            slices = [
                slice(start, start + (out - 1) * stride + 1 if out else start, stride)
                for start, out, stride in zip(starts, extents, self.strides, strict=True)
            ]
            yield tap, padded[(..., *slices)]


def numbers(sizes: Sequence[Dim]) -> tuple[int, ...]:
    """The sizes of a window over an array, which are numbers."""
    return tuple(size for size in sizes if isinstance(size, int))


def geometry(
    op: Operator,
    sizes: Sequence[Dim],
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
    group: int = 1,
    ceil: bool = False,
) -> Geometry:
    """The windows of `op` over spatial axes of these sizes. Raises `InferenceError`."""
    rank = len(sizes)
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    pads = tuple(pads or (0,) * (2 * rank))
    if len(kernel) != rank or len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        op.fail(
            f"attributes for {rank} spatial axes",
            kernel=tuple(kernel),
            strides=strides,
            dilations=dilations,
            pads=pads,
        )
    if min((*kernel, *strides, *dilations), default=1) < 1 or min(pads, default=0) < 0:
        op.fail(
            "positive sizes, strides and dilations, and no negative padding",
            kernel=tuple(kernel),
            strides=strides,
            dilations=dilations,
            pads=pads,
        )
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    begin: list[Dim] = list(pads[:rank])
    end: list[Dim] = list(pads[rank:])
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        for axis, size in enumerate(sizes):
            out = ceildiv(size, strides[axis])
            total = (out - 1) * strides[axis] + reach[axis] - size
            total = maximum(total, 0)
            begin[axis] = floordiv(total + (auto_pad == "SAME_LOWER"), 2)
            end[axis] = total - begin[axis]
    elif auto_pad == "VALID":
        begin, end = [0] * rank, [0] * rank
    elif auto_pad != "NOTSET":
        op.fail("auto_pad NOTSET, SAME_UPPER, SAME_LOWER or VALID", auto_pad=auto_pad)
    extents: list[Dim] = []
    for axis, size in enumerate(sizes):
        room = size + begin[axis] + end[axis] - reach[axis]
        out = floordiv(room, strides[axis]) + 1
        if ceil and auto_pad == "NOTSET":
            out = minimum(ceildiv(room, strides[axis]) + 1, ceildiv(size + begin[axis], strides[axis]))
        elif auto_pad.startswith("SAME"):
            out = ceildiv(size, strides[axis])  # the same number, told more simply where it is symbolic
        if isinstance(out, int) and out < 0:
            op.fail("a window no larger than the padded input", window=tuple(reach), input=tuple(sizes))
        extents.append(out)
    return Geometry(
        tuple(sizes), tuple(kernel), strides, dilations, tuple(begin), tuple(end), tuple(extents), group, ceil
    )
