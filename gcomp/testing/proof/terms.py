"""Scalars of which some are unknown: numpy's while they are known, else terms of z3, in one of two readings.

Under `bits` each operation on floats is an unknown function of the bits of its operands, of which no more is
known than that sums and products commute: what holds then holds for every rounding, infinity and NaN. Under
`reals` floats are real numbers: sums may be reordered, rounding is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import z3

from ...diagnostics import UnsupportedError
from ...expr import COMPARISONS
from ...semantics import BINARY, UNARY, convert
from ...types import BOOL, DType

Reading = Literal["bits", "reals"]
Scalar = Any
"""A numpy scalar of the element type, or a term of z3."""

COMMUTATIVE = ("add", "mul")


def is_known(*scalars: Scalar) -> bool:
    """Whether none of them is a term."""
    return not any(isinstance(x, z3.ExprRef) for x in scalars)


class NotReal(UnsupportedError):
    """A constant that is no real number: outside what the reading speaks of."""


class Terms:
    """Operations on scalars of any element type under a reading. Raises `UnsupportedError` for text."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def unknown(self, name: str, dtype: DType) -> Scalar:
        """A new unknown of an element type."""
        return z3.Const(name, self.sort(dtype))

    def sort(self, dtype: DType) -> Any:
        """The sort of z3 for an element type. Raises `UnsupportedError` for text and types of few bits."""
        if dtype == BOOL:
            return z3.BoolSort()
        if dtype.is_integer:
            return z3.BitVecSort(dtype.numpy.itemsize * 8)
        if dtype.is_float:
            return z3.RealSort() if self.reading == "reals" else z3.DeclareSort(dtype.name)
        raise UnsupportedError(f"elements of {dtype.name} have no arithmetic")

    def term(self, x: Scalar, dtype: DType) -> Any:
        """`x` as a term. Raises `NotReal` for infinities and NaN among the reals."""
        if not is_known(x):
            return x
        if dtype == BOOL:
            return z3.BoolVal(bool(x))
        if dtype.is_integer:
            return z3.BitVecVal(int(x), dtype.numpy.itemsize * 8)
        if self.reading == "bits":
            return z3.Const(f"{dtype.name}:{np.asarray(x, dtype.numpy).tobytes().hex()}", self.sort(dtype))
        if not np.isfinite(x):
            raise NotReal(f"{x} is no real number")
        exact = Fraction(float(x))
        return z3.Q(exact.numerator, exact.denominator)

    def unary(self, op: str, x: Scalar, dtype: DType) -> Scalar:
        """`op` of a scalar of `dtype`."""
        if is_known(x):
            return _known(UNARY[op], x)
        if dtype == BOOL:
            return z3.Not(x)
        if dtype.is_integer:
            return _INTEGER_UNARY[op](x, dtype)
        if self.reading == "reals" and op in _REAL_UNARY:
            return _REAL_UNARY[op](x)
        result = BOOL if op in ("isnan", "isinf") else dtype
        return self._opaque(op, [x], [dtype], result)

    def binary(self, op: str, a: Scalar, b: Scalar, dtype: DType) -> Scalar:
        """`op` of two scalars of `dtype`."""
        if is_known(a, b):
            return _known(BINARY[op], a, b)
        if self.reading == "reals" and dtype.is_float and op in ("min", "max"):
            for x, y in ((a, b), (b, a)):
                if is_known(y) and y == (np.inf if op == "min" else -np.inf):
                    return x
        x, y = self.term(a, dtype), self.term(b, dtype)
        if op in ("eq", "ne") and (not dtype.is_float or self.reading == "reals"):
            return x == y if op == "eq" else x != y
        if dtype == BOOL:
            return {"and": z3.And, "or": z3.Or, "xor": z3.Xor, "max": z3.Or, "min": z3.And}[op](x, y)
        if dtype.is_integer:
            return _INTEGER[op](x, y, dtype)
        if self.reading == "reals" and op in _REAL:
            return _REAL[op](x, y)
        if op in COMMUTATIVE and str(y) < str(x):
            x, y = y, x
        return self._opaque(op, [x, y], [dtype, dtype], BOOL if op in COMPARISONS else dtype)

    def fused(self, a: Scalar, b: Scalar, c: Scalar, dtype: DType) -> Scalar:
        """`a * b + c`, rounded once."""
        if self.reading == "reals" or dtype.is_integer or is_known(a, b, c):
            return self.binary("add", self.binary("mul", a, b, dtype), c, dtype)
        return self._opaque("fma", [self.term(x, dtype) for x in (a, b, c)], [dtype] * 3, dtype)

    def select(self, condition: Scalar, then: Scalar, other: Scalar, dtype: DType) -> Scalar:
        """`then` where the condition holds, else `other`."""
        if is_known(condition):
            return then if condition else other
        return z3.If(condition, self.term(then, dtype), self.term(other, dtype))

    def cast(self, x: Scalar, old: DType, new: DType, within: bool = False) -> Scalar:
        """`x` as another element type; a conversion that may round is an unknown function.

        Unless it is `within` an operator that computes in a wider type than its operands and result have.
        """
        if old == new:
            return x
        if is_known(x):
            return convert(np.asarray(x), new)[()]
        if old == BOOL:
            return self.select(x, new.numpy.type(1), new.numpy.type(0), new)
        if new == BOOL:
            return self.binary("ne", x, old.numpy.type(0), old)
        if old.is_integer and new.is_integer:
            return _resized(x, old, new)
        if self.reading == "reals" and new.is_float:
            if old.is_float and (within or _digits(old) <= _digits(new)):
                return x
            if old.is_integer:
                return z3.ToReal(z3.BV2Int(x, is_signed=old.is_signed))
        if self.reading == "reals" and old.is_float and new.is_integer:
            return _saturated(x, new)
        return self._opaque(f"to_{new.name}", [x], [old], new)

    def opaque(self, op: str, x: Scalar, old: DType, new: DType) -> Scalar:
        """An unknown function of one scalar."""
        return self._opaque(op, [self.term(x, old)], [old], new)

    def _opaque(self, op: str, terms: list[Any], dtypes: list[DType], result: DType) -> Any:
        name = ".".join([op, *(dtype.name for dtype in dtypes)])
        return z3.Function(name, *(self.sort(dtype) for dtype in dtypes), self.sort(result))(*terms)


