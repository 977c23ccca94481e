"""The order of a model's nodes: each after those that it reads from."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from onnx import GraphProto, NodeProto

from ..diagnostics import ModelError


def in_order(nodes: Sequence[NodeProto], where: str) -> list[int]:
    """The places of the nodes in an order in which each tensor is made before it is read, else as given.

    Raises `ModelError` for a tensor made twice, and for cycles.
    """
    makers: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in makers:
                raise ModelError(
                    f"{where}: tensor {name!r} is made twice, by {title(nodes[makers[name]], makers[name])} "
                    f"and {title(node, place)}"
                )
            makers[name] = place
    needs = [{makers[name] for name in names_read(node) if name in makers} for node in nodes]
    if all(max(needed, default=-1) < place for place, needed in enumerate(needs)):
        return list(range(len(nodes)))
    readers: list[list[int]] = [[] for _ in nodes]
    for place, needed in enumerate(needs):
        for maker in needed:
            readers[maker].append(place)
    waiting = [len(needed) for needed in needs]
    ready = [place for place, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for place in readers[order[-1]]:
            waiting[place] -= 1
            if waiting[place] == 0:
                heapq.heappush(ready, place)
    if len(order) < len(nodes):
        stuck = [title(node, place) for place, node in enumerate(nodes) if waiting[place]]
        more = f" and {len(stuck) - 5} more" if len(stuck) > 5 else ""
        raise ModelError(f"{where}: nodes depend on each other in a cycle: {', '.join(stuck[:5])}{more}")
    return order


def title(node: NodeProto, place: int) -> str:
    """The node's name; a nameless one is its operator and its place."""
    return node.name or f"{node.op_type}_{place}"


def names_read(node: NodeProto) -> Iterable[str]:
    """The tensors that a node reads, those that its subgraphs capture included."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            yield from _captured(graph)


def _captured(graph: GraphProto) -> Iterable[str]:
    made = {value.name for value in (*graph.input, *graph.initializer)}
    made |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        yield from (name for name in names_read(node) if name not in made)
    yield from (value.name for value in graph.output if value.name not in made)
