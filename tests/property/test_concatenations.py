"""Results put together of parts, and these of others, of any layout: native code against reference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gcomp
from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Value
from gcomp.op import Constant
from gcomp.ops import Abs, Concat, Conv, Neg, Relu, Reshape
from gcomp.tolerance import mismatch
from gcomp.types import F32, TensorType

Shape = tuple[int, ...]

CUTS = 3
"""Concatenations within each other, at most."""


class _Maker:
    """A graph under construction; leaves are what may be put in place, and what has to be copied there."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.graph, self.made = draw, Graph("parts"), list[Value]()
        self.random = np.random.default_rng(draw(st.integers(0, 1 << 16)))

    def numbers(self, shape: Shape) -> Value:
        return self.graph.add(Constant(self.random.standard_normal(shape, np.float32))).result

    def given(self, shape: Shape) -> Value:
        return self.graph.add_input(TensorType(F32, shape), f"x{len(self.graph.inputs)}")

    def computed(self, shape: Shape) -> Value:
        return self.graph.add(Abs(self.given(shape))).result

    def convolved(self, shape: Shape) -> Value:
        batch, channels, *sizes = shape
        x = self.given((batch, 3, *sizes))
        made = self.graph.add(Conv(x, self.numbers((channels, 3, 1, 1)))).result
        return self.graph.add(Relu(made)).result if self.draw(st.booleans()) else made

    def viewed(self, shape: Shape) -> Value:
        flat = self.computed((int(np.prod(shape)),))
        return self.graph.add(Reshape(flat, self.graph.add(Constant(np.array(shape))).result)).result

    def again(self, shape: Shape) -> Value:
        alike = [value for value in self.made if value.type.shape == shape]
        return self.draw(st.sampled_from(alike)) if alike else self.computed(shape)

    def leaf(self, shape: Shape) -> Value:
        kinds: list[Callable[[Shape], Value]] = [
            self.convolved,
            self.computed,
            self.given,
            self.numbers,
            self.viewed,
            self.again,
        ]
        return self.draw(st.sampled_from(kinds))(shape)

    def part(self, shape: Shape, cuts: int) -> Value:
        axes = [axis for axis, size in enumerate(shape) if size > 1]
        if not cuts or not axes or not self.draw(st.integers(0, 3)):
            self.made.append(self.leaf(shape))
            return self.made[-1]
        axis = self.draw(st.sampled_from(axes))
        marks = self.draw(st.sets(st.integers(1, shape[axis] - 1), min_size=1, max_size=2))
        ends = [0, *sorted(marks), shape[axis]]
        parts = [
            self.part((*shape[:axis], stop - start, *shape[axis + 1 :]), cuts - 1)
            for start, stop in pairwise(ends)
        ]
        self.made.append(self.graph.add(Concat(tuple(parts), axis)).result)
        return self.made[-1]


@st.composite
def concatenations(draw: st.DrawFn) -> Graph:
    """Parts of parts of images, and what reads them, as they lie or channels-last."""
    maker = _Maker(draw)
    shape = (draw(st.integers(1, 2)), draw(st.sampled_from([2, 8, 16, 24, 37])), 2, draw(st.integers(1, 5)))
    whole = maker.part(shape, CUTS)
    if draw(st.booleans()):
        last = maker.graph.add(Conv(whole, maker.numbers((5, shape[1], 1, 1)))).result
    else:
        last = maker.graph.add(Neg(whole)).result
    kept = [value for value in dict.fromkeys(maker.made) if draw(st.integers(0, 7)) == 0]
    maker.graph.outputs = [last, *kept]
    maker.graph.output_names = [f"y{number}" for number in range(len(maker.graph.outputs))]
    return maker.graph


@pytest.mark.parametrize("target", ["llvm", "llvm{templates=off}"])
@settings(max_examples=60)
@given(graph=concatenations(), seed=st.integers(0, 9))
def test_parts_lie_where_they_belong(target: str, graph: Graph, seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs = {
        value.name: random.standard_normal(value.type.static_shape, np.float32) for value in graph.inputs
    }
    found = gcomp.compile(graph, target)(*inputs.values())
    for array, wanted in zip(found, evaluate(graph, inputs), strict=True):
        assert mismatch(array, wanted, "approximate") == ""
