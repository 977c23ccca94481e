"""How far a result may lie from the reference: a ladder of named bounds, which every comparison uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .types import Array, DType, dtype_of

_EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
_TINIEST = {"f64": 2.0**-1074, "f32": 2.0**-149, "f16": 2.0**-24, "bf16": 2.0**-133}


@dataclass(frozen=True)
class Tolerance:
    """Allows `relative * |expected| + scaled * max |expected|`, both in units of the last place at 1.

    Integers and booleans may differ by `steps`. NaN must meet NaN, an infinity the same infinity.
    """

    relative: float = 0.0
    scaled: float = 0.0
    steps: int = 0


LADDER = {
    "exact": Tolerance(),
    "close": Tolerance(relative=16, scaled=8),
    "approximate": Tolerance(relative=256, scaled=128),
    "reduced": Tolerance(relative=2.0**13, scaled=2.0**13),
    "bfloat": Tolerance(relative=2.0**16, scaled=2.0**16),
    "quantized": Tolerance(relative=16, scaled=8, steps=1),
    "sampled": Tolerance(relative=256, scaled=128, steps=1),
}
"""`close`: a few roundings, short sums; `approximate`: long sums, Winograd, whole networks; `reduced`: f32 by
half-precision arithmetic; `bfloat`: networks whose products round both operands to bf16, each by 2 ** -8;
`quantized`: integers may be one step off; `sampled`: that, and long sums."""


def allowance(tolerance: str, dtype: DType) -> dict[str, float]:
    """How far an element may be off: `relative` times what is expected, `scaled` times the largest that is
    expected, and `least`, added up. Raises `KeyError` for a name that is not on the ladder.
    """
    bound = LADDER[tolerance]
    if not dtype.is_float:
        return {"relative": 0.0, "scaled": 0.0, "least": float(bound.steps)}
    epsilon, least = _EPSILON[dtype.name], _TINIEST[dtype.name] * 4 if bound.relative else 0.0
    return {"relative": bound.relative * epsilon, "scaled": bound.scaled * epsilon, "least": least}


def mismatch(actual: Array, expected: Array, tolerance: str) -> str:
    """Why `actual` is not `expected` within the named tolerance: the worst element, in words; empty if it is.

    Raises `KeyError` for a name that is not on the ladder.
    """
    bound = LADDER[tolerance]
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return f"{actual.dtype}{list(actual.shape)} where {expected.dtype}{list(expected.shape)} is expected"
    if expected.size == 0:
        return ""
    dtype = dtype_of(expected)
    limits = allowed(expected, tolerance)
    if dtype.is_float:
        error = distance(actual, expected)
    elif expected.dtype == object or bound.steps == 0:
        error = (actual != expected).astype(np.float64)
    else:
        error = abs(actual.astype(np.float64) - expected.astype(np.float64))
    wrong = ~(error <= limits)
    if not wrong.any():
        return ""
    worst = np.unravel_index(int(np.argmax(np.where(wrong, error - limits, -np.inf))), expected.shape)
    return (
        f"{int(wrong.sum())} of {wrong.size} elements; at {[int(i) for i in worst]} {actual[worst]} where "
        f"{expected[worst]} is wanted, off by {error[worst]:.3g}, allowed {limits[worst]:.3g} ({tolerance})"
    )


def distance(actual: Array, expected: Array) -> Array:
    """How far each float lies from the other in f64: infinitely where only one is finite; NaN meets NaN."""
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        return np.where(same, 0.0, np.where(np.isfinite(a) & np.isfinite(e), abs(a - e), np.inf))


def allowed(expected: Array, tolerance: str) -> Array:
    """How far from each element of `expected` a result may lie, in f64. Raises `KeyError` as `allowance`."""
    dtype = dtype_of(expected)
    bound = allowance(tolerance, dtype)
    if not dtype.is_float:
        return np.full(expected.shape, bound["least"])
    e = expected.astype(np.float64)
    largest = float(np.max(abs(e), where=np.isfinite(e), initial=0.0))
    size = np.where(np.isfinite(e), abs(e), 0.0)
    with np.errstate(over="ignore"):
        return size * bound["relative"] + largest * bound["scaled"] + bound["least"]
