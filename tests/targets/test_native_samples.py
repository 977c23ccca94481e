"""Each operator's samples as native code, from templates and from generic nests, against the reference."""

from __future__ import annotations

import pytest

from gcomp.backends.llvm.cpu import Cpu, from_options, host
from gcomp.backends.llvm.module import compile_graph
from gcomp.evaluate import evaluate
from gcomp.testing.samples import graph_of, native_samples, sample
from gcomp.tolerance import mismatch


@pytest.mark.parametrize("templates", [True, False], ids=["templates", "nests"])
@pytest.mark.parametrize(("name", "place"), native_samples())
def test_agrees_with_the_reference(name: str, place: int, templates: bool) -> None:
    _compare(name, place, host(), templates)


@pytest.mark.slow
@pytest.mark.skipif(
    host().arch != "x86_64", reason="x86-64 processors of fewer features can run on x86-64 alone"
)
@pytest.mark.parametrize("cpu", ["haswell", "x86-64"])
@pytest.mark.parametrize(("name", "place"), native_samples())
def test_agrees_on_lesser_processors(name: str, place: int, cpu: str) -> None:
    _compare(name, place, from_options({"cpu": cpu}), True)


def _compare(name: str, place: int, cpu: Cpu, templates: bool) -> None:
    op = sample(name, place)
    graph, arrays = graph_of(op)
    expected = evaluate(graph, arrays)
    module = compile_graph(graph, cpu, name, templates)
    before = [array.copy() for array in arrays]
    for actual, wanted in zip(module(*arrays), expected, strict=True):
        assert not (why := mismatch(actual, wanted, op.tolerance)), why
    for array, copy in zip(arrays, before, strict=True):
        assert array.tobytes() == copy.tobytes(), "an input was written"
