"""Expanded functions against extended precision: units in the last place, special values, structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gcomp.expand import EXPANDED, expanded
from gcomp.interpret import interpret
from gcomp.kernel import Binary, Compute, Kernel, Unary, binary, unary, walk
from gcomp.types import BF16, F16, F32, F64, Array, DType, TensorType

WIDE = np.longdouble
PI = np.arccos(WIDE(-1))
SPECIAL = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1e-40,
    -1e-40,
    3e38,
    -3e38,
    88.7,
    -103.9,
    -87.5,
]


def erf(x: Any) -> Any:
    """By the series of exp(x**2) erf(x), whose terms have one sign."""
    inside = np.clip(x, -7, 7)
    term = total = inside * 2 / np.sqrt(PI)
    for n in range(1, 260):
        term = term * 2 * inside * inside / (2 * n + 1)
        total = total + term
    return total * np.exp(-inside * inside)


# Name: extended precision, most units in the last place for f32, for f64, greatest argument.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], float, float, float]] = {
    "exp": (np.exp, 1, 1, np.inf),
    "log": (np.log, 1, 1, np.inf),
    "sin": (np.sin, 1.6, 1.6, 1e5),
    "cos": (np.cos, 1.6, 1.6, 1e5),
    "tan": (np.tan, 1, 4, 1e5),
    "asin": (np.arcsin, 1, 2.5, np.inf),
    "acos": (np.arccos, 1, 2, np.inf),
    "atan": (np.arctan, 1, 2.5, np.inf),
    "sinh": (np.sinh, 1, 2.5, np.inf),
    "cosh": (np.cosh, 1, 2, np.inf),
    "asinh": (np.arcsinh, 1, 2.5, np.inf),
    "acosh": (np.arccosh, 1, 2.5, np.inf),
    "atanh": (np.arctanh, 1, 2.5, np.inf),
    "tanh": (np.tanh, 2.5, 2.6, np.inf),
    "erf": (erf, 1, 1.5, np.inf),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 2.5, 2.5, np.inf),
}


def run(name: Any, *operands: Array) -> Array:
    """The expanded function of arrays of one type."""
    kernel, dtype = function_kernel(name, *operands), operands[0].dtype
    (result,) = interpret(kernel, list(operands))
    assert result.dtype == dtype
    return result


def function_kernel(name: Any, *operands: Array) -> Kernel:
    dtype = {t.numpy: t for t in (F32, F64, F16, BF16)}[operands[0].dtype]
    kernel = Kernel([TensorType(dtype, operand.shape) for operand in operands])
    x = [tensor for tensor in kernel.operands if tensor is not None]
    make = (lambda i: unary(name, x[0][i])) if len(x) == 1 else (lambda i: binary(name, x[0][i], x[1][i]))
    kernel.results = [kernel.compute(TensorType(dtype, operands[0].shape), make)]
    return expanded(kernel)


def any_bits(rng: np.random.Generator, dtype: DType, count: int) -> Array:
    """Numbers of all magnitudes, subnormal ones, infinities and NaN among them."""
    return rng.integers(0, 256, count * dtype.bytes, dtype=np.uint8).view(dtype.numpy)


def errors(actual: Array, exact: Any) -> Array:
    """In units of the last place; infinite where only one is finite or zeros differ in sign."""
    dtype = actual.dtype
    rounded = exact.astype(dtype)
    unit = np.spacing(np.maximum(abs(rounded), np.finfo(dtype).tiny)).astype(WIDE)
    both = np.isfinite(rounded) & np.isfinite(actual)
    same = (rounded == actual) | (np.isnan(rounded) & np.isnan(actual))
    error = np.where(both, abs(actual.astype(WIDE) - exact) / unit, np.where(same, 0, np.inf))
    zeros = (actual == 0) & (rounded == 0)
    return np.where(zeros & (np.signbit(actual) != np.signbit(rounded)), np.inf, error)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", EXPANDED)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_stay_within_their_units_in_the_last_place(name: str, dtype: DType) -> None:
    exact, of_f32, of_f64, greatest = FUNCTIONS[name]
    rng = np.random.default_rng(11)
    x = np.concatenate([rng.uniform(-20, 20, 40000), rng.uniform(-1.2, 1.2, 40000), SPECIAL]).astype(
        dtype.numpy
    )
    x = np.concatenate([x, any_bits(rng, dtype, 40000)])
    x = x[~(abs(x) > greatest)]
    error = errors(run(name, x), exact(x.astype(WIDE)))
    worst = int(np.argmax(error))
    assert error[worst] <= (of_f32 if dtype == F32 else of_f64), f"{name}({x[worst]!r})"


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_pow_is_accurate_and_right_at_special_values(dtype: DType) -> None:
    rng, count = np.random.default_rng(12), 40000
    special = np.array([*SPECIAL, 2.0, 3.0, -3.0])
    x = np.concatenate(
        [rng.uniform(0, 20, count), rng.uniform(-5, 5, count), np.repeat(special, len(special))]
    )
    y = np.concatenate(
        [rng.uniform(-20, 20, count), rng.integers(-9, 9, count), np.tile(special, len(special))]
    )
    x = np.concatenate([x.astype(dtype.numpy), any_bits(rng, dtype, count)])
    y = np.concatenate([y.astype(dtype.numpy), any_bits(rng, dtype, count)])
    error = errors(run("pow", x, y), np.power(x.astype(WIDE), y.astype(WIDE)))
    worst = int(np.argmax(error))
    assert error[worst] <= 1.2, f"pow({x[worst]!r}, {y[worst]!r})"


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float_remainder_is_exact(dtype: DType) -> None:
    rng = np.random.default_rng(13)
    x = np.concatenate([any_bits(rng, dtype, 5000), np.repeat(SPECIAL, len(SPECIAL)).astype(dtype.numpy)])
    y = np.concatenate([any_bits(rng, dtype, 5000), np.tile(SPECIAL, len(SPECIAL)).astype(dtype.numpy)])
    np.testing.assert_array_equal(np.signbit(run("rem", x, y))[~np.isnan(np.fmod(x, y))],
                                  np.signbit(np.fmod(x, y))[~np.isnan(np.fmod(x, y))])  # fmt: skip
    np.testing.assert_array_equal(run("rem", x, y), np.fmod(x, y))


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_half_precision_is_f32_rounded(dtype: DType) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(dtype.numpy)
    wide = run("tanh", x.astype(np.float32)).astype(dtype.numpy)
    np.testing.assert_array_equal(run("tanh", x).astype(np.float32), wide.astype(np.float32))


@pytest.mark.parametrize("name", EXPANDED)
def test_nothing_is_left_to_expand(name: str) -> None:
    primitive = {"neg", "abs", "not", "sqrt", "floor", "round", "trunc", "isnan", "isinf"}
    for dtype in (np.float16, np.float32, np.float64):
        (stage,) = function_kernel(name, np.zeros(1, dtype)).stages
        assert isinstance(stage, Compute)
        for x in walk(stage.value):
            assert not isinstance(x, Unary) or x.op in primitive
            assert not isinstance(x, Binary) or x.op not in ("pow", "rem")


def test_shared_arguments_stay_shared() -> None:
    """exp(tanh(x)) + tanh(x) holds one tanh: expansion must not double work."""
    kernel = Kernel([TensorType(F32, (4,))])
    (x,) = kernel.operands
    assert x is not None

    def element(i: Any) -> Any:
        once = unary("tanh", x[i])
        return unary("exp", once) + once

    kernel.results = [kernel.compute(TensorType(F32, (4,)), element)]
    (stage,) = expanded(kernel).stages
    assert isinstance(stage, Compute)
    divisions = [e for e in walk(stage.value) if isinstance(e, Binary) and e.op == "div"]
    assert len(divisions) == 1


def test_functions_of_integers_are_refused() -> None:
    from gcomp.expand import function
    from gcomp.kernel import literal

    with pytest.raises(ValueError, match="exp needs a float, got i64"):
        function("exp", literal(1))
