"""Products with constant weights as rows of inputs times a matrix: where the inputs of each row lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from gcomp.dim import Dim
from gcomp.ops.convolution import Conv
from gcomp.ops.linear import Gemm
from gcomp.types import Array
from gcomp.weights import matrices

from ..problem import Problem, View
from .axis import Axis
from .frame import is_f32
from .schedule import lanes_of
from .windows import axes_of, channels_in_memory, is_channels_last

MOST_TAPS = 32
"""Taps of which each row knows by a bit whether they lie in the input."""


@dataclass(frozen=True)
class Product:
    """`out[image, row, column] = bias[column] + sum x[image, row, tap, k] * matrix[column, tap * depth + k]`.

    The `depth` inputs of a tap lie side by side, `readable` of them in memory, the others being zero. `down`
    and `across` are the axes that rows run through. `columns` counts those in memory, `row_axes` are the
    logical axes of the result that rows run through, `column_axis` is that of columns. `bias` is an operand.
    """

    matrix: Array
    bias: int | None
    images: Dim
    image_step: int
    down: Axis
    across: Axis
    depth: int
    readable: int
    columns: int
    row_axes: tuple[int, ...]
    column_axis: int

    @property
    def rows(self) -> int:
        return self.down.extent * self.across.extent

    @property
    def taps(self) -> int:
        return self.down.kernel * self.across.kernel

    def steps(self) -> Array:
        """How far each tap lies from the first, in elements, as i32 [tap]."""
        return np.add.outer(
            *(np.arange(a.kernel, dtype=np.int32) * a.dilation * a.step for a in (self.down, self.across))
        ).ravel()

    def starts(self) -> Array:
        """Where the first tap of each row lies in its image, in elements, as i32 [row]."""
        return np.add.outer(
            *(
                (np.arange(a.extent, dtype=np.int32) * a.stride - a.pad) * a.step
                for a in (self.down, self.across)
            )
        ).ravel()

    @cached_property
    def is_inside(self) -> bool:
        """Whether all taps of all rows lie in the input."""
        return all(axis.interior(0, axis.extent) for axis in (self.down, self.across))

    def inside(self) -> Array:
        """Which taps of each row lie in the input, as bits of i32 [row]."""
        down, across = (
            np.array([[a.reads(place, tap) for tap in range(a.kernel)] for place in range(a.extent)])
            for a in (self.down, self.across)
        )
        both = (down[:, None, :, None] & across[None, :, None, :]).reshape(self.rows, self.taps)
        return (both << np.arange(self.taps)).sum(axis=1).astype(np.uint32).view(np.int32)


def product_of(problem: Problem) -> Product | None:
    """The anchor as a product of f32 with a constant matrix; None where it is none.

    Rows of a matrix run through memory in even steps; images and their results are channels-last, in one
    group; an addend or bias is one per column.
    """
    x, w, out = problem.view(0), problem.view(1), problem.results[0]
    if x is None or w is None or w.array is None or not is_f32(x, w, out, problem.view(2)):
        return None
    if out.type.rank < 2:
        return None
    if isinstance(problem.anchor, Conv):
        return _convolution(problem, problem.anchor, x, w.array)
    return _matrices(problem, x, w.array)


def _matrices(problem: Problem, a: View, b: Array) -> Product | None:
    op, out = problem.anchor, problem.results[0]
    if (a.type.layout or out.type.layout) is not None:
        return None
    if b.ndim != 2 or a.type.rank != out.type.rank or a.strides[-1] != 1:
        return None
    matrix, bias = matrices(op, np.ascontiguousarray(b))[0, :, 0], None
    if isinstance(op, Gemm):
        c = problem.view(2)
        if op.trans_a or (op.c is not None and c is None):
            return None
        if c is not None:
            if op.beta != 1 or c.type.static_shape[-1:] != matrix.shape[:1] or c.type.size != len(matrix):
                return None
            if c.strides[-1] != 1:
                return None
            bias = 2
        matrix = matrix * np.float32(op.alpha)
    sizes = a.type.static_shape
    axes = tuple(axis for axis in range(a.type.rank - 1) if sizes[axis] > 1)
    if any(a.strides[i] != a.strides[j] * sizes[j] for i, j in pairwise(axes)):
        return None
    rows, depth = int(np.prod(sizes[:-1])), sizes[-1]
    across = Axis(rows, rows, a.strides[axes[-1]] if axes else 0)
    return Product(
        matrix, bias, 1, 0, Axis(1, 1, 0), across, depth, depth, len(matrix), axes or (0,), out.type.rank - 1
    )


def _convolution(problem: Problem, op: Conv, x: View, w: Array) -> Product | None:
    out = problem.results[0]
    if w.ndim != 4 or op.group != 1 or (op.b is not None and problem.view(2) is None):
        return None
    if not is_channels_last(out, lanes_of(problem.cpu)) or not is_channels_last(x, 1) or x.strides[3] != 1:
        return None
    down, across = axes_of(op.geometry, x.strides[1:3])
    if down.kernel * across.kernel > MOST_TAPS:
        return None
    taps = matrices(op, np.ascontiguousarray(w))[0]
    return Product(
        taps.reshape(len(taps), -1),
        None if op.b is None else 2,
        x.type.shape[0],
        x.strides[0],
        down,
        across,
        w.shape[1],
        channels_in_memory(x),
        channels_in_memory(out),
        tuple(axis for axis, size in ((2, down.extent), (3, across.extent)) if size > 1) or (3,),
        1,
    )
