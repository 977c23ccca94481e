"""The pass on graphs grown around its rules, and on one written by hand."""

from gcomp_cancel_negations import PASS

import gcomp
from gcomp.testing import check_pass

GRAPH = """
graph "g" (%x: f32[n,3], %y: f32[n,3]) -> (%2 "z") {
  %0 = Neg(%y) : f32[n,3]
  %1 = Neg(%0) : f32[n,3]
  %2 = Sub(%x, %1) : f32[n,3]
}
"""


def test_it_holds() -> None:
    check_pass(PASS, examples=50)


def test_it_is_found_by_name_and_cancels() -> None:
    after = gcomp.optimize(gcomp.parse(GRAPH), "cancel-negations")
    assert [op.kind for op in after.ops] == ["Sub"]
