"""Powers and remainders of floats in primitive arithmetic."""

from __future__ import annotations

from ..expr import Bitcast, Expr, Fma, cast, select, unary
from ..types import F64, I64
from .functions64 import INFINITY, LN2_HIGH, LN2_LOW, NAN, SIGN, bits, exp, horner, log, number, split
from .polynomials import POW64


def power(base: Expr, exponent: Expr) -> Expr:
    """`base ** exponent` as IEEE 754's pow, by way of f64; of f64, by a logarithm of twice the precision.

    Raises `ValueError` for types that are no floats.
    """
    if not base.dtype.is_float:
        raise ValueError(f"pow needs floats, got {base.dtype}")
    x, y = cast(base, F64), cast(exponent, F64)
    a = unary("abs", x)
    if base.dtype == F64:
        high, low = _long_log(a)
        product = y * high
        lost = Fma(y, high, -product) + y * low
        size = exp(product, select(unary("abs", product) < 750.0, lost, number(0.0)))
    else:
        size = exp(y * log(a))
    whole = unary("round", y).eq(y)  # an infinity too
    odd = whole & unary("floor", y * 0.5).ne(y * 0.5)
    size = select(a.eq(1.0), number(1.0), size)
    negative = Bitcast(x, I64) < bits(0)
    value = select(negative & odd, -size, size)
    value = select((x < 0.0) & ~whole & ~unary("isinf", x), number(NAN), value)
    value = select(unary("isnan", y) | unary("isnan", x), number(NAN), value)
    return cast(select(y.eq(0.0) | x.eq(1.0), number(1.0), value), base.dtype)


def _long_log(x: Expr) -> tuple[Expr, Expr]:
    """The logarithm of x >= 0 as a sum of two numbers, by 2 atanh(s) with s = (m - 1) / (m + 1)."""
    n, m = split(x)
    f = m - 1.0
    d = m + 1.0
    d_low = (1.0 - d) + m
    s = f / d
    s_low = Fma(-s, d_low, Fma(-s, d, f)) / d
    z = s * s
    z_low = Fma(s, s, -z) + s * s_low * 2.0
    # 2/3 + z * rest, then times s * z
    tail = z * horner(POW64, z)
    third = 0.6666666666666666
    w = tail + third
    w_low = (third - w) + tail + 3.700743415417188e-17
    cube, cube_low = _times(s, s_low, z, z_low)
    term, term_low = _times(cube, cube_low, w, w_low)
    twice = s * 2.0
    total = twice + term
    total_low = (twice - total) + term + (s_low * 2.0 + term_low)
    scale = n * LN2_HIGH
    high = scale + total
    virtual = high - scale
    low = (scale - (high - virtual)) + (total - virtual)
    low = low + Fma(n, number(LN2_LOW), total_low)
    rounded = high + low
    rest = (high - rounded) + low
    special = x.eq(0.0) | x.eq(INFINITY)
    limit = select(x.eq(0.0), number(-INFINITY), x)
    return select(special, limit, rounded), select(special, number(0.0), rest)


def _times(a: Expr, a_low: Expr, b: Expr, b_low: Expr) -> tuple[Expr, Expr]:
    """The product of two sums of two numbers."""
    product = a * b
    return product, Fma(a, b, -product) + Fma(a, b_low, a_low * b)


def remainder(lhs: Expr, rhs: Expr) -> Expr:
    """What is left of `lhs` after whole `rhs`, exact, with the sign of `lhs`; NaN by 0 and of infinities."""
    x, y = cast(lhs, F64), cast(rhs, F64)
    rest, unit = unary("abs", x), unary("abs", y)
    # Each step takes off at most 2**49 times unit * 2**shift, so that the difference is exact.
    top = 2064 if lhs.dtype == F64 else 240
    for shift in range(top, -1, -48):
        step = unit
        for done in range(0, shift, 960):
            step = step * 2.0 ** min(shift - done, 960)
        quotient = unary("trunc", rest / step)
        left = Fma(-quotient, step, rest)
        left = select(left < 0.0, left + step, left)
        rest = select(unary("isinf", step), rest, left)
    rest = select(unary("isinf", x) | y.eq(0.0), number(NAN), rest)
    return cast(Bitcast(Bitcast(rest, I64) | (Bitcast(x, I64) & bits(SIGN)), F64), lhs.dtype)
