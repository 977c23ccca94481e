"""Bases of the element-wise operators: an operator gives its formula twice, for kernels and for numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np

from ..dim import Dim
from ..ir import Value
from ..kernel import Expr, Kernel, Literal_, Tensor, cast
from ..op import Operator, argument
from ..types import (
    BF16,
    BOOL,
    F16,
    F32,
    F64,
    FLOATS,
    I32,
    I64,
    U8,
    Array,
    DType,
    TensorType,
    broadcast_shapes,
)

Content = tuple[Dim, ...] | None


def accumulator(dtype: DType) -> DType:
    """The type in which functions and sums are computed: f32 for half precision, else `dtype` itself."""
    return F32 if dtype in (F16, BF16) else dtype


def widened(x: Any) -> Any:
    """An array of floats as f64, in which references compute; anything else unchanged."""
    return x.astype(np.float64) if x.dtype.kind in "fV" else x  # bfloat16 is of kind V


def number(value: float, dtype: DType) -> Expr:
    """A literal of `dtype`, rounded to it."""
    return Literal_(float(dtype.numpy.type(value)) if dtype.is_float else int(value), dtype)


def broadcast_type(op: Operator, dtype: DType, *operands: Value) -> TensorType:
    """`dtype` with the common shape of the operands under numpy's rule. Raises `InferenceError`."""
    try:
        return TensorType(dtype, broadcast_shapes(*(value.type.shape for value in operands)))
    except ValueError as error:
        op.fail(f"operands that broadcast ({error})", **{f"x{i}": v for i, v in enumerate(operands)})


def one_dtype(op: Operator, dtypes: tuple[DType, ...], *operands: Value) -> DType:
    """The element type that all operands share, which must be one of `dtypes`. Raises `InferenceError`."""
    dtype = operands[0].type.dtype
    if dtype not in dtypes or any(value.type.dtype != dtype for value in operands):
        names = " or ".join(map(str, dtypes))
        op.fail(f"operands of one type among {names}", **{f"x{i}": v for i, v in enumerate(operands)})
    return dtype


def paired(
    lhs: Content, rhs: Content, combine: Callable[[Dim, Dim], Dim | None], type: TensorType
) -> Content:
    """`combine` over the known elements of two operands of rank 0 or 1, a single element standing for all."""
    if lhs is None or rhs is None or type.rank > 1 or not type.is_static:
        return None
    count = type.static_shape[0] if type.rank else 1
    if len(lhs) not in (1, count) or len(rhs) not in (1, count):
        return None
    elements = [combine(lhs[i if len(lhs) > 1 else 0], rhs[i if len(rhs) > 1 else 0]) for i in range(count)]
    known = tuple(element for element in elements if element is not None)
    return known if len(known) == len(elements) else None


class UnaryOperator(Operator):
    """Base of functions of each element. A subclass gives `formula` and `numpy`.

    Unless it is exact, `formula` sees half precision as f32 and `numpy` sees every float as f64.
    """

    dtypes: ClassVar[tuple[DType, ...]] = FLOATS
    low: ClassVar[float] = -4.0
    high: ClassVar[float] = 4.0

    x: Value

    def infer(self) -> TensorType:
        return TensorType(self.result_dtype(one_dtype(self, self.dtypes, self.x)), self.x.type.shape)

    def result_dtype(self, dtype: DType) -> DType:
        """The result's element type for operands of `dtype`."""
        return dtype

    def formula(self, x: Expr) -> Expr:
        """The value of one element."""
        raise NotImplementedError

    def numpy(self, x: Any) -> Any:
        """The values of all elements."""
        raise NotImplementedError

    def reference(self, x: Array) -> Array:
        value = self.numpy(x if self.tolerance == "exact" else widened(x))
        return np.asarray(value).astype(self.result.type.dtype.numpy)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        type = self.result.type
        inside = x.dtype if self.tolerance == "exact" else accumulator(x.dtype)
        return k.compute(type, lambda *i: cast(self.formula(cast(x[i], inside)), type.dtype))

    @classmethod
    def sample(cls, x: Value) -> Self:
        """The operator on one operand."""
        return cls(x)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for type in sample_types(cls.dtypes):
            yield cls.sample(argument(type, cls.low, cls.high))


