"""How exact a graph's numbers have to be: the words for it, and where a graph says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ir import Graph

PRECISIONS = ("strict", "fp32", "bf16")
"""From the most exact to the fastest; docs/precision.md says what each promises."""
DEFAULT = "fp32"

METADATA = "precision"


def precision_of(graph: Graph) -> str:
    """What the graph asks of the code made of it."""
    return graph.metadata.get(METADATA, DEFAULT)


def demand(graph: Graph, precision: str) -> bool:
    """Has the graph ask for a precision; says whether that is new."""
    before = precision_of(graph)
    graph.metadata[METADATA] = precision
    return precision != before
