"""Softmax, LogSoftmax and Hardmax along an axis, and their old forms over flattened tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from ..dim import Dim
from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, cast, reduce, select, unary
from ..op import Operator, argument, operator
from ..types import F16, F32, F64, FLOATS, Array, TensorType
from .elementwise import accumulator, number, one_dtype, widened
from .position import first_position
from .reduce import least, normal_axis
from .reshape import Flatten, Reshape, Shape
from .superseded import Superseded


class AlongAxis(Operator):
    """Base of functions of the rows of floats along one axis."""

    x: Value
    axis: int = -1

    def infer(self) -> TensorType:
        normal_axis(self, self.axis, self.x.type.rank)
        return TensorType(one_dtype(self, FLOATS, self.x), self.x.type.shape)

    @property
    def place(self) -> int:
        """The axis, counted from the front."""
        return normal_axis(self, self.axis, self.x.type.rank)

    @property
    def row_type(self) -> TensorType:
        """One number per row, in the type in which rows are computed."""
        type = self.x.type
        return TensorType(accumulator(type.dtype), type.shape[: self.place] + type.shape[self.place + 1 :])

    def row(self, index: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """Of which row the element at `index` is."""
        return index[: self.place] + index[self.place + 1 :]

    def along(self, row: tuple[Expr, ...], position: Expr) -> tuple[Expr, ...]:
        """The index of an element of a row."""
        return (*row[: self.place], position, *row[self.place :])

    def shifted(self, k: Kernel, x: Tensor) -> Tensor:
        """`x` less the greatest element of its row, so that no exponential overflows."""
        dtype, extent = self.row_type.dtype, [x.shape[self.place]] if x.shape else []

        def top(*row: Expr) -> Expr:
            return reduce("max", extent, lambda *r: cast(x[self.along(row, *r)], dtype), least(dtype))

        peak = k.compute(self.row_type, top if x.shape else lambda: cast(x[()], dtype))
        full = TensorType(dtype, x.shape)
        return k.compute(full, lambda *i: cast(x[i], dtype) - peak[self.row(i)])

    def row_sum(self, k: Kernel, terms: Tensor) -> Tensor:
        """The sum of each row."""
        if not terms.shape:
            return terms
        extent = [terms.shape[self.place]]
        return k.compute(
            self.row_type, lambda *row: reduce("add", extent, lambda *r: terms[self.along(row, *r)], 0.0)
        )

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape, axis in (
            (F32, (3, 37), -1),
            (F32, (2, 5, 7), 1),
            (F32, (2, 5, 7), 0),
            (F32, (4,), 0),
            (F32, (0, 3), -1),
            (F16, (3, 9), -1),
            (F64, (3, 9), 0),
        ):
            yield cls(argument(TensorType(dtype, shape), -6.0, 6.0), axis=axis)

    @property
    def flops(self) -> Dim:
        return self.x.type.size * 20


@operator(onnx="Softmax", since=13)
class Softmax(AlongAxis):
    """`exp(x) / sum(exp(x))` along `axis`."""

    tolerance = "close"

    def reference(self, x: Array) -> Array:
        if x.size == 0:
            return x
        wide = widened(x)
        terms = np.exp(wide - np.max(wide, axis=self.axis, keepdims=True)) if x.ndim else np.exp(wide - wide)
        total = np.sum(terms, axis=self.axis, keepdims=True) if x.ndim else terms
        return np.asarray(terms / total).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        shifted = self.shifted(k, x)
        terms = k.compute(shifted.type, lambda *i: unary("exp", shifted[i]))
        total = self.row_sum(k, terms)
        return k.compute(self.result.type, lambda *i: cast(terms[i] / total[self.row(i)], x.dtype))


@operator(onnx="LogSoftmax", since=13)
class LogSoftmax(AlongAxis):
    """The logarithm of the softmax along `axis`."""

    tolerance = "close"

    def reference(self, x: Array) -> Array:
        if x.size == 0:
            return x
        wide = widened(x)
        shifted = wide - np.max(wide, axis=self.axis, keepdims=True) if x.ndim else wide - wide
        total = np.sum(np.exp(shifted), axis=self.axis, keepdims=True) if x.ndim else np.exp(shifted)
        return np.asarray(shifted - np.log(total)).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        shifted = self.shifted(k, x)
        terms = k.compute(shifted.type, lambda *i: unary("exp", shifted[i]))
        total = self.row_sum(k, terms)
        log = k.compute(total.type, lambda *row: unary("log", total[row]))
        return k.compute(self.result.type, lambda *i: cast(shifted[i] - log[self.row(i)], x.dtype))


@operator(onnx="Hardmax", since=13)
class Hardmax(AlongAxis):
    """1 at the first greatest element along `axis`, 0 elsewhere."""

    def reference(self, x: Array) -> Array:
        if x.size == 0 or x.ndim == 0:
            return np.ones_like(x)
        result = np.zeros_like(x)
        np.put_along_axis(result, np.argmax(x, axis=self.axis, keepdims=True), x.dtype.type(1), self.axis)
        return result

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        dtype = x.dtype
        if not x.shape:
            return k.compute(self.result.type, lambda: number(1, dtype))
        first = first_position(k, x, self.place, "max")
        return k.compute(
            self.result.type,
            lambda *i: select(first[self.row(i)].eq(i[self.place]), number(1, dtype), number(0, dtype)),
        )


class Flattened(Superseded):
    """Base of the forms below opset 13: over the rows of the matrix into which `x` is flattened at `axis`."""

    newest: ClassVar[type[AlongAxis]]

    x: Value
    axis: int = 1

    def upgrade(self) -> Op:
        shape = self.x.type.shape
        place = normal_axis(self, self.axis, len(shape))
        wide = [axis for axis in range(place, len(shape)) if shape[axis] != 1]
        if len(wide) <= 1:
            return self.newest(self.x, axis=wide[0] if wide else -1)
        rows = self.newest(Flatten(self.x, axis=place).result, axis=1)
        return Reshape(rows.result, Shape(self.x).result)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for shape, axis in (((3, 37), 1), ((2, 3, 5), 1), ((2, 5, 1, 1), 1), ((2, 3, 5), -1), ((2, 3, 5), 0)):
            yield cls(argument(TensorType(F32, shape), -6.0, 6.0), axis=axis)


@operator(onnx="Softmax", since=1)
class Softmax_1(Flattened):
    """Softmax of a flattened matrix."""

    newest = Softmax


@operator(onnx="LogSoftmax", since=1)
class LogSoftmax_1(Flattened):
    """LogSoftmax of a flattened matrix."""

    newest = LogSoftmax


@operator(onnx="Hardmax", since=1)
class Hardmax_1(Flattened):
    """Hardmax of a flattened matrix."""

    newest = Hardmax
