"""What a target is, and what it makes of a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from .arguments import checked
from .diagnostics import BuildError, UnsupportedError
from .ir import Graph
from .port import Port, in_order
from .precision import DEFAULT
from .steps import Limits, Memory, StepFacts, Trace
from .types import Array
from .watch import Decision


class Runnable(Protocol):
    """What can be called with arrays: a module of this process, or one loaded from a file."""

    @property
    def inputs(self) -> Sequence[Port]: ...

    @property
    def outputs(self) -> Sequence[Port]: ...

    def __call__(self, *arrays: Any) -> list[Array]: ...

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]: ...


class Module(ABC):
    """A compiled graph. `timings` are seconds per phase of its compilation; `graph` is the optimised graph.

    `host_steps` names the operators that run on the host through their references, one by one. `decisions`
    are what passes chose for single layers, and why.
    """

    name: str
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    graph: Graph
    host_steps: list[str]
    decisions: Sequence[Decision] = ()
    timings: dict[str, float]

    @abstractmethod
    def __call__(self, *arrays: Any) -> list[Array]:
        """The outputs in graph order for the inputs in graph order. Raises `InputError`, `RunError`."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs by name for the inputs by name. Raises `InputError`, `RunError`."""
        results = self(*in_order(self.name, self.inputs, inputs))
        return {port.name: result for port, result in zip(self.outputs, results, strict=True)}

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What a file of this module says of itself; empty where there can be none."""
        return {}

    def at(self, *arrays: Any) -> Module:
        """The module that runs for arrays of these shapes: this one, unless sizes are still open."""
        return self

    def trace(self, *arrays: Any) -> Trace:
        """Runs step by step, with a clock between them. Raises as a call does, and `UnsupportedError`."""
        raise UnsupportedError("this target's modules cannot be run step by step")

    def steps(self) -> list[StepFacts]:
        """The steps of `trace`, as far as they are known without running them."""
        return []

    def memory(self) -> Memory | None:
        """What lies where in memory; None if that is not planned."""
        return None

    def limits(self) -> Limits | None:
        """Measures what this machine can do at best; None where that means nothing for this module."""
        return None

    @checked
    def save(self, path: str | Path) -> list[Path]:
        """Writes the form that the suffix of `path` names; gives the files written. Raises `BuildError`."""
        raise BuildError(f"{path}: this target's modules cannot be saved")


class Target(ABC):
    """Something that graphs are compiled for; a frozen dataclass whose fields are its options.

    A backend declares `TARGETS`, from name to class.
    """

    name: ClassVar[str]
    is_native: ClassVar[bool] = True
    """Whether it generates code: graphs must have known sizes then, and operators `lower`."""

    @property
    @abstractmethod
    def pipeline(self) -> str:
        """The passes that a graph goes through before `build`, as text."""

    def pipeline_for(self, precision: str) -> str:
        """The same in a precision that `refuses` lets pass."""
        return self.pipeline

    def refuses(self, precision: str) -> str | None:
        """Why code for it cannot compute in a precision; None if it can. Asked if available."""
        return None if precision == DEFAULT else f"it computes in {DEFAULT} only"

    def available(self) -> str | None:
        """Why the target cannot be used here; None if it can."""
        return None

    def runs_here(self) -> str | None:
        """Why what it compiles could not run on this machine; None if it could. Asked if available."""
        return None

    @abstractmethod
    def build(self, graph: Graph, *, name: str, threads: int, host_steps: bool) -> Module:
        """Compiles an optimised graph. Raises `UnsupportedError` and `BuildError`."""

    def restore(self, key: str, again: Callable[[], Module]) -> Module | None:
        """The module kept under `key` in an earlier run, or None; `again` compiles what was not kept."""
        return None

    def keep(self, key: str, module: Module) -> None:
        """Keeps a module for later runs, if the target has a place for it."""
        return None


def ports(graph: Graph) -> tuple[list[Port], list[Port]]:
    """The inputs and outputs of a graph."""

    def port(name: str, type: Any) -> Port:
        return Port(
            name, type.dtype, tuple(size if isinstance(size, int) else str(size) for size in type.shape)
        )

    inputs = [port(value.name, value.type) for value in graph.inputs]
    return inputs, [port(n, v.type) for n, v in zip(graph.output_names, graph.outputs, strict=True)]
