"""Graphs with operators that have no native code: those run here by their references, the rest natively."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .diagnostics import UnsupportedError
from .evaluate import evaluate_op
from .ir import Graph, Op, Value
from .op import Constant, Operator
from .port import check_count
from .steps import Event, Limits, Trace, facts_of
from .target import Module, ports
from .types import STRING, Array


def operators_without_code(graph: Graph) -> list[str]:
    """A line for each operator that no backend can compile: its kind, opset and ONNX node."""
    return [describe(op) for op in graph.walk() if not has_code(op)]


def has_code(op: Op) -> bool:
    """Whether a kernel can be made of the operator."""
    if isinstance(op, Constant):
        return op.result.type.dtype != STRING
    return isinstance(op, Operator) and op.has_lower() and all(v.type.dtype != STRING for v in op.inputs)


def describe(op: Op) -> str:
    """The operator for a user: ONNX name, opset, node, and what can be done."""
    where = f' node "{op.origin[0]}"' if op.origin else ""
    version = f" (opset {op.since})" if isinstance(op, Operator) and op.onnx else ""
    return f"{op.kind}{version}{where}: runs through its reference from Python; to save the model, replace it"


class HostedModule(Module):
    """Runs of native operators as modules of their own, and host operators between them."""

    def __init__(self, graph: Graph, build: Callable[[Graph, str], Module], name: str) -> None:
        self.name, self.graph = name, graph
        self.inputs, self.outputs = ports(graph)
        self.timings: dict[str, float] = {}
        self.host_steps = [op.origin[0] if op.origin else op.kind for op in graph.ops if not has_code(op)]
        self._parts: list[tuple[Module | Operator, list[Value | None], list[Value]]] = []
        for number, ops in enumerate(_runs(graph)):
            if not has_code(op := ops[0]):
                if not isinstance(op, Operator):
                    raise UnsupportedError(
                        f"{op.kind} has neither native code nor a reference", origin=op.origin
                    )
                self._parts.append((op, op.operands, list(op.results)))
            else:
                part, takes, gives = _segment(graph, ops, f"{name}_{number}")
                module = build(part, part.name)
                for phase, seconds in module.timings.items():
                    self.timings[phase] = self.timings.get(phase, 0.0) + seconds
                self._parts.append((module, list(takes), gives))

    def __call__(self, *arrays: Any) -> list[Array]:
        check_count(self.name, self.inputs, arrays)
        known: dict[Value, Any] = dict(zip(self.graph.inputs, arrays, strict=True))
        for part, takes, gives in self._parts:
            given = [None if value is None else known[value] for value in takes]
            results = part(*given) if isinstance(part, Module) else evaluate_op(part, given)
            known.update(zip(gives, results, strict=True))
        return [np.array(known[value]) for value in self.graph.outputs]

    def trace(self, *arrays: Any) -> Trace:
        check_count(self.name, self.inputs, arrays)
        known: dict[Value, Any] = dict(zip(self.graph.inputs, arrays, strict=True))
        events: list[Event] = []
        begin = time.perf_counter()
        for part, takes, gives in self._parts:
            given = [None if value is None else known[value] for value in takes]
            start = time.perf_counter()
            if isinstance(part, Module):
                inner = part.trace(*given)
                results = inner.outputs
                events += [replace(event, start=event.start + start - begin) for event in inner.events]
            else:
                results = evaluate_op(part, given)
                seconds = time.perf_counter() - start
                facts = facts_of(part, "reference", given, list(results))
                events.append(Event(facts, start - begin, seconds))
            known.update(zip(gives, results, strict=True))
        return Trace([np.array(known[value]) for value in self.graph.outputs], events)

    def limits(self) -> Limits | None:
        measured = (part.limits() for part, _, _ in self._parts if isinstance(part, Module))
        return next(measured, None)


def _runs(graph: Graph) -> list[list[Op]]:
    """Maximal runs of operators with code; each of the others alone."""
    runs: list[list[Op]] = []
    for op in graph.ops:
        if has_code(op) and runs and has_code(runs[-1][-1]):
            runs[-1].append(op)
        else:
            runs.append([op])
    return runs


def _segment(graph: Graph, ops: list[Op], name: str) -> tuple[Graph, list[Value], list[Value]]:
    """A graph of some operators, the values that it takes, and those that it gives to the rest."""
    inside = {value for op in ops for value in op.results}
    takes = list(dict.fromkeys(v for op in ops for v in op.inputs if v not in inside))
    constants = [op for v in takes if isinstance(op := v.producer, Constant) and has_code(op)]
    takes = [v for v in takes if v.producer not in constants]
    members = set(ops)
    gives = [v for v in inside if v in graph.outputs or any(user not in members for user in v.users)]
    part = Graph(name)
    part.metadata = dict(graph.metadata)
    mapping = {value: part.add_input(value.type, value.name) for value in takes}
    for op in [*constants, *ops]:
        copy = part.add(op.clone(mapping))
        mapping.update(zip(op.results, copy.results, strict=True))
    part.outputs = [mapping[value] for value in gives]
    part.output_names = [value.name or f"out{index}" for index, value in enumerate(gives)]
    return part, takes, gives
