"""Faults planted in passes, kernels and references are named, checked again and left in a small model."""

import math
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gcomp import registry
from gcomp.bisect import Bisection, bisect
from gcomp.diagnostics import InputError
from gcomp.ir import Graph, Op, Value
from gcomp.op import Operator, constant
from gcomp.ops import (
    Abs,
    BatchNormalization,
    Conv,
    DequantizeLinear,
    Exp,
    Identity,
    Mul,
    QuantizeLinear,
    Relu,
    Sigmoid,
    Softmax,
    Sqrt,
    Sub,
    Sum,
)
from gcomp.rewrite import RewritePass, Rule, made_by, rewrite
from gcomp.trial import ByOnnxRuntime, Failure
from gcomp.types import Array, parse_type
from gcomp.verify import reference

PIPELINE = "fold-constants,simplify,lower-quantized,fold-batchnorm,clean,layout{block=4},clean,fuse"


def network() -> Graph:
    """About forty operators, among them something for each pass to do."""
    random = np.random.default_rng(3)

    def weights(*shape: int) -> Value:
        return constant(random.uniform(-1, 1, shape).astype(np.float32))

    def positive(*shape: int) -> Value:
        return constant(random.uniform(0.5, 1, shape).astype(np.float32))

    graph = Graph("network")
    x = graph.add_input(parse_type("f32[1,4,6,6]"), "image")
    y = x
    for _ in range(4):
        y = Conv(x, weights(4, 4, 3, 3), pads=(1, 1, 1, 1)).result
        y = BatchNormalization(y, positive(4), weights(4), weights(4), positive(4)).result
        y = Identity(Relu(y).result).result
        x = Sum((y, Sub(x, Abs(y).result).result)).result
        x = Mul(x, Sqrt(constant(np.float32(0.25))).result).result
    across, down = Softmax(x, axis=3).result, Softmax(x, axis=2).result
    x = Sub(Mul(across, constant(np.float32(7))).result, Exp(down).result).result
    scale, zero = constant(np.float32(0.05)), constant(np.uint8(100))
    x = DequantizeLinear(QuantizeLinear(Relu(x).result, scale, zero).result, scale, zero).result
    last = graph.add(Sub(x, Sigmoid(y).result))
    for place, op in enumerate(graph.ops):
        op.origin = (f"{op.kind.lower()}{place}",)
    graph.outputs, graph.output_names = [last.result], ["scores"]
    return graph


def with_rule(monkeypatch: pytest.MonkeyPatch, name: str, rule: str, body: Callable[[Any], Any]) -> None:
    """Puts `body` in place of a rule of the pass `name`."""
    found: RewritePass = registry.find("passes", name)
    (old,) = (one for one in found.rules if one.name == rule)
    body.__name__ = rule
    new = Rule(body, old.roots)
    monkeypatch.setattr(found, "rules", tuple(new if one is old else one for one in found.rules))


def weak_sum(patch: pytest.MonkeyPatch) -> None:
    with_rule(patch, "simplify", "short_sum", lambda op: Sub(*op.inputs_))


def forgetful_norm(patch: pytest.MonkeyPatch) -> None:
    with_rule(patch, "fold-batchnorm", "conv_batchnorm", lambda norm: made_by(norm.x, Conv).result)


def careless_relu(patch: pytest.MonkeyPatch) -> None:
    def drop_relu(op: QuantizeLinear) -> QuantizeLinear:
        return QuantizeLinear(made_by(op.x, Relu).x, op.scale, op.zero_point)

    with_rule(patch, "lower-quantized", "drop_relu", drop_relu)


def wrong_folding(patch: pytest.MonkeyPatch) -> None:
    def evaluate_op(op: Operator, operands: list[Array]) -> tuple[Array, ...]:
        return (np.asarray(operands[0] if isinstance(op, Sqrt) else op.reference(*operands)),)

    patch.setattr("gcomp.passes.fold_constants.evaluate_op", evaluate_op)


