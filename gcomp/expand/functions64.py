"""Transcendental functions of f64 in primitive arithmetic: polynomials after a reduction of the argument.

Each is free of branches and of steps that depend on a target. Errors are a few units of the last place;
`sin`, `cos` and `tan` keep that up to |x| = 1e9 and stay bounded beyond.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..expr import Bitcast, Expr, Fma, Literal_, cast, maximum, minimum, select, unary
from ..types import F64, I64
from .polynomials import ASIN64, ATAN64, COS64, ERF64, ERFC64, EXP64, LOG64, SIN64

LOG2E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
HALF_PI, HALF_PI_REST, HALF_PI_LAST = 1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33
SIGN = -(2**63)
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
MANTISSA = (1 << 52) - 1
INFINITY, NAN = float("inf"), float("nan")


def number(value: float) -> Expr:
    return Literal_(value, F64)


def bits(value: int) -> Expr:
    return Literal_(value, I64)


def horner(coefficients: Sequence[float], x: Expr) -> Expr:
    """The polynomial with these coefficients, from the constant term up."""
    total: Expr = number(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = Fma(total, x, number(coefficient))
    return total


def with_sign(magnitude: Expr, x: Expr) -> Expr:
    """A number that is not negative with the sign of `x`, zeros included."""
    return Bitcast(Bitcast(magnitude, I64) | (Bitcast(x, I64) & bits(SIGN)), F64)


def power_of_two(n: Expr) -> Expr:
    """2**n for n, an i64, from -1022 to 1023."""
    return Bitcast((n + 1023) << 52, F64)


def scaled(value: Expr, n: Expr) -> Expr:
    """`value` times 2**n, in two steps since 2**n alone may be too large or too small for the type."""
    half = n >> 1
    return value * power_of_two(half) * power_of_two(n - half)


def reduced(x: Expr) -> tuple[Expr, Expr]:
    """`n`, an integer as f64, and `r` with exp(x) = 2**n exp(r) and |r| at most ln(2) / 2."""
    n = unary("round", x * LOG2E)
    return n, Fma(-n, number(LN2_LOW), Fma(-n, number(LN2_HIGH), x))


def exp(x: Expr, correction: Expr | None = None) -> Expr:
    """exp(x), or exp(x + correction) for a small correction."""
    n, r = reduced(minimum(maximum(x, -747.0), 711.0))
    if correction is not None:
        r = r + correction
    return scaled(Fma(r * r, horner(EXP64, r), r) + 1.0, cast(n, I64))


def expm1_of_nonnegative(x: Expr) -> Expr:
    """exp(x) - 1 for x from 0 to 709."""
    n, r = reduced(x)
    scale = power_of_two(cast(n, I64))
    return Fma(scale, Fma(r * r, horner(EXP64, r), r), scale - 1.0)


def split(x: Expr) -> tuple[Expr, Expr]:
    """`n`, an integer as f64, and `m` in [sqrt(1/2), sqrt(2)) with x = 2**n m, for positive finite x."""
    tiny = x < 2.0**-1022
    shifted = Bitcast(select(tiny, x * 2.0**52, x), I64) - SQRT_HALF_BITS
    exponent = cast(shifted >> 52, F64) - select(tiny, number(52.0), number(0.0))
    return exponent, Bitcast((shifted & MANTISSA) + SQRT_HALF_BITS, F64)


def log(x: Expr) -> Expr:
    n, m = split(x)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    rest = Fma(s, half_square + z * horner(LOG64, z), n * LN2_LOW)
    value = Fma(n, number(LN2_HIGH), f - (half_square - rest))
    value = select(x.eq(INFINITY), x, value)
    value = select(x.eq(0.0), number(-INFINITY), value)
    return select(x >= 0.0, value, number(NAN))


def log1p(x: Expr) -> Expr:
    """log(1 + x), exact where x is small."""
    u = x + 1.0
    lost = select(u.eq(0.0) | u.eq(INFINITY), number(0.0), (x - (u - 1.0)) / u)
    return log(u) + lost


def sigmoid(x: Expr) -> Expr:
    small = exp(-unary("abs", x))
    return select(x < 0.0, small, 1.0) / (small + 1.0)


def tanh(x: Expr) -> Expr:
    grown = expm1_of_nonnegative(minimum(unary("abs", x), 20.0) * 2.0)
    return with_sign(grown / (grown + 2.0), x)


def sinh(x: Expr) -> Expr:
    a = unary("abs", x)
    grown = expm1_of_nonnegative(minimum(a, 708.0))
    near = (grown + grown / (grown + 1.0)) * 0.5
    return with_sign(select(a < 22.0, near, _half_exp(a)), x)


def cosh(x: Expr) -> Expr:
    a = unary("abs", x)
    grown = exp(minimum(a, 708.0))
    return select(a < 22.0, grown * 0.5 + 0.5 / grown, _half_exp(a))


def _half_exp(a: Expr) -> Expr:
    """exp(a) / 2 for positive a, which overflows later than exp(a)."""
    n, r = reduced(minimum(a, 712.0))
    return scaled(Fma(r * r, horner(EXP64, r), r) + 1.0, cast(n, I64) - 1)


def asinh(x: Expr) -> Expr:
    a = unary("abs", x)
    large = a > 2.0**500
    near = a + a * a / (unary("sqrt", a * a + 1.0) + 1.0)
    return with_sign(log1p(select(large, a, near)) + select(large, number(LN2_HIGH + LN2_LOW), 0.0), x)


def acosh(x: Expr) -> Expr:
    t, large = x - 1.0, x > 2.0**500
    near = t + unary("sqrt", t * 2.0 + t * t)
    value = log1p(select(large, t, near)) + select(large, number(LN2_HIGH + LN2_LOW), 0.0)
    return select(x < 1.0, number(NAN), value)


def atanh(x: Expr) -> Expr:
    a = unary("abs", x)
    value = log1p(a * 2.0 / (1.0 - a)) * 0.5
    return select(a <= 1.0, with_sign(value, x), number(NAN))


def quarter_turns(x: Expr) -> tuple[Expr, Expr]:
    """How many quarter turns modulo 4, and the rest, in [-pi/4, pi/4]."""
    n = unary("round", x * (1 / HALF_PI))
    r = Fma(-n, number(HALF_PI_REST), Fma(-n, number(HALF_PI), x))
    r = Fma(-n, number(HALF_PI_LAST), r)
    r = select(n.eq(0.0), x, minimum(maximum(r, -0.8), 0.8))
    return n - unary("floor", n * 0.25) * 4.0, r


def _waves(r: Expr) -> tuple[Expr, Expr]:
    """Sine and cosine of an angle in [-pi/4, pi/4]."""
    z = r * r
    cosine = Fma(z * z, horner(COS64, z), Fma(z, number(-0.5), number(1.0)))
    return select(z.eq(0.0), r, Fma(z * r, horner(SIN64, z), r)), cosine  # keeps the sign of zero


def _turned(quadrant: Expr, r: Expr) -> Expr:
    """The sine of `quadrant`, from 0 to 4, quarter turns and `r`."""
    sine, cosine = _waves(r)
    value = select(quadrant.eq(1.0) | quadrant.eq(3.0), cosine, sine)
    return select(quadrant.eq(2.0) | quadrant.eq(3.0), -value, value)


def sin(x: Expr) -> Expr:
    quadrant, r = quarter_turns(x)
    return _turned(quadrant, r)


def cos(x: Expr) -> Expr:
    quadrant, r = quarter_turns(x)
    return _turned(quadrant + 1.0, r)


def tan(x: Expr) -> Expr:
    quadrant, r = quarter_turns(x)
    sine, cosine = _waves(r)
    odd = quadrant.eq(1.0) | quadrant.eq(3.0)
    return select(odd, -cosine, sine) / select(odd, sine, cosine)


def _arcsine(a: Expr) -> tuple[Expr, Expr, Expr]:
    """For a = |x|: whether it is above 1/2; asin(sqrt((1 - a) / 2)) if so, else asin(a)."""
    large = a > 0.5
    z = select(large, (1.0 - a) * 0.5, a * a)
    r = select(large, unary("sqrt", z), a)
    return large, Fma(r * z, horner(ASIN64, z), r), r


def asin(x: Expr) -> Expr:
    a = unary("abs", x)
    large, part, _ = _arcsine(a)
    return with_sign(select(large, HALF_PI - (part * 2.0 - HALF_PI_REST), part), x)


def acos(x: Expr) -> Expr:
    large, part, _ = _arcsine(unary("abs", x))
    twice = part * 2.0
    far = select(x < 0.0, 2 * HALF_PI - (twice - 2 * HALF_PI_REST), twice)
    return select(large, far, HALF_PI - (select(x < 0.0, -part, part) - HALF_PI_REST))


def atan(x: Expr) -> Expr:
    a = unary("abs", x)
    inverted = a > 1.0
    b = select(inverted, 1.0 / a, a)
    shifted = b > 0.41421356237309503
    c = select(shifted, (b - 1.0) / (b + 1.0), b)
    z = c * c
    part = Fma(z * c, horner(ATAN64, z), c)
    part = select(shifted, (part + HALF_PI_REST / 2) + HALF_PI / 2, part)
    return with_sign(select(inverted, HALF_PI - (part - HALF_PI_REST), part), x)


def erf(x: Expr) -> Expr:
    a = unary("abs", x)
    near = Fma(a, horner(ERF64, a * a), a)
    b = minimum(maximum(a, 1.0), 6.0)
    place = 1.0 / (b * 0.5 + 1.0) - 11 / 24
    far = 1.0 - exp(-(b * b)) * horner(ERFC64, place)
    return with_sign(select(a < 1.0, near, far), x)
