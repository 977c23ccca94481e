"""Graphs, made small, on which random search once found a pass or a target to be wrong or to fail."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

import gcomp
from gcomp.data import synthetic
from gcomp.evaluate import evaluate
from gcomp.target import ports
from gcomp.testing import same_meaning
from gcomp.testing.meaning import truth

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
    "one scale for a block": (
        "lower-quantized",
        """
graph "g" (%x: f32[1]) -> (%4 "y") {
  %0 = Constant {value=i64[3] dense<1, 1, 1>}
  %1 = Reshape(%x, %0) : f32[1,1,1]
  %2 = Constant {value=f32[1,1,1] dense<0.5>}
  %3 = Constant {value=i8[1,1,1] dense<-2>}
  %4 = QuantizeLinear(%1, %2, %3) {axis=2, block_size=2} : i8[1,1,1]
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
    "the largest of NaN and a number": (
        "lower-quantized",
        """
graph "g" (%x: f32[1,1,1,2]) -> (%5 "y") {
  %0 = Constant {value=f32[2] dense<nan, 0.0>}
  %1 = Add(%x, %0) : f32[1,1,1,2]
  %2 = MaxPool(%1) {kernel_shape=(1, 2)} : f32[1,1,1,1]
  %3 = Constant {value=f32[] dense<0.5>}
  %4 = Constant {value=u8[] dense<13>}
  %5 = QuantizeLinear(%2, %3, %4) : u8[1,1,1,1]
}
""",
    ),
    "quantized by a scale of zero": (
        "lower-quantized",
        """
graph "g" (%x: i8[9]) -> (%2 "y") {
  %0 = Constant {value=f32[] dense<0.0>}
  %1 = DequantizeLinear(%x, %0) : f32[9]
  %3 = Constant {value=i8[] dense<0>}
  %2 = QuantizeLinear(%1, %0, %3) : i8[9]
}
""",
    ),
}

