"""Arithmetic of each element: sums, products, quotients, extremes, signs, roundings, roots."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce as fold
from typing import Any, ClassVar

import numpy as np

from ..dim import floordiv, maximum, minimum
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, binary, cast, select, unary
from ..op import Operator, argument, constant, operator
from ..types import (
    F32,
    FLOATS,
    I32,
    I64,
    INTEGERS,
    NUMBERS,
    Array,
    DType,
    TensorType,
)
from .elementwise import (
    BinaryOperator,
    Content,
    UnaryOperator,
    accumulator,
    broadcast_samples,
    broadcast_type,
    greater,
    lesser,
    number,
    one_dtype,
    paired,
    widened,
)


@operator(onnx="Add", since=7)
class Add(BinaryOperator):
    """`lhs + rhs`; integers wrap."""

    dtypes = NUMBERS

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return lhs + rhs

    def numpy(self, lhs: Array, rhs: Array) -> Array:
        return np.add(lhs, rhs)

    def content(self, lhs: Content, rhs: Content) -> Content:
        return paired(lhs, rhs, lambda a, b: a + b, self.result.type)


@operator(onnx="Sub", since=7)
class Sub(BinaryOperator):
    """`lhs - rhs`; integers wrap."""

    dtypes = NUMBERS

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return lhs - rhs

    def numpy(self, lhs: Array, rhs: Array) -> Array:
        return np.subtract(lhs, rhs)

    def content(self, lhs: Content, rhs: Content) -> Content:
        return paired(lhs, rhs, lambda a, b: a - b, self.result.type)


@operator(onnx="Mul", since=7)
class Mul(BinaryOperator):
    """`lhs * rhs`; integers wrap."""

    dtypes = NUMBERS

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return lhs * rhs

    def numpy(self, lhs: Array, rhs: Array) -> Array:
        return np.multiply(lhs, rhs)

    def content(self, lhs: Content, rhs: Content) -> Content:
        return paired(lhs, rhs, lambda a, b: a * b, self.result.type)


@operator(onnx="Div", since=7)
class Div(BinaryOperator):
    """`lhs / rhs`; integers truncate toward zero, by zero they yield 0."""

    dtypes = NUMBERS

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return lhs / rhs if lhs.dtype.is_float else binary("truncdiv", lhs, rhs)

    def numpy(self, lhs: Array, rhs: Array) -> Array:
        return np.divide(lhs, rhs) if self.lhs.type.dtype.is_float else truncated_quotient(lhs, rhs)

    def content(self, lhs: Content, rhs: Content) -> Content:
        # A size is not negative, so rounding down is truncation; a negative number is left unknown.
        def quotient(a: Any, b: Any) -> Any:
            if (isinstance(a, int) and a < 0) or (isinstance(b, int) and b <= 0):
                return None
            return floordiv(a, b)

        return paired(lhs, rhs, quotient, self.result.type)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for left, right in broadcast_samples(cls.dtypes):
            yield cls(argument(left, -9.0, 9.0), argument(right, 1.0, 5.0))
        for dtype in (I32, I64):
            special = np.array([np.iinfo(dtype.numpy).min, -7, 0, 7], dtype.numpy)
            yield cls(constant(special), constant(np.array([[-1], [-2], [2], [3]], dtype.numpy)))
        yield cls(argument(TensorType(I32, (5,))), constant(np.array(0, np.int32)))


@operator(onnx="Mod", since=10)
class Mod(BinaryOperator):
    """The remainder: with `fmod` it has the sign of `lhs`, else, for integers, that of `rhs`."""

    fmod: int = 0

    dtypes = NUMBERS

    def infer(self) -> TensorType:
        if self.lhs.type.dtype.is_float and not self.fmod:
            self.fail("fmod=1 for floats", lhs=self.lhs)
        return super().infer()

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return binary("rem" if self.fmod else "mod", lhs, rhs)

    def numpy(self, lhs: Array, rhs: Array) -> Array:
        if self.lhs.type.dtype.is_float:
            return np.fmod(lhs, rhs)
        safe = np.where(rhs == 0, np.ones_like(rhs), rhs)
        rest = np.fmod(lhs, safe) if self.fmod else np.mod(lhs, safe)
        return np.where(rhs == 0, np.zeros_like(rest), rest)

    @classmethod
    def sample(cls, lhs: Value, rhs: Value) -> Mod:
        return cls(lhs, rhs, fmod=int(lhs.type.dtype.is_float))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for left, right in broadcast_samples(cls.dtypes):
            yield cls.sample(argument(left, -9.0, 9.0), argument(right, 1.0, 5.0))
        dividends = argument(TensorType(I32, (4, 6)), -9.0, 9.0)
        for fmod in (0, 1):
            yield cls(dividends, constant(np.array([-3, -2, -1, 1, 2, 3], np.int32)), fmod=fmod)
        yield cls(dividends, constant(np.array(0, np.int32)))


class VariadicOperator(Operator):
    """Base of functions of one or more broadcasting operands, `combine`d from the left."""

    dtypes: ClassVar[tuple[DType, ...]] = NUMBERS

    inputs_: tuple[Value, ...]

    def infer(self) -> TensorType:
        if not self.inputs_:
            self.fail("at least one operand")
        return broadcast_type(self, one_dtype(self, self.dtypes, *self.inputs_), *self.inputs_)

    def combine(self, lhs: Any, rhs: Any) -> Any:
        """Of two arrays or two expressions."""
        raise NotImplementedError

    def formula(self, values: list[Expr]) -> Expr:
        """The value of one element, from that of each operand."""
        return fold(self.combine, values)

    def lower(self, k: Kernel, *inputs_: Tensor) -> Tensor:
        type = self.result.type
        inside = type.dtype if self.tolerance == "exact" else accumulator(type.dtype)
        return k.compute(
            type, lambda *i: cast(self.formula([cast(x.broadcast(i), inside) for x in inputs_]), type.dtype)
        )

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls((argument(TensorType(F32, (3, 5))),))
        for left, right in broadcast_samples(cls.dtypes):
            yield cls((argument(left), argument(right)))
        yield cls(tuple(argument(TensorType(F32, shape)) for shape in ((4, 1), (), (2, 1, 5))))

    @property
    def flops(self) -> Any:
        return self.result.type.size * max(len(self.inputs_) - 1, 1)


@operator(onnx="Min", since=6)
class Min(VariadicOperator):
    """The least of the operands; NaN if any is, -0.0 before 0.0."""

    def combine(self, lhs: Expr, rhs: Expr) -> Expr:
        return binary("min", lhs, rhs)

    def reference(self, *inputs_: Array) -> Array:
        return np.asarray(fold(lesser, inputs_))

    def content(self, *inputs_: Content) -> Content:
        return fold(lambda a, b: paired(a, b, minimum, self.result.type), inputs_)


@operator(onnx="Max", since=6)
class Max(VariadicOperator):
    """The greatest of the operands; NaN if any is, 0.0 before -0.0."""

    def combine(self, lhs: Expr, rhs: Expr) -> Expr:
        return binary("max", lhs, rhs)

    def reference(self, *inputs_: Array) -> Array:
        return np.asarray(fold(greater, inputs_))

    def content(self, *inputs_: Content) -> Content:
        return fold(lambda a, b: paired(a, b, maximum, self.result.type), inputs_)


@operator(onnx="Sum", since=6)
class Sum(VariadicOperator):
    """The sum of the operands."""

    dtypes = FLOATS
    tolerance = "close"

    def combine(self, lhs: Expr, rhs: Expr) -> Expr:
        return lhs + rhs

    def reference(self, *inputs_: Array) -> Array:
        return np.asarray(fold(np.add, map(widened, inputs_))).astype(self.result.type.dtype.numpy)


@operator(onnx="Mean", since=6)
class Mean(Sum):
    """The mean of the operands."""

    def formula(self, values: list[Expr]) -> Expr:
        return super().formula(values) / float(len(values))

    def reference(self, *inputs_: Array) -> Array:
        total: Any = fold(np.add, map(widened, inputs_))
        return np.asarray(total / len(inputs_)).astype(self.result.type.dtype.numpy)


@operator(onnx="Neg", since=6)
class Neg(UnaryOperator):
    """`-x`; the least integer stays."""

    dtypes = (*FLOATS, *(t for t in INTEGERS if t.is_signed))

    def formula(self, x: Expr) -> Expr:
        return -x

    def numpy(self, x: Array) -> Array:
        return np.negative(x)

    def content(self, x: Content) -> Content:
        return tuple(-size for size in x) if x is not None else None


@operator(onnx="Abs", since=6)
class Abs(UnaryOperator):
    """`|x|`; the least integer stays."""

    dtypes = NUMBERS

    def formula(self, x: Expr) -> Expr:
        return unary("abs", x)

    def numpy(self, x: Array) -> Array:
        return np.abs(x)


@operator(onnx="Sign", since=9)
class Sign(UnaryOperator):
    """-1, 0 or 1; NaN stays."""

    dtypes = NUMBERS

    def formula(self, x: Expr) -> Expr:
        zero, one = number(0, x.dtype), number(1, x.dtype)
        if not (x.dtype.is_float or x.dtype.is_signed):
            return select(x.eq(zero), zero, one)
        positive = select(x > zero, one, select(x < zero, number(-1, x.dtype), zero))
        return select(unary("isnan", x), x, positive) if x.dtype.is_float else positive

    def numpy(self, x: Array) -> Array:
        return np.sign(x)


@operator(onnx="Reciprocal", since=6)
class Reciprocal(UnaryOperator):
    """`1 / x`."""

    low: ClassVar[float] = 0.25

    def formula(self, x: Expr) -> Expr:
        return 1.0 / x

    def numpy(self, x: Array) -> Array:
        return np.divide(x.dtype.type(1), x)


@operator(onnx="Sqrt", since=6)
class Sqrt(UnaryOperator):
    """The square root; NaN of a negative number."""

    low: ClassVar[float] = 0.0

    def formula(self, x: Expr) -> Expr:
        return unary("sqrt", x)

    def numpy(self, x: Array) -> Array:
        return np.sqrt(x)


@operator(onnx="Floor", since=6)
class Floor(UnaryOperator):
    """Rounded down."""

    def formula(self, x: Expr) -> Expr:
        return unary("floor", x)

    def numpy(self, x: Array) -> Array:
        return np.floor(x)


@operator(onnx="Ceil", since=6)
class Ceil(UnaryOperator):
    """Rounded up."""

    def formula(self, x: Expr) -> Expr:
        return unary("ceil", x)

    def numpy(self, x: Array) -> Array:
        return np.ceil(x)


@operator(onnx="Round", since=11)
class Round(UnaryOperator):
    """Rounded to the nearest integer, halves to the even one."""

    def formula(self, x: Expr) -> Expr:
        return unary("round", x)

    def numpy(self, x: Array) -> Array:
        return np.rint(x)


def truncated_quotient(lhs: Array, rhs: Array) -> Array:
    """Integer division toward zero; 0 where `rhs` is 0."""
    safe = np.where(rhs == 0, np.ones_like(rhs), rhs)
    quotient: Array = np.floor_divide(lhs, safe)
    inexact = (quotient * safe != lhs) & ((lhs < 0) != (safe < 0))
    quotient = quotient + inexact.astype(quotient.dtype)
    return np.where(rhs == 0, np.zeros_like(lhs), quotient)
