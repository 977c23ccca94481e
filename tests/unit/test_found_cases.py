"""Graphs, made small, on which random search once found a pass to change the answer or to fail."""

from __future__ import annotations

import pytest

import gcomp
from gcomp.testing import same_meaning

FOUND = {
    "a scale of infinity times zero": (
        "lower-quantized",
        """
graph "g" (%x: i8[1,2]) -> (%4 "y") {
  %0 = Constant {value=f32[] dense<inf>}
  %1 = DequantizeLinear(%x, %0) : f32[1,2]
  %2 = Constant {value=i8[2,1] dense<1, -1>}
  %3 = DequantizeLinear(%2, %0) : f32[2,1]
  %4 = MatMul(%1, %3) : f32[1,1]
}
""",
    ),
    "a scale folded into halves": (
        "lower-quantized",
        """
graph "g" (%x: i32[2]) -> (%5 "y") {
  %0 = Cast(%x) {to=10} : f16[2]
  %1 = Constant {value=f16[] dense<2.0>}
  %2 = Mul(%0, %1) : f16[2]
  %3 = Constant {value=f32[] dense<0.1>}
  %4 = Constant {value=i8[] dense<-1>}
  %5 = QuantizeLinear(%2, %3, %4) : i8[2]
}
""",
    ),
    "a product of large integers": (
        "simplify",
        """
graph "g" (%x: i64[1,2]) -> (%2 "y") {
  %0 = Constant {value=i64[2,1] dense<9223372036854775807, 3>}
  %1 = MatMul(%x, %0) : i64[1,1]
  %2 = Add(%1, %0) : i64[2,1]
}
""",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_right(name: str) -> None:
    passes, text = FOUND[name]
    before = gcomp.parse(text)
    for seed in range(3):
        same_meaning(before, gcomp.optimize(before, passes), seed=seed)
