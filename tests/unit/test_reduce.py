"""Delta debugging: what is left still fails, and does not without any part of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcomp.cut import computed, part, workers
from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.op import constant
from gcomp.ops import Add, Concat, Conv, MatMul, Relayout, Relu, Reshape, Shape, Sigmoid, Tanh
from gcomp.reduce import Case, Reducer, ddmin, size_of
from gcomp.text import parse
from gcomp.types import channels_last, parse_type
from gcomp.wellformed import check


@given(st.integers(1, 40), st.data())
def test_ddmin_leaves_what_is_needed_and_no_more(count: int, data: st.DataObject) -> None:
    needed = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    assert ddmin(range(count), lambda kept: needed <= set(kept)) == sorted(needed)


@given(st.integers(1, 24), st.integers(1, 24))
def test_ddmin_is_minimal_where_anything_goes(count: int, least: int) -> None:
    least = min(count, least)
    assert len(ddmin(range(count), lambda kept: len(kept) >= least)) == least


def case() -> Case:
    """Two convolutions of an image and a product, with a reshape between that knows its shape."""
    random = np.random.default_rng(0)

    def weights(*shape: int):
        return constant(random.standard_normal(shape).astype(np.float32))

    graph = Graph()
    x = graph.add_input(parse_type("f32[2,3,8,8]"), "x")
    y = Relu(Conv(x, weights(6, 3, 3, 3), pads=(1, 1, 1, 1)).result).result
    y = Conv(y, weights(6, 6, 1, 1), group=1).result
    flat = Reshape(y, constant(np.array([2, 384], np.int64))).result
    product = MatMul(flat, weights(384, 10)).result
    first = graph.add(Sigmoid(Tanh(product).result))
    second = graph.add(Add(product, product))
    graph.outputs, graph.output_names = [first.result, second.result], ["a", "b"]
    return Case(graph, {"x": random.standard_normal((2, 3, 8, 8), np.float32)})


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in workers(graph)]


def test_one_operator_is_left_of_what_one_operator_breaks() -> None:
    asked: list[Graph] = []

    def fails(case: Case) -> bool:
        asked.append(case.graph)
        check(case.graph)
        evaluate(case.graph, case.sample)
        return "Tanh" in kinds(case.graph)

    small = Reducer(fails, 1000).reduced(case())
    assert kinds(small.graph) == ["Tanh"] and len(small.graph.outputs) == 1
    assert size_of(small) == (1, 1)
    assert len(asked) < 60


def test_sizes_shrink_together_where_they_have_to() -> None:
    def fails(case: Case) -> bool:
        evaluate(case.graph, case.sample)
        return {"Conv", "MatMul"} <= set(kinds(case.graph))

    small = Reducer(fails, 1000).reduced(case())
    assert size_of(small)[1] < 30
    assert kinds(small.graph).count("Conv") == 1


def test_numbers_become_simple() -> None:
    def fails(case: Case) -> bool:
        (result,) = evaluate(case.graph, case.sample)[:1]
        return bool((case.sample.get("x", np.zeros(1)) > 1).any()) and result.size > 0

    small = Reducer(fails, 1000).reduced(case())
    assert np.count_nonzero(small.sample["x"]) == 1


def test_questions_are_bounded() -> None:
    asked: list[int] = []

    def fails(case: Case) -> bool:
        asked.append(1)
        return "Conv" in kinds(case.graph)

    Reducer(fails, 5).reduced(case())
    assert len(asked) <= 5


def test_a_part_computes_what_the_whole_did() -> None:
    whole = case()
    arrays = computed(whole.graph, whole.sample)
    for op in workers(whole.graph):
        graph, sample = part(whole.graph, [op], arrays)
        check(graph)
        assert parse(str(graph)) == graph
        for found, value in zip(evaluate(graph, sample), op.results, strict=True):
            np.testing.assert_allclose(found, arrays[value], rtol=1e-6)


def test_a_part_reads_and_gives_row_major() -> None:
    graph = Graph()
    x = graph.add_input(parse_type("f32[1,8,2,2]"), "x")
    blocked = graph.add(Relayout(x, channels_last(4, 4)))
    relu = graph.add(Relu(blocked.result))
    relu.result.type = relu.result.type.with_layout(channels_last(4, 4))
    graph.outputs, graph.output_names = [graph.add(Relayout(relu.result, None)).result], ["y"]
    array = np.arange(32, dtype=np.float32).reshape(1, 8, 2, 2)
    found, sample = part(graph, [relu], computed(graph, {"x": array}))
    assert kinds(found) == ["Relayout", "Relu", "Relayout"]
    assert found.inputs[0].type.layout is found.outputs[0].type.layout is None
    check(found)
    np.testing.assert_array_equal(evaluate(found, sample)[0], array)


def test_small_integers_become_constants() -> None:
    graph = Graph()
    x = graph.add_input(parse_type("f32[2,6]"), "x")
    shape = Concat((Shape(x).result, constant(np.array([1], np.int64))), axis=0).result
    last = graph.add(Reshape(x, shape))
    graph.outputs, graph.output_names = [last.result], ["y"]
    found, sample = part(graph, [last], computed(graph, {"x": np.zeros((2, 6), np.float32)}))
    assert list(sample) == ["x"] and found.outputs[0].type == parse_type("f32[2,6,1]")


@pytest.mark.parametrize("effort", [0, 1])
def test_without_effort_the_case_stays(effort: int) -> None:
    whole = case()
    assert Reducer(lambda case: False, effort).reduced(whole) is whole