COMPILED = {
    "a Group of several results, one made with a constant of no elements": """
graph "g" (%x: f32[2,3]) -> (%0 "y", %1 "z") {
  %0, %1 = Group(%x) {body=graph "body" (%2: f32[2,3]) -> (%3 "", %5 "") {
    %3 = Relu(%2) : f32[2,3]
    %4 = Constant {value=f32[0,3] dense<>}
    %5 = Concat(%2, %4) {axis=0} : f32[2,3]
  }} : f32[2,3], f32[2,3]
}
""",
    "a power of integers, whose squares are used again": """
graph "g" (%x: u32[1,7], %y: u32[1,7]) -> (%0 "y") {
  %0 = Pow(%x, %y) : u32[1,7]
}
""",
    "copies of three bfloats, on which LLVM asserts": """
graph "g" (%x: bf16[6,7]) -> (%0 "y") {
  %0, %1, %2 = Split(%x) {axis=1, num_outputs=3} : bf16[6,3], bf16[6,3], bf16[6,1]
}
""",
    "bfloats that are compared, for which LLVM finds no instruction": """
graph "g" (%x: bf16[6,3]) -> (%2 "y") {
  %0 = Cast(%x) {to=9} : bool[6,3]
  %1 = Not(%0) : bool[6,3]
  %2 = Cast(%1) {to=10} : f16[6,3]
}
""",
    "an index that is NaN": """
graph "g" (%x: f32[1,3,1]) -> (%2 "y") {
  %0 = Constant {value=f32[] dense<3.0>}
  %1 = Constant {value=f32[2] dense<-1.0, 0.0>}
  %2 = OneHot(%x, %0, %1) : f32[1,3,1,3]
}
""",
    "a resized NaN, which others do not see": """
graph "g" (%x: f32[2,1,1,2]) -> (%1 "y") {
  %0 = Constant {value=f32[4] dense<1.0, 1.0, 1.8, 0.6>}
  %1 = Resize(%x, _, %0) {coordinate_transformation_mode="align_corners"} : f32[2,1,1,1]
}
""",
    "a weight of a transposed convolution that is NaN": """
graph "g" (%w: f32[2,3,3,3], %x: f32[1,2,1,1]) -> (%0 "y") {
  %0 = ConvTranspose(%x, %w) {strides=(2, 2)} : f32[1,3,3,3]
}
""",
    "the range of a single number": """
graph "g" (%x: f32[]) -> (%0 "y", %1 "scale", %2 "zero") {
  %0, %1, %2 = DynamicQuantizeLinear(%x) : u8[], f32[], u8[]
}
""",
    "an integer that is the logarithm of a negative one": """
graph "g" (%x: f32[8,6]) -> (%3 "y") {
  %0 = Neg(%x) : f32[8,6]
  %1 = Cast(%0) {to=6} : i32[8,6]
  %2 = Constant {value=i64[1] dense<1>}
  %3 = ReduceLogSum(%1, %2) : i32[8,1]
}
""",
    "a diagonal far beside the matrix": """
graph "g" (%x: f32[2,3], %i: i64[]) -> (%2 "y") {
  %0 = Constant {value=i64[] dense<9223372036854775807>}
  %1 = Max(%i, %0) : i64[]
  %2 = Trilu(%x, %1) : f32[2,3]
}
""",
    "a maximum over no elements": """
graph "g" (%x: f32[1,2,0,3]) -> (%0 "y") {
  %0 = GlobalMaxPool(%x) : f32[1,2,1,1]
}
""",
    "a transposed convolution of no elements": """
graph "g" (%x: f32[0,1,1,1], %w: f32[1,3,3,3]) -> (%0 "y") {
  %0 = ConvTranspose(%x, %w) {strides=(2, 2)} : f32[0,3,3,3]
}
""",
    "parts of a part": """
graph "g" (%x: i32[1,1], %y: i32[6,3]) -> (%3 "y0") {
  %0 = Constant {value=i32[4,1] dense<-1, -1, -1, 1>}
  %1 = Abs(%x) : i32[1,1]
  %2 = Concat(%1, %1, %0) {axis=0} : i32[6,1]
  %3 = Concat(%2, %y) {axis=1} : i32[6,4]
}
""",
    "Gelu far from 0": """
graph "g" (%x: f32[2]) -> (%3 "y") {
  %0 = Constant {value=f32[2] dense<-12.8, -12.8>}
  %1 = Max(%x, %0) : f32[2]
  %2 = Min(%1, %0) : f32[2]
  %3 = Gelu(%2) : f32[2]
}
""",
    "positions in f32 of numbers in f64": """
graph "g" (%x: f64[1,2,4,5]) -> (%1 "y") {
  %0 = Constant {value=f64[4] dense<1.0, 1.0, 0.4000000059604645, 0.800000011920929>}
  %1 = Resize(%x, _, %0) {antialias=1, mode="cubic"} : f64[1,2,1,4]
}
""",
    "an image that is the kernel too": """
graph "g" (%x: u8[1,4,3,3]) -> (%0 "y") {
  %0 = ConvInteger(%x, %x) {pads=(1, 1, 1, 1)} : i32[1,1,3,3]
}
""",
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_right(name: str) -> None:
    passes, text = FOUND[name]
    before = gcomp.parse(text)
    for seed in range(3):
        same_meaning(before, gcomp.optimize(before, passes), seed=seed)


@pytest.mark.parametrize("templates", ["on", "off"])
@pytest.mark.parametrize("name", COMPILED)
def test_what_was_found_compiles_right(name: str, templates: str) -> None:
    graph = gcomp.parse(COMPILED[name])
    module = gcomp.compile(graph, f"llvm{{templates={templates}}}")
    inputs = synthetic(list(ports(graph)[0]), 3, graph)
    for _ in range(2):
        found = module.run(inputs)
        assert not truth(graph, inputs).complaint(list(found.values()), graph.output_names)
        for array in inputs.values():  # once more with NaN as the last float
            if array.size and array.dtype.kind in "fV":
                array.flat[-1] = np.nan


def test_an_infinite_scale_scales_what_is_centred() -> None:
    """`inf * (1 - 0)`, while a folded shift would be NaN: `0 * inf`."""
    graph = gcomp.parse("""
graph "g" (%x: f16[1,1], %v: f16[1]) -> (%2 "y") {
  %0 = Constant {value=f16[1] dense<inf>}
  %1 = Constant {value=f16[1] dense<0.0>}
  %2 = BatchNormalization(%x, %0, %1, %1, %v) {epsilon=0.001} : f16[1,1]
}
""")
    inputs = {"x": np.ones((1, 1), np.float16), "v": np.ones(1, np.float16)}
    assert np.isposinf(evaluate(graph, inputs)[0]).all()
    assert np.isposinf(gcomp.compile(graph).run(inputs)["y"]).all()


def test_sizes_that_need_no_memory_run_beside_those_that_do() -> None:
    graph = gcomp.parse("""
graph "g" (%x: f32[n,2], %w: f32[2,2]) -> (%1 "y") {
  %0 = MatMul(%x, %w) : f32[n,2]
  %1 = MatMul(%0, %w) : f32[n,2]
}
""")
    module = gcomp.compile(graph, dims={"n": (0, 40)})
    for size in (0, 1, 40):
        assert (
            module(np.ones((size, 2), np.float32), np.eye(2, dtype=np.float32))[0] == np.ones((size, 2))
        ).all()


@pytest.mark.parametrize("largest", [0, 1])
def test_nan_is_above_all_numbers_wherever_it_stands(largest: int) -> None:
    graph = gcomp.parse(f"""
graph "g" (%x: f32[6,3]) -> (%1 "values", %2 "indices") {{
  %0 = Constant {{value=i64[1] dense<2>}}
  %1, %2 = TopK(%x, %0) {{largest={largest}}} : f32[6,2], i64[6,2]
}}
""")
    orders = np.array(list(permutations([np.nan, 1, np.inf])), np.float32)
    wanted = [[1, np.inf], [np.nan, np.inf]][largest]
    for values, indices in (evaluate(graph, {"x": orders}), gcomp.compile(graph)(orders)):
        np.testing.assert_array_equal(values, [wanted] * 6)
        np.testing.assert_array_equal(np.take_along_axis(orders, indices, 1), values)
