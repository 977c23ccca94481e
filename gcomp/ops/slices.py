"""Parts of a tensor by ranges of its axes: Slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..dim import Dim, ceildiv, minimum
from ..ir import Op, Value
from ..kernel import Checked, Expr, Kernel, Tensor, as_index
from ..op import Operator, argument, constant, known_content, operator
from ..types import F32, I8, Array, TensorType
from .elementwise import Content
from .index import axes_of, check_lists, integer
from .superseded import Superseded

FAR = 10**9  # from here on a bound of a symbolic axis means its end, for no axis is longer


@operator(onnx="Slice", since=10)
class Slice(Operator):
    """`data[starts:ends:steps]` along `axes`, with numpy's meaning of negative bounds and steps.

    A symbolic bound is taken to lie within its axis, and a symbolic axis to have an element; that is checked
    when the element is read.
    """

    data: Value
    starts: Value
    ends: Value
    axes: Value | None = None
    steps: Value | None = None

    def infer(self) -> TensorType:
        check_lists(self, starts=self.starts, ends=self.ends, axes=self.axes, steps=self.steps)
        data = self.data.type
        shape = list(data.shape)
        for axis, (_, size, _) in self.ranges.items():
            shape[axis] = size
        return TensorType(data.dtype, tuple(shape))

    @property
    def ranges(self) -> dict[int, tuple[Dim, Dim, int]]:
        """Per sliced axis its first index, the number of elements, and the step. Raises `InferenceError`."""
        starts, ends = known_content(self.starts), known_content(self.ends)
        axes = None if self.axes is None else known_content(self.axes)
        steps = None if self.steps is None else known_content(self.steps)
        if (
            starts is None
            or ends is None
            or (self.axes is not None and axes is None)
            or (self.steps is not None and steps is None)
        ):
            self.fail(
                "bounds, axes and steps that are known when compiling",
                starts=self.starts,
                ends=self.ends,
                axes=self.axes,
                steps=self.steps,
            )
        axes = axes_of(self, axes if axes is not None else range(len(starts)), self.data.type.rank)
        steps = steps if steps is not None else (1,) * len(starts)
        if not len(starts) == len(ends) == len(axes) == len(steps):
            self.fail("as many ends, axes and steps", starts=starts, ends=ends, axes=axes, steps=steps)
        found: dict[int, tuple[Dim, Dim, int]] = {}
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            by = integer(self, step)
            if by == 0:
                self.fail("steps other than 0", steps=steps)
            size = self.data.type.shape[axis]
            if by > 0:
                first, last = bound(start, size, 0, size), bound(end, size, 0, size)
                length = ceildiv(last - first, by)
            else:
                first, last = bound(start, size, 0, size - 1), bound(end, size, -1, size - 1)
                length = ceildiv(first - last, -by)
            found[axis] = first, max(length, 0) if isinstance(length, int) else length, by
        return found

    def reference(
        self,
        data: Array,
        starts: Array,
        ends: Array,
        axes: Array | None = None,
        steps: Array | None = None,
    ) -> Array:
        ranges = [slice(None)] * data.ndim
        for place, axis in enumerate(range(len(starts)) if axes is None else axes):
            step, end = 1 if steps is None else int(steps[place]), int(ends[place])
            size = data.shape[axis]
            # A slice of numpy can name what lies before the first element only by None.
            whole = step < 0 and end < -size
            ranges[axis] = slice(int(starts[place]), None if whole else end, step)
        return data[tuple(ranges)].copy()

    def lower(self, k: Kernel, data: Tensor, *_: Tensor | None) -> Tensor:
        ranges = self.ranges

        def element(*index: Expr) -> Expr:
            places = list(index)
            for axis, (first, length, step) in ranges.items():
                place = index[axis] * step + as_index(first)
                is_known = all(isinstance(size, int) for size in (first, length, data.shape[axis]))
                places[axis] = place if is_known else Checked(place, data.shape[axis])
            return data[tuple(places)]

        return k.compute(self.result.type, element)

    def content(self, data: Content, *_: Content) -> Content:
        if data is None or self.data.type.rank != 1:
            return None
        found = data
        for first, length, step in self.ranges.values():
            if not isinstance(first, int) or not isinstance(length, int):
                return None
            found = tuple(found[first + place * step] for place in range(length))
        return found

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(starts: Sequence[int], ends: Sequence[int], *rest: Sequence[int]) -> Operator:
            vectors = [constant(np.array(numbers, np.int64)) for numbers in (starts, ends, *rest)]
            return cls(argument(TensorType(F32, (6, 7, 5))), *vectors)

        yield of([1, 0], [4, 7], [0, 1])
        yield of([1, 2, 0], [3, 5, 5])
        yield of([-3], [2**31 - 1], [1])
        yield of([0], [-1], [-1])
        yield of([0, 1], [2**63 - 1, 100], [0, 2], [2, 3])
        yield of([-1], [-(2**63)], [1], [-1])
        yield of([5, 6], [0, 1], [0, 1], [-2, -3])
        yield of([20], [0], [0], [-1])
        yield of([4], [2], [0])
        yield of([-100], [100], [2])
        yield cls(argument(TensorType(I8, (9,)), -9, 9), constant([3]), constant([8]))


@operator(onnx="Slice")
class Slice_1(Superseded):
    """Slice with its bounds as attributes."""

    data: Value
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    axes: tuple[int, ...] | None = None

    def upgrade(self) -> Op:
        starts, ends = constant(np.array(self.starts, np.int64)), constant(np.array(self.ends, np.int64))
        axes = None if self.axes is None else constant(np.array(self.axes, np.int64))
        return Slice(self.data, starts, ends, axes)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (6, 7))), (1, -3), (4, 1000))
        yield cls(argument(TensorType(F32, (6, 7))), (1,), (-1,), (1,))


def bound(given: Dim, size: Dim, low: int, high: Dim) -> Dim:
    """A bound of a slice along an axis of this size, put into [low, high] as far as numbers are known."""
    if not isinstance(given, int):
        return given
    counted = given if given >= 0 else size + given
    if isinstance(counted, int) and isinstance(high, int):
        return min(max(counted, low), high)
    if abs(given) >= FAR:
        return high if given > 0 else low
    return minimum(counted, high) if isinstance(counted, int) and counted > 1 else counted
