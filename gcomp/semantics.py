"""What the operations of the kernel language mean, on numpy arrays: wrapping, saturation, NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .types import BOOL, Array, DType, dtype_of

Function = Callable[..., Any]


def convert(x: Array, dtype: DType) -> Array:
    """`x` as `dtype`: floats to integers truncate and saturate, NaN to 0; integers wrap; to bool: not 0."""
    if dtype == BOOL:
        return x != 0
    if not (dtype.is_integer and dtype_of(x).is_float):
        return x.astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    wide = x.astype(np.float64)
    below, above = wide <= float(info.min), wide >= float(info.max)
    inside = np.where(below | above | np.isnan(wide), 0.0, wide).astype(dtype.numpy)
    return np.where(below, dtype.numpy.type(info.min), np.where(above, dtype.numpy.type(info.max), inside))


def fused(a: Array, b: Array, c: Array) -> Array:
    """`a * b + c` rounded once: in f64 for shorter floats, by error-free transformations for f64."""
    if dtype_of(c).is_integer:
        return a * b + c
    if c.dtype != np.float64:
        return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(c.dtype)
    # Splitting a number into halves overflows near the top of the range.
    large = (np.maximum(abs(a), abs(b)) > 2.0**900) & (abs(c) > 2.0**-500)
    scale = np.where(large, 2.0**-200, 1.0)
    left, right = np.where(abs(a) >= abs(b), a * scale, a), np.where(abs(a) >= abs(b), b, b * scale)
    product, low = two_product(left, right)
    total, rest = two_sum(product, c * scale)
    exact = (total + (rest + low)) / scale
    return np.where(np.isfinite(exact), exact, a * b + c)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum of f64 numbers and its rounding error."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded product of f64 numbers and its rounding error."""
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _halves(x: Array) -> tuple[Array, Array]:
    """`x` as a sum of two numbers of 26 bits."""
    scaled = x * 134217729.0
    high = scaled - (scaled - x)
    return high, x - high


def _quotient(rounded: Function) -> Function:
    """Integer division; 0 where the divisor is 0."""

    def divide(a: Array, b: Array) -> Array:
        safe = np.where(b == 0, np.ones_like(b), b)
        return np.where(b == 0, np.zeros_like(safe), rounded(a, safe))

    return divide


def _truncated(a: Array, b: Array) -> Array:
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient * b != a) & ((a < 0) != (b < 0))).astype(quotient.dtype)


def _remainder(a: Array, b: Array) -> Array:
    return np.fmod(a, b) if dtype_of(a).is_float else _quotient(np.fmod)(a, b)


def _shift(shifted: Function) -> Function:
    """A shift; 0 by the width or more."""

    def shift(a: Array, b: Array) -> Array:
        width = a.dtype.itemsize * 8
        inside = (b >= 0) & (b < width)
        return np.where(inside, shifted(a, np.where(inside, b, np.zeros_like(b))), np.zeros_like(a))

    return shift


def logistic(x: Array) -> Array:
    """`1 / (1 + exp(-x))` without overflow."""
    small = np.exp(-abs(x))
    return np.where(x >= 0, np.ones_like(x), small) / (1 + small)


def error_function(x: Array) -> Array:
    """erf of f64, by the series exp(-x**2) * sum of 2**n x**(2n+1) / (2n+1)!!, all of one sign.

    From 6 on it is 1, from which its distance is no f64.
    """
    inside = np.clip(x, -6.0, 6.0)
    squared = inside * inside
    term = inside * (2 / math.sqrt(math.pi))
    total, odd = term, 1
    while np.any(abs(term) > 2.0**-56 * abs(total)):
        odd += 2
        term = term * (2 * squared / odd)
        total = total + term
    return np.where(abs(x) < 6.0, np.exp(-squared) * total, np.sign(x))


UNARY: dict[str, Function] = {
    "neg": np.negative,
    "abs": np.abs,
    "not": np.invert,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "trunc": np.trunc,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "tanh": np.tanh,
    "sigmoid": logistic,
    "erf": error_function,
}

BINARY: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": _quotient(np.floor_divide),
    "truncdiv": _quotient(_truncated),
    "mod": _quotient(np.mod),
    "rem": _remainder,
    "min": np.minimum,
    "max": np.maximum,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": _shift(np.left_shift),
    "shr": _shift(np.right_shift),
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
