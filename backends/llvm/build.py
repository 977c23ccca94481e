"""From a planned graph to kernels, an entry function, objects and one blob of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from gcomp import dim as dims
from gcomp.arena import Buffer, most, rounded
from gcomp.diagnostics import BuildError, OpenSizeError
from gcomp.dim import Dim, maximum
from gcomp.native import ALIGNMENT, aligned
from gcomp.plan import Plan, Step
from gcomp.plan import View as Place
from gcomp.timing import counted
from gcomp.types import Array

from . import cache
from .cpu import Cpu
from .emit import Function, Value
from .jit import emit_object, llvm_version
from .measure import TENSOR_TYPE
from .problem import Argument, Emitted
from .select import NAME, Selection, select


@dataclass(frozen=True)
class Unit:
    """One kernel as a module of its own: its symbol, its LLVM text, whether LLVM's passes run on it."""

    symbol: str
    text: str
    optimise: bool
    template: str


@dataclass
class Call:
    """One call of the entry function: which kernel, with the addresses of its arguments as LLVM text."""

    step: Step
    unit: Unit
    arguments: list[tuple[str, int]]
    """(base register, byte offset); inputs and outputs are named by their own pointers, as are buffers of the
    arena whose place depends on symbolic sizes. Those sizes that the kernel asks for follow."""
    symbols: Sequence[str] = ()


