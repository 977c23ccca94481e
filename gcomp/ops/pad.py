"""Tensors made larger or smaller at their edges: Pad, in all its modes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import numpy as np

from ..dim import Dim
from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, as_index, literal, maximum, minimum, select
from ..lowering import python_number
from ..op import Operator, argument, constant, constant_value, known_content, operator, single
from ..types import F32, I32, Array, TensorType
from .index import all_of, axes_of, check_lists, integer
from .superseded import Superseded

MODES = ("constant", "reflect", "edge", "wrap")


@operator(onnx="Pad", since=11)
class Pad(Operator):
    """`data` with `pads` elements put before and after along `axes`; negative ones are cut off, first.

    The mode says what is put there: `constant_value`, the mirror image, the edge, or the other side.
    """

    data: Value
    pads: Value
    constant_value: Value | None = None
    axes: Value | None = None
    mode: str = "constant"

    def infer(self) -> TensorType:
        data = self.data.type
        check_lists(self, pads=self.pads, axes=self.axes)
        if self.mode not in MODES:
            self.fail(f"a mode of {', '.join(MODES)}", mode=self.mode)
        if self.constant_value is not None and (
            self.constant_value.type.dtype != data.dtype or self.constant_value.type.size != 1
        ):
            self.fail("one value of the type of data", data=self.data, constant_value=self.constant_value)
        shape = list(data.shape)
        for axis, (before, after) in enumerate(self.margins):
            size = shape[axis] + before + after
            kept = shape[axis] + min(before, 0) + min(after, 0)
            if isinstance(kept, int) and (kept < 0 or (kept == 0 and size != 0 and self.mode != "constant")):
                self.fail(f"something left of axis {axis}", data=self.data, pads=(before, after))
            shape[axis] = size
        return TensorType(data.dtype, tuple(shape))

    @property
    def margins(self) -> list[tuple[int, int]]:
        """For every axis how much is put before and after. Raises `InferenceError`."""
        pads = known_content(self.pads)
        axes = known_content(self.axes) if self.axes is not None else tuple(range(self.data.type.rank))
        if pads is None or axes is None:
            self.fail("pads and axes that are known when compiling", pads=self.pads, axes=self.axes)
        return self.margins_of(pads, axes)

    def margins_of(self, pads: Sequence[Dim], axes: Sequence[Dim]) -> list[tuple[int, int]]:
        """The same from the contents of the operands."""
        found = [(0, 0)] * self.data.type.rank
        places = axes_of(self, axes, len(found))
        if len(pads) != 2 * len(places):
            self.fail("two pads per axis", pads=tuple(pads), axes=tuple(axes))
        for place, axis in enumerate(places):
            found[axis] = integer(self, pads[place]), integer(self, pads[place + len(places)])
        return found

    def reference(
        self,
        data: Array,
        pads: Array,
        constant_value: Array | None = None,
        axes: Array | None = None,
    ) -> Array:
        margins = self.margins_of(
            [int(pad) for pad in pads], range(data.ndim) if axes is None else [int(axis) for axis in axes]
        )
        kept = data[
            tuple(
                slice(max(-before, 0), size - max(-after, 0))
                for size, (before, after) in zip(data.shape, margins, strict=True)
            )
        ]
        added = [(max(before, 0), max(after, 0)) for before, after in margins]
        if not margins:  # numpy knows nothing to pad by
            return kept.copy()
        if self.mode == "constant":
            value = data.dtype.type(0) if constant_value is None else constant_value.reshape(())
            return np.pad(kept, added, constant_values=cast(Any, value))
        return np.pad(kept, added, cast(Literal["reflect", "edge", "wrap"], self.mode))

    def lower(
        self, k: Kernel, data: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
    ) -> Tensor:
        margins = self.margins
        known = constant_value(self.constant_value)
        other = python_number(known, data.dtype) if known is not None else 0

        def element(*index: Expr) -> Expr:
            places: list[Expr] = []
            conditions: list[Expr] = []
            for i, size, (before, after) in zip(index, data.shape, margins, strict=True):
                place = i - before
                if self.mode == "constant":
                    conditions += [place >= 0] if before > 0 else []
                    conditions += [place < as_index(size)] if after > 0 else []
                elif before > 0 or after > 0:
                    cut = max(-before, 0)
                    kept = size - cut - max(-after, 0)
                    place = wrapped(self.mode, place - cut, kept) + cut
                places.append(place)
            inside = all_of(conditions)
            read = data.load(places, inside, other)
            if inside is None or value is None or known is not None:
                return read
            return select(inside, read, value[(literal(0),) * value.type.rank])

        return k.compute(self.result.type, element)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (2, 3, 5))
        pads = constant([0, 1, 2, 1, 0, 3])
        yield cls(argument(x), pads)
        yield cls(argument(x), pads, constant(1.5))
        yield cls(argument(x), pads, argument(TensorType(F32, ())))
        yield cls(argument(x), constant([0, 1, 2, 0, 0, 3]), mode="reflect")
        yield cls(argument(x), pads, mode="edge")
        yield cls(argument(x), constant([1, 1, 2, 1, 0, 3]), mode="wrap")
        yield cls(argument(x), constant([0, -1, 2, 0, 0, -3]))
        yield cls(argument(x), constant([2, 1]), None, constant([-1]), mode="edge")
        yield cls(argument(x), constant([1, 2, 1, 0]), constant(-1.0), constant([2, 0]))
        yield cls(argument(TensorType(I32, (4,)), -9, 9), constant([2, 2]), constant(7, np.int32))
        yield cls(argument(TensorType(F32, (1, 3))), constant([0, 2, 0, 2]), mode="reflect")


@operator(onnx="Pad", since=2)
class Pad_2(Superseded):
    """Pad with pads and value as attributes."""

    data: Value
    pads: tuple[int, ...]
    mode: str = "constant"
    value: float = 0.0

    def upgrade(self) -> Op:
        value = constant(single(self.value), self.data.type.dtype.numpy)
        return Pad(self.data, constant(np.array(self.pads, np.int64)), value, mode=self.mode)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (2, 3))), (0, 1, 1, 2), value=1.25)
        yield cls(argument(TensorType(F32, (2, 3))), (0, 1, 0, 2), "reflect")


def wrapped(mode: str, place: Expr, size: Dim) -> Expr:
    """The index in [0, size) that stands for `place`, which may lie outside."""
    extent = as_index(size)
    match mode:
        case "edge":
            return minimum(maximum(place, 0), extent - 1)
        case "wrap":
            return place % extent
        case _:
            period = (extent - 1) * 2
            inside = place % period
            return minimum(inside, period - inside)
