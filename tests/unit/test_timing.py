"""What is told of long work, to whom."""

from collections.abc import Callable

import numpy as np
import pytest

import gcomp
from gcomp.stopwatch import interleaved
from gcomp.timing import counted, phase, tell, watched
from gcomp.verify import verify

Told = list[tuple[str, float | None]]


def watching(work: Callable[[], object]) -> Told:
    """What is told while `work` goes on."""
    told: Told = []
    with watched(lambda what, done: told.append((what, done))):
        work()
    return told


def test_phases_are_timed_and_told() -> None:
    timings: dict[str, float] = {}

    def work() -> None:
        for _ in range(2):
            with phase(timings, "cook"):
                pass

    assert watching(work) == [("cook", None), ("cook", None)]
    assert list(timings) == ["cook"] and timings["cook"] > 0


def test_a_phase_that_fails_is_timed() -> None:
    timings: dict[str, float] = {}
    with pytest.raises(KeyError), phase(timings, "burn"):
        raise KeyError
    assert timings["burn"] > 0


def test_items_are_counted() -> None:
    assert list(counted("eat", "abcd")) == ["a", "b", "c", "d"]  # nobody watches
    assert watching(lambda: list(counted("eat", "ab"))) == [("eat", 0), ("eat", 0.5)]


def test_the_inner_watcher_is_told_and_then_the_outer_again() -> None:
    def work() -> None:
        assert watching(lambda: tell("inner")) == [("inner", None)]
        tell("outer", 1.0)

    assert watching(work) == [("outer", 1.0)]
    assert watching(lambda: None) == []


def test_compiling_tells_of_its_passes_and_kernels(repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCOMP_CACHE", "off")
    path = str(repository / "examples" / "digits.onnx")
    told = watching(lambda: gcomp.compile(path, dims={"batch": 1}))
    order = list(dict.fromkeys(what for what, _ in told))
    assert order[:2] == ["lift", "passes"] and order[-4:] == ["plan", "emit", "codegen", "weights"]
    assert {"pass fuse", "pass clean"} <= set(order)
    shares = [done for what, done in told if what == "codegen" and done is not None]
    assert shares == sorted(shares) and shares[0] == 0 and len(shares) > 5 and shares[-1] < 1


def test_timing_and_verifying_tell_how_far_they_are() -> None:
    told = watching(lambda: interleaved({"a": lambda: None}, seconds=0.01, least=3))
    shares = [done for _, done in told]
    assert shares[0] is not None and 0 <= shares[0] < 1 and told[1][0] == "1 runs"
    samples = [{"x": np.ones(2, np.float32)}] * 4
    run = lambda sample: [sample["x"]]  # noqa: E731
    told = watching(lambda: verify(run, {"truth": run}, samples, ["y"], "exact"))
    assert told == [("sample 1", 0), ("sample 2", 0.25), ("sample 3", 0.5), ("sample 4", 0.75)]
    told = watching(lambda: verify(run, {"truth": run}, iter(samples), ["y"], "exact"))
    assert told[3] == ("sample 4", None)
