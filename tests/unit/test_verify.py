"""Comparing outputs, and timing side by side."""

import numpy as np
import pytest

from gcomp.diagnostics import InputError, UnsupportedError
from gcomp.peers import onnx_runtime
from gcomp.stopwatch import WARMUP_CALLS, interleaved
from gcomp.verify import Verification, compare, tolerance_for, verify

EXPECTED = np.array([[1.0, -8.0], [np.nan, 0.0]], np.float32)


def changed(place: tuple[int, int], value: float) -> np.ndarray:
    array = EXPECTED.copy()
    array[place] = value
    return array


def test_equal_arrays_agree_exactly() -> None:
    one = compare(EXPECTED, EXPECTED.copy(), "exact")
    assert one.agrees and one.absolute == one.scaled == 0


def test_the_largest_difference_is_found() -> None:
    one = compare(changed((0, 0), 1.5), EXPECTED, "approximate", "y", "truth", 4)
    assert not one.agrees
    assert (one.absolute, one.scaled, one.index) == (0.5, 0.5 / 8, (0, 0))
    assert (one.actual, one.expected) == (1.5, 1.0)
    assert str(one).startswith("y, sample 4: differs from truth: 1 of 4 elements")


def test_a_small_difference_is_told_and_allowed() -> None:
    one = compare(changed((0, 1), -8.000001), EXPECTED, "approximate", "y", "truth")
    assert one.agrees and 0 < one.absolute < 2e-6 and "y[0, 1]: -8.0000009" in str(one)
    assert not compare(changed((0, 1), -8.000001), EXPECTED, "exact").agrees


@pytest.mark.parametrize(("place", "value"), [((0, 0), np.nan), ((0, 0), np.inf), ((1, 0), 3.0)])
def test_what_is_not_finite_must_be_met(place: tuple[int, int], value: float) -> None:
    one = compare(changed(place, value), EXPECTED, "reduced")
    assert not one.agrees and one.absolute == np.inf and one.index == place


@pytest.mark.parametrize("other", [EXPECTED.astype(np.float64), EXPECTED.ravel(), EXPECTED[:1]])
def test_type_and_shape_must_be_equal(other: np.ndarray) -> None:
    one = compare(other, EXPECTED, "approximate")
    assert not one.agrees and "is expected" in one.complaint and one.absolute == np.inf


def test_other_arrays() -> None:
    words = np.array(["a", "b"], object)
    assert compare(words, words.copy(), "exact").agrees
    assert compare(np.array(["a", "c"], object), words, "exact").index == (1,)
    assert compare(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), "exact").agrees
    assert compare(np.array(3), np.array(5), "approximate").absolute == 2
    assert not compare(np.array(3), np.array(4), "approximate").agrees


def test_the_worst_sample_stands_for_all() -> None:
    def run(sample):
        return [sample["x"], sample["x"] + sample["error"]]

    def truth(sample):
        return [sample["x"], sample["x"]]

    x = np.arange(1, 5, dtype=np.float32)
    samples = [{"x": x, "error": np.full(4, error, np.float32)} for error in (0, 1e-3, 5e-4)]
    done = verify(run, {"truth": truth}, samples, ["same", "off"], "approximate")
    assert not done.agrees and len(done.comparisons) == 6
    same, off = done.worst()
    assert same.agrees and (off.output, off.sample) == ("off", 1)


def test_truths_that_differ_from_each_other_are_told() -> None:
    truths = {name: lambda sample, by=by: [sample["x"] + by] for name, by in (("a", 0), ("b", 1))}
    samples = [{"x": np.arange(3, dtype=np.float32)}]
    done = verify(lambda sample: [sample["x"]], truths, samples, ["y"], "close")
    assert [one.agrees for one in done.comparisons] == [True, False]
    (dispute,) = done.disputes
    assert dispute.against == "a" and dispute.absolute == 1


def test_nothing_compared_is_no_agreement() -> None:
    assert not Verification().agrees


def test_the_tolerance_follows_the_precision() -> None:
    assert tolerance_for("fp32") == "approximate" and tolerance_for("bf16") == "bfloat"
    assert tolerance_for("bf16", "close") == "close"
    with pytest.raises(InputError, match="no tolerance is called 'loose'"):
        tolerance_for("fp32", "loose")


def test_onnx_runtime_says_what_it_does_not_take() -> None:
    with pytest.raises(UnsupportedError, match="ONNX Runtime does not take this model"):
        onnx_runtime(b"not a model")


def test_calls_are_timed_in_turn() -> None:
    order: list[str] = []
    timings = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 10.0, most=7)
    assert order == ["a"] * WARMUP_CALLS + ["b"] * WARMUP_CALLS + ["a", "b"] * 7
    assert [timing.calls for timing in timings.values()] == [7, 7]
    assert all(0 < timing.low <= timing.median <= timing.high for timing in timings.values())


def test_at_least_some_calls_are_timed() -> None:
    assert interleaved({"a": lambda: None}, seconds=0.0, least=4)["a"].calls == 4
