"""Where along an axis the extreme element is: ArgMax, ArgMin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np

from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, literal, reduce, select, unary
from ..op import Operator, argument, constant, operator
from ..types import F16, F32, I32, I64, NUMBERS, U8, Array, TensorType
from .elementwise import one_dtype
from .reduce import greatest, least, normal_axis

Extreme = Literal["max", "min"]


def first_position(k: Kernel, x: Tensor, axis: int, extreme: Extreme, last: bool = False) -> Tensor:
    """Per row along `axis` the position, i64, of its first (or last) extreme element, which NaN is."""
    extent = x.shape[axis]
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    neutral = least(x.dtype) if extreme == "max" else greatest(x.dtype)

    def along(row: tuple[Expr, ...], position: Expr) -> Expr:
        return x[(*row[:axis], position, *row[axis:])]

    best = k.compute(
        TensorType(x.dtype, rows), lambda *row: reduce(extreme, [extent], lambda *r: along(row, *r), neutral)
    )

    def position(*row: Expr) -> Expr:
        def candidate(r: Expr) -> Expr:
            value = along(row, r)
            hit = value.eq(best[row])
            hit = hit | unary("isnan", value) if x.dtype.is_float else hit
            return select(hit, r, literal(-1 if last else 2**62))

        return reduce("max" if last else "min", [extent], candidate, -1 if last else 2**62)

    return k.compute(TensorType(I64, rows), position)


class ArgExtreme(Operator):
    """Base of the positions of extreme elements along `axis`."""

    extreme: ClassVar[Extreme]

    x: Value
    axis: int = 0
    keepdims: int = 1
    select_last_index: int = 0

    def infer(self) -> TensorType:
        one_dtype(self, NUMBERS, self.x)
        shape, axis = self.x.type.shape, self.place
        if self.x.type.rank == 0 or shape[axis] == 0:
            self.fail("an axis of one element or more", x=self.x, axis=self.axis)
        return TensorType(I64, (*shape[:axis], *((1,) if self.keepdims else ()), *shape[axis + 1 :]))

    @property
    def place(self) -> int:
        """The axis, counted from the front."""
        return normal_axis(self, self.axis, self.x.type.rank)

    def reference(self, x: Array) -> Array:
        find = np.argmax if self.extreme == "max" else np.argmin
        if not self.select_last_index:
            return np.asarray(find(x, axis=self.axis, keepdims=bool(self.keepdims)), np.int64)
        found = find(np.flip(x, self.axis), axis=self.axis, keepdims=bool(self.keepdims))
        return np.asarray(x.shape[self.axis] - 1 - found, np.int64)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        axis = self.place
        found = first_position(k, x, axis, self.extreme, bool(self.select_last_index))
        if not self.keepdims:
            return found
        return k.compute(self.result.type, lambda *i: found[(*i[:axis], *i[axis + 1 :])])

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape, axis, keepdims in (
            (F32, (3, 37), -1, 1),
            (F32, (2, 5, 7), 1, 0),
            (F32, (9,), 0, 0),
            (F32, (0, 3), 1, 1),
            (F16, (3, 9), 0, 1),
            (I32, (3, 9), 1, 1),
            (U8, (3, 9), 1, 0),
        ):
            for last in (0, 1):
                yield cls(argument(TensorType(dtype, shape), -3.0, 3.0), axis, keepdims, last)
        special = np.array([[1.0, np.nan, 3.0, np.nan], [2.0, -1.0, 2.0, -1.0]], np.float32)
        for last in (0, 1):
            yield cls(constant(special), 1, 1, last)


@operator(onnx="ArgMax", since=1)
class ArgMax(ArgExtreme):
    """The position of the first, or last, greatest element."""

    extreme = "max"


@operator(onnx="ArgMin", since=1)
class ArgMin(ArgExtreme):
    """The position of the first, or last, least element."""

    extreme = "min"
