"""Looks at a program step by step: its kernels' costs, its memory, and runs with a clock between kernels."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence

import numpy as np

from gcomp.diagnostics import RunError
from gcomp.native import CTensor, ErrorCode, aligned
from gcomp.plan import View, physical_extents
from gcomp.steps import Event, Memory, Span, StepFacts, Trace, flops_of, nodes_of, operators_of
from gcomp.types import Array

from .build import Call, Program, calling, module_text, object_code
from .elf import code_bytes
from .jit import load_objects
from .peak import peak


def largest(program: Program) -> dict[str, int]:
    """The greatest value of each symbolic size."""
    return {symbol.name: symbol.high for symbol in program.plan.symbols}


def step_facts(program: Program, values: Mapping[str, int]) -> list[StepFacts]:
    """The facts of each call of the entry function, in order, for these values of symbolic sizes."""
    sizes = {
        unit.symbol: code_bytes(object_code(unit.text, program.cpu, unit.optimise))
        for unit in program.units.values()
    }
    return [_facts(call, sizes[call.unit.symbol], values) for call in program.calls]


def _facts(call: Call, size: int | None, values: Mapping[str, int]) -> StepFacts:
    step, op = call.step, call.step.op
    operands = list({id(view): view for view in step.operands if view is not None}.values())
    weights = sum(_bytes(view, values) for view in operands if view.buffer.space == "constant")
    data = sum(_bytes(view, values) for view in (*operands, *step.results) if view.buffer.space != "constant")
    if op is None:
        return StepFacts((), ("copy",), call.unit.template, 0, weights, data, size)
    flops = flops_of(op, values)
    return StepFacts(nodes_of(op), operators_of(op), call.unit.template, flops, weights, data, size)


def _bytes(view: View, values: Mapping[str, int]) -> int:
    type = view.type.substitute(values)
    return int(np.prod(physical_extents(type), dtype=np.int64)) * type.dtype.bytes


def memory(program: Program) -> Memory:
    """The buffers of the arena, by the steps that use them."""
    views = [view for step in program.plan.steps for view in (*step.operands, *step.results)]
    buffers = {id(view.buffer): view.buffer for view in views if view is not None}.values()
    spans = [Span(b.first, b.last, b.offset, b.bytes) for b in buffers if b.space == "arena"]
    scratch = program.arena_bytes - program.plan.arena_bytes
    return Memory(program.arena_bytes, scratch, program.weights.bytes, spans)


class Tracer:
    """A program of this machine, loaded with a function of its own for each step."""

    def __init__(self, program: Program, weights: Array) -> None:
        self._program, self._plan, self._weights = program, program.plan, weights
        self._overhead = peak(program.cpu)
        self._arena_bytes = program.arena_bytes
        symbols = [f"step{number}" for number in range(len(program.calls))]
        objects = [object_code(unit.text, program.cpu, unit.optimise) for unit in program.units.values()]
        functions = [
            calling(symbol, program.plan, [call], "dso_local")
            for symbol, call in zip(symbols, program.calls, strict=True)
        ]
        for first in functions[:1]:
            first.functions = functions[1:]
            objects.append(object_code(module_text(first, program.cpu), program.cpu, False))
        self._loaded = load_objects(objects, symbols)
        sizes = [ctypes.c_int64] * len(program.plan.symbols)
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4, *sizes)
        self._calls = [prototype(self._loaded.addresses[symbol]) for symbol in symbols]

    def __call__(self, arrays: Sequence[Array]) -> Trace:
        """One run on contiguous arrays of the inputs' types. Raises `RunError` for what a kernel refuses.

        Calling a step from here takes time by itself, which is measured and taken off.
        """
        values = {one.name: arrays[one.input].shape[one.axis] for one in self._plan.symbols}
        steps = step_facts(self._program, values)
        types = [view.type.substitute(values) for view in self._plan.outputs]
        outputs = [np.empty(type.static_shape, type.dtype.numpy) for type in types]
        arena = aligned(self._arena_bytes)
        given, made = _tensors(arrays), _tensors(outputs)
        pointers = [
            self._weights.ctypes.data,
            arena.ctypes.data,
            ctypes.addressof(given),
            ctypes.addressof(made),
            *values.values(),
        ]
        overhead, clock = self._overhead.overhead(), time.perf_counter
        marks: list[tuple[float, float]] = []
        begin = clock()
        for number, call in enumerate(self._calls):
            start = clock()
            code = call(*pointers)
            marks.append((start - begin, clock() - start))
            if code:
                raise RunError(f"{steps[number].title}: {ErrorCode(code).message} (error {code})")
        events = [
            Event(facts, start, max(seconds - overhead, 0.0))
            for facts, (start, seconds) in zip(steps, marks, strict=True)
        ]
        return Trace(outputs, events)


def _tensors(arrays: Sequence[Array]) -> ctypes.Array[CTensor]:
    """An array of structs of which only the data pointers are set: steps read nothing else."""
    tensors = (CTensor * len(arrays))()
    for tensor, array in zip(tensors, arrays, strict=True):
        tensor.data = array.ctypes.data
    return tensors
