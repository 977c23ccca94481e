"""Modules of symbolic sizes, compiled anew for each shape that they are called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .arguments import checked
from .diagnostics import BuildError, InputError
from .dim import Poly, symbol
from .ir import Graph
from .port import check_count
from .steps import Trace
from .target import Module, ports
from .types import Array, shape_of

MOST = 64
"""Modules that are kept; beyond it the one goes that was called longest ago."""


class SpecialisedModule(Module):
    """Compiles `build(sizes)` for each new assignment of sizes to the symbols of `graph`, and keeps it.

    `reason` says why there cannot be one module for all, if that was asked for.
    """

    def __init__(self, graph: Graph, build: Callable[[Mapping[str, int]], Module], reason: str = "") -> None:
        self.graph, self._build, self._reason = graph, build, reason
        self.name = graph.name
        self.inputs, self.outputs = ports(graph)
        self.host_steps: list[str] = []
        self.timings: dict[str, float] = {}
        self._modules: dict[tuple[int, ...], Module] = {}

    def __call__(self, *arrays: Any) -> list[Array]:
        check_count(self.name, self.inputs, arrays)
        return self.at(*arrays)(*arrays)

    def at(self, *arrays: Any) -> Module:
        return self.module(*map(shape_of, arrays))

    def trace(self, *arrays: Any) -> Trace:
        return self.at(*arrays).trace(*arrays)

    def module(self, *shapes: tuple[int, ...]) -> Module:
        """The module for inputs of these shapes. Raises `InputError` for shapes that do not fit."""
        sizes: dict[str, int] = {}
        for value, shape in zip(self.graph.inputs, shapes, strict=True):
            fits = len(shape) == value.type.rank
            for declared, size in zip(value.type.shape, shape, strict=False):
                known = sizes.setdefault(str(declared), size) if isinstance(declared, Poly) else declared
                fits = (
                    fits
                    and known == size
                    and (isinstance(declared, int) or declared == symbol(str(declared)))
                )
            if not fits:
                bound = f" with {', '.join(f'{k}={v}' for k, v in sizes.items())}" if sizes else ""
                raise InputError(
                    f"{self.graph.name}: input {value.name} must be {value.type}{bound}, got shape {shape}"
                )
        key = tuple(sizes[name] for name in sorted(sizes))
        if key in self._modules:
            self._modules[key] = self._modules.pop(key)
        else:
            if len(self._modules) == MOST:
                self._modules.pop(next(iter(self._modules)))
            self._modules[key] = self._build(sizes)
            self.timings = self._modules[key].timings
            self.host_steps = self._modules[key].host_steps
        return self._modules[key]

    @checked
    def save(self, path: str | Path) -> list[Path]:
        names = ", ".join(self.graph.symbols())
        if self._reason:
            raise BuildError(f"{path}: one code for all values of {names} is not possible: {self._reason}")
        raise BuildError(
            f"{path}: sizes still open: {names}; to save the module bind them, each to a number or a range: "
            "shapes= or dims= in Python, --shape or --dim on the command line"
        )
