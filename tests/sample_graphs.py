"""Operators' samples as graphs, and the arrays in graphs."""

from __future__ import annotations

from gcomp.ir import Graph, Op, Value
from gcomp.op import Argument, Constant
from gcomp.types import Array


def graph_of(sample: Op) -> Graph:
    """A graph of one sample and its constants; the stand-ins for operands have become inputs."""
    graph = Graph("sample")
    values: dict[Value, Value] = {}

    def visit(op: Op) -> Op:
        for value in op.inputs:
            if value in values:
                continue
            if isinstance(value.owner, Argument):
                values[value] = graph.add_input(value.type, f"x{len(graph.inputs)}")
            elif value.producer is not None:
                values.update(zip(value.producer.results, visit(value.producer).results, strict=True))
        return graph.add(op.clone(values))

    graph.outputs = list(visit(sample).results)
    graph.output_names = [f"y{place}" for place in range(len(graph.outputs))]
    return graph


def array_of(value: Value) -> Array:
    """What a constant holds."""
    assert isinstance(value.owner, Constant)
    return value.owner.value
