"""What must hold for every pass on any graph: meaning, types and names stay, and a second run is idle."""

from __future__ import annotations

import pytest
from hypothesis import given

import gcomp
from gcomp.ops import Reshape
from gcomp.pipeline import parse_pipeline, run_pipeline
from gcomp.testing import Case, graphs
from gcomp.testing.trial import tried
from gcomp.text import parse, print_graph

DEFAULT = "fold-constants,simplify,lower-quantized,fold-batchnorm,clean,sparsify,layout{block=4},clean,fuse"
PASSES = [text for text in DEFAULT.split(",") if text != "clean"] + ["clean"]


@pytest.mark.parametrize("text", PASSES)
@given(case=graphs())
def test_a_pass_keeps_meaning_types_and_names(text: str, case: Case) -> None:
    """And says whether it changed anything, and finds nothing left to do in a second run."""
    assert not tried(parse_pipeline(text), case).complaint


@given(case=graphs())
def test_all_passes_together_keep_meaning(case: Case) -> None:
    assert not tried(parse_pipeline(DEFAULT), case).complaint
    after = gcomp.optimize(case.graph, DEFAULT)
    assert print_graph(parse(print_graph(after))) == print_graph(after)


@given(case=graphs())
def test_nothing_gets_lost(case: Case) -> None:
    """Each operator that is left names where it came from, and none of them is dead."""
    graph = case.graph.clone()
    run_pipeline(graph, parse_pipeline(DEFAULT))
    for op in graph.ops:
        assert any(value.users for value in op.results) or any(v in graph.outputs for v in op.results)
        if op.kind not in ("Constant", "Relayout") and not isinstance(op, Reshape):
            assert op.origin
