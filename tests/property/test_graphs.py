"""What gcomp.testing grows: whole graphs and single operators, well-formed, of many kinds, in ONNX too."""

from __future__ import annotations

from collections import Counter
from random import Random
from statistics import median

import numpy as np
import onnx
import pytest
from hypothesis import given

import gcomp
from gcomp.evaluate import evaluate
from gcomp.testing import Case, graphs, models, operators
from gcomp.testing.case import sizes_of
from gcomp.testing.emission import whole_model
from gcomp.testing.growth import single, whole
from gcomp.testing.samples import native_classes
from gcomp.text import parse, print_graph
from gcomp.tolerance import mismatch
from gcomp.wellformed import check

COUNT = 150


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [whole(Random(seed)) for seed in range(COUNT)]


def test_graphs_are_large_and_of_all_kinds(cases: list[Case]) -> None:
    traits = Counter(trait for case in cases for trait in case.traits())
    assert median(len(case.operators) for case in cases) >= 8
    for trait in ("regions", "symbolic", "empty", "broadcasting"):
        assert traits[trait] >= COUNT / 10, trait
    assert sum(len(case.graph.outputs) > 1 for case in cases) > COUNT / 2
    made = [value for case in cases for op in case.graph.ops for value in op.results]
    assert sum(len(value.users) > 1 for value in made) > COUNT / 2, "shared values"
    ends = [v for case in cases for op in case.operators for v in op.results if v not in case.graph.outputs]
    assert sum(not value.users for value in ends) > COUNT / 10, "dead ends"
    assert any(1 in value.type.shape for value in made)


def test_operators_are_drawn_about_equally(cases: list[Case]) -> None:
    """None is left out: each is among those of a few hundred steps times the number of operators."""
    seen = Counter(type(op) for seed in range(4 * COUNT) for op in whole(Random(seed)).operators)
    assert not set(native_classes()) - set(seen)


def test_the_same_seed_gives_the_same_case() -> None:
    one, other = whole(Random(11)), whole(Random(11))
    assert one.graph == other.graph
    assert all(array.tobytes() == other.inputs[name].tobytes() for name, array in one.inputs.items())


@given(graphs())
def test_a_graph_is_well_formed_and_runs(case: Case) -> None:
    check(case.graph)
    assert print_graph(parse(print_graph(case.graph))) == print_graph(case.graph)
    evaluate(case.graph, case.inputs)
    for name, (low, high) in case.graph.ranges.items():
        assert low <= sizes_of(case)[name] <= high


@given(operators())
def test_an_operator_is_alone(case: Case) -> None:
    assert len([op for op in case.graph.ops if op.kind not in ("Constant", "Relayout")]) <= 1
    evaluate(case.graph, case.inputs)


@given(models())
def test_a_model_means_what_its_graph_does(drawn: tuple[onnx.ModelProto, dict[str, np.ndarray]]) -> None:
    model, inputs = drawn
    onnx.checker.check_model(model)
    assert evaluate(gcomp.lift(model.SerializeToString()), inputs)


def test_onnx_holds_the_same_graph() -> None:
    for seed in range(COUNT // 3):
        case = whole_model(Random(seed))
        back = gcomp.lift(case.model().SerializeToString())
        pairs = zip(evaluate(back, case.inputs), evaluate(case.graph, case.inputs), strict=True)
        for name, (actual, wanted) in zip(case.graph.output_names, pairs, strict=True):
            assert not (why := mismatch(actual, wanted, "close")), f"seed {seed}, {name}: {why}"


def test_a_single_operator_is_any() -> None:
    kinds = {op.kind for seed in range(8 * COUNT) for op in single(Random(seed)).operators}
    assert len(kinds) > len(native_classes()) * 0.9
