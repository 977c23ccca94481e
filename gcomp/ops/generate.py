"""Tensors made from few numbers: ConstantOfShape, Range, OneHot, EyeLike."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..dim import Dim, ceildiv
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, as_index, cast, literal, select
from ..lowering import python_number
from ..op import Operator, argument, constant, constant_value, known_content, operator
from ..semantics import convert
from ..types import (
    F32,
    F64,
    I16,
    I32,
    I64,
    U8,
    Array,
    DType,
    TensorType,
    dtype_of,
)
from .elementwise import Content
from .index import axis_of, check_lists, integer

SMALL = 64  # the most elements whose content is followed


@operator(onnx="ConstantOfShape", since=9)
class ConstantOfShape(Operator):
    """A tensor of the shape `x` holds, filled with the element of `value`; by default f32 zero."""

    x: Value
    value: Array | None = None

    def infer(self) -> TensorType:
        check_lists(self, x=self.x)
        shape = known_content(self.x)
        if shape is None:
            self.fail("a shape that is known when compiling", x=self.x)
        if self.fill.size != 1 or any(isinstance(size, int) and size < 0 for size in shape):
            self.fail("one element as value, and no negative size", shape=shape)
        return TensorType(dtype_of(self.fill), shape)

    @property
    def fill(self) -> Array:
        """The array of the one element."""
        return self.value if self.value is not None else np.zeros(1, np.float32)

    def reference(self, x: Array) -> Array:
        return np.full(tuple(x), self.fill.reshape(()), self.fill.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        type = self.result.type
        number = python_number(self.fill, type.dtype)
        return k.compute(type, lambda *_: literal(number, type.dtype))

    def content(self, x: Content) -> Content:
        size = self.result.type.size
        if not self.result.type.dtype.is_integer or not isinstance(size, int) or size > SMALL:
            return None
        return (int(self.fill.reshape(())),) * size

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(constant([2, 3]))
        yield cls(constant([4]), np.array([7], np.int64))
        yield cls(constant([2, 0]), np.array([1.5], np.float32))
        yield cls(constant(np.zeros(0, np.int64)), np.array([True]))


@operator(onnx="Range", since=11)
class Range(Operator):
    """The numbers from `start` by `delta` up to, but without, `limit`."""

    start: Value
    limit: Value
    delta: Value

    tolerance = "close"

    def infer(self) -> TensorType:
        dtype = self.start.type.dtype
        if dtype not in (F32, F64, I16, I32, I64) or any(
            value.type.dtype != dtype or value.type.size != 1 for value in self.inputs
        ):
            self.fail("three numbers of one type", start=self.start, limit=self.limit, delta=self.delta)
        return TensorType(dtype, (self.length,))

    @property
    def length(self) -> Dim:
        """The number of elements. Raises `InferenceError` where it is not known when compiling."""
        if self.start.type.dtype.is_integer:
            bounds = [known_content(value) for value in (self.start, self.limit, self.delta)]
            if all(bounds):
                (start,), (limit,), (delta,) = [bound for bound in bounds if bound]
                by = integer(self, delta)
                if by == 0:
                    self.fail("a delta other than 0", delta=by)
                length = ceildiv(limit - start, by) if by > 0 else ceildiv(start - limit, -by)
                return max(length, 0) if isinstance(length, int) else length
        arrays = [constant_value(value) for value in (self.start, self.limit, self.delta)]
        known = [float(array.reshape(())) for array in arrays if array is not None]
        if len(known) < 3 or known[2] == 0 or not all(map(math.isfinite, known)):
            self.fail(
                "finite bounds that are known when compiling, and a delta other than 0",
                start=self.start,
                limit=self.limit,
                delta=self.delta,
            )
        return max(int(np.ceil((known[1] - known[0]) / known[2])), 0)

    def reference(self, start: Array, limit: Array, delta: Array) -> Array:
        first, last, by = (array.reshape(()) for array in (start, limit, delta))
        length = max(int(np.ceil((float(last) - float(first)) / float(by))), 0)
        return (first + np.arange(length) * by).astype(start.dtype)

    def lower(self, k: Kernel, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        type = self.result.type

        def first(x: Tensor) -> Expr:
            return x[(literal(0),) * x.type.rank]

        def element(i: Expr) -> Expr:
            return first(start) + cast(i, type.dtype) * first(delta)

        return k.compute(type, element)

    def content(self, start: Content, limit: Content, delta: Content) -> Content:
        length = self.result.type.shape[0]
        if not start or not delta or not isinstance(length, int) or length > SMALL:
            return None
        return tuple(start[0] + delta[0] * place for place in range(length))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(start: float, limit: float, delta: float, dtype: DType) -> Operator:
            return cls(*(constant(np.array(number, dtype.numpy)) for number in (start, limit, delta)))

        yield of(0, 10, 3, I64)
        yield of(9, -2, -2, I32)
        yield of(3, 3, 1, I64)
        yield of(0.5, 3.25, 0.5, F32)
        yield of(1.0, -1.0, -0.25, F64)


@operator(onnx="OneHot", since=9)
class OneHot(Operator):
    """`values[1]` where the index along the new axis is that of `indices`, else `values[0]`.

    An index in [-depth, -1] counts from the end; one out of range makes no element hot.
    """

    indices: Value
    depth: Value
    values: Value
    axis: int = -1

    def infer(self) -> TensorType:
        indices = self.indices.type
        if self.values.type.shape != (2,) or self.depth.type.size != 1:
            self.fail("two values and one depth", values=self.values, depth=self.depth)
        axis = axis_of(self, self.axis, indices.rank + 1)
        return TensorType(self.values.type.dtype, (*indices.shape[:axis], self.extent, *indices.shape[axis:]))

    @property
    def extent(self) -> Dim:
        """The size of the new axis."""
        known, array = known_content(self.depth), constant_value(self.depth)
        if known is not None:
            return known[0]
        if array is None or not np.isfinite(array.astype(np.float64)).all():
            self.fail("a finite depth that is known when compiling", depth=self.depth)
        return int(array.reshape(()))

    def reference(self, indices: Array, depth: Array, values: Array) -> Array:
        extent = int(depth.reshape(()))
        axis = self.axis % (indices.ndim + 1)
        places = np.expand_dims(convert(indices, I64), axis)
        steps = np.arange(extent).reshape(-1, *(1,) * (indices.ndim - axis))
        return values[((places == steps) | (places + extent == steps)).astype(np.int64)]

    def lower(self, k: Kernel, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        type = self.result.type
        axis = self.axis % type.rank

        def element(*index: Expr) -> Expr:
            place = cast(indices[(*index[:axis], *index[axis + 1 :])], I64)
            extent = as_index(type.shape[axis])
            hot = place.eq(index[axis]) | (place + extent).eq(index[axis])
            return select(hot, values[1], values[0])

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        pair = constant(np.array([-1.0, 2.5], np.float32))
        yield cls(argument(TensorType(I64, (3, 2)), -6, 5.99), constant(np.array(5)), pair)
        yield cls(argument(TensorType(I64, (3, 2)), -4, 3.99), constant(np.array([4])), pair, 1)
        yield cls(argument(TensorType(I64, (4,)), 0, 2.99), constant(np.array(3)), constant([0, 1]), 0)
        yield cls(
            argument(TensorType(F32, (4,)), 0, 2.99), constant(np.array(3.0, np.float32)), pair, axis=-2
        )


@operator(onnx="EyeLike", since=9)
class EyeLike(Operator):
    """Ones on the `k`-th diagonal of a matrix of the shape of `x`, zeros elsewhere."""

    x: Value
    dtype: int | None = None
    k: int = 0

    def infer(self) -> TensorType:
        if self.x.type.rank != 2:
            self.fail("a matrix", x=self.x)
        dtype = self.x.type.dtype if self.dtype is None else self.coded(self.dtype)
        return TensorType(dtype, self.x.type.shape)

    def reference(self, x: Array) -> Array:
        return np.eye(*x.shape, k=self.k).astype(self.result.type.dtype.numpy)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        type = self.result.type

        def element(i: Expr, j: Expr) -> Expr:
            return cast((i + self.k).eq(j), type.dtype)

        return k.compute(type, element)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (3, 4))))
        yield cls(argument(TensorType(I32, (4, 3)), -9, 9), F32.code, 1)
        yield cls(argument(TensorType(F32, (4, 4))), U8.code, -2)