@dataclass
class Weights:
    """The constants that kernels read, each once, in order of first use; offsets are multiples of 64."""

    parts: list[tuple[int, Callable[[], Array]]] = field(
        default_factory=list[tuple[int, Callable[[], Array]]]
    )
    bytes: int = 0
    _places: dict[object, int] = field(default_factory=dict[object, int])

    def place(self, key: object, size: int, make: Callable[[], Array]) -> int:
        """The byte offset of what `make` gives, `size` bytes; the same key again gives the same place."""
        if key not in self._places:
            self._places[key] = self.bytes
            self.parts.append((self.bytes, make))
            self.bytes += -(-size // ALIGNMENT) * ALIGNMENT
        return self._places[key]

    def blob(self) -> Array:
        """All parts in one aligned array of bytes; gaps are zero."""
        memory = aligned(self.bytes)
        end = 0
        for offset, make in self.parts:
            array = np.ascontiguousarray(make())
            memory[end:offset] = 0
            memory[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
            end = offset + array.nbytes
        memory[end:] = 0
        return memory


@dataclass
class Program:
    """Everything that a module is made of, before it is linked."""

    name: str
    plan: Plan
    cpu: Cpu
    units: dict[str, Unit]
    calls: list[Call]
    weights: Weights
    scratch: Dim
    arena_bytes: int
    entry: str

    def objects(self) -> list[bytes]:
        """Object code of every kernel, from the cache where it is there, and of the entry function."""
        modules = [(unit.text, unit.optimise) for unit in self.units.values()] + [(self.entry, False)]
        return [object_code(text, self.cpu, optimise) for text, optimise in counted("codegen", modules)]


def build(plan: Plan, cpu: Cpu, name: str, templates: bool, strict: bool = False) -> Program:
    """Emits all kernels of a plan; if `strict`, their floats are the same bits on every processor.

    Raises `UnsupportedError` for what no kernel can be made for.
    """
    builder = _Builder(plan, cpu)
    selections = [(step, select(step, cpu, templates, strict)) for step in counted("emit", plan.steps)]
    rooms = (sum(map(_room, s.emitted.arguments), start=cast(Dim, 0)) for _, s in selections)
    scratch = maximum(*rooms, 0)
    for step, selection in selections:
        builder.add(step, selection)
    arena = plan.arena_bytes + most(scratch, plan.graph.ranges)
    entry = _entry(name, plan, builder.calls, scratch, cpu)
    return Program(name, plan, cpu, builder.units, builder.calls, builder.weights, scratch, arena, entry)


def _room(argument: Argument) -> Dim:
    """The bytes of the arena that an argument takes for the duration of a call."""
    return rounded(argument.bytes)


class _Builder:
    def __init__(self, plan: Plan, cpu: Cpu) -> None:
        self.plan, self.cpu = plan, cpu
        self.units: dict[str, Unit] = {}
        self.calls: list[Call] = []
        self.weights = Weights()

    def add(self, step: Step, selection: Selection) -> None:
        emitted = selection.emitted
        unit = _unit(emitted, self.cpu)
        self.units.setdefault(unit.symbol, unit)
        arguments: list[tuple[str, int]] = []
        scratch: Dim = 0
        for argument in emitted.arguments:
            arguments.append(self._argument(argument, step, selection, scratch))
            scratch = scratch + _room(argument)
        self.calls.append(Call(step, unit, arguments, emitted.function.symbols))

    def _argument(
        self, argument: Argument, step: Step, selection: Selection, scratch: Dim
    ) -> tuple[str, int]:
        match argument.source:
            case "scratch":
                if not isinstance(scratch, int):
                    told = f"scratch lies behind one of {scratch} bytes"
                    raise OpenSizeError(f"{selection.emitted.template}: {told}")
                return (
                    ("%scratch", scratch)
                    if self.plan.symbols
                    else ("%arena", self.plan.arena_bytes + scratch)
                )
            case "packed" if argument.pack is not None:
                packed = argument.pack()
                return "%weights", self.weights.place(object(), packed.nbytes, lambda: packed)
            case "result":
                return self._address(step.results[argument.index])
            case "operand" if argument.index < len(step.operands):
                place = step.operands[argument.index]
                if place is not None:
                    return self._address(place)
            case "operand":
                view = selection.constants[argument.index - len(step.operands)]
                if view is not None and view.array is not None:
                    return "%weights", self._constant(view.array)
            case _:
                pass
        raise BuildError(
            f"{selection.emitted.template}: argument {argument.source} {argument.index} is not there"
        )

    def _address(self, place: Place) -> tuple[str, int]:
        offset, buffer = place.offset * place.type.dtype.bytes, place.buffer
        match buffer.space:
            case "arena" if self.plan.symbols:
                return f"%arena{self.plan.arena.index(buffer)}", offset
            case "arena":
                return "%arena", buffer.offset + offset
            case "input" | "output":
                return f"%{buffer.space}{buffer.index}", offset
            case "constant" if buffer.array is not None:
                return "%weights", self._constant(buffer.array) + offset
            case "constant":
                raise BuildError(f"a constant {place.type} needs an array, got none")

    def _constant(self, array: Array) -> int:
        return self.weights.place(id(array), array.nbytes, lambda: array)


def _unit(emitted: Emitted, cpu: Cpu) -> Unit:
    text = module_text(emitted.function, cpu)
    digest = hashlib.sha256(f"{emitted.optimise} {cpu} {text}".encode()).hexdigest()[:16]
    symbol = f"gcomp_{emitted.template}_{digest}"
    # Weak: the same kernel may come with several models of one program.
    text = text.replace(f"define hidden i32 @{NAME}(", f"define weak_odr hidden i32 @{symbol}(")
    return Unit(symbol, text, emitted.optimise, emitted.template)


def module_text(function: Function, cpu: Cpu) -> str:
    """The LLVM module of a function and those that it holds."""
    functions = [function, *function.functions]
    declarations = {text for one in functions for text in one.declarations}
    return "\n".join([*map(str, functions), *sorted(declarations), attributes(cpu)])


def attributes(cpu: Cpu) -> str:
    """The attribute group of functions that run only on this processor."""
    width = f'"prefer-vector-width"="{cpu.vector_bytes * 8}" ' if cpu.arch == "x86_64" else ""
    return (
        f'attributes #0 = {{ nounwind "no-builtins" {width}"target-cpu"="{cpu.name}" '
        f'"target-features"="{cpu.llvm_features}" }}\n'
    )


def object_code(text: str, cpu: Cpu, optimise: bool) -> bytes:
    """The object for a module's text, from the cache if it was made before."""
    key = cache.key("object", llvm_version(), text, optimise, cpu)
    data = cache.get(key)
    if data is None:
        data = emit_object(text, cpu, optimise)
        cache.put(key, data)
    return data


def _entry(name: str, plan: Plan, calls: list[Call], scratch: Dim, cpu: Cpu) -> str:
    """`NAME_entry`: reads the data pointers of inputs and outputs, and calls the kernels in order.

    Where sizes are symbolic, `i64 NAME_arena_bytes` of them as well.
    """
    entry = calling(f"{name}_entry", plan, calls)
    if plan.symbols:
        entry.functions.append(arena_bytes(f"{name}_arena_bytes", plan, scratch))
    return module_text(entry, cpu)


def calling(symbol: str, plan: Plan, calls: list[Call], linkage: str = "hidden") -> Function:
    """A function that makes the calls, until one gives an error code.

    Its parameters are weights, arena, inputs, outputs, and the plan's symbols as i64.
    """
    parameters = [("ptr", "weights"), ("ptr", "arena"), ("ptr", "in"), ("ptr", "out")]
    fn = Function(symbol, parameters, "i32", linkage)
    pointers: dict[str, str] = {"%weights": "%weights", "%arena": "%arena"}
    if plan.symbols:
        fn.symbols = [symbol.name for symbol in plan.symbols]
        *places, end = _places(fn, plan)
        pointers |= {f"%arena{n}": fn.element("%arena", place, "i8") for n, place in enumerate(places)}
        pointers["%scratch"] = fn.element("%arena", end, "i8")
    for space, places in (("input", plan.inputs), ("output", plan.outputs)):
        base = "%in" if space == "input" else "%out"
        for index in range(len(places)):
            slot = fn.value(f"getelementptr {TENSOR_TYPE}, ptr {base}, i64 {index}, i32 0")
            pointers[f"%{space}{index}"] = fn.value(f"load ptr, ptr {slot}")
    for call in calls:
        arguments = []
        for base, offset in call.arguments:
            pointer = pointers[base]
            arguments.append(("ptr", fn.element(pointer, offset, "i8") if offset else pointer))
        arguments += [("i64", str(fn.size(dims.symbol(name)))) for name in call.symbols]
        code = fn.call("i32", call.unit.symbol, arguments)
        going, failed = fn.label("next"), fn.label("failed")
        fn.branch(fn.value(f"icmp eq i32 {code}, 0"), going, failed)
        fn.block(failed)
        fn.do(f"ret i32 {code}")
        fn.block(going)
    fn.do("ret i32 0")
    return fn


def arena_bytes(symbol: str, plan: Plan, scratch: Dim) -> Function:
    """A function of the plan's symbols as i64 that gives the bytes of the arena.

    Some, even where these sizes need none: a module that has an arena for others asks for one.
    """
    fn = Function(symbol, [], "i64")
    fn.symbols = [symbol.name for symbol in plan.symbols]
    used = fn.add(_places(fn, plan)[-1], fn.size(scratch))
    most = fn.call("i64", "llvm.smax.i64", [("i64", used), ("i64", str(ALIGNMENT))])
    fn.do(f"ret i64 {most}")
    return fn


def _places(fn: Function, plan: Plan) -> list[Value]:
    """Where the buffers of a plan with symbols begin in the arena, and where the last of them ends."""
    ends: dict[int, Value] = {}

    def highest(buffers: Iterable[Buffer]) -> Value:
        found = "0"
        for end in (ends[id(buffer)] for buffer in buffers):
            if found != "0":
                end = fn.call("i64", "llvm.smax.i64", [("i64", found), ("i64", end)])
            found = end
        return found

    places: list[Value] = []
    for buffer in plan.arena:
        places.append(highest(buffer.under))
        ends[id(buffer)] = fn.add(places[-1], fn.size(rounded(buffer.size)))
    covered = {id(under) for buffer in plan.arena for under in buffer.under}
    return [*places, highest(buffer for buffer in plan.arena if id(buffer) not in covered)]
