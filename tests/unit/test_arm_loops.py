"""The assembly of contractions for ARM: their hot loops multiply, add and load, and do nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm.jit import assembly
from gcomp.backends.llvm.module import LLVMModule
from gcomp.ir import Graph, Value
from gcomp.op import constant
from gcomp.ops import Conv, MatMul
from gcomp.types import F32, TensorType

CONTROL = {"add", "sub", "subs", "cmp", "mov", "b.lt", "b.ne"}
LOADS = {"ldr", "ldur", "ldp", "ld1r", "prfm", "prfum"}


def product(x: Value) -> Value:
    return MatMul(x, weights(256, 64)).result


def pointwise(x: Value) -> Value:
    return Conv(x, weights(64, 64, 1, 1)).result


def three_by_three(x: Value) -> Value:
    return Conv(x, weights(32, 32, 3, 3), pads=(1, 1, 1, 1), strides=(2, 2)).result


def weights(*shape: int) -> Value:
    return constant(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


CASES: list[tuple[Callable[[Value], Value], tuple[int, ...], str]] = [
    (product, (64, 256), "gemm"),
    (product, (1, 256), "gemm"),
    (pointwise, (1, 64, 12, 12), "conv"),
    (three_by_three, (1, 32, 12, 12), "conv"),
]


def code(make: Callable[[Value], Value], shape: tuple[int, ...], template: str, cpu: str) -> str:
    """The assembly of the one kernel of this template."""
    graph = Graph("contraction")
    result = make(graph.add_input(TensorType(F32, shape), "x"))
    assert result.producer is not None
    graph.add(result.producer)
    graph.outputs, graph.output_names = [result], ["y"]
    module = gcomp.compile(graph, target=f"llvm{{triple=aarch64-linux-gnu,cpu={cpu}}}", host_steps=False)
    assert isinstance(module, LLVMModule)
    (unit,) = (unit for unit in module.program.units.values() if unit.template == template)
    return assembly(unit.text, module.program.cpu, unit.optimise)


def innermost(text: str) -> Iterator[list[str]]:
    """The instructions of each loop that is one block, which ends in a branch back to its label."""
    label, body = "", list[str]()
    for line in text.splitlines():
        if found := re.match(r"(\.L\w+):", line):
            label, body = found[1], []
        elif line.startswith("\t") and not line.startswith("\t."):
            body.append(line.split("//")[0].strip())
            if re.fullmatch(rf"b\.\w+\s+{re.escape(label)}", body[-1]):
                yield body


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "cortex-a76", "neoverse-v1"])
@pytest.mark.parametrize(
    ("make", "shape", "template"), CASES, ids=[f"{make.__name__}-{shape[0]}" for make, shape, _ in CASES]
)
def test_hot_loops_multiply_add_and_load(
    make: Callable[[Value], Value], shape: tuple[int, ...], template: str, cpu: str
) -> None:
    loops = [
        Counter(line.split()[0] for line in body) for body in innermost(code(make, shape, template, cpu))
    ]
    hot = [count for count in loops if count["fmla"]]
    assert hot, "there is no loop with a multiply-add"
    for count in hot:
        assert set(count) <= {"fmla"} | LOADS | CONTROL, count
        assert sum(count[name] for name in CONTROL) <= 8, count
        assert count["fmla"] >= sum(count[name] for name in LOADS), count


def test_a_loop_that_stores_is_seen() -> None:
    text = ".LBB0_1:\n\tldr\tq0, [x0], #16\n\tfmla\tv1.4s, v0.4s, v2.s[0]\n\tstr\tq1, [sp]\n\tb.lt\t.LBB0_1\n"
    assert list(innermost(text)) == [
        ["ldr\tq0, [x0], #16", "fmla\tv1.4s, v0.4s, v2.s[0]", "str\tq1, [sp]", "b.lt\t.LBB0_1"]
    ]