def blind_merge(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("gcomp.passes.clean._equal", lambda mine, its: True)


def swapped_group(patch: pytest.MonkeyPatch) -> None:
    from gcomp.passes import fuse

    def build(members: list[Op], roles: dict[Op, str], build: Any = fuse.build) -> Op:
        group = build(members, roles)
        for op in group.body.ops:
            if isinstance(op, Sub):
                op.lhs, op.rhs = op.rhs, op.lhs
        return group

    patch.setattr("gcomp.passes.fuse.build", build)


def mixed_layouts(patch: pytest.MonkeyPatch) -> None:
    from gcomp.passes.layout import _Versions

    def get(self: _Versions, value: Value, layout: Any, before: Any, get: Any = _Versions.get) -> Value:
        same = [found for (_, kind), found in self.found.items() if kind == layout is not None]
        return same[0] if same and before.kind == "Abs" else get(self, value, layout, before)

    patch.setattr(_Versions, "get", get)


@pytest.mark.parametrize(
    ("plant", "name", "rule", "kind"),
    [
        (weak_sum, "simplify", "short_sum", "Sum"),
        (forgetful_norm, "fold-batchnorm", "conv_batchnorm", "BatchNormalization"),
        (careless_relu, "lower-quantized", "drop_relu", "QuantizeLinear"),
        (wrong_folding, "fold-constants", "", "Sqrt"),
        (blind_merge, "clean", "", "Softmax"),
        (swapped_group, "fuse", "", "Sub"),
        (mixed_layouts, "layout", "", "Abs"),
    ],
)
def test_a_planted_fault_is_named(
    plant: Callable[[pytest.MonkeyPatch], None],
    name: str,
    rule: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    found = bisect(network(), "reference", passes=PIPELINE)
    assert found.culprit is not None and found.repro is not None
    assert (found.culprit.name, found.culprit.rule) == (name, rule)
    assert found.culprit.kind == ("rule" if rule else "pass")
    assert kind.lower() in str(found.culprit.origin) and found.culprit.line
    assert found.verified
    assert found.runs <= math.log2(found.steps) + 5
    assert found.repro.nodes < 10
    expected = found.repro.truth.run(found.repro.case.graph, found.repro.case.sample)
    actual = found.repro.suspect.run(found.repro.case.graph, found.repro.case.sample)
    assert any(not np.array_equal(a, e) for a, e in zip(actual, expected, strict=True))


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    found = bisect(network(), "reference", passes=PIPELINE)
    assert found == Bisection(None, runs=1) and found.agrees


def test_what_a_pass_does_besides_its_steps_is_told() -> None:
    class Silent:
        name = "silent"

        def run(self, graph: Graph) -> bool:
            for op in graph.ops:
                if isinstance(op, Sub):
                    op.lhs, op.rhs = op.rhs, op.lhs
            return True

    found = bisect(network(), "reference", passes=[*registry_passes("fold-constants,clean"), Silent()])
    assert found.culprit is not None and found.repro is not None
    assert str(found.culprit) == "pass silent, besides its steps"
    assert found.repro.nodes < 10 and found.verified


def registry_passes(text: str) -> list[Any]:
    return [registry.find("passes", name) for name in text.split(",")]


def test_a_rule_that_raises_is_found_too() -> None:
    @rewrite
    def crash(op: Softmax) -> Op:
        raise KeyError("axis")

    found = bisect(network(), "reference", passes=[RewritePass("crashing", [crash])])
    assert found.failure is not None and found.failure.kind == "RewriteError"
    assert found.culprit is not None and "crash raises KeyError: 'axis'" in found.culprit.complaint
    assert (found.culprit.kind, found.culprit.rule, found.culprit.step) == ("rule", "crash", 1)
    assert found.culprit.line.startswith("%") and "Softmax" in found.culprit.line
    assert found.repro is not None and [op.kind for op in found.repro.case.graph.ops] == ["Softmax"]


def test_a_step_that_ends_in_an_error_is_found_too() -> None:
    @rewrite
    def drop(op: Identity) -> Value:
        return op.x

    @rewrite
    def circular(op: Softmax) -> Abs:
        return Abs(op.result)

    found = bisect(network(), "reference", passes=[RewritePass("bad", [drop, circular])])
    assert found.culprit is not None and found.repro is not None and found.verified
    assert (found.culprit.rule, found.culprit.origin) == ("circular", ("softmax60",))
    assert "leads to an error: Abs reads what it replaces" in found.culprit.complaint
    assert found.repro.nodes == 1


def test_a_wrong_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sigmoid, "function", "tanh")
    found = bisect(network())
    assert found.culprit is not None and found.repro is not None
    assert found.culprit.kind == "kernel" and "Sigmoid" in found.culprit.name
    assert any("sigmoid" in name for name in found.culprit.origin)
    assert found.verified and found.runs <= math.log2(found.steps) + 5
    assert [op.kind for op in found.repro.case.graph.ops] == ["Sigmoid"]


def test_onnx_runtime_blames_a_wrong_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    monkeypatch.setattr(Sigmoid, "reference", lambda self, x: np.tanh(x))
    found = bisect(graph, "reference", passes="", against="onnxruntime")
    assert found.culprit is not None and found.repro is not None
    assert (found.culprit.kind, found.culprit.name) == ("reference", "Sigmoid")
    assert str(found.culprit).startswith("the reference of Sigmoid, from ONNX sigmoid")
    assert found.verified and found.repro.nodes == 1
    assert isinstance(found.repro.truth, ByOnnxRuntime) and "onnx_runtime(MODEL)" in found.repro.script()


def test_onnx_runtime_blames_a_wrong_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    weak_sum(monkeypatch)
    found = bisect(network(), passes=PIPELINE, against="onnxruntime")
    assert found.culprit is not None and found.culprit.rule == "short_sum"


@pytest.mark.parametrize("in_a_pass", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_a_fault_that_comes_and_goes_is_not_verified(
    in_a_pass: bool, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step before is run once more, then the step itself: each of them could tell otherwise now."""
    graph, bisecting = network(), sys.modules[Bisection.__module__]
    if in_a_pass:
        weak_sum(monkeypatch)
    else:
        monkeypatch.setattr(Sigmoid, "reference", lambda self, x: np.tanh(x))

    def search() -> Bisection:
        if in_a_pass:
            return bisect(graph, "reference", passes=PIPELINE)
        return bisect(graph, "reference", passes="", against="onnxruntime")

    steady, runs = search(), 0
    assert steady.verified

    def attempt(*given: Any, attempt: Any = bisecting.attempt) -> Failure | None:
        nonlocal runs
        runs += 1
        if runs == steady.runs - (not last):
            return None if last else Failure("differs", "by chance")
        return attempt(*given)

    monkeypatch.setattr(bisecting, "attempt", attempt)
    found = search()
    assert found.culprit is not None and found.runs == steady.runs and not found.verified


def test_open_sizes_are_those_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph()
    x = graph.add_input(parse_type("f32[n,3]"), "x")
    graph.outputs, graph.output_names = [graph.add(Sum((x, x))).result], ["y"]
    weak_sum(monkeypatch)
    data = {"x": np.ones((5, 3), np.float32)}
    found = bisect(graph, "reference", passes="simplify", data=data)
    assert found.repro is not None and found.repro.case.sample["x"].shape == (1, 1)
    with pytest.raises(InputError, match=r"all sizes must be known"):
        bisect(graph, "reference", passes="simplify")
    with pytest.raises(InputError, match=r"no data for input x: f32\[n,3\]"):
        bisect(graph, "reference", passes="simplify", data={})
    with pytest.raises(InputError, match="against must be 'reference' or 'onnxruntime', got str 'luck'"):
        bisect(graph, against="luck")  # pyright: ignore[reportArgumentType]


def test_the_network_means_what_onnx_runtime_says() -> None:
    graph = network()
    sample = {"image": np.random.default_rng(0).standard_normal((1, 4, 6, 6), np.float32)}
    (ours,), (its,) = reference(graph)(sample), ByOnnxRuntime().run(graph, sample)
    np.testing.assert_allclose(ours, its, rtol=1e-3, atol=1e-5)


def test_a_kernel_that_ends_the_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def deadly(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Sigmoid, "lower", deadly)
    found = bisect(network(), passes="")
    assert found.failure is not None and found.failure.kind == "CrashError"
    assert "SIGKILL" in found.failure.complaint
    assert found.culprit is not None and found.culprit.name == "Sigmoid" and found.verified
    assert found.repro is not None and found.repro.nodes == 1
