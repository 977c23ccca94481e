"""A graph compiled for a processor: run in this process, or saved as an object, library, header or text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gcomp.arguments import checked
from gcomp.diagnostics import BuildError
from gcomp.ir import Graph
from gcomp.native import ABI, NativeModule
from gcomp.plan import plan
from gcomp.port import Port, Symbol
from gcomp.precision import precision_of
from gcomp.steps import Limits, Memory, StepFacts, Trace
from gcomp.target import Module, ports
from gcomp.timing import phase
from gcomp.types import Array
from gcomp.version import __version__

from .abi import Weights, identifier, prologue_text
from .build import Program, build, object_code
from .cpu import Cpu, host
from .jit import load_objects
from .peak import limits
from .trace import Tracer, largest, memory, step_facts


def compile_graph(graph: Graph, cpu: Cpu, name: str, templates: bool) -> LLVMModule:
    """Compiles a graph; symbolic sizes need ranges. Raises `UnsupportedError`, `BuildError`."""
    timings: dict[str, float] = {}
    with phase(timings, "plan"):
        planned = plan(graph)
    with phase(timings, "emit"):
        program = build(planned, cpu, identifier(name), templates, precision_of(graph) == "strict")
    with phase(timings, "codegen"):
        objects = program.objects()
    with phase(timings, "weights"):
        weights = program.weights.blob()
    inputs, outputs = ports(graph)
    artefact = Artefact(
        program.name, cpu, inputs, outputs, program.arena_bytes, objects, weights, planned.symbols
    )
    return LLVMModule(artefact, lambda: (graph, program), timings)


@dataclass(frozen=True)
class Artefact:
    """What a compiled graph consists of: kernels and entry as objects, and the constants that they read.

    `weights` is a blob of bytes aligned to 64. `arena_bytes` is enough for all values of
    `symbols`.
    """

    name: str
    cpu: Cpu
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    arena_bytes: int
    objects: list[bytes]
    weights: Array
    symbols: Sequence[Symbol] = ()

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the artefact says of itself, as JSON can hold it."""

        def described(port: Port) -> dict[str, Any]:
            return {"name": port.name, "dtype": port.dtype.name, "shape": list(port.shape)}

        return {
            "abi": ABI,
            "name": self.name,
            "inputs": [described(port) for port in self.inputs],
            "outputs": [described(port) for port in self.outputs],
            "symbols": [vars(symbol) for symbol in self.symbols],
            "arena_bytes": self.arena_bytes,
            "weights_bytes": self.weights.nbytes,
            "target": {"triple": self.cpu.triple, "cpu": self.cpu.name, "features": list(self.cpu.features)},
            "compiler": f"gcomp {__version__}",
        }


class LLVMModule(Module):
    """Object code and weights. It is loaded into this process when it is first called.

    `source` gives the optimised graph and the program, which are only needed to look at them.
    """

    def __init__(
        self, artefact: Artefact, source: Callable[[], tuple[Graph, Program]], timings: dict[str, float]
    ) -> None:
        self.artefact, self.timings = artefact, timings
        self.name = artefact.name
        self.inputs, self.outputs = artefact.inputs, artefact.outputs
        self.host_steps: list[str] = []
        self._source = source

    def __call__(self, *arrays: Any, out: Sequence[Array] | None = None) -> list[Array]:
        """As `NativeModule`'s."""
        return self._native(*arrays, out=out)

    def trace(self, *arrays: Any) -> Trace:
        return self._tracer(self._native.accept(arrays))

    def steps(self) -> list[StepFacts]:
        return step_facts(self.program, largest(self.program))

    def memory(self) -> Memory:
        return memory(self.program)

    def limits(self) -> Limits:
        return limits(self.artefact.cpu)

    @cached_property
    def _tracer(self) -> Tracer:
        return Tracer(self.program, self.artefact.weights)

    @property
    def graph(self) -> Graph:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._made[0]

    @property
    def program(self) -> Program:
        """The plan and the kernels as text."""
        return self._made[1]

    @cached_property
    def _made(self) -> tuple[Graph, Program]:
        return self._source()

    @property
    def arena_bytes(self) -> int:
        return self.artefact.arena_bytes

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.artefact.manifest

    @cached_property
    def _native(self) -> NativeModule:
        artefact = self.artefact
        name, weights = artefact.name, artefact.weights
        if artefact.cpu.arch != host().arch:
            raise BuildError(f"{name}: compiled for {artefact.cpu.triple}, this machine is {host().triple}")
        with phase(self.timings, "load"):
            entries = self.prologue_object("external" if weights.nbytes else "none")
            symbols = [f"{name}_{part}" for part in ("run", "init", "sizes")]
            loaded = load_objects([*artefact.objects, entries], symbols)
            run, init, sizes = (loaded.addresses[symbol] for symbol in symbols)
        address = weights.ctypes.data if weights.nbytes else None
        return NativeModule(
            artefact.manifest, run=run, init=init, sizes=sizes, weights=address, keepalive=(loaded, weights)
        )

    def prologue_text(self, weights: Weights) -> str:
        """The LLVM text of the entry points, for weights from inside, from the context, or none."""
        artefact = self.artefact
        return prologue_text(
            artefact.name,
            artefact.cpu,
            self.inputs,
            self.outputs,
            arena_bytes=artefact.arena_bytes,
            manifest=json.dumps(artefact.manifest),
            weights=weights,
            symbols=artefact.symbols,
        )

    def prologue_object(self, weights: Weights) -> bytes:
        return object_code(self.prologue_text(weights), self.artefact.cpu, False)

    @checked
    def save(self, path: str | Path) -> list[Path]:
        from .save import save

        return save(self, Path(path))
