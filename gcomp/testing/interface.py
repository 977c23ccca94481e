"""What a grown graph gives and takes: its outputs, a region in it, and the ranges of its symbols."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from ..ir import Graph, Op, Value
from ..lowering import SMALL
from ..op import Constant
from ..ops import Group, Relayout
from ..types import STRING

FEW = 4
"""The most operators of a region."""


def with_outputs(random: Random, graph: Graph) -> None:
    """Most of what nobody reads becomes an output, and some other values; seldom an input, or one twice."""
    made = [value for op in graph.ops for value in op.results if not isinstance(op, Constant)]
    made = [value for value in made if value.type.layout is None]
    chosen = [value for value in made if random.randrange(8) >= (1 if not value.users else 7)]
    if graph.inputs and not random.randrange(16):
        chosen.append(random.choice(graph.inputs))
    if chosen and not random.randrange(16):
        chosen.append(random.choice(chosen))
    graph.outputs = chosen or made[-1:] or graph.inputs[:1]
    graph.output_names = [f"y{place}" for place in range(len(graph.outputs))]


def with_ranges(random: Random, graph: Graph, sizes: Mapping[str, int]) -> None:
    """Declares ranges about the sizes of this run, for all symbols or none."""
    if random.randrange(2):
        for name in graph.symbols():
            graph.ranges[name] = (random.randrange(sizes[name] + 1), sizes[name] + random.randrange(1, 8))


def enclosed(random: Random, graph: Graph) -> Graph:
    """A copy of `graph` with some of its operators, one after the other, in the region of a Group."""
    places = [place for place, op in enumerate(graph.ops) if _can_be_enclosed(op)]
    if not places:
        return graph
    first = random.choice(places)
    inside: dict[Op, None] = {}
    for op in graph.ops[first:]:
        if isinstance(op, Constant):
            continue
        if not _can_be_enclosed(op) or len(inside) == FEW or (inside and not random.randrange(4)):
            break
        inside[op] = None
    return _with_group(graph, inside)


def _can_be_enclosed(op: Op) -> bool:
    return not isinstance(op, Constant | Group | Relayout) and all(
        value.type.dtype != STRING and value.type.layout is None for value in (*op.inputs, *op.results)
    )


def _with_group(graph: Graph, inside: Mapping[Op, None]) -> Graph:
    """A copy of `graph` with the operators of `inside` as one Group."""
    body, inner = Graph("body"), dict[Value, Value]()
    made = [value for op in inside for value in op.results]
    taken: list[Value] = []
    for op in inside:
        for value in op.inputs:
            if value in inner:
                continue
            if isinstance(value.owner, Constant) and value.owner.value.size <= SMALL:
                inner[value] = body.add(value.owner.clone({})).result
            else:
                taken.append(value)
                inner[value] = body.add_input(value.type)
        new = body.add(op.clone(inner))
        inner.update(zip(op.results, new.results, strict=True))
    given = [
        value
        for value in made
        if value in graph.outputs or not value.users or any(user not in inside for user in value.users)
    ]
    body.outputs = [inner[value] for value in given]
    copy, values = Graph(graph.name), dict[Value, Value]()
    for value in graph.inputs:
        values[value] = copy.add_input(value.type, value.name)
    last = list(inside)[-1]
    for op in graph.ops:
        if op is last:
            group = copy.add(Group(tuple(values[value] for value in taken), body))
            group.origin = tuple(name for one in inside for name in one.origin)
            values.update(zip(given, group.results, strict=True))
        elif op not in inside:
            new = copy.add(op.clone(values))
            values.update(zip(op.results, new.results, strict=True))
    copy.outputs = [values[value] for value in graph.outputs]
    copy.output_names = list(graph.output_names)
    return copy
