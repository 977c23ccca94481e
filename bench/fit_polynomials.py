"""Fits the polynomials of gcomp's transcendental functions and prints them as gcomp/expand/polynomials.py.

Chebyshev interpolation in extended precision, turned into powers, rounded to the type that evaluates
them. With `--check` it prints the error of each fit instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev, polynomial

Wide = np.longdouble
Function = Callable[[np.ndarray], np.ndarray]

LN2, PI = np.log(Wide(2)), np.arccos(Wide(-1))


@dataclass(frozen=True)
class Fit:
    """`function` on [low, high] by a polynomial in the distance from `origin`."""

    name: str
    meaning: str
    function: Function
    low: float
    high: float
    degree: int
    bits: int
    origin: float = 0.0

    def coefficients(self) -> list[float]:
        """From the constant term up, rounded."""
        low, high = Wide(self.low), Wide(self.high)
        count = self.degree + 1
        angles = (2 * np.arange(count, dtype=Wide) + 1) * PI / (2 * count)
        values = self.function((low + high) / 2 + (high - low) / 2 * np.cos(angles))
        terms = np.array([2 / Wide(count) * np.sum(values * np.cos(k * angles)) for k in range(count)])
        terms[0] /= 2
        half = (high - low) / 2
        line = np.array([(Wide(self.origin) - (low + high) / 2) / half, 1 / half])
        total = np.zeros(1, Wide)
        for power in chebyshev.cheb2poly(terms)[::-1]:
            total = polynomial.polyadd(polynomial.polymul(total, line), [power])
        return [float(np.float32(p)) if self.bits == 32 else float(p) for p in total[:count]]

    def error(self) -> float:
        """The largest error by the largest value, the polynomial being evaluated in extended precision."""
        z = np.linspace(Wide(self.low), Wide(self.high), 20001)[1:]
        exact = self.function(z)
        fitted = polynomial.polyval(z - Wide(self.origin), np.array(self.coefficients(), Wide))
        return float(np.max(abs(fitted - exact)) / np.max(abs(exact)))


def series(z: np.ndarray, first: int, ratio: Callable[[int], Wide], terms: int = 60) -> np.ndarray:
    """The power series in z whose coefficient `first` is 1 and whose neighbours have this ratio."""
    total, term = np.zeros_like(z), np.ones_like(z)
    for n in range(first, first + terms):
        total = total + term
        term = term * z * ratio(n)
    return total


def exp_rest(r: np.ndarray) -> np.ndarray:
    """(exp(r) - 1 - r) / r**2"""
    return series(r, 2, lambda n: 1 / Wide(n + 1)) / 2


def log1p_rest(f: np.ndarray) -> np.ndarray:
    """(log(1 + f) - f + f**2 / 2) / f**3"""
    exact = (np.log1p(f) - f + f * f / 2) / np.where(f == 0, 1, f) ** 3
    near = sum((-1) ** n * f**n / Wide(n + 3) for n in range(40))
    return np.where(abs(f) < 0.25, near, exact)


def atanh_rest(z: np.ndarray) -> np.ndarray:
    """(2 atanh(s) - 2 s) / s**3, z = s**2"""
    return np.sum([2 * z**n / Wide(2 * n + 3) for n in range(40)], axis=0)


def atanh_rest_of_rest(z: np.ndarray) -> np.ndarray:
    """(2 atanh(s) - 2 s - 2 s**3 / 3) / s**5, z = s**2"""
    return np.sum([2 * z**n / Wide(2 * n + 5) for n in range(40)], axis=0)


def sine_rest(z: np.ndarray) -> np.ndarray:
    """(sin(r) - r) / r**3, z = r**2"""
    return series(z, 0, lambda n: -1 / Wide((2 * n + 4) * (2 * n + 5)), 20) * -1 / 6


def cosine_rest(z: np.ndarray) -> np.ndarray:
    """(cos(r) - 1 + r**2 / 2) / r**4, z = r**2"""
    return series(z, 0, lambda n: -1 / Wide((2 * n + 5) * (2 * n + 6)), 20) / 24


def arctangent_rest(z: np.ndarray) -> np.ndarray:
    """(atan(x) - x) / x**3, z = x**2"""
    return np.sum([(-1) ** (n + 1) * z**n / Wide(2 * n + 3) for n in range(60)], axis=0)


def arcsine_rest(z: np.ndarray) -> np.ndarray:
    """(asin(x) - x) / x**3, z = x**2"""
    return series(z, 0, lambda n: Wide((2 * n + 3) ** 2) / Wide((2 * n + 4) * (2 * n + 5)), 80) / 6


def erf_over_x_less_1(z: np.ndarray) -> np.ndarray:
    """erf(x) / x - 1, z = x**2"""
    total, term = np.zeros_like(z), np.ones_like(z)
    for n in range(60):
        total, term = total + term / (2 * n + 1), -term * z / (n + 1)
    return 2 / np.sqrt(PI) * total - 1


def scaled_erfc(x: np.ndarray) -> np.ndarray:
    """erfc(x) * exp(x**2), by its continued fraction from 2 on, below by the series of erf."""
    fraction = np.zeros_like(x)
    for n in range(400, 0, -1):
        fraction = Wide(n) / 2 / (x + fraction)
    far = 1 / np.sqrt(PI) / (x + fraction)
    near_x = np.minimum(x, Wide(2.5))
    total, term = np.zeros_like(x), near_x * 2 / np.sqrt(PI)
    for n in range(1, 120):
        total, term = total + term, term * 2 * near_x * near_x / (2 * n + 1)
    return np.where(x < 1.5, np.exp(near_x * near_x) - total, far)


def erfc_of_quotient(t: np.ndarray) -> np.ndarray:
    """erfc(x) * exp(x**2), t = 1 / (1 + x / 2)"""
    return scaled_erfc(2 / t - 2)


SQRT2 = 2.0**0.5
LOG_LOW, LOG_HIGH = SQRT2 / 2 - 1, SQRT2 - 1
ATANH_HIGH = ((SQRT2 - 1) / (SQRT2 + 1)) ** 2 * 1.001
QUARTER = (float(PI) / 4) ** 2 * 1.001
EIGHTH = 0.41422**2

FITS = (
    Fit("EXP32", "(exp(r) - 1 - r) / r**2 for |r| <= ln(2) / 2", exp_rest, -0.347, 0.347, 4, 32),
    Fit("EXP64", "the same", exp_rest, -0.347, 0.347, 11, 64),
    Fit(
        "LOG32",
        "(log(1 + f) - f + f**2 / 2) / f**3, 1 + f in [sqrt(1/2), sqrt(2)]",
        log1p_rest,
        LOG_LOW,
        LOG_HIGH,
        8,
        32,
    ),
    Fit("LOG64", "(2 atanh(s) - 2 s) / s**3 in s**2, s = f / (2 + f)", atanh_rest, 0.0, ATANH_HIGH, 7, 64),
    Fit(
        "POW64", "(2 atanh(s) - 2 s - 2 s**3 / 3) / s**5 in s**2", atanh_rest_of_rest, 0.0, ATANH_HIGH, 8, 64
    ),
    Fit("SIN32", "(sin(r) - r) / r**3 in r**2, |r| <= pi / 4", sine_rest, 0.0, QUARTER, 2, 32),
    Fit("COS32", "(cos(r) - 1 + r**2 / 2) / r**4 in r**2", cosine_rest, 0.0, QUARTER, 2, 32),
    Fit("SIN64", "the same for sin", sine_rest, 0.0, QUARTER, 6, 64),
    Fit("COS64", "the same for cos", cosine_rest, 0.0, QUARTER, 6, 64),
    Fit("ATAN64", "(atan(x) - x) / x**3 in x**2, |x| <= tan(pi / 8)", arctangent_rest, 0.0, EIGHTH, 12, 64),
    Fit("ASIN64", "(asin(x) - x) / x**3 in x**2, |x| <= 1/2", arcsine_rest, 0.0, 0.25, 13, 64),
    Fit("ERF32", "erf(x) / x - 1 in x**2, |x| <= 15/16", erf_over_x_less_1, 0.0, (15 / 16) ** 2, 6, 32),
    Fit("ERF64", "the same, |x| <= 1", erf_over_x_less_1, 0.0, 1.0, 13, 64),
    Fit(
        "ERFC32",
        "log(erfc(x)) for x in [15/16, 4], in x - 15/16",
        lambda x: np.log(scaled_erfc(x)) - x * x,
        15 / 16,
        4.0,
        9,
        32,
        15 / 16,
    ),
    Fit(
        "ERFC64",
        "erfc(x) * exp(x**2) in 1 / (1 + x / 2) for x in [1, 6], less 11/24",
        erfc_of_quotient,
        0.25,
        2 / 3,
        17,
        64,
        11 / 24,
    ),
)


def main() -> None:
    if "--check" in sys.argv[1:]:
        for fit in FITS:
            print(f"{fit.name}: {fit.error():.3g}")
        return
    print(
        '"""Coefficients of transcendental functions, constant terms first; see bench/fit_polynomials.py."""'
    )
    for fit in FITS:
        print(f"\n{fit.name} = (")
        for value in fit.coefficients():
            print(f"    {value!r},")
        print(f')\n"""{fit.meaning[0].upper() + fit.meaning[1:]}."""')


if __name__ == "__main__":
    main()
