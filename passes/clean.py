"""clean: removes operators that nobody reads, and second copies of the same computation."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from gcomp.ir import Graph, Op
from gcomp.rewrite import erase, open_regions, restore_users, supersede
from gcomp.types import Array


@dataclass(frozen=True)
class Clean:
    """Of operators with the same class, operands and attributes keeps the first; constants count by bits.

    Each region is cleaned on its own: nothing moves between a region and the graph around it.
    """

    name: str = field(default="clean", init=False)

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
        for region in open_regions(op):
            _sweep(region)
        erase(op)


def _merge(graph: Graph) -> None:
    """Removes what was computed before; in order, so that operands have been merged already."""
    known: dict[Hashable, list[Op]] = {}
    for op in list(graph.ops):
        for region in open_regions(op):
            _merge(region)
        if op.regions or not op.results:
            continue
        alike = known.setdefault(_key(op), [])
        first = next((other for other in alike if _equal(_attributes(op), _attributes(other))), None)
        if first is None:
            alike.append(op)
        else:
            supersede(op, first.results, [])
            if op.parent is None:
                first.origin = tuple(dict.fromkeys((*first.origin, *op.origin)))


def _key(op: Op) -> Hashable:
    """Equal for operators that compute the same, and for few others."""
    beginnings = [_bits(value.ravel()[:16]) for value in op.attributes.values() if _is_array(value)]
    return type(op), tuple(op.operands), tuple(value.type for value in op.results), tuple(beginnings)


def _attributes(op: Op) -> tuple[Any, ...]:
    return tuple(op.attributes.values())


def _equal(mine: Any, its: Any) -> bool:
    """Whether two attributes are the same; numbers count by bits."""
    if type(mine) is not type(its):
        return False
    if _is_array(mine):
        return mine is its or (
            mine.dtype == its.dtype and mine.shape == its.shape and _bits(mine) == _bits(its)
        )
    if _is_tuple(mine):
        return len(mine) == len(its) and all(map(_equal, mine, its))
    return mine.hex() == its.hex() if isinstance(mine, float) else bool(mine == its)


def _is_array(value: Any) -> TypeGuard[Array]:
    return isinstance(value, np.ndarray)


def _is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def _bits(array: Array) -> Hashable:
    return tuple(array.ravel()) if array.dtype == object else array.tobytes()


PASS = Clean()
