"""Networks that meet the edges of templates' vectors and tiles, against the reference."""

from __future__ import annotations

import pytest

import gcomp
from gcomp.backends.llvm.cpu import host
from gcomp.evaluate import evaluate
from gcomp.tolerance import mismatch
from tests.networks import networks

pytestmark = pytest.mark.parametrize("name", networks())


@pytest.mark.parametrize("templates", ["on", "off"])
def test_agrees_with_the_reference(name: str, templates: str) -> None:
    _compare(name, f"llvm{{templates={templates}}}")


@pytest.mark.skipif(
    host().arch != "x86_64" or not host().has("avx2", "fma"), reason="this processor cannot run the code"
)
@pytest.mark.parametrize("cpu", ["haswell", "x86-64"])
def test_agrees_on_lesser_processors(name: str, cpu: str) -> None:
    _compare(name, f"llvm{{cpu={cpu}}}")


def _compare(name: str, target: str) -> None:
    graph, arrays = networks()[name]()
    module = gcomp.compile(graph, target=target, host_steps=False)
    for actual, expected in zip(module(*arrays), evaluate(graph, arrays), strict=True):
        assert not (why := mismatch(actual, expected, "approximate")), why
