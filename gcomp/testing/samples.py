"""Operators over stand-ins: what samples are, how they are made anew with changes, and put into a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import cache

import numpy as np

from ..diagnostics import InferenceError
from ..ir import Graph, Op, Value
from ..op import Argument, Constant, Operator, constant_value, operators
from ..ops import Relayout
from ..types import Array

Change = Callable[[Op, Mapping[Value, Value]], Op]
"""A detached copy of an operator, perhaps another one, over the values that the mapping gives for its own."""


@cache
def samples_of(cls: type[Op]) -> tuple[Operator, ...]:
    """The samples of an operator class, or of all classes derived from a mere base."""
    known = operators()
    if known.get(cls.__name__) is cls:
        return tuple(known[cls.__name__].samples())
    derived = (own for own in known.values() if issubclass(own, cls))
    return tuple(sample for own in derived for sample in own.samples())


def native_classes() -> list[type[Operator]]:
    """The operators that have native code and samples, by name."""
    return [
        cls
        for _, cls in sorted(operators().items())
        if cls.has_lower() and cls not in (Constant, Argument) and samples_of(cls)
    ]


def native_samples() -> list[tuple[str, int]]:
    """Every sample of every operator that has native code, as (operator, place)."""
    return [(cls.__name__, place) for cls in native_classes() for place, _ in enumerate(samples_of(cls))]


def sample(name: str, place: int) -> Operator:
    """A fresh one of an operator's samples."""
    return list(operators()[name].samples())[place]


def cone(root: Op) -> list[Op]:
    """The detached operators that `root` is made of, in order, stand-ins and constants included."""
    order: dict[Op, None] = {}

    def visit(op: Op) -> None:
        if op not in order:
            for value in op.inputs:
                if value.producer is not None:
                    visit(value.producer)
            order[op] = None

    visit(root)
    return list(order)


def remade(root: Op, change: Mapping[Op, Op | Change]) -> Op:
    """The cone of `root`, still detached, with some operators changed. Raises `InferenceError`.

    What does not depend on those is shared.
    """
    values: dict[Value, Value] = {}
    new: Op = root
    for op in cone(root):
        other = change.get(op)
        if other is None and not any(value in values for value in op.inputs):
            new = op
            continue
        new = op.clone(values) if other is None else other if isinstance(other, Op) else other(op, values)
        if len(new.results) < len(op.results):
            raise InferenceError(f"{new.kind} gives fewer results than {op.kind}")
        values.update(zip(op.results, new.results, strict=False))
    return new


def put(root: Op, old: Op, new: Op | Change) -> Op:
    """A detached copy of the cone of `root` with `new` in the place of `old`. Raises `InferenceError`."""
    return remade(root, {old: new})


def arguments(root: Op) -> list[Argument]:
    """The stand-ins that `root` is made of."""
    return [op for op in cone(root) if isinstance(op, Argument)]


def planted(root: Op) -> tuple[Graph, dict[Value, Value]]:
    """A graph that computes the results of `root` from inputs in the place of stand-ins.

    And which value of the graph each value of the cone has become.
    """
    graph = Graph(root.kind)
    values: dict[Value, Value] = {}
    for op in cone(root):
        if isinstance(op, Argument):
            layout = op.type.layout
            given = graph.add_input(op.type.with_layout(None), f"x{len(graph.inputs)}")
            values[op.result] = graph.add(Relayout(given, layout)).result if layout else given
        else:
            new = graph.add(_copied(op, values))
            new.origin = new.origin or (f"node{len(graph.ops)}",)
            values.update(zip(op.results, new.results, strict=True))
    graph.outputs = [values[value] for value in root.results]
    graph.output_names = [f"y{place}" for place in range(len(graph.outputs))]
    return graph, values


def _copied(op: Op, values: Mapping[Value, Value]) -> Op:
    """A detached copy of `op` over values of the same types, which need not be inferred anew."""
    new = copy(op)
    for field in op.fields():
        held = getattr(op, field.name)
        match field.kind:
            case "operand" | "optional":
                setattr(new, field.name, values.get(held, held))
            case "variadic":
                setattr(new, field.name, tuple(values.get(value, value) for value in held))
            case "region":
                setattr(new, field.name, held.clone(values))
            case "attribute":
                pass
    new.results = tuple(Value(value.type, new, value.index, value.name) for value in op.results)
    return new


def graph_of(root: Op) -> tuple[Graph, list[Array]]:
    """A graph of one operator whose stand-ins are inputs, and seeded arrays for those."""
    rng = np.random.default_rng(7)
    return planted(root)[0], [array_for(argument, rng) for argument in arguments(root)]


def operand_arrays(op: Operator) -> list[Array | None]:
    """The arrays of the constants, and seeded ones for stand-ins, the same one for the same stand-in."""
    rng, given = np.random.default_rng(3), dict[object, Array]()
    for value in op.inputs:
        known = constant_value(value)
        if known is not None:
            given[value] = known
        elif value not in given and isinstance(value.owner, Argument):
            given[value] = np.asarray(array_for(value.owner, rng))
    return [None if value is None else given[value] for value in op.operands]


def array_for(owner: Argument, rng: np.random.Generator) -> Array:
    """Seeded values in the range of a stand-in."""
    dtype = owner.type.dtype
    spread = rng.uniform(owner.low, owner.high, owner.type.static_shape)
    if dtype.name == "bool":
        return np.asarray(spread > (owner.low + owner.high) / 2)
    return np.asarray(np.floor(spread) if dtype.is_integer else spread).astype(dtype.numpy)
