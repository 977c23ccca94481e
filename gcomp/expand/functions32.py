"""Transcendental functions of f32 in primitive arithmetic: polynomials after a reduction of the argument.

Each is free of branches and of steps that depend on a target. Largest errors, in units of the last place:
exp, log and erf 1, tanh and sigmoid 2.5, sin and cos 1.6 up to |x| = 1e9.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..expr import Bitcast, Expr, Fma, Literal_, cast, maximum, minimum, select, unary
from ..types import F32, F64, I32
from . import functions64
from .polynomials import COS32, ERF32, ERFC32, EXP32, LOG32, SIN32

LOG2E = 1.44269502162933349609375
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.428606765330187045037746429443359375e-06
SIGN = -(2**31)


def number(value: float) -> Expr:
    return Literal_(value, F32)


def bits(value: int) -> Expr:
    return Literal_(value, I32)


def horner(coefficients: Sequence[float], x: Expr) -> Expr:
    """The polynomial with these coefficients, from the constant term up."""
    total: Expr = number(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = Fma(total, x, number(coefficient))
    return total


def with_sign(magnitude: Expr, x: Expr) -> Expr:
    """A number that is not negative with the sign of `x`, zeros included."""
    return Bitcast(Bitcast(magnitude, I32) | (Bitcast(x, I32) & bits(SIGN)), F32)


def power_of_two(n: Expr) -> Expr:
    """2**n for n, an i32, from -126 to 127."""
    return Bitcast((n + 127) << 23, F32)


SHIFT, SHIFT_BITS = 1.5 * 2.0**23, 0x4B400000
"""Added to a number far smaller, this leaves the nearest integer in the low bits."""


def reduced(x: Expr) -> tuple[Expr, Expr]:
    """`n`, an i32, and `r` with exp(x) = 2**n exp(r) and |r| at most ln(2) / 2, for |x| below 2**21."""
    shifted = Fma(x, number(LOG2E), number(SHIFT))
    n = shifted - SHIFT
    r = Fma(-n, number(LN2_LOW), Fma(-n, number(LN2_HIGH), x))
    return Bitcast(shifted, I32) - SHIFT_BITS, r


def exp(x: Expr) -> Expr:
    n, r = reduced(minimum(maximum(x, -105.0), 89.0))
    value = horner((1.0, 1.0, *EXP32), r)
    # In two steps, since 2**n alone may be too large or too small for the type.
    half = n >> 1
    return value * power_of_two(half) * power_of_two(n - half)


def expm1_of_nonnegative(x: Expr) -> Expr:
    """exp(x) - 1 for x from 0 to 80."""
    n, r = reduced(x)
    scale = power_of_two(n)
    return Fma(scale, Fma(r * r, horner(EXP32, r), r), scale - 1.0)


def log(x: Expr) -> Expr:
    tiny = x < 2.0**-126
    pattern = Bitcast(select(tiny, x * 2.0**23, x), I32)
    # The mantissa is taken from [sqrt(1/2), sqrt(2)), whose ends have these bits.
    shifted = pattern - 0x3F3504F3
    exponent = cast(shifted >> 23, F32) - select(tiny, number(23.0), number(0.0))
    f = Bitcast((shifted & 0x7FFFFF) + 0x3F3504F3, F32) - 1.0
    square = f * f
    rest = Fma(square * f, horner(LOG32, f), exponent * LN2_LOW)
    rest = Fma(square, number(-0.5), rest)
    value = Fma(exponent, number(LN2_HIGH), f + rest)
    value = select(x.eq(float("inf")), x, value)
    value = select(x.eq(0.0), number(float("-inf")), value)
    return select(x >= 0.0, value, number(float("nan")))


def sigmoid(x: Expr) -> Expr:
    small = exp(-unary("abs", x))
    return select(x < 0.0, small, 1.0) / (small + 1.0)


def tanh(x: Expr) -> Expr:
    grown = expm1_of_nonnegative(minimum(unary("abs", x), 9.25) * 2.0)
    return with_sign(grown / (grown + 2.0), x)


def erf(x: Expr) -> Expr:
    a = unary("abs", x)
    near = Fma(a, horner(ERF32, a * a), a)
    low = 15 / 16
    far = 1.0 - exp(horner(ERFC32, minimum(maximum(a, low), 4.0) - low))
    return with_sign(select(a < low, near, far), x)


def sin(x: Expr) -> Expr:
    quadrant, r = quarter_turns(x)
    return _wave(quadrant, r)


def cos(x: Expr) -> Expr:
    quadrant, r = quarter_turns(x)
    return _wave(quadrant + 1.0, r)


def quarter_turns(x: Expr) -> tuple[Expr, Expr]:
    """How many quarter turns modulo 4, and the rest; reduced in f64, so that the rest is exact enough."""
    quadrant, r = functions64.quarter_turns(cast(x, F64))
    return cast(quadrant, F32), cast(r, F32)


def _wave(quadrant: Expr, r: Expr) -> Expr:
    """The sine of `quadrant`, from 0 to 4, quarter turns and `r`."""
    z = r * r
    sine = select(z.eq(0.0), r, Fma(z * r, horner(SIN32, z), r))  # keeps the sign of zero
    cosine = Fma(z * z, horner(COS32, z), Fma(z, number(-0.5), number(1.0)))
    odd = quadrant.eq(1.0) | quadrant.eq(3.0)
    value = select(odd, cosine, sine)
    return select(quadrant.eq(2.0) | quadrant.eq(3.0), -value, value)
