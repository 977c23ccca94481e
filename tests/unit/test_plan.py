"""Plans: what shares memory with what, what is computed in place, and what needs no code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given

from gcomp.arena import ALIGNMENT, Buffer
from gcomp.evaluate import evaluate, evaluate_op
from gcomp.ir import Graph, Value
from gcomp.op import argument, constant
from gcomp.ops import (
    Abs,
    Add,
    Concat,
    Flatten,
    Gemm,
    MatMul,
    Mul,
    Neg,
    Relayout,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unsqueeze,
)
from gcomp.pipeline import parse_pipeline, run_pipeline
from gcomp.plan import Plan, Step, View, plan, pointwise_operands
from gcomp.testing import Case, graphs
from gcomp.testing.samples import native_samples, operand_arrays, sample
from gcomp.types import F32, TensorType, channels_last
from tests.planned import padding, places, run_planned

PIPELINES = ["clean", "layout{block=4},clean", "fold-constants,simplify,clean,layout{block=4},clean,fuse"]


def planned(make: Callable[..., Sequence[Value]], *shapes: tuple[int, ...]) -> Plan:
    """The plan of a graph whose outputs `make` gives for inputs of these shapes."""
    graph = Graph()
    outputs = make(*(graph.add_input(TensorType(F32, shape), f"x{n}") for n, shape in enumerate(shapes)))
    for value in outputs:
        if value.producer is not None:
            graph.add(value.producer)
    graph.outputs = list(outputs)
    graph.output_names = [f"y{n}" for n in range(len(outputs))]
    return plan(graph)


def kinds(steps: Sequence[Step]) -> list[str]:
    return ["copy" if step.op is None else step.op.kind for step in steps]


def arena_buffers(made: Plan) -> list[Buffer]:
    views = [view for step in made.steps for view in (*step.operands, *step.results) if view is not None]
    return list(dict.fromkeys(view.buffer for view in views if view.buffer.space == "arena"))


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(case=graphs())
def test_a_plan_computes_its_graph(pipeline: str, case: Case) -> None:
    """On poisoned memory, with each step's references: nothing is overwritten before it is read."""
    graph = case.bound().graph.clone()
    arrays = [case.inputs[name].copy() for name in graph.input_names]
    run_pipeline(graph, parse_pipeline(pipeline))
    before = [array.copy() for array in arrays]
    found = run_planned(plan(graph), arrays)
    for actual, expected in zip(found, evaluate(graph, arrays), strict=True):
        assert np.array_equal(actual, expected, equal_nan=True)
    for array, copy in zip(arrays, before, strict=True):
        assert array.tobytes() == copy.tobytes()


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(case=graphs())
def test_buffers_that_live_together_lie_apart(pipeline: str, case: Case) -> None:
    graph = case.bound().graph.clone()
    run_pipeline(graph, parse_pipeline(pipeline))
    made = plan(graph)
    buffers = arena_buffers(made)
    for place, a in enumerate(buffers):
        assert a.offset % ALIGNMENT == 0
        assert a.offset + a.bytes <= made.arena_bytes
        for b in buffers[:place]:
            if a.first <= b.last and b.first <= a.last:
                assert a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(case=graphs())
def test_steps_in_place_write_over_operands_that_die(pipeline: str, case: Case) -> None:
    graph = case.bound().graph.clone()
    run_pipeline(graph, parse_pipeline(pipeline))
    made = plan(graph)
    for number, step in enumerate(made.steps):
        shared = [v for v in step.operands if v is not None and any(overlap(v, r) for r in step.results)]
        assert bool(shared) == step.in_place
        for view in shared:
            (result,) = step.results
            assert view.buffer.space == "arena"
            assert (view.offset, view.strides, view.type) == (result.offset, result.strides, result.type)
            assert step.op is not None
            (operand,) = {
                v for v, place in zip(step.op.operands, step.operands, strict=True) if place is view
            }
            assert operand is not None
            assert operand not in graph.outputs
            assert not [user for user in operand.users if user in ops_after(made, number)]


def overlap(a: View, b: View) -> bool:
    if a.buffer is not b.buffer:
        return False
    mine, its = (np.union1d(places(view), padding(view)) for view in (a, b))
    return bool(np.intersect1d(mine, its).size)


def ops_after(made: Plan, number: int) -> list[object]:
    return [step.op for step in made.steps[number + 1 :]]


