"""A graph compiled by TVM: run in this process, saved as a shared object, loaded again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
import tvm
from tvm import relax
from tvm.target import codegen

from gcomp.arguments import checked
from gcomp.diagnostics import BuildError, InputError, OpenSizeError, RunError
from gcomp.ir import Graph
from gcomp.port import Port, check_count
from gcomp.target import Module, ports
from gcomp.timing import phase
from gcomp.types import DTYPES, Array, dtype_of
from gcomp.version import __version__

from .program import ENTRY, MANIFEST, from_tensor, ir_module, to_tensor

SUFFIX = ".tvm.so"
FORMAT = 1
"""Version of the manifest in a saved module."""


def compile_graph(graph: Graph, name: str, cpu: str = "") -> TVMModule:
    """Compiles a graph of static shapes. Raises `UnsupportedError`, `BuildError`."""
    if graph.symbols():
        raise OpenSizeError("tvm: kernels are made for sizes that are numbers")
    timings: dict[str, float] = {}
    inputs, outputs = ports(graph)
    manifest = {
        "format": FORMAT,
        "name": name,
        "inputs": [_described(port) for port in inputs],
        "outputs": [_described(port) for port in outputs],
        "target": {"kind": "llvm", "mcpu": cpu or str(codegen.llvm_get_system_cpu())},
        "compiler": f"gcomp {__version__}, TVM {tvm.__version__}",
    }
    with phase(timings, "emit"):
        module = ir_module(graph, json.dumps(manifest))
    with phase(timings, "codegen"):
        try:
            executable = tvm.compile(module, tvm.target.Target(manifest["target"]))
        except (RuntimeError, ValueError, TypeError) as error:
            raise BuildError(f"{name}: TVM refuses the module: {_brief(error)}") from error
    with phase(timings, "load"):
        machine = relax.VirtualMachine(executable, tvm.cpu())
    return TVMModule(manifest, machine, executable, graph, timings)


def load(path: str | os.PathLike[str]) -> TVMModule:
    """The module in a file that `save` wrote. Raises `BuildError`."""
    file = Path(path).absolute()
    if not file.is_file():
        raise BuildError(f"{file}: there is no such file")
    try:
        machine = relax.VirtualMachine(tvm.runtime.load_module(str(file)), tvm.cpu())
        manifest: dict[str, Any] = json.loads(machine[MANIFEST]().numpy().tobytes())
    except (RuntimeError, ValueError, AttributeError) as error:
        raise BuildError(f"{file}: is no module of the target tvm: {_brief(error)}") from error
    if manifest.get("format") != FORMAT:
        raise BuildError(f"{file}: has format {manifest.get('format')}, this gcomp reads {FORMAT}")
    return TVMModule(manifest, machine, None, Graph(manifest["name"]), {})


class TVMModule(Module):
    """A Relax virtual machine with its code. Calls from several threads take turns.

    `executable` and `graph` are those that it was compiled from; a loaded module has neither.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        machine: Any,
        executable: Any,
        graph: Graph,
        timings: dict[str, float],
    ) -> None:
        self._manifest, self._machine, self.executable = manifest, machine, executable
        self.graph, self.timings = graph, timings
        self.name = str(manifest["name"])
        self.inputs, self.outputs = _ports(manifest["inputs"]), _ports(manifest["outputs"])
        self.host_steps: list[str] = []
        self._turn = Lock()

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self._manifest

    def __call__(self, *arrays: Any) -> list[Array]:
        check_count(self.name, self.inputs, arrays)
        given = [self._fitting(port, array) for port, array in zip(self.inputs, arrays, strict=True)]
        with self._turn:
            try:
                results = self._machine[ENTRY](*given)
            except IndexError as error:
                raise RunError(f"{self.name}: {_brief(error)}") from error
            return [from_tensor(r, port.dtype) for r, port in zip(results, self.outputs, strict=True)]

    @checked
    def save(self, path: str | Path) -> list[Path]:
        """Writes a shared object that only TVM's runtime can run; its name ends in `.tvm.so`.

        The system's C++ compiler links it: `g++` or `clang++`, or what `CXX` names.
        """
        path = Path(path)
        if not path.name.endswith(SUFFIX):
            raise BuildError(f"{path}: modules of the target tvm are saved as NAME{SUFFIX}")
        if self.executable is None:
            raise BuildError(f"{path}: a loaded module cannot be saved again; copy its file")
        try:
            self.executable.export_library(str(path))
        except (RuntimeError, ValueError, OSError) as error:
            raise BuildError(f"{path}: cannot be written or linked: {_brief(error)}") from error
        return [path]

    def _fitting(self, port: Port, given: Any) -> Any:
        """`given` as a tensor of TVM: a copy, for TVM's code needs it aligned."""
        try:
            array: Array = np.from_dlpack(given) if hasattr(given, "__dlpack__") else np.asarray(given)
        except (ValueError, TypeError, RuntimeError, BufferError) as error:
            # An array that is not writeable or of a rare type has no DLPack form.
            if not isinstance(given, np.ndarray):
                raise InputError(f"{self.name}: input {port.name} cannot be read: {error}") from error
            array = cast("Array", given)
        if array.dtype != port.dtype.numpy or array.shape != port.shape:
            got = f"{_element_type(array)}{list(array.shape)}"
            raise InputError(f"{self.name}: input {port.name} must be {port}, got {got}")
        return to_tensor(array)


def _described(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype.name, "shape": list(port.shape)}


def _ports(described: Sequence[Mapping[str, Any]]) -> list[Port]:
    return [Port(port["name"], DTYPES[port["dtype"]], tuple(port["shape"])) for port in described]


def _element_type(array: Array) -> str:
    try:
        return str(dtype_of(array))
    except KeyError:
        return str(array.dtype)


def _brief(error: Exception) -> str:
    """The first line of TVM's message that says something."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
