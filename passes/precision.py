"""precision: says in the graph how exact its numbers have to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from gcomp.diagnostics import InputError
from gcomp.ir import Graph
from gcomp.precision import PRECISIONS, demand


@dataclass(frozen=True)
class Precision:
    """Has the graph ask for the precision `mode`, of which backends read it.

    Raises `InputError` for a mode that there is not.
    """

    name: str = field(default="precision", init=False)
    mode: str = "strict"

    def run(self, graph: Graph) -> bool:
        if self.mode not in PRECISIONS:
            raise InputError(f"precision: mode must be one of {', '.join(PRECISIONS)}, got {self.mode!r}")
        return demand(graph, self.mode)


PASS = Precision()
