"""What the pass leaves, and that it means the same."""

import numpy as np
import pytest
from gcomp_cancel_negations import PASS

import gcomp
from gcomp.evaluate import evaluate

GRAPHS = {
    "Sub": """
graph "g" (%x: f32[n,3], %y: f32[n,3]) -> (%2 "z") {
  %0 = Neg(%y) : f32[n,3]
  %1 = Neg(%0) : f32[n,3]
  %2 = Sub(%x, %1) : f32[n,3]
}
""",
    "Add": """
graph "g" (%x: f32[n,3], %y: f32[3]) -> (%1 "z") {
  %0 = Neg(%y) : f32[3]
  %1 = Sub(%x, %0) : f32[n,3]
}
""",
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_it_cancels_and_means_the_same(kind: str) -> None:
    before = gcomp.parse(GRAPHS[kind])
    after = gcomp.optimize(before, [PASS])
    assert [op.kind for op in after.ops] == [kind]
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(value.type.substitute({"n": 2}).shape) for value in before.inputs]
    inputs = [array.astype(np.float32) for array in inputs]
    np.testing.assert_array_equal(evaluate(after, inputs), evaluate(before, inputs))


def test_it_is_found_by_name() -> None:
    after = gcomp.optimize(gcomp.parse(GRAPHS["Sub"]), "cancel-negations")
    assert [op.kind for op in after.ops] == ["Sub"]
