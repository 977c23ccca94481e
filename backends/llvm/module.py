"""A graph compiled for a processor: run in this process, or saved as an object, library, header or text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from gcomp.diagnostics import BuildError
from gcomp.ir import Graph
from gcomp.native import ABI, NativeModule, Port
from gcomp.plan import plan
from gcomp.target import Module, ports
from gcomp.timing import phase
from gcomp.types import Array

from .abi import Weights, identifier, prologue_text
from .build import Program, build
from .cpu import Cpu, host
from .jit import emit_object, load_objects


def compile_graph(graph: Graph, cpu: Cpu, name: str, templates: bool) -> LLVMModule:
    """Compiles a graph of static shapes. Raises `UnsupportedError`, `BuildError`."""
    timings: dict[str, float] = {}
    with phase(timings, "plan"):
        planned = plan(graph)
    with phase(timings, "emit"):
        program = build(planned, cpu, identifier(name), templates)
    with phase(timings, "codegen"):
        objects = program.objects()
    return LLVMModule(graph, program, objects, timings)


class LLVMModule(Module):
    """Object code and weights. It is loaded into this process when it is first called."""

    def __init__(self, graph: Graph, program: Program, objects: list[bytes], timings: dict[str, float]) -> None:
        self.graph, self.program, self.timings = graph, program, timings
        self.inputs, self.outputs = ports(graph)
        self.host_steps: list[str] = []
        self.objects = objects

    def __call__(self, *arrays: Any) -> list[Array]:
        return self._native(*arrays)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        return self._native.run(inputs)

    @property
    def arena_bytes(self) -> int:
        return self.program.arena_bytes

    @cached_property
    def weights(self) -> Array:
        """All constants as the kernels read them, in one aligned blob."""
        with phase(self.timings, "weights"):
            return self.program.weights.blob()

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the artefact says of itself."""
        from gcomp import __version__

        def described(port: Port) -> dict[str, Any]:
            return {"name": port.name, "dtype": port.dtype.name, "shape": list(port.shape)}

        cpu = self.program.cpu
        return {
            "abi": ABI,
            "name": self.program.name,
            "inputs": [described(port) for port in self.inputs],
            "outputs": [described(port) for port in self.outputs],
            "arena_bytes": self.arena_bytes,
            "weights_bytes": self.program.weights.bytes,
            "target": {"triple": cpu.triple, "cpu": cpu.name, "features": list(cpu.features)},
            "compiler": f"gcomp {__version__}",
        }

    @cached_property
    def _native(self) -> NativeModule:
        program = self.program
        if program.cpu.arch != host().arch:
            raise BuildError(f"{program.name}: compiled for {program.cpu.triple}, this machine is {host().triple}")
        name = program.name
        with phase(self.timings, "load"):
            loaded = load_objects([*self.objects, self.prologue_object("external" if program.weights.bytes else "none")], [f"{name}_run", f"{name}_init"])
            run, init = (loaded.addresses[f"{name}_{part}"] for part in ("run", "init"))
        weights = self.weights
        return NativeModule(
            self.manifest, run=run, init=init, weights=weights.ctypes.data, keepalive=(loaded, weights)
        )

    def prologue_text(self, weights: Weights) -> str:
        """The LLVM text of the entry points, for weights from inside, from the context, or none."""
        program = self.program
        return prologue_text(
            program.name,
            program.cpu,
            self.inputs,
            self.outputs,
            arena_bytes=program.arena_bytes,
            manifest=json.dumps(self.manifest),
            weights=weights,
        )

    def prologue_object(self, weights: Weights) -> bytes:
        return emit_object(self.prologue_text(weights), self.program.cpu, False)

    def save(self, path: str | Path) -> list[Path]:
        from .save import save

        return save(self, Path(path))


