"""A graph compiled for a GPU: replayed through the driver, or saved as PTX, weights and a plan in JSON."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from gcomp.diagnostics import BuildError, InputError, RunError
from gcomp.files import replacing
from gcomp.ir import Graph
from gcomp.native import ErrorCode, fitting
from gcomp.plan import plan
from gcomp.target import Module, ports
from gcomp.timing import phase
from gcomp.types import Array

from ..abi import identifier
from .build import Program, build
from .driver import Driver, first_gpu


def compile_graph(
    graph: Graph, arch: str, name: str, device: Callable[[], Driver] = first_gpu, templates: bool = True
) -> CudaModule:
    """Compiles a graph of static shapes, to run on `device`. Raises `UnsupportedError`, `BuildError`."""
    timings: dict[str, float] = {}
    with phase(timings, "plan"):
        planned = plan(graph)
    with phase(timings, "codegen"):
        program = build(planned, arch, identifier(name), templates)
    return CudaModule(graph, program, timings, device)


class CudaModule(Module):
    """PTX, weights and the order of launches. They go to the GPU when the module is first called.

    Calls from several threads take turns, for they share the memory on the device.
    """

    def __init__(
        self, graph: Graph, program: Program, timings: dict[str, float], device: Callable[[], Driver]
    ) -> None:
        self.graph, self.program, self.timings = graph, program, timings
        self.inputs, self.outputs = ports(graph)
        self.host_steps: list[str] = []
        self._lock = threading.Lock()
        self._device = device
        self._resident: Resident | None = None

    def __call__(self, *arrays: Any) -> list[Array]:
        name, program = self.program.name, self.program
        if len(arrays) != len(self.inputs):
            raise InputError(f"{name}: takes {len(self.inputs)} inputs, got {len(arrays)}")
        given = [fitting(name, port, array) for port, array in zip(self.inputs, arrays, strict=True)]
        results = [np.empty(v.type.static_shape, v.type.dtype.numpy) for v in self.graph.outputs]
        with self._lock:
            resident = self._resident or Resident(program, self._device())
            self._resident = resident
            code = resident.run(given, results)
        if code:
            raise RunError(f"{name}: {ErrorCode(code).message} (error {code})")
        return results

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        names = [port.name for port in self.inputs]
        if set(inputs) != set(names):
            raise InputError(f"{self.program.name}: takes inputs {', '.join(names)}, got {', '.join(inputs)}")
        results = self(*(inputs[name] for name in names))
        return {port.name: result for port, result in zip(self.outputs, results, strict=True)}

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.program.manifest(self.inputs, self.outputs)

    def save(self, path: str | Path) -> list[Path]:
        """Writes `m.ptx`, and beside it the plan of launches as `m.json` and the constants as `m.weights`."""
        path = Path(path)
        if path.suffix != ".ptx":
            raise BuildError(f"{path}: cannot save as {path.suffix or 'a file without suffix'}, only .ptx")
        files = {
            path: self.program.ptx.encode(),
            path.with_suffix(".json"): json.dumps(self.manifest, indent=1).encode(),
            path.with_suffix(".weights"): self.program.weights.tobytes(),
        }
        for place, data in files.items():
            with replacing(place) as file:
                file.write(data)
        return list(files)


class Resident:
    """A program on a device: its code, its weights and its arena, which it gives back when it goes.

    Raises `RunError` where the device is too old, lacks the memory, or refuses the code.
    """

    def __init__(self, program: Program, device: Driver) -> None:
        self._program, self._device = program, device
        needed = int(program.arch.removeprefix("sm_"))
        if device.capability < needed:
            raise RunError(
                f"{program.name}: compiled for {program.arch}, this GPU is sm_{device.capability}; "
                f"compile for it with target cuda{{arch=...}}"
            )
        with device.current(), ExitStack() as stack:
            module = device.load(program.ptx)
            stack.callback(device.unload, module)
            bases = dict[str, int]()
            for space, size in (("arena", program.arena_bytes), ("weights", program.weights.nbytes)):
                bases[space] = device.allocate(size)
                stack.callback(device.free, bases[space])
            device.write(bases["weights"], program.weights)
            functions = {symbol: device.function(module, symbol) for symbol in program.texts}
            self._release = weakref.finalize(self, _released, device, stack.pop_all())
        self._release.atexit = False  # the driver ends with the process, and may have gone by then
        self._arena = bases["arena"]
        self._launches = [
            (functions[one.kernel], one.grid, one.block, [bases[base] + at for base, at in one.arguments])
            for one in program.launches
        ]

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> int:
        """Fills `outputs`; gives the status, an `ErrorCode`."""
        program, device, status = self._program, self._device, np.zeros(1, np.int32)
        with device.current():
            for offset, array in zip(program.inputs, inputs, strict=True):
                device.write(self._arena + offset, array)
            device.zero(self._arena + program.status, status.nbytes)
            for function, grid, block, addresses in self._launches:
                device.launch(function, grid, block, addresses)
            device.read(self._arena + program.status, status)
            for offset, array in zip(program.outputs, outputs, strict=True):
                device.read(self._arena + offset, array)
        return int(status[0])


def _released(device: Driver, held: ExitStack) -> None:
    with device.current():
        held.close()
