"""The target `reference`: runs the operators' own numpy definitions. Slow, and right by definition."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from gcomp.diagnostics import InputError
from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Value
from gcomp.op import Constant
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
        if len(arrays) != len(self.inputs):
            names = ", ".join(port.name for port in self.inputs) or "none"
            raise InputError(f"{self.name}: takes {len(self.inputs)} inputs ({names}), got {len(arrays)}")
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

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        outputs = evaluate(self.graph, {name: _as_array(array) for name, array in inputs.items()})
        return {name: result.copy() for name, result in zip(self.graph.output_names, outputs, strict=True)}


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
