"""Runs step by step: that they compute the same, that their facts are right, and what a profile says."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp import InputError, RunError, UnsupportedError
from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.peak import ITERATIONS, SIZES, Peak, limits
from gcomp.ir import Graph, Value
from gcomp.op import Operator, constant
from gcomp.ops import Add, Gather, MatMul, Relu
from gcomp.profile import Profile, profile
from gcomp.steps import Limits, StepFacts
from gcomp.target import Module
from gcomp.types import F32, I64, TensorType
from tests.networks import networks


@pytest.fixture(scope="module")
def digits(repository: Path) -> str:
    return str(repository / "examples" / "digits.onnx")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1, 1, 8, 8), np.float32)


@pytest.fixture(scope="module")
def module(digits: str) -> Module:
    return gcomp.compile(digits, dims={"batch": 1})


class _HostSquare(Operator):
    """An operator without native code."""

    x: Value

    def infer(self) -> TensorType:
        return self.x.type

    def reference(self, x):
        return x * x


def facts(flops: int = 0, weights: int = 0, data: int = 0) -> StepFacts:
    return StepFacts(("n",), ("Add",), "nest", flops, weights, data)


# runs step by step


@pytest.mark.parametrize("name", ["head", "gemms", "conv-0", "conv-11", "7x64@64x31"])
def test_a_trace_computes_what_a_call_does(name: str) -> None:
    graph, arrays = networks()[name]()
    for target in ("llvm", "llvm{templates=off}", "reference"):
        module = gcomp.compile(graph, target=target)
        for found, expected in zip(module.trace(*arrays).outputs, module(*arrays), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_steps_know_where_they_come_from(module: Module, image: np.ndarray) -> None:
    events = module.trace(image).events
    assert [event.step for event in events] == module.steps()
    first = events[0].step
    assert first.nodes == ("conv1", "bn1", "relu1") and first.operators == ("Conv", "Relu")
    assert first.code == "conv" and first.title == "conv1, bn1, relu1"
    nodes = {name for event in events for name in event.step.nodes}
    assert {"conv2", "pool3", "fc1", "fc2"} <= nodes
    starts = [event.start for event in events]
    assert starts == sorted(starts) and all(event.seconds >= 0 for event in events)


def test_steps_know_their_costs(module: Module) -> None:
    steps = {step.title: step for step in module.steps()}
    last = steps["fc2"]  # f32[1,48] x f32[48,10] + f32[10]
    assert last.weight_bytes == 4 * (48 * 10 + 10) and last.data_bytes == 4 * (48 + 10)
    assert last.flops is not None and 2 * 48 * 10 <= last.flops <= 2 * 48 * 10 + 20
    assert all(step.code_bytes is not None and step.code_bytes > 16 for step in steps.values())
    assert len({step.code_bytes for step in steps.values()}) > 1


def test_memory_is_where_the_plan_put_it(module: Module) -> None:
    memory = module.memory()
    assert memory is not None and memory.arena_bytes == module.manifest["arena_bytes"]
    assert memory.weights_bytes == module.manifest["weights_bytes"]
    assert memory.spans
    for span in memory.spans:
        assert 0 <= span.first <= span.last < len(module.steps())
        assert span.offset + span.bytes <= memory.arena_bytes - memory.scratch_bytes
    for one in memory.spans:
        for other in memory.spans:
            apart = one.last < other.first or other.last < one.first
            below = one.offset + one.bytes <= other.offset or other.offset + other.bytes <= one.offset
            assert one is other or apart or below


def test_a_module_from_the_cache_can_be_traced(digits: str, image: np.ndarray) -> None:
    first = gcomp.compile(digits, dims={"batch": 1}, name="traced")
    again = gcomp.compile(digits, dims={"batch": 1}, name="traced")
    assert not again.timings  # it was restored
    np.testing.assert_array_equal(again.trace(image).outputs[0], first(image)[0])


def test_open_sizes_are_specialised(digits: str) -> None:
    module = gcomp.compile(digits)
    images = np.random.default_rng(5).standard_normal((3, 1, 8, 8), np.float32)
    found = module.trace(images)
    np.testing.assert_array_equal(found.outputs[0], module(images)[0])
    assert module.at(images).steps() == [event.step for event in found.events]


def test_host_steps_are_timed_between_native_ones() -> None:
    graph = Graph("hosted")
    x = graph.add_input(TensorType(F32, (4, 4)), "x")
    y = graph.add(Relu(graph.add(_HostSquare(graph.add(Add(x, x)).result)).result))
    graph.outputs, graph.output_names = [y.result], ["y"]
    array = np.random.default_rng(0).standard_normal((4, 4), np.float32)
    with pytest.warns(UserWarning, match="_HostSquare"):
        module = gcomp.compile(graph)
    found = module.trace(array)
    np.testing.assert_array_equal(found.outputs[0], module(array)[0])
    np.testing.assert_allclose(found.outputs[0], 4 * array**2, rtol=1e-6)
    assert [event.step.code for event in found.events] == ["nest", "reference", "nest"]
    assert found.events[1].step.operators == ("_HostSquare",)
    assert found.events[1].step.data_bytes == 2 * array.nbytes
    done = profile(module, [array], seconds=0.01)
    assert [step.of_limit is None for step in done.steps] == [False, True, False]


def test_a_step_that_fails_is_named() -> None:
    graph = Graph("indexed")
    x, at = graph.add_input(TensorType(F32, (5,)), "x"), graph.add_input(TensorType(I64, (2,)), "at")
    op = graph.add(Gather(x, at))
    op.origin = ("pick",)
    graph.outputs, graph.output_names = [op.result], ["y"]
    module = gcomp.compile(graph)
    array = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(module.trace(array, np.array([4, 0])).outputs[0], [4, 0])
    with pytest.raises(RunError, match=r"pick: an index is out of range"):
        module.trace(array, np.array([5, 0]))


def test_arrays_that_do_not_fit_are_refused(module: Module) -> None:
    with pytest.raises(InputError, match=r"must be f32\[1,1,8,8\]"):
        module.trace(np.zeros((2, 1, 8, 8), np.float32))
    with pytest.raises(InputError, match="takes 1 input"):
        module.trace()
    with pytest.raises(InputError, match="takes inputs image, got picture"):
        profile(module, {"picture": np.zeros((1, 1, 8, 8), np.float32)})


# limits


def test_the_limits_of_this_machine_are_measured() -> None:
    found = limits(host())
    assert 1e9 < found.flops < 1e12
    rates = [rate for _, rate in found.bandwidth]
    assert [size for size, _ in found.bandwidth] == list(SIZES)
    assert rates == sorted(rates, reverse=True) and 1e8 < rates[-1] <= rates[0] < 1e13


def test_a_step_is_bound_by_the_slower_of_arithmetic_and_traffic() -> None:
    machine = Limits(100.0, ((10, 50.0), (1000, 5.0)))
    assert machine.bounds(facts(flops=200), 0) == (2.0, 0.0)
    assert machine.bounds(facts(data=100), 0) == (0.0, 2.0)  # from the nearest cache
    assert machine.bounds(facts(data=2000), 0) == (0.0, 400.0)  # which that does not fit
    assert machine.bounds(facts(weights=100), 100) == (0.0, 2.0)
    assert machine.bounds(facts(weights=100), 5000) == (0.0, 20.0)  # gone from the cache since the last run
    better = Limits(90.0, ((10, 60.0), (1000, 4.0))).or_better(machine)
    assert better == Limits(100.0, ((10, 60.0), (1000, 5.0)))


# profiles


@pytest.fixture(scope="module")
def found(module: Module) -> Profile:
    return profile(module, seconds=0.05)


def test_a_profile_adds_up(found: Profile, module: Module) -> None:
    assert [one.step for one in found.steps] == module.steps()
    assert found.runs >= 5 and found.seconds > 0 and found.undisturbed > 0
    assert sum(one.median for one in found.steps) == pytest.approx(found.seconds)
    assert sum(one.share for one in found.steps) == pytest.approx(1)
    for one in found.steps:
        assert one.low <= one.median <= one.high
        assert one.bound in ("compute", "memory")
        if one.median:
            assert one.step.flops is not None and one.flop_rate == one.step.flops / one.median
            assert one.of_limit is not None and found.limits is not None
            touched = sum(step.step.weight_bytes + step.step.data_bytes for step in found.steps)
            assert one.of_limit == max(found.limits.bounds(one.step, touched)) / one.median


def test_a_larger_product_takes_longer() -> None:
    graph = Graph("two")
    random = np.random.default_rng(1)
    x = graph.add_input(TensorType(F32, (64, 64)), "x")
    small = graph.add(MatMul(x, constant(random.standard_normal((64, 64), np.float32)))).result
    large = graph.add(MatMul(small, constant(random.standard_normal((64, 4096), np.float32)))).result
    graph.outputs, graph.output_names = [large], ["y"]
    first, second = profile(graph, seconds=0.05).steps
    assert second.median > 4 * first.median and second.share > first.share


def test_a_profile_is_json(found: Profile) -> None:
    told = json.loads(json.dumps(found.facts()))
    assert told["runs"] == found.runs and len(told["steps"]) == len(found.steps)
    assert told["steps"][0]["nodes"] == ["conv1", "bn1", "relu1"]
    assert told["limits"]["flops"] > 0


def test_the_trace_is_what_perfetto_reads(found: Profile, tmp_path: Path) -> None:
    found.save_trace(tmp_path / "trace.json")
    told = json.loads((tmp_path / "trace.json").read_text())
    events = [event for event in told["traceEvents"] if event["ph"] == "X"]
    assert [event["name"] for event in events] == [one.step.title for one in found.steps]
    for before, after in pairwise(events):
        assert before["ts"] + before["dur"] <= after["ts"] and {"pid", "tid", "cat"} <= before.keys()


def test_the_reference_times_its_operators(digits: str) -> None:
    found = gcomp.profile(digits, target="reference", dims={"batch": 2}, seconds=0.01)
    assert found.limits is None and all(one.of_limit is None for one in found.steps)
    assert [one.step.nodes for one in found.steps[:3]] == [("conv1",), ("bn1",), ("relu1",)]
    assert found.steps[2].step.data_bytes == 2 * 4 * 2 * 12 * 8 * 8


def test_what_has_no_steps_says_so() -> None:
    class Whole(Module):
        def __call__(self, *arrays):
            return []

        def run(self, inputs):
            return {}

    module = Whole()
    assert module.steps() == [] and module.memory() is None and module.limits() is None
    with pytest.raises(UnsupportedError, match="step by step"):
        module.trace()


def test_what_follows_a_host_step_is_compiled_together_and_runs_after_it() -> None:
    graph = Graph("hosted")
    x = graph.add_input(TensorType(F32, (3, 3)), "x")
    squared = graph.add(_HostSquare(graph.add(Relu(x)).result)).result
    y = graph.add(MatMul(graph.add(MatMul(squared, x)).result, squared)).result
    graph.outputs, graph.output_names = [y], ["y"]
    with pytest.warns(UserWarning, match="_HostSquare"):
        module = gcomp.compile(graph)
    given = np.arange(-4, 5, dtype=np.float32).reshape(3, 3)
    square = np.maximum(given, 0) ** 2
    assert np.array_equal(module(given)[0], square @ given @ square)
    steps = [event.step.operators for event in module.trace(given).events]
    assert steps == [("Relu",), ("_HostSquare",), ("MatMul",), ("MatMul",)]


def test_the_peak_counts_what_it_multiplies() -> None:
    """Sums of ones times ones say how often each of them was added to."""
    peak = Peak(host())
    peak._numbers[...] = 1
    peak._call(peak._numbers.ctypes.data)
    assert (peak._numbers == ITERATIONS).all()
    assert peak.flops == 2 * peak._numbers.size * ITERATIONS
