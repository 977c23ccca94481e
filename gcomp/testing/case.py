"""A case: a graph and inputs that it takes, and what it is like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from ..diagnostics import GcompError
from ..dim import is_symbol
from ..ir import Graph, Op, Value
from ..op import Constant
from ..ops.arithmetic import VariadicOperator
from ..ops.elementwise import BinaryOperator
from ..ops.linear import Gemm, MatMul
from ..specialise import bind
from ..types import Array
from .arrays import draw_array, draw_extremes, draw_size, tamed
from .samples import arguments, planted

if TYPE_CHECKING:
    from ..save import ModelProto

ATTEMPTS = 16
"""Draws of sizes for symbols before a case is left to be found unfit."""


@dataclass(frozen=True)
class Case:
    """A graph and arrays for its inputs."""

    graph: Graph
    inputs: Mapping[str, Array]

    @property
    def key(self) -> str:
        """Equal for graphs of the same canonical text."""
        return hashlib.sha256(str(self.graph).encode()).hexdigest()

    @property
    def operators(self) -> list[Op]:
        """All operators but constants, those in regions too."""
        return [op for op in self.graph.walk() if not isinstance(op, Constant)]

    def bound(self) -> Case:
        """The same with numbers in the place of symbols."""
        return Case(bind(self.graph, sizes_of(self)), self.inputs) if self.graph.symbols() else self

    def model(self) -> ModelProto:
        """The graph as an `onnx.ModelProto`. Raises `UnsupportedError` where ONNX lacks an operator."""
        from ..save import save_onnx  # needs the onnx package, which nothing else here does

        return save_onnx(self.graph)

    def tame(self) -> Case:
        """The same with moderate floats in the place of infinite, huge and tiny ones: sums round, then."""
        return Case(self.graph, {name: tamed(array) for name, array in self.inputs.items()})

    def traits(self) -> list[str]:
        """Which of `empty`, `broadcasting`, `symbolic` and `regions` the graph has."""
        return traits(self.graph.walk(), self.graph.inputs)


def traits(ops: Iterable[Op], inputs: Iterable[Value]) -> list[str]:
    """Which of `empty`, `broadcasting`, `symbolic` and `regions` operators over these inputs have."""
    ops, inputs = list(ops), list(inputs)
    values = [*inputs, *(value for op in ops for value in op.results)]
    found = {
        "empty": any(0 in value.type.shape for value in values),
        "broadcasting": any(map(broadcasts, ops)),
        "symbolic": any(not value.type.is_static for value in inputs),
        "regions": any(op.regions for op in ops),
    }
    return [name for name, has in found.items() if has]


def broadcasts(op: Op) -> bool:
    """Whether an operand of `op` is spread over a result of another shape."""
    match op:
        case BinaryOperator() | VariadicOperator():
            return any(value.type.shape != op.results[0].type.shape for value in op.inputs)
        case Gemm():
            return op.c is not None and op.c.type.shape != op.result.type.shape
        case MatMul():
            return op.a.type.shape[:-2] != op.b.type.shape[:-2]
        case _:
            return False


def case_of(random: Random, root: Op, extremes: bool) -> Case:
    """The graph of `root`, whose stand-ins are inputs, and arrays for these, at sizes drawn for symbols."""
    graph, _ = planted(root)
    sizes = drawn_sizes(random, graph)
    rare = draw_extremes(random) if extremes and random.randrange(4) else ()
    inputs: dict[str, Array] = {}
    for value, leaf in zip(graph.inputs, arguments(root), strict=True):
        type = value.type.substitute(sizes)
        inputs[value.name] = draw_array(random, type, leaf.low, leaf.high, rare)
    return Case(graph, inputs)


def drawn_sizes(random: Random, graph: Graph) -> dict[str, int]:
    """What the symbols of a graph stand for in one run: sizes that operators take, if they are found."""
    names = graph.symbols()
    values = [*graph.inputs, *(value for op in graph.ops for value in op.results)]
    fixed = sorted({size for value in values for size in value.type.shape if isinstance(size, int)})
    sizes: dict[str, int] = {}
    for _ in range(ATTEMPTS if names else 0):
        sizes = {
            name: random.choice(fixed) if fixed and random.randrange(2) else draw_size(random)
            for name in names
        }
        if fits(graph, sizes):
            break
    return sizes


def fits(graph: Graph, sizes: Mapping[str, int]) -> bool:
    """Whether the operators of a graph take these values of its symbols."""
    if not sizes:
        return True
    try:
        bind(graph, sizes)
    except GcompError:
        return False
    return True


def sizes_of(case: Case) -> dict[str, int]:
    """What the symbols of a case's graph stand for in its inputs."""
    found: dict[str, int] = {}
    for value in case.graph.inputs:
        for size, actual in zip(value.type.shape, case.inputs[value.name].shape, strict=True):
            if is_symbol(size):
                found[str(size)] = actual
    return found
