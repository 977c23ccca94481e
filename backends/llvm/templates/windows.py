"""Loops of kernels that treat each channel alone: vectors of channels, tiles of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gcomp.ops.window import Geometry, numbers
from gcomp.types import TensorType, channels_last

from ..emit import Function, Value
from ..problem import View
from .axis import Axis
from .schedule import Run, balanced


@dataclass(frozen=True)
class Span:
    """Neighbouring results along one axis: the first is `place` in code, `known` as a number.

    Where all their taps lie in the input, `known` stands for any such place.
    """

    place: Value
    known: int
    size: int


Body = Callable[[Value, Value, Span, Span], None]
"""`(image, vector of channels, rows, columns)` emits one tile."""


def is_channels_last(view: View, lanes: int) -> bool:
    """Whether vectors of `lanes` channels lie whole in memory."""
    layout = view.type.layout
    block = layout.parts[-1].tile if layout is not None else 0
    return layout is not None and layout == channels_last(view.type.rank, block) and block % lanes == 0


def channels_in_memory(view: View) -> int:
    """The channels of a channels-last tensor, padding included."""
    return TensorType(view.type.dtype, view.type.physical[-1:]).static_shape[-1]


def axes_of(geometry: Geometry, steps: Sequence[int]) -> list[Axis]:
    """The spatial axes of a geometry of known sizes; `steps` are the strides of the input in memory."""
    return [
        Axis(*values)
        for values in zip(
            numbers(geometry.extents),
            numbers(geometry.sizes),
            steps,
            geometry.kernel,
            geometry.strides,
            geometry.dilations,
            numbers(geometry.pads_begin),
            strict=True,
        )
    ]


def outer_and_inner(height: Axis, width: Axis, mergeable: bool) -> tuple[Axis, Axis, bool]:
    """The outer axis and that of register tiles, the longer where one has size 1; whether they are swapped.

    Pixels of a 1x1 convolution form one axis where memory allows, of the result if `mergeable`.
    """
    swapped = width.extent == 1 and height.extent > 1
    outer, inner = (width, height) if swapped else (height, width)
    plain = all(a.kernel == a.stride == 1 and a.extent == a.size and a.pad == 0 for a in (outer, inner))
    if plain and outer.step == inner.step * inner.size and outer.extent > 1 and mergeable:
        pixels = outer.extent * inner.extent
        return Axis(1, 1, 0), Axis(pixels, pixels, inner.step), swapped
    return outer, inner, swapped


def over_windows(
    fn: Function,
    images: Value | int,
    vectors: int,
    whole: int,
    height: Axis,
    width: Axis,
    tile: tuple[int, int],
    body: Body,
) -> None:
    """Runs `body` for each image, vector of channels and tile; channels are outside: their rows stay close.

    The first `whole` vectors have all lanes; the place of any other is a number.
    """

    def image(n: Value, _: object) -> None:
        def channels(c: Value, _: object) -> None:
            for rows in _spans(height, tile[0]):

                def down(y: Value, _: object, rows: Run = rows) -> None:
                    for columns in _spans(width, tile[1]):

                        def across(x: Value, _: object, columns: Run = columns) -> None:
                            body(n, c, Span(y, rows.start, rows.size), Span(x, columns.start, columns.size))

                        fn.loop(columns.start, columns.stop, columns.size, across)

                fn.loop(rows.start, rows.stop, rows.size, down)

        fn.loop(0, min(whole, vectors), 1, channels)
        for c in range(whole, vectors):
            channels(str(c), None)

    fn.loop(0, images, 1, image)


def _spans(axis: Axis, most: int) -> list[Run]:
    """Tiles of at most `most`: those that read all their taps in long runs, the others one by one."""
    spans: list[Run] = []
    for run in balanced(axis.extent, most):
        whole = False
        for place in range(run.start, run.stop, run.size):
            interior = axis.interior(place, run.size)
            if interior and whole:
                spans[-1] = replace(spans[-1], count=spans[-1].count + 1)
            else:
                spans.append(Run(place, 1, run.size))
            whole = interior
    return spans


def taps_of(axis: Axis, place: int) -> range:
    """The taps of the result at `place` that lie in the input."""
    inside = [tap for tap in range(axis.kernel) if axis.reads(place, tap)]
    return range(inside[0], inside[-1] + 1) if inside else range(0)
