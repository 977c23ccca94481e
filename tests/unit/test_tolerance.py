"""The ladder of tolerances: what each rung lets pass, and what it stops."""

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest

from gcomp.tolerance import LADDER, mismatch

ONE = np.float32(1)


def off(steps: int) -> np.ndarray:
    """1 and, beside it, 1 with `steps` units in the last place added."""
    return np.array([1, 1 + steps * 2.0**-23], np.float32)


@pytest.mark.parametrize(
    ("name", "passes", "fails"), [("exact", 0, 1), ("close", 24, 32), ("approximate", 300, 500)]
)
def test_each_rung_has_an_edge(name: str, passes: int, fails: int) -> None:
    assert not mismatch(off(passes), off(0), name)
    assert "off by" in mismatch(off(fails), off(0), name)


def test_the_rungs_ascend() -> None:
    rungs = [LADDER[name] for name in ("exact", "close", "approximate", "reduced")]
    for lower, upper in pairwise(rungs):
        assert lower.relative < upper.relative
        assert lower.scaled < upper.scaled


@pytest.mark.parametrize("name", LADDER)
@pytest.mark.parametrize(
    ("actual", "expected"), [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (np.inf, -np.inf), (3e38, np.inf)]
)
def test_nan_meets_only_nan_and_an_infinity_only_itself(name: str, actual: float, expected: float) -> None:
    assert mismatch(np.array([1, actual], np.float32), np.array([1, expected], np.float32), name)


@pytest.mark.parametrize("name", LADDER)
def test_special_values_equal_themselves(name: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, 1e-45], np.float32)
    assert not mismatch(values, values.copy(), name)


def test_infinities_do_not_widen_the_bound() -> None:
    expected = np.array([1.0, np.inf], np.float32)
    assert mismatch(np.array([1.5, np.inf], np.float32), expected, "close")


def test_the_unit_is_that_of_the_type() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16):
        values = np.array([1.0, 0.5], dtype)
        assert not mismatch(np.array([1.0 + 2.0**-7, 0.5], dtype), values, "close")
    assert mismatch(np.array([1.0 + 2.0**-40]), np.array([1.0]), "close")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_the_unit_is_the_last_place_at_one(dtype: type) -> None:
    """A bound of 24 units, 16 of its own and 8 of the largest, as `close` allows at 1."""
    unit = float(ml_dtypes.finfo(dtype).eps)
    one, edge, beyond = (np.array([1 + n * unit], dtype) for n in (0, 24, 25))
    assert not mismatch(edge, one, "close")
    assert mismatch(beyond, one, "close")


def test_integers_may_be_a_step_off_only_where_quantized() -> None:
    one, two, three = (np.array([n], np.int8) for n in (1, 2, 3))
    assert not mismatch(two, one, "quantized")
    assert mismatch(three, one, "quantized")
    assert mismatch(two, one, "approximate")


def test_shape_and_type_have_to_be_equal() -> None:
    assert "float64" in mismatch(np.zeros(2), np.zeros(2, np.float32), "reduced")
    assert "[2]" in mismatch(np.zeros(2), np.zeros((2, 1)), "reduced")