def test_a_chain_runs_in_one_buffer_and_ends_in_the_output() -> None:
    made = planned(lambda x: [Relu(Neg(Abs(Neg(x).result).result).result).result], (5, 7))
    assert kinds(made.steps) == ["Neg", "Abs", "Neg", "Relu"]
    assert [step.in_place for step in made.steps] == [False, True, True, False]
    assert made.steps[0].operands[0] is not None
    assert made.steps[0].operands[0].buffer is made.inputs[0].buffer
    assert made.steps[-1].results[0].buffer is made.outputs[0].buffer
    assert made.arena_bytes == -(-5 * 7 * 4 // ALIGNMENT) * ALIGNMENT


def test_what_is_read_again_is_not_written_over() -> None:
    def make(x: Value) -> list[Value]:
        a = Abs(x).result
        b = Neg(a).result
        return [Neg(Mul(a, b).result).result]

    first, second, third, _ = planned(make, (3,)).steps
    assert not second.in_place
    assert second.results[0].buffer is not first.results[0].buffer
    assert third.in_place


def test_what_is_read_through_a_view_is_not_written_over() -> None:
    def make(x: Value) -> list[Value]:
        a = Abs(x).result
        flat = Reshape(a, constant([6])).result
        return [Mul(flat, Reshape(Neg(a).result, constant([6])).result).result]

    made = planned(make, (2, 3))
    assert kinds(made.steps) == ["Abs", "Neg", "Mul"]
    assert not made.steps[1].in_place
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(run_planned(made, [x])[0], -(x.ravel() ** 2))


def test_inputs_and_outputs_are_not_written_over() -> None:
    def make(x: Value) -> list[Value]:
        a = Abs(x).result
        return [a, Relu(Neg(a).result).result]

    made = planned(make, (3,))
    assert not any(step.in_place for step in made.steps[:2])
    assert made.steps[0].results[0].buffer is made.outputs[0].buffer


def test_sums_over_an_operand_are_not_in_place() -> None:
    made = planned(lambda x: [Neg(Softmax(Abs(x).result).result).result], (3, 4))
    assert kinds(made.steps) == ["Abs", "Softmax", "Neg"]
    assert not made.steps[1].in_place


@pytest.mark.parametrize(("name", "place"), native_samples())
def test_pointwise_operands_matter_only_where_they_are(name: str, place: int) -> None:
    """Another element of such an operand changes the result's element at that index alone."""
    op, rng = sample(name, place), np.random.default_rng(2)
    arrays = operand_arrays(op)
    (before, *_) = evaluate_op(op, arrays)
    for position in pointwise_operands(op):
        given = arrays[position]
        assert given is not None
        for flat in rng.integers(0, given.size, 3) if given.size else ():
            other = given.copy()
            other.flat[flat] = other.flat[(flat + 1) % other.size]
            (after,) = evaluate_op(op, [*arrays[:position], other, *arrays[position + 1 :]])
            same = (after == before) | ((after != after) & (before != before))
            same.flat[flat] = True
            assert same.all()


def test_what_is_read_crosswise_or_backwards_is_not_pointwise() -> None:
    """Though it has the shape of the result."""
    x = argument(TensorType(F32, (3, 3)))
    last, before = constant([-1]), constant([-9])
    assert pointwise_operands(Neg(x)) == [0]
    assert pointwise_operands(Transpose(x, (1, 0))) == []
    assert pointwise_operands(Slice(x, last, before, constant([1]), last)) == []


def test_an_addend_that_is_a_factor_too_is_not_written_over() -> None:
    weights = np.arange(9, dtype=np.float32).reshape(3, 3)

    def make(x: Value) -> list[Value]:
        a = Abs(x).result
        return [Neg(Gemm(a, constant(weights), a).result).result]

    x = np.arange(-4, 5, dtype=np.float32).reshape(3, 3)
    made = planned(make, (3, 3))
    assert kinds(made.steps) == ["Abs", "Gemm", "Neg"]
    assert not made.steps[1].in_place
    assert np.array_equal(run_planned(made, [x])[0], -(abs(x) @ weights + abs(x)))


def test_an_output_in_a_layout_is_not_written_over_before_it_is_returned() -> None:
    def make(x: Value) -> list[Value]:
        blocked = Relayout(x, channels_last(4, 4)).result
        below = Neg(blocked)
        below.result.type = blocked.type
        return [blocked, Relayout(below.result).result]

    x = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    made = planned(make, (1, 3, 2, 2))
    assert not any(step.in_place for step in made.steps)
    for array, expected in zip(run_planned(made, [x]), [x, -x], strict=True):
        assert np.array_equal(array, expected)


def test_a_view_of_a_joined_part_is_neither_dense_nor_made_elsewhere() -> None:
    """The part lies between others: what reads it flat needs a copy, and the join still needs the part."""

    def make(x: Value) -> list[Value]:
        a = Abs(x).result
        flat = Reshape(a, constant([6])).result
        return [Concat((a, Neg(x).result), 1).result, flat, Neg(flat).result]

    x = np.arange(-3, 3, dtype=np.float32).reshape(2, 3)
    joined, flat, below = run_planned(planned(make, (2, 3)), [x])
    assert np.array_equal(joined, np.concatenate([abs(x), -x], 1))
    assert np.array_equal(flat, abs(x).ravel())
    assert np.array_equal(below, -abs(x).ravel())


def test_views_cost_nothing() -> None:
    def make(x: Value) -> list[Value]:
        a = Reshape(Abs(x).result, constant([6, 4])).result
        b = Unsqueeze(Flatten(a, 0).result, constant([0])).result
        return [Neg(b).result]

    made = planned(make, (2, 3, 4))
    assert kinds(made.steps) == ["Abs", "Neg"]
    assert made.steps[1].operands[0] is not None
    assert made.steps[1].operands[0].buffer is made.steps[0].results[0].buffer


def test_a_view_of_an_output_is_written_by_its_producer() -> None:
    made = planned(lambda x: [Reshape(Abs(x).result, constant([6])).result], (2, 3))
    assert kinds(made.steps) == ["Abs"]
    assert made.steps[0].results[0].buffer is made.outputs[0].buffer
    assert made.arena_bytes == 0


def test_what_moves_elements_is_a_step() -> None:
    assert kinds(planned(lambda x: [Transpose(x, (1, 0)).result], (2, 3)).steps) == ["Transpose"]
    blocked = planned(lambda x: [Relayout(Relayout(x, channels_last(4, 4)).result).result], (1, 3, 2, 2))
    assert kinds(blocked.steps) == ["Relayout", "Relayout"]


def test_outputs_that_nothing_makes_are_copied() -> None:
    made = planned(lambda x: [x, constant(np.arange(3.0, dtype=np.float32))], (3,))
    assert kinds(made.steps) == ["copy", "copy"]
    assert made.arena_bytes == 0


def test_joined_parts_are_made_where_they_belong() -> None:
    made = planned(lambda x: [Concat((Abs(x).result, Neg(x).result), 1).result], (2, 3))
    assert kinds(made.steps) == ["Abs", "Neg"]
    (a,), (b,) = made.steps[0].results, made.steps[1].results
    assert a.buffer is b.buffer is made.outputs[0].buffer
    assert (a.offset, b.offset) == (0, 3)
    assert a.strides == b.strides == (6, 1)


def test_joined_parts_that_cannot_be_made_there_are_copied() -> None:
    """An input, and the second use of a part, are not made in the result."""

    def make(x: Value) -> list[Value]:
        y = Abs(x).result
        return [Concat((y, x, y), 0).result]

    made = planned(make, (2, 3))
    assert kinds(made.steps) == ["Abs", "copy", "copy"]
    assert [step.results[0].offset for step in made.steps] in ([0, 6, 12], [12, 0, 6])


def test_parts_of_rounded_channels_join_only_at_multiples() -> None:
    """A part whose padding would cover its neighbour is not made in place."""

    def make(channels: int) -> list[str]:
        def joined(x: Value, y: Value) -> list[Value]:
            parts = [Relu(Relayout(v, channels_last(4, 4)).result).result for v in (x, y)]
            for part in parts:
                (producer,) = [part.producer]
                assert producer is not None
                producer.results[0].type = part.type.with_layout(channels_last(4, 4))
            whole = Concat(tuple(parts), 1)
            whole.result.type = whole.result.type.with_layout(channels_last(4, 4))
            return [Relayout(whole.result).result]

        return kinds(planned(joined, (1, channels, 2, 2), (1, 4, 2, 2)).steps)

    assert "Concat" not in make(8)
    assert make(6).count("Concat") == 1


def test_products_keep_their_operands() -> None:
    made = planned(lambda x: [Neg(MatMul(Abs(x).result, Add(x, x).result).result).result], (3, 3))
    assert kinds(made.steps) == ["Abs", "Add", "MatMul", "Neg"]
    assert not made.steps[2].in_place
