"""What must hold for every pass on any graph: meaning, types and names stay, and a second run is idle."""

import numpy as np
import pytest
from hypothesis import given

from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.op import Constant
from gcomp.ops import Relayout, Reshape
from gcomp.pipeline import parse_pipeline, run_pipeline
from gcomp.text import parse, print_graph
from gcomp.tolerance import mismatch
from tests.random_graphs import graphs

DEFAULT = "fold-constants,simplify,fold-batchnorm,clean,sparsify,layout{block=4},clean,fuse"
PASSES = {
    "fold-constants": "close",
    "clean": "exact",
    "simplify": "close",
    "fold-batchnorm": "approximate",
    "sparsify": "exact",
    "layout{block=4}": "exact",
    "fuse": "exact",
    DEFAULT: "approximate",
}
"""The pipelines and how far results may move: references of several shapes sum in several orders."""


@pytest.mark.parametrize("text", PASSES)
@given(graph=graphs())
def test_a_pass_keeps_meaning_types_and_names(text: str, graph: Graph) -> None:
    rng = np.random.default_rng(7)
    inputs = [rng.uniform(-2, 2, v.type.static_shape).astype(np.float32) for v in graph.inputs]
    before = evaluate(graph, inputs)
    types, names = [value.type for value in graph.outputs], list(graph.output_names)

    run_pipeline(graph, parse_pipeline(text), check="text")

    assert [value.type for value in graph.outputs] == types
    assert graph.output_names == names
    for expected, actual in zip(before, evaluate(graph, inputs), strict=True):
        assert mismatch(actual, expected, PASSES[text]) == ""
    assert print_graph(parse(print_graph(graph))) == print_graph(graph)


@pytest.mark.parametrize("text", [text for text in PASSES if text != DEFAULT])
@given(graph=graphs())
def test_run_twice_a_pass_has_nothing_left_to_do(text: str, graph: Graph) -> None:
    passes = parse_pipeline(text)
    run_pipeline(graph, passes)
    once = print_graph(graph)
    (again,) = run_pipeline(graph, passes, check="text")
    assert print_graph(graph) == once
    assert not again.changed


@given(graph=graphs())
def test_nothing_gets_lost(graph: Graph) -> None:
    """Each operator that is left names where it came from, and none of them is dead."""
    run_pipeline(graph, parse_pipeline(DEFAULT))
    for op in graph.ops:
        assert any(value.users for value in op.results) or any(v in graph.outputs for v in op.results)
        if not isinstance(op, Constant | Reshape | Relayout):
            assert op.origin
