"""Reductions over axes: sums, means, extremes, products, norms and logarithms of sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from ..dim import Dim, product
from ..ir import Value
from ..kernel import (
    Expr,
    Index,
    Kernel,
    Tensor,
    as_index,
    binary,
    cast,
    reduce,
    select,
    unary,
)
from ..op import Operator, argument, constant, constant_value, known_content, operator
from ..semantics import convert
from ..types import BOOL, F16, F32, F64, FLOATS, I32, I64, NUMBERS, U8, Array, DType, TensorType
from .elementwise import accumulator, number, widened

Combine = Literal["add", "mul", "min", "max", "and", "or"]


def normal_axis(op: Operator, axis: int, rank: int) -> int:
    """`axis`, which may count from the end, in [0, rank). Raises `InferenceError`."""
    if not -max(rank, 1) <= axis < max(rank, 1):
        op.fail(f"an axis in [{-rank}, {rank})", axis=axis)
    return axis % max(rank, 1)


def known_axes(op: Operator, axes: Value | None) -> tuple[int, ...] | None:
    """The elements of an operand that holds axes, None if it is absent. Raises `InferenceError`."""
    if axes is None:
        return None
    array = constant_value(axes)
    if array is not None:
        return tuple(int(axis) for axis in array.ravel())
    content = known_content(axes) or ()
    known = tuple(axis for axis in content if isinstance(axis, int))
    if not known or len(known) != len(content):
        op.fail("axes that are known when compiling", axes=axes)
    return known


def without_axes(index: tuple[Expr, ...], axes: tuple[int, ...], kept: bool) -> list[Expr | None]:
    """The index of an operand, None where an axis is reduced, for an `index` of the result."""
    places = iter(index)
    rank = len(index) if kept else len(index) + len(axes)
    own: list[Expr | None] = []
    for axis in range(rank):
        if axis in axes:
            own.append(None)
            if kept:
                next(places)
        else:
            own.append(next(places))
    return own


def filled(index: list[Expr | None], variables: tuple[Expr, ...]) -> tuple[Index, ...]:
    """`index` with its gaps filled in order."""
    rest = iter(variables)
    return tuple(next(rest) if i is None else i for i in index)


class Reduction(Operator):
    """Base of reductions: of the elements along `axes`, all axes if these are absent or empty.

    A subclass gives how elements `enter`, `combine`, and how the total `leaves`, and the same in numpy.
    """

    combine: ClassVar[Combine] = "add"
    dtypes: ClassVar[tuple[DType, ...]] = (*FLOATS, I32, I64)
    tolerance = "close"

    data: Value
    axes: Value | None = None
    keepdims: int = 1
    noop_with_empty_axes: int = 0

    def infer(self) -> TensorType:
        type = self.data.type
        if type.dtype not in self.dtypes:
            self.fail(f"a type among {', '.join(map(str, self.dtypes))}", data=self.data)
        reduced = self.reduced
        if self.keepdims:
            shape = tuple(1 if axis in reduced else size for axis, size in enumerate(type.shape))
        else:
            shape = tuple(size for axis, size in enumerate(type.shape) if axis not in reduced)
        return TensorType(type.dtype, shape)

    @property
    def reduced(self) -> tuple[int, ...]:
        """The axes that are reduced, ascending. Raises `InferenceError`."""
        rank = self.data.type.rank
        axes = known_axes(self, self.axes)
        if not axes:
            return () if self.noop_with_empty_axes else tuple(range(rank))
        normal = sorted({normal_axis(self, axis, rank) for axis in axes})
        return tuple(normal) if rank else ()

    @property
    def count(self) -> Dim:
        """How many elements make one of the result."""
        return product(self.data.type.shape[axis] for axis in self.reduced)

    def enter(self, x: Expr) -> Expr:
        """What is combined, of one element."""
        return x

    def leave(self, total: Expr) -> Expr:
        """The result, of the total."""
        return total

    def neutral(self, dtype: DType) -> float:
        """The total of no elements."""
        return 0.0 if dtype.is_float else 0

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        """The result with reduced axes kept as 1; floats come as f64."""
        raise NotImplementedError

    def reference(self, data: Array, axes: Array | None) -> Array:
        type = self.result.type
        value = np.asarray(self.numpy(widened(data), self.reduced))
        kept = value if self.keepdims else np.squeeze(value, self.reduced)
        return convert(kept, type.dtype)

    def lower(self, k: Kernel, data: Tensor, axes: Tensor | None) -> Tensor:
        type = self.result.type

        def element(*index: Expr) -> Expr:
            return cast(self.leave(self.total(data, index)), type.dtype)

        return k.compute(type, element)

    def total(self, data: Tensor, index: tuple[Expr, ...]) -> Expr:
        """The combination of all elements that make the one at `index` of the result."""
        own, inside = without_axes(index, self.reduced, bool(self.keepdims)), accumulator(data.dtype)
        extents = [data.shape[axis] for axis in self.reduced]
        return reduce(
            self.combine,
            extents,
            lambda *r: self.enter(cast(data[filled(own, r)], inside)),
            self.neutral(inside),
        )

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = argument(TensorType(F32, (2, 5, 33)), 0.25, 2.0)
        yield cls(x)
        yield cls(x, constant([-1]))
        yield cls(x, constant([1]), keepdims=0)
        yield cls(x, constant([0, 2]), keepdims=0)
        yield cls(x, constant(np.zeros(0, np.int64)), noop_with_empty_axes=1)
        yield cls(x, keepdims=0)
        yield cls(argument(TensorType(F32, ())))
        yield cls(argument(TensorType(F32, (0, 3))), constant([1]))
        for dtype in (F64, F16, I32, I64, U8):
            if dtype in cls.dtypes:
                yield cls(argument(TensorType(dtype, (3, 9)), 0.5, 3.0), constant([1]))

    @property
    def flops(self) -> Dim:
        return self.data.type.size


@operator(onnx="ReduceSum", since=13)
class ReduceSum(Reduction):
    """The sum."""

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.sum(x, axis=axes, keepdims=True, dtype=x.dtype)


@operator(onnx="ReduceMean", since=18)
class ReduceMean(Reduction):
    """The mean; of integers, the truncated quotient."""

    def leave(self, total: Expr) -> Expr:
        count = as_number(self.count, total.dtype)
        return total / count if total.dtype.is_float else binary("truncdiv", total, count)

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        mean = average(x, axes)
        return mean if self.data.type.dtype.is_float else np.trunc(np.nan_to_num(mean, nan=0.0))


@operator(onnx="ReduceMax", since=18)
class ReduceMax(Reduction):
    """The greatest element; NaN if any is; the least number of the type if there is none."""

    combine = "max"
    dtypes = (*NUMBERS, BOOL)
    tolerance = "exact"

    def neutral(self, dtype: DType) -> float:
        return least(dtype)

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.max(x, axis=axes, keepdims=True, initial=least(self.data.type.dtype))

    def total(self, data: Tensor, index: tuple[Expr, ...]) -> Expr:
        return boolean_total(self, "or", data, index) if data.dtype == BOOL else super().total(data, index)


@operator(onnx="ReduceMin", since=18)
class ReduceMin(Reduction):
    """The least element; NaN if any is; the greatest number of the type if there is none."""

    combine = "min"
    dtypes = (*NUMBERS, BOOL)
    tolerance = "exact"

    def neutral(self, dtype: DType) -> float:
        return greatest(dtype)

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.min(x, axis=axes, keepdims=True, initial=greatest(self.data.type.dtype))

    def total(self, data: Tensor, index: tuple[Expr, ...]) -> Expr:
        return boolean_total(self, "and", data, index) if data.dtype == BOOL else super().total(data, index)


@operator(onnx="ReduceProd", since=18)
class ReduceProd(Reduction):
    """The product."""

    combine = "mul"
    tolerance = "approximate"

    def neutral(self, dtype: DType) -> float:
        return 1.0 if dtype.is_float else 1

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.prod(x, axis=axes, keepdims=True, dtype=x.dtype)


@operator(onnx="ReduceL1", since=18)
class ReduceL1(Reduction):
    """The sum of absolute values."""

    def enter(self, x: Expr) -> Expr:
        return unary("abs", x)

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.sum(abs(x), axis=axes, keepdims=True, dtype=x.dtype)


@operator(onnx="ReduceSumSquare", since=18)
class ReduceSumSquare(Reduction):
    """The sum of squares."""

    def enter(self, x: Expr) -> Expr:
        return x * x

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.sum(x * x, axis=axes, keepdims=True, dtype=x.dtype)


@operator(onnx="ReduceL2", since=18)
class ReduceL2(ReduceSumSquare):
    """The square root of the sum of squares."""

    def leave(self, total: Expr) -> Expr:
        return in_floats(total, lambda x: unary("sqrt", x))

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.sqrt(super().numpy(x, axes))


@operator(onnx="ReduceLogSum", since=18)
class ReduceLogSum(ReduceSum):
    """The logarithm of the sum."""

    def leave(self, total: Expr) -> Expr:
        return in_floats(total, lambda x: unary("log", x))

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.log(super().numpy(x, axes))


@operator(onnx="ReduceLogSumExp", since=18)
class ReduceLogSumExp(Reduction):
    """The logarithm of the sum of exponentials, shifted by the greatest element so that nothing overflows."""

    dtypes = FLOATS

    def numpy(self, x: Array, axes: tuple[int, ...]) -> Any:
        for axis in axes:
            x = np.logaddexp.reduce(x, axis=axis, keepdims=True)
        return x

    def lower(self, k: Kernel, data: Tensor, axes: Tensor | None) -> Tensor:
        type, inside = self.result.type, accumulator(data.dtype)
        extents = [data.shape[axis] for axis in self.reduced]

        def greatest_of(*index: Expr) -> Expr:
            own = without_axes(index, self.reduced, bool(self.keepdims))
            top = reduce("max", extents, lambda *r: cast(data[filled(own, r)], inside), least(inside))
            return select(unary("isinf", top), number(0, inside), top)

        shift = k.compute(TensorType(inside, type.shape), greatest_of)

        def element(*index: Expr) -> Expr:
            own = without_axes(index, self.reduced, bool(self.keepdims))
            total = reduce(
                "add",
                extents,
                lambda *r: unary("exp", cast(data[filled(own, r)], inside) - shift[index]),
                0.0,
            )
            return cast(unary("log", total) + shift[index], type.dtype)

        return k.compute(type, element)

    @property
    def flops(self) -> Dim:
        return self.data.type.size * 16


def least(dtype: DType) -> Any:
    """The least number of a type, from which a greatest element is sought."""
    if dtype == BOOL:
        return False
    return float("-inf") if dtype.is_float else int(np.iinfo(dtype.numpy).min)


def greatest(dtype: DType) -> Any:
    """The greatest number of a type, from which a least element is sought."""
    if dtype == BOOL:
        return True
    return float("inf") if dtype.is_float else int(np.iinfo(dtype.numpy).max)


def average(x: Array, axes: Sequence[int]) -> Array:
    """The mean over axes, which stay, of size 1. That of no elements is NaN; `np.mean` warns of it, too."""
    return np.asarray(
        np.sum(x, axis=tuple(axes), keepdims=True) / np.float64(np.prod([x.shape[axis] for axis in axes]))
    )


def as_number(size: Dim, dtype: DType) -> Expr:
    """A size, symbolic perhaps, as a number of `dtype`."""
    return number(size, dtype) if isinstance(size, int) else cast(as_index(size), dtype)


def in_floats(x: Expr, function: Callable[[Expr], Expr]) -> Expr:
    """`function` of a number, by way of f64 if it is an integer."""
    return function(x) if x.dtype.is_float else cast(function(cast(x, F64)), x.dtype)


def boolean_total(op: Reduction, combine: Combine, data: Tensor, index: tuple[Expr, ...]) -> Expr:
    """The conjunction or disjunction of the elements that make the one at `index` of the result."""
    own = without_axes(index, op.reduced, bool(op.keepdims))
    extents = [data.shape[axis] for axis in op.reduced]
    return reduce(combine, extents, lambda *r: data[filled(own, r)], combine == "and")
