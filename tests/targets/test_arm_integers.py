"""Products of bytes as code for ARM processors, run under qemu: exact, with the instruction that each has."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm.jit import assembly
from gcomp.backends.llvm.module import LLVMModule
from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.op import constant
from gcomp.ops import (
    Add,
    Cast,
    ConvInteger,
    DequantizeLinear,
    Flatten,
    MatMulInteger,
    MaxPool,
    Mul,
    QuantizeLinear,
)
from gcomp.types import F32, U8, Array, TensorType
from tests.cross import TRIPLE, cross_program, emulate

PROCESSORS = [
    ("cortex-a72", "cortex-a72", "smlal2"),
    ("cortex-a76", "cortex-a76", "sdot"),
    ("neoverse-v1", "max", "usdot"),
]
"""What is compiled for, which processor qemu acts as, and what multiplies bytes there."""

pytestmark = pytest.mark.arm


def network() -> Graph:
    """Two convolutions, one of them depthwise with a residual sum, a pool and a product; zero is 128."""
    random, zero = np.random.default_rng(0), constant(128, np.uint8)

    def weights(*shape: int) -> Array:
        return random.choice([-128, -127, -3, 0, 64, 127], shape).astype(np.int8)

    graph = Graph("integers")
    x = graph.add_input(TensorType(U8, (1, 3, 11, 9)), "x")
    for channels, group in ((20, 1), (20, 20)):
        depth = x.type.static_shape[1] // group
        sums = ConvInteger(x, constant(weights(channels, depth, 3, 3)), zero, group=group, pads=(1, 1, 1, 1))
        floats = Mul(Cast(sums.result, F32.code).result, constant(1 / 700.3)).result
        if group > 1:
            floats = Add(floats, DequantizeLinear(x, constant(0.37), zero).result).result
        bytes = QuantizeLinear(floats, constant(1.1), zero)
        x = MaxPool(bytes.result, kernel_shape=(2, 2), strides=(2, 2)).results[0]
    flat = Flatten(x).result
    last = graph.add(MatMulInteger(flat, constant(weights(flat.type.static_shape[1], 10)), zero))
    graph.outputs, graph.output_names = [last.result], ["y"]
    return graph


@pytest.mark.parametrize(("cpu", "emulated", "instruction"), PROCESSORS)
def test_exact_under_qemu(cpu: str, emulated: str, instruction: str, tmp_path: Path) -> None:
    graph = network()
    target = f"llvm{{triple={TRIPLE},cpu={cpu}}}"
    module = gcomp.compile(graph, target=target, name="integers", host_steps=False)
    assert isinstance(module, LLVMModule)
    units = {unit.template: unit for unit in module.program.units.values()}
    assert {"integer_conv", "integer_gemm", "depthwise", "pool"} <= set(units)
    for template in ("integer_conv", "integer_gemm"):
        text = assembly(units[template].text, module.program.cpu, units[template].optimise)
        assert re.search(rf"\t{instruction}\t", text), template
    x = np.random.default_rng(1).choice([0, 1, 127, 200, 255], (1, 3, 11, 9)).astype(np.uint8)
    (outcome,) = emulate(cross_program(tmp_path, [(module, [x])], "o"), [(module, [x])], emulated)
    assert (outcome.init, outcome.run) == (0, 0)
    np.testing.assert_array_equal(outcome.outputs[0], evaluate(module.graph, [x])[0])
