"""Ranges found piece by piece: extremes, and the cut that loses least."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcomp import InputError
from gcomp.ranges import BINS, CALIBRATIONS, Entropy, Extremes
from gcomp.types import Array


def normal(count: int = 200_000) -> Array:
    return np.random.default_rng(0).standard_normal(count).astype(np.float32)


def found(*parts: Array) -> tuple[float, float]:
    seen = Entropy()
    for part in parts:
        seen.add(part)
    return seen.range()


def test_rare_large_elements_are_cut_off_but_common_ones_are_not() -> None:
    low, high = found(np.append(normal(), np.float32(60)))
    assert 3 < high < 8 and -6 < low < -3
    even = np.linspace(-3, 5, 100_000, dtype=np.float32)
    assert found(even) == pytest.approx((-3, 5), rel=0.02)


def test_a_cut_lies_where_what_is_common_ends() -> None:
    """Ranges are tried 1/16 apart here: bins are 1/256 wide."""
    common = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    low, high = found(np.append(common, np.float32(8)))
    assert low == common.min() and 1 <= high <= 1 + 1 / 16


def test_zeros_do_not_count() -> None:
    positive = np.maximum(normal(), 0)
    many = np.append(positive, np.zeros(1_000_000, np.float32))
    assert found(positive) == found(many)
    assert found(positive + 100)[0] == 0
    assert found(np.zeros(5, np.float32)) == (0, 0)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.integers(1, 59))
def test_pieces_make_no_difference_but_for_the_width_of_bins(numbers: list[float], cut: int) -> None:
    whole, parts, array = Entropy(), Entropy(), np.array(numbers, np.float32)
    whole.add(array)
    for part in (array[:cut], array[cut:]):
        if part.size:
            parts.add(part)
    assert (whole.limit, whole.counts.sum()) == (parts.limit, parts.counts.sum())
    assert abs(np.cumsum(whole.counts - parts.counts)).max() <= array.size
    low, high = parts.range()
    assert min(array.min(), 0) <= low <= 0 <= high <= max(array.max(), 0)


def test_the_histogram_uses_at_least_half_of_its_bins() -> None:
    seen = Entropy()
    for most in (0.3, 2.0, 700.0):
        seen.add(np.array([most], np.float32))
        assert most <= seen.limit < 2 * most
    assert seen.counts.sum() == 3 and len(seen.counts) == BINS


@pytest.mark.parametrize("calibration", CALIBRATIONS.values())
def test_what_is_not_finite_is_refused(calibration: type[Extremes]) -> None:
    for number in (np.nan, np.inf):
        with pytest.raises(InputError, match="not finite"):
            calibration().add(np.array([1, number], np.float32))
