"""Comparisons, logic on booleans and bits, tests of floats, and the choice between two tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from ..dim import Dim
from ..ir import Value
from ..kernel import BinaryName, Expr, Kernel, Tensor, binary, literal, select, unary
from ..op import Operator, argument, constant, known_content, operator
from ..types import (
    BOOL,
    F16,
    F32,
    F64,
    I64,
    INTEGERS,
    NUMBERS,
    U8,
    U16,
    U32,
    U64,
    Array,
    DType,
    TensorType,
)
from .elementwise import BinaryOperator, Content, UnaryOperator, broadcast_type, one_dtype, paired

UNSIGNED = (U8, U16, U32, U64)


class NamedBinary(BinaryOperator):
    """Base of the binaries that the kernel language and numpy both know by name."""

    function: ClassVar[BinaryName]
    ufunc: ClassVar[Any]

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return binary(self.function, lhs, rhs)

    def numpy(self, lhs: Array, rhs: Array) -> Array:
        return self.ufunc(lhs, rhs)


class Comparison(NamedBinary):
    """Base of comparisons: booleans, false where an operand is NaN."""

    dtypes = NUMBERS

    def result_dtype(self, dtype: DType) -> DType:
        return BOOL

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from super().samples()
        values = np.array([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf], np.float32)
        yield cls(constant(values), constant(values.reshape(6, 1)))


@operator(onnx="Equal", since=7)
class Equal(Comparison):
    """Whether `lhs` equals `rhs`."""

    dtypes = (*NUMBERS, BOOL)
    function, ufunc = "eq", np.equal


@operator(onnx="Less", since=7)
class Less(Comparison):
    """Whether `lhs < rhs`."""

    function, ufunc = "lt", np.less


@operator(onnx="LessOrEqual", since=12)
class LessOrEqual(Comparison):
    """Whether `lhs <= rhs`."""

    function, ufunc = "le", np.less_equal


@operator(onnx="Greater", since=7)
class Greater(Comparison):
    """Whether `lhs > rhs`."""

    ufunc = np.greater

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return binary("lt", rhs, lhs)


@operator(onnx="GreaterOrEqual", since=12)
class GreaterOrEqual(Comparison):
    """Whether `lhs >= rhs`."""

    ufunc = np.greater_equal

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return binary("le", rhs, lhs)


@operator(onnx="And", since=7)
class And(NamedBinary):
    """Whether both hold."""

    dtypes = (BOOL,)
    function, ufunc = "and", np.logical_and


@operator(onnx="Or", since=7)
class Or(NamedBinary):
    """Whether either holds."""

    dtypes = (BOOL,)
    function, ufunc = "or", np.logical_or


@operator(onnx="Xor", since=7)
class Xor(NamedBinary):
    """Whether exactly one holds."""

    dtypes = (BOOL,)
    function, ufunc = "xor", np.logical_xor


@operator(onnx="Not", since=1)
class Not(UnaryOperator):
    """Whether `x` does not hold."""

    dtypes = (BOOL,)

    def formula(self, x: Expr) -> Expr:
        return ~x

    def numpy(self, x: Array) -> Array:
        return np.logical_not(x)


@operator(onnx="BitwiseAnd", since=18)
class BitwiseAnd(NamedBinary):
    """The bits set in both."""

    dtypes = INTEGERS
    function, ufunc = "and", np.bitwise_and


@operator(onnx="BitwiseOr", since=18)
class BitwiseOr(NamedBinary):
    """The bits set in either."""

    dtypes = INTEGERS
    function, ufunc = "or", np.bitwise_or


@operator(onnx="BitwiseXor", since=18)
class BitwiseXor(NamedBinary):
    """The bits set in exactly one."""

    dtypes = INTEGERS
    function, ufunc = "xor", np.bitwise_xor


@operator(onnx="BitwiseNot", since=18)
class BitwiseNot(UnaryOperator):
    """All bits flipped."""

    dtypes = INTEGERS

    def formula(self, x: Expr) -> Expr:
        return ~x

    def numpy(self, x: Array) -> Array:
        return np.bitwise_not(x)


@operator(onnx="BitShift", since=11)
class BitShift(BinaryOperator):
    """`lhs` shifted by `rhs` bits to the LEFT or the RIGHT; by its width or more, 0."""

    direction: str

    dtypes = UNSIGNED
    low, high = 0.0, 40.0

    def infer(self) -> TensorType:
        if self.direction not in ("LEFT", "RIGHT"):
            self.fail("direction to be LEFT or RIGHT", direction=self.direction)
        return super().infer()

    def formula(self, lhs: Expr, rhs: Expr) -> Expr:
        return binary("shl" if self.direction == "LEFT" else "shr", lhs, rhs)

    def numpy(self, lhs: Array, rhs: Array) -> Array:
        shifted = np.left_shift(lhs, rhs) if self.direction == "LEFT" else np.right_shift(lhs, rhs)
        return np.where(rhs >= lhs.dtype.itemsize * 8, np.zeros_like(shifted), shifted)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype in UNSIGNED:
            for direction in ("LEFT", "RIGHT"):
                lhs = argument(TensorType(dtype, (3, 9)), 0.0, 200.0)
                yield cls(lhs, argument(TensorType(dtype, (9,)), 0.0, 40.0), direction=direction)


@operator(onnx="IsNaN", since=9)
class IsNaN(UnaryOperator):
    """Whether `x` is NaN."""

    def result_dtype(self, dtype: DType) -> DType:
        return BOOL

    def formula(self, x: Expr) -> Expr:
        return unary("isnan", x)

    def numpy(self, x: Array) -> Array:
        return np.isnan(x)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from super().samples()
        yield from special_samples(cls)


@operator(onnx="IsInf", since=10)
class IsInf(UnaryOperator):
    """Whether `x` is an infinity of a sign that is to be detected."""

    detect_negative: int = 1
    detect_positive: int = 1

    def result_dtype(self, dtype: DType) -> DType:
        return BOOL

    def formula(self, x: Expr) -> Expr:
        infinite = unary("isinf", x)
        if self.detect_negative and self.detect_positive:
            return infinite
        if self.detect_negative:
            return infinite & (x < 0.0)
        return infinite & (x > 0.0) if self.detect_positive else literal(False, BOOL)

    def numpy(self, x: Array) -> Array:
        wanted = np.where(x < 0, bool(self.detect_negative), bool(self.detect_positive))
        return np.isinf(x) & wanted

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from super().samples()
        yield from special_samples(cls)
        special = next(special_samples(cls)).x
        for negative, positive in ((0, 1), (1, 0), (0, 0)):
            yield cls(special, detect_negative=negative, detect_positive=positive)


@operator(onnx="Where", since=9)
class Where(Operator):
    """`x` where `condition` holds, else `y`; all three broadcast."""

    condition: Value
    x: Value
    y: Value

    def infer(self) -> TensorType:
        if self.condition.type.dtype != BOOL:
            self.fail("a condition of bool", condition=self.condition)
        dtype = one_dtype(self, (*NUMBERS, BOOL), self.x, self.y)
        return broadcast_type(self, dtype, self.condition, self.x, self.y)

    def reference(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)

    def content(self, condition: Content, x: Content, y: Content) -> Content:
        chosen = self.condition.owner
        if not isinstance(
            chosen, Equal
        ):  # sizes decide only through comparisons, which have no content themselves
            return None
        holds = paired(known_content(chosen.lhs), known_content(chosen.rhs), same_size, self.condition.type)
        first = paired(holds, x, lambda hold, size: size if hold else 0, self.result.type)
        other = paired(holds, y, lambda hold, size: 0 if hold else size, self.result.type)
        return paired(first, other, lambda a, b: a + b, self.result.type)

    def lower(self, k: Kernel, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return k.compute(
            self.result.type, lambda *i: select(condition.broadcast(i), x.broadcast(i), y.broadcast(i))
        )

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, condition, left, right in (
            (F32, (3, 37), (3, 37), (3, 37)),
            (F32, (2, 1, 5), (3, 1), ()),
            (F32, (5,), (), ()),
            (F32, (), (4,), (4,)),
            (F32, (0, 3), (3,), (1,)),
            (I64, (4, 1), (5,), (4, 5)),
            (F16, (7,), (7,), ()),
            (BOOL, (7,), (7,), ()),
        ):
            yield cls(
                argument(TensorType(BOOL, condition)),
                argument(TensorType(dtype, left)),
                argument(TensorType(dtype, right)),
            )


def same_size(a: Dim, b: Dim) -> int | None:
    """1 if two sizes are equal for every value of their symbols, 0 if for none, None if that is unknown."""
    difference = a - b
    if isinstance(difference, int):
        return int(difference == 0)
    for size, other in ((a, b), (b, a)):
        grows = not isinstance(size, int) and all(factor > 0 for _, factor in size.terms)
        if grows and isinstance(other, int) and other < 0:
            return 0
    return None


def special_samples(cls: type[UnaryOperator]) -> Iterator[UnaryOperator]:
    """The operator on NaN, the infinities and zeros, once per float type."""
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.0])
    for dtype in (F32, F64, F16):
        yield cls(constant(values.astype(dtype.numpy)))
