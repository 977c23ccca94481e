"""Operators' samples with a symbolic leading size, and arrays for values of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from gcomp.diagnostics import GcompError
from gcomp.dim import symbol
from gcomp.ir import Graph, Op, Value
from gcomp.op import Argument, Operator
from gcomp.ops import Relayout
from gcomp.testing.samples import array_for
from gcomp.types import Array, TensorType

LARGEST = 9
BATCH = symbol("batch")


@dataclass(frozen=True)
class SymbolicSample:
    """A graph of one operator, some of its inputs with the leading size `batch`."""

    op: Operator
    graph: Graph
    arguments: list[Argument]

    def arrays(self, batch: int) -> list[Array]:
        """Seeded arrays for one value of the size."""
        rng = np.random.default_rng([3, batch])
        found: list[Array] = []
        for value, owner in zip(self.graph.inputs, self.arguments, strict=True):
            type = value.type.substitute({"batch": batch})
            found.append(array_for(Argument(type, owner.low, owner.high), rng))
        return found


def symbolic_sample(op: Operator) -> SymbolicSample | None:
    """The sample with a symbolic leading size; None where none of its operands can have one."""
    values = [value for value in dict.fromkeys(op.inputs) if isinstance(value.owner, Argument)]
    deep = [value for value in values if value.type.rank]
    for first in deep:
        alike = [value for value in deep if value.type.shape[0] == first.type.shape[0]]
        for chosen in ([first], alike):
            try:
                return _built(op, chosen)
            except GcompError:
                continue
    return None


def _built(op: Operator, chosen: Collection[Value]) -> SymbolicSample:
    graph, arguments, values = Graph(op.kind), list[Argument](), dict[Value, Value]()
    for value in dict.fromkeys(op.inputs):
        owner = value.owner
        if isinstance(owner, Argument):
            shape = (BATCH, *value.type.shape[1:]) if value in chosen else value.type.shape
            given = graph.add_input(TensorType(value.type.dtype, shape), f"x{len(arguments)}")
            layout = value.type.layout
            values[value] = graph.add(Relayout(given, layout)).result if layout else given
            arguments.append(owner)
        elif isinstance(owner, Op):
            values[value] = graph.add(owner.clone({})).results[value.index]
    copy = graph.add(op.clone(values))
    graph.outputs = list(copy.results)
    graph.output_names = [f"y{index}" for index in range(len(copy.results))]
    graph.ranges = {"batch": (1, LARGEST)}
    return SymbolicSample(op, graph, arguments)
