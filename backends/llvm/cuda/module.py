"""A graph compiled for a GPU: replayed through the driver, or saved as a program that runs by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gcomp.arguments import checked
from gcomp.diagnostics import BuildError, OpenSizeError, RunError
from gcomp.files import replacing
from gcomp.ir import Graph
from gcomp.native import ErrorCode
from gcomp.plan import plan
from gcomp.port import check_count, fitting
from gcomp.target import Module, ports
from gcomp.timing import phase
from gcomp.types import Array

from ..abi import identifier
from .archive import pack
from .build import Program, build
from .driver import Driver, first_gpu
from .launch import Memory, Resident


def compile_graph(
    graph: Graph, arch: str, name: str, device: Callable[[], Driver] = first_gpu, templates: bool = True
) -> CudaModule:
    """Compiles a graph of static shapes, to run on `device`. Raises `UnsupportedError`, `BuildError`."""
    if graph.symbols():
        raise OpenSizeError("cuda: kernels are made for sizes that are numbers")
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
        self.name = program.name
        self.inputs, self.outputs = ports(graph)
        self.host_steps: list[str] = []
        self._lock = threading.Lock()
        self._device = device
        self._resident: Resident | None = None

    def __call__(self, *arrays: Any) -> list[Array]:
        name, program = self.name, self.program
        check_count(name, self.inputs, arrays)
        given = [fitting(name, port, array) for port, array in zip(self.inputs, arrays, strict=True)]
        results = [np.empty(v.type.static_shape, v.type.dtype.numpy) for v in self.graph.outputs]
        with self._lock:
            weights = _memory(program.weights)
            resident = self._resident or Resident(self.manifest, program.ptx, weights, self._device())
            self._resident = resident
            code = resident.run([*map(_memory, given)], [*map(_memory, results)])
        if code:
            raise RunError(f"{name}: {ErrorCode(code).message} (error {code})")
        return results

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.program.manifest(self.inputs, self.outputs)

    @checked
    def save(self, path: str | Path) -> list[Path]:
        """Writes a program that Python runs, `.pyz`, or only the kernels as text, `.ptx`.

        The program holds synthetic inputs, and what the reference gives for them.
        """
        path = Path(path)
        match path.suffix:
            case ".ptx":
                data = self.program.ptx.encode()
            case ".pyz":
                data = pack(self.graph, self.program, self.inputs, self.outputs)
            case suffix:
                raise BuildError(
                    f"{path}: cannot save as {suffix or 'a file without suffix'}, only .pyz, .ptx"
                )
        with replacing(path) as file:
            file.write(data)
        return [path]


def _memory(array: Array) -> Memory:
    """Where a contiguous array lies."""
    return array.ctypes.data, array.nbytes
