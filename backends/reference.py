"""The target `reference`: runs the operators' own numpy definitions. Slow, and right by definition."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Value
from gcomp.op import Constant
from gcomp.port import check_count
from gcomp.steps import Event, Trace, facts_of
from gcomp.target import Module, Target, ports
from gcomp.types import Array


class ReferenceModule(Module):
    """A graph as it is; symbolic sizes come from the arrays of each call."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.name, self.graph = name, graph
        self.inputs, self.outputs = ports(graph)
        self.host_steps: list[str] = []
        self.timings: dict[str, float] = {}

    def __call__(self, *arrays: Any) -> list[Array]:
        check_count(self.name, self.inputs, arrays)
        return [result.copy() for result in evaluate(self.graph, [_as_array(array) for array in arrays])]

    def trace(self, *arrays: Any) -> Trace:
        known: dict[Value, Array] = {}
        events: list[Event] = []
        begin = last = time.perf_counter()

        def keep(value: Value, array: Array) -> None:
            nonlocal last
            known[value], op, now = array, value.producer, time.perf_counter()
            if op is not None and value is op.results[-1] and not isinstance(op, Constant):
                operands = [None if one is None else known[one] for one in op.operands]
                facts = facts_of(op, "reference", operands, [known[one] for one in op.results])
                events.append(Event(facts, last - begin, now - last))
            last = time.perf_counter()

        outputs = evaluate(self.graph, [_as_array(array) for array in arrays], keep)
        return Trace([result.copy() for result in outputs], events)


def _as_array(given: Any) -> Array:
    if not isinstance(given, np.ndarray) and hasattr(given, "__dlpack__"):
        return cast("Array", np.from_dlpack(given))
    return cast("Array", given)


@dataclass(frozen=True)
class Reference(Target):
    """The oracle. It runs the graph as imported, on one thread; `threads` and `host_steps` change nothing."""

    name: ClassVar[str] = "reference"
    is_native: ClassVar[bool] = False

    @property
    def pipeline(self) -> str:
        return ""

    def build(self, graph: Graph, *, name: str, threads: int, host_steps: bool) -> ReferenceModule:
        return ReferenceModule(graph, name)


TARGETS = {"reference": Reference}
