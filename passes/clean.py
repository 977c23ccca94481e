"""clean: removes operators that nobody reads, and second copies of the same computation."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gcomp.ir import Graph, Op
from gcomp.rewrite import erase, restore_users, supersede
from gcomp.types import Array


@dataclass(frozen=True)
class Clean:
    """Of operators with the same class, operands and attributes keeps the first; constants count by bits.

    Each region is cleaned on its own: nothing moves between a region and the graph around it.
    """

    name: ClassVar[str] = "clean"

    def run(self, graph: Graph) -> bool:
        count = sum(1 for _ in graph.walk())
        _merge(graph)
        _sweep(graph)
        restore_users(graph)  # an operator reads less now if its regions do
        _sweep(graph)
        return sum(1 for _ in graph.walk()) != count


def _sweep(graph: Graph) -> None:
    """Removes what nobody reads, last first, so that one sweep is enough."""
    for op in reversed(list(graph.ops)):
        for region in op.regions:
            _sweep(region)
        erase(op)


def _merge(graph: Graph) -> None:
    """Removes what was computed before; in order, so that operands have been merged already."""
    known: dict[Hashable, list[Op]] = {}
    for op in list(graph.ops):
        for region in op.regions:
            _merge(region)
        if op.regions or not op.results:
            continue
        alike = known.setdefault(_key(op), [])
        first = next((other for other in alike if _same_arrays(op, other)), None)
        if first is None:
            alike.append(op)
        else:
            first.origin = tuple(dict.fromkeys((*first.origin, *op.origin)))
            supersede(op, first.results, [])


def _key(op: Op) -> Hashable:
    """Equal for operators that compute the same, up to the elements of large arrays."""
    attributes = tuple((name, _frozen(value)) for name, value in op.attributes.items())
    return type(op), tuple(op.operands), attributes, tuple(value.type for value in op.results)


def _frozen(attribute: Any) -> Hashable:
    if isinstance(attribute, np.ndarray):
        return attribute.dtype.str, attribute.shape, attribute.ravel()[:16].tobytes()
    if isinstance(attribute, float):
        return attribute.hex()
    return (type(attribute), attribute) if isinstance(attribute, Hashable) else repr(attribute)


def _same_arrays(op: Op, other: Op) -> bool:
    return all(
        _same_bits(mine, its)
        for mine, its in zip(op.attributes.values(), other.attributes.values(), strict=True)
        if isinstance(mine, np.ndarray)
    )


def _same_bits(mine: Array, its: Array) -> bool:
    return mine is its or (mine.dtype != object and mine.tobytes() == its.tobytes())


PASS = Clean()