class BinaryOperator(Operator):
    """Base of functions of two broadcasting operands of one type. A subclass gives `formula` and `numpy`.

    Unless it is exact, `formula` sees half precision as f32 and `numpy` sees every float as f64.
    """

    dtypes: ClassVar[tuple[DType, ...]] = FLOATS
    low: ClassVar[float] = -4.0
    high: ClassVar[float] = 4.0

    lhs: Value
    rhs: Value

    def infer(self) -> TensorType:
        dtype = self.result_dtype(one_dtype(self, self.dtypes, self.lhs, self.rhs))
        return broadcast_type(self, dtype, self.lhs, self.rhs)

    def result_dtype(self, dtype: DType) -> DType:
        """The result's element type for operands of `dtype`."""
        return dtype

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        """The value of one element."""
        raise NotImplementedError

    def numpy(self, lhs: Any, rhs: Any) -> Any:
        """The values of all elements."""
        raise NotImplementedError

    def reference(self, lhs: Array, rhs: Array) -> Array:
        if self.tolerance != "exact":
            lhs, rhs = widened(lhs), widened(rhs)
        return np.asarray(self.numpy(lhs, rhs)).astype(self.result.type.dtype.numpy)

    def lower(self, k: Kernel, lhs: Tensor, rhs: Tensor) -> Tensor:
        type = self.result.type

        def inside(x: Tensor, index: tuple[Expr, ...]) -> Expr:
            return cast(x.broadcast(index), x.dtype if self.tolerance == "exact" else accumulator(x.dtype))

        return k.compute(type, lambda *i: cast(self.formula(inside(lhs, i), inside(rhs, i)), type.dtype))

    @classmethod
    def sample(cls, lhs: Value, rhs: Value) -> Self:
        """The operator on two operands."""
        return cls(lhs, rhs)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for left, right in broadcast_samples(cls.dtypes):
            yield cls.sample(argument(left, cls.low, cls.high), argument(right, cls.low, cls.high))


def sample_types(dtypes: tuple[DType, ...]) -> Iterator[TensorType]:
    """A matrix with odd rows, a scalar and an empty tensor of the first type; a matrix of other types."""
    first = dtypes[0]
    yield TensorType(first, (3, 37))
    yield TensorType(first, ())
    yield TensorType(first, (0, 3))
    for dtype in (F32, F64, F16, I32, I64, U8, BOOL):
        if dtype in dtypes and dtype != first:
            yield TensorType(dtype, (2, 9))


def broadcast_samples(dtypes: tuple[DType, ...]) -> Iterator[tuple[TensorType, TensorType]]:
    """Pairs of types that broadcast in all the ways there are, then a pair of each other kind of type."""
    first = dtypes[0]
    for left, right in (
        ((3, 37), (3, 37)),
        ((2, 3, 5), ()),
        ((), ()),
        ((2, 1, 5), (3, 1)),
        ((5,), (4, 1)),
        ((2, 0), (1,)),
    ):
        yield TensorType(first, left), TensorType(first, right)
    for dtype in (F32, F64, F16, BF16, I32, I64, U8, BOOL):
        if dtype in dtypes and dtype != first:
            yield TensorType(dtype, (2, 9)), TensorType(dtype, (9,))


def greater(lhs: Array, rhs: Array) -> Array:
    """The greater; NaN if either is, and 0.0 of zeros of both signs in any order, as IEEE 754 has it."""
    return np.where((lhs == 0) & (rhs == 0), lhs + rhs, np.maximum(lhs, rhs))


def lesser(lhs: Array, rhs: Array) -> Array:
    """The smaller; NaN if either is, and -0.0 of zeros of both signs in any order, as IEEE 754 has it."""
    return np.where((lhs == 0) & (rhs == 0), -(-lhs - rhs), np.minimum(lhs, rhs))
