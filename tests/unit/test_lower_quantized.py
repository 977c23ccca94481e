"""Why scales are left where they are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gcomp.ir import Graph
from gcomp.op import constant
from gcomp.ops import Cast, Mul, QuantizeLinear
from gcomp.passes.lower_quantized import PASS
from gcomp.types import F32, I32, TensorType


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        (0.0, "one positive scale"),
        (-0.5, "one positive scale"),
        (math.nan, "one positive scale"),
        (1.0, "a scale that is left to fold"),
        (1e-38, "finite factors"),
    ],
)
def test_a_scale_that_cannot_be_divided_by_is_not_folded(scale: float, reason: str) -> None:
    graph = Graph()
    sums = graph.add_input(TensorType(I32, (3,)), "sums")
    scaled = Mul(Cast(sums, F32.code).result, constant(np.float32(1000)))
    op = graph.add(QuantizeLinear(scaled.result, constant(np.float32(scale)), constant(np.int8(0), np.int8)))
    graph.outputs, graph.output_names = [op.result], ["y"]
    before = str(graph)
    reasons = {miss.rule: miss.reason for miss in PASS.apply(graph).misses()}
    assert reasons["fold_scale"] == reason and str(graph) == before
