"""Functions that stand in for instructions which a processor lacks: right to the last bit."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import gcomp
from gcomp.backends.llvm.build import attributes
from gcomp.backends.llvm.cpu import from_options, host
from gcomp.backends.llvm.jit import Loaded, emit_object, load_objects
from gcomp.backends.llvm.rounding import rounding_text
from gcomp.ir import Graph
from gcomp.ops import Ceil, Exp, Floor, Round, Sum
from gcomp.types import F32, TensorType

pytestmark = pytest.mark.skipif(host().arch != "x86_64", reason="only x86-64 has processors without these")

BASELINE = from_options({"triple": "x86_64-linux-gnu", "cpu": "x86-64"})
WHOLE = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "roundeven": np.rint}
KINDS = {"f": (np.float32, ctypes.c_float), "": (np.float64, ctypes.c_double)}
SIZES = (0.0, 0.3, 0.5, 0.7, 1.0, 1.5, 2.5, 2.0**23 - 0.5, 2.0**23, 2.0**52 - 0.5, 2.0**52, 1e30, math.inf)
SPECIAL = (*SIZES, *(-size for size in SIZES), math.nan)


@pytest.fixture(scope="module")
def library() -> Loaded:
    """The functions under names of their own, so that none is taken for that of the C library."""
    names = [f"{name}{suffix}" for suffix in KINDS for name in (*WHOLE, "fma")]
    text = rounding_text(BASELINE).replace("define weak hidden", "define")
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f"@{name}(", f"@own_{name}(")
    data = emit_object(f"{text}\n{attributes(BASELINE)}", BASELINE, True)
    return load_objects([data], [f"own_{name}" for name in names])


def function(library: Loaded, name: str, suffix: str, count: int) -> Callable[..., Any]:
    kind = KINDS[suffix][1]
    return ctypes.CFUNCTYPE(kind, *[kind] * count)(library.addresses[f"own_{name}{suffix}"])


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("name", WHOLE)
@given(x=st.floats() | st.floats(-1e3, 1e3))
def test_whole_numbers(library: Loaded, name: str, suffix: str, x: float) -> None:
    dtype, one = KINDS[suffix][0], function(library, name, suffix, 1)
    with np.errstate(all="ignore"):
        for number in map(dtype, (x, *SPECIAL)):
            found, expected = dtype(one(number)), WHOLE[name](number)
            assert np.array_equal(found, expected, equal_nan=True), number
            assert np.isnan(expected) or np.signbit(found) == np.signbit(expected), number


def nearest(exact: Fraction, dtype: type[np.floating[Any]]) -> Any:
    """`exact` rounded once, half to even."""
    near = dtype(float(exact))
    around = [near, np.nextafter(near, dtype(-np.inf)), np.nextafter(near, dtype(np.inf))]
    integer = np.uint32 if dtype is np.float32 else np.uint64
    return min(around, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(integer)) & 1))


def ordinary(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high) | st.floats(-high, -low)


@pytest.mark.parametrize("suffix", KINDS)
@given(a=ordinary(1e-9, 1e9), b=ordinary(1e-9, 1e9), c=ordinary(1e-18, 1e18), cancels=st.booleans())
@example(a=1 + 2.0**-12, b=1 - 2.0**-12, c=-1.0, cancels=False)
@example(a=1 + 2.0**-23, b=1.0, c=2.0**-24, cancels=False)
@example(a=1 + 2.0**-23, b=1 + 2.0**-23, c=2.0**60, cancels=False)
def test_a_product_and_a_sum_are_rounded_once(
    library: Loaded, suffix: str, a: float, b: float, c: float, cancels: bool
) -> None:
    dtype = KINDS[suffix][0]
    x, y, z = dtype(a), dtype(b), dtype(c)
    z = -x * y if cancels else z
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    assume(exact)
    assert dtype(function(library, "fma", suffix, 3)(x, y, z)) == nearest(exact, dtype)


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        (math.inf, 2.0, 1.0, math.inf),
        (math.inf, 1.0, -math.inf, math.nan),
        (0.0, math.inf, 1.0, math.nan),
        (2.0, 3.0, -math.inf, -math.inf),
        (math.nan, 1.0, 1.0, math.nan),
        (1.0, -1.0, 1.0, 0.0),
        (0.0, 5.0, 7.0, 7.0),
    ],
)
def test_special_products(
    library: Loaded, suffix: str, a: float, b: float, c: float, expected: float
) -> None:
    found = function(library, "fma", suffix, 3)(a, b, c)
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_a_library_for_an_old_processor_stands_alone(tmp_path: Path) -> None:
    graph = Graph("old")
    x = graph.add_input(TensorType(F32, (37,)), "x")
    parts = [graph.add(one(x)).result for one in (Floor, Ceil, Round, Exp)]
    graph.outputs, graph.output_names = [graph.add(Sum(tuple(parts))).result], ["y"]
    module = gcomp.compile(graph, "llvm{cpu=x86-64}", host_steps=False)
    loaded = gcomp.load(module.save(tmp_path / "old.so")[0])
    array = np.linspace(-4, 4, 37, dtype=np.float32)
    expected = np.floor(array) + np.ceil(array) + np.rint(array) + np.exp(array)
    for found in (module(array)[0], loaded(array)[0]):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_has_the_instructions_brings_no_functions() -> None:
    assert rounding_text(from_options({"triple": "x86_64-linux-gnu", "cpu": "haswell"})) == ""
    assert rounding_text(from_options({"triple": "aarch64-linux-gnu", "cpu": "cortex-a76"})) == ""
    assert "@fmaf(" in rounding_text(BASELINE) and "@floor(" in rounding_text(BASELINE)
