"""Operators' samples as graphs, and seeded arrays to feed them."""

from __future__ import annotations

import numpy as np

from gcomp.ir import Graph, Op, Value
from gcomp.op import Argument, Constant, Operator, constant_value, operators
from gcomp.ops import Relayout
from gcomp.types import Array


def native_samples() -> list[tuple[str, int]]:
    """Every sample of every operator that has native code, as (operator, place)."""
    return [
        (name, place)
        for name, cls in sorted(operators().items())
        if cls.has_lower() and cls not in (Constant, Argument)
        for place, _ in enumerate(cls.samples())
    ]


def sample(name: str, place: int) -> Operator:
    return list(operators()[name].samples())[place]


def graph_of(op: Operator) -> tuple[Graph, list[Array]]:
    """A graph of one operator whose arguments are inputs, and seeded arrays for those."""
    graph, rng = Graph(op.kind), np.random.default_rng(7)
    values: dict[Value, Value] = {}
    arrays: list[Array] = []
    for value in dict.fromkeys(op.inputs):
        owner = value.owner
        if isinstance(owner, Argument):
            given = graph.add_input(value.type.with_layout(None), f"x{len(arrays)}")
            layout = value.type.layout
            values[value] = graph.add(Relayout(given, layout)).result if layout else given
            arrays.append(array_for(owner, rng))
        elif isinstance(owner, Op):
            values[value] = graph.add(owner.clone({})).results[value.index]
    copy = graph.add(op.clone(values))
    graph.outputs = list(copy.results)
    graph.output_names = [f"y{index}" for index in range(len(copy.results))]
    return graph, arrays


def operand_arrays(op: Operator) -> list[Array | None]:
    """The arrays of the constants, and seeded ones for the arguments, the same one for the same argument."""
    rng, given = np.random.default_rng(3), dict[object, Array]()
    for value in op.inputs:
        known = constant_value(value)
        if known is not None:
            given[value] = known
        elif value not in given and isinstance(value.owner, Argument):
            given[value] = np.asarray(array_for(value.owner, rng))
    return [None if value is None else given[value] for value in op.operands]


def array_for(owner: Argument, rng: np.random.Generator) -> Array:
    """Seeded values in the argument's range."""
    dtype = owner.type.dtype
    spread = rng.uniform(owner.low, owner.high, owner.type.static_shape)
    if dtype.name == "bool":
        return np.asarray(spread > (owner.low + owner.high) / 2)
    return np.asarray(np.floor(spread) if dtype.is_integer else spread).astype(dtype.numpy)