def _known(function: Callable[..., Any], *scalars: Scalar) -> Scalar:
    with np.errstate(all="ignore"):
        return np.asarray(function(*(np.asarray(x) for x in scalars)))[()]


def _digits(dtype: DType) -> int:
    """Bits of the significand: integers of no more bits are exact."""
    return {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}.get(dtype.name, 0)


def _resized(x: Any, old: DType, new: DType) -> Any:
    have, want = old.numpy.itemsize * 8, new.numpy.itemsize * 8
    if want <= have:
        return z3.Extract(want - 1, 0, x)
    return (z3.SignExt if old.is_signed else z3.ZeroExt)(want - have, x)


def _saturated(x: Any, new: DType) -> Any:
    """A real as an integer, toward zero; what is out of range becomes the nearest."""
    info, width = np.iinfo(new.numpy), new.numpy.itemsize * 8
    low, high = int(info.min), int(info.max)
    whole: Any = z3.If(x < 0, -z3.ToInt(-x), z3.ToInt(x))
    return z3.Int2BV(z3.If(x <= low, low, z3.If(x >= high, high, whole)), width)


def _whole(x: Any, up: bool = False) -> Any:
    """The nearest whole number below `x`, or above it."""
    whole: Any = z3.ToReal(z3.ToInt(-x if up else x))
    return -whole if up else whole


def _rounded(x: Any) -> Any:
    """Half to even."""
    below: Any = z3.ToInt(x)
    rest = x - z3.ToReal(below)
    is_up = z3.Or(rest > z3.Q(1, 2), z3.And(rest == z3.Q(1, 2), below % 2 == 1))
    return z3.ToReal(z3.If(is_up, below + 1, below))


def _less(a: Any, b: Any, dtype: DType) -> Any:
    return a < b if dtype.is_signed else z3.ULT(a, b)


def _guarded(divide: Callable[[Any, Any, DType], Any]) -> Callable[[Any, Any, DType], Any]:
    """Division of integers, which is 0 where the divisor is."""
    return lambda a, b, dtype: z3.If(b == 0, b, divide(a, b, dtype))


def _truncated(a: Any, b: Any, dtype: DType) -> Any:
    return a / b if dtype.is_signed else z3.UDiv(a, b)


def _remainder(a: Any, b: Any, dtype: DType) -> Any:
    return z3.SRem(a, b) if dtype.is_signed else z3.URem(a, b)


def _modulo(a: Any, b: Any, dtype: DType) -> Any:
    return a % b if dtype.is_signed else z3.URem(a, b)


def _floored(a: Any, b: Any, dtype: DType) -> Any:
    return _truncated(a - _modulo(a, b, dtype), b, dtype)


def _shifted(shift: Callable[[Any, Any, DType], Any]) -> Callable[[Any, Any, DType], Any]:
    """A shift, which is 0 by the width or more."""
    return lambda a, b, dtype: z3.If(z3.ULT(b, dtype.numpy.itemsize * 8), shift(a, b, dtype), a ^ a)


_INTEGER_UNARY: dict[str, Callable[[Any, DType], Any]] = {
    "neg": lambda x, _: -x,
    "not": lambda x, _: ~x,
    "abs": lambda x, dtype: z3.If(x < 0, -x, x) if dtype.is_signed else x,
}

_INTEGER: dict[str, Callable[[Any, Any, DType], Any]] = {
    "add": lambda a, b, _: a + b,
    "sub": lambda a, b, _: a - b,
    "mul": lambda a, b, _: a * b,
    "floordiv": _guarded(_floored),
    "truncdiv": _guarded(_truncated),
    "mod": _guarded(_modulo),
    "rem": _guarded(_remainder),
    "min": lambda a, b, dtype: z3.If(_less(b, a, dtype), b, a),
    "max": lambda a, b, dtype: z3.If(_less(a, b, dtype), b, a),
    "and": lambda a, b, _: a & b,
    "or": lambda a, b, _: a | b,
    "xor": lambda a, b, _: a ^ b,
    "shl": _shifted(lambda a, b, _: a << b),
    "shr": _shifted(lambda a, b, dtype: a >> b if dtype.is_signed else z3.LShR(a, b)),
    "lt": _less,
    "le": lambda a, b, dtype: z3.Not(_less(b, a, dtype)),
}

_REAL_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": lambda x: -x,
    "abs": lambda x: z3.If(x < 0, -x, x),
    "floor": _whole,
    "ceil": lambda x: _whole(x, up=True),
    "round": _rounded,
    "trunc": lambda x: z3.If(x < 0, _whole(x, up=True), _whole(x)),
    "isnan": lambda _: z3.BoolVal(False),
    "isinf": lambda _: z3.BoolVal(False),
}

_REAL: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "min": lambda a, b: z3.If(b < a, b, a),
    "max": lambda a, b: z3.If(a < b, b, a),
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}
