"""Kernels for NVIDIA GPUs as PTX text, launched through the CUDA driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gcomp.diagnostics import InputError
from gcomp.ir import Graph
from gcomp.target import Module, Target

from .gpus import ARCHITECTURES


@dataclass(frozen=True)
class CUDA(Target):
    """PTX for an NVIDIA GPU, `cuda{arch=sm_90}`, which newer GPUs take as well.

    Compiling needs no GPU; running needs one, and its driver. `templates=off` leaves only plain kernels.
    """

    name: ClassVar[str] = "cuda"
    arch: str = "sm_80"
    templates: bool = True

    @property
    def pipeline(self) -> str:
        return "fold-constants,simplify,fold-batchnorm,clean,fuse"

    def available(self) -> str | None:
        try:
            from llvmlite import binding as _  # noqa: F401, to see whether it can be
        except (ImportError, OSError) as error:
            return f"llvmlite cannot be imported: {error}"
        return None

    def runs_here(self) -> str | None:
        from .driver import reason

        return reason()

    def build(self, graph: Graph, *, name: str, threads: int, host_steps: bool) -> Module:
        from .module import compile_graph

        if self.arch not in ARCHITECTURES:
            raise InputError(f"cuda: arch must be one of {', '.join(ARCHITECTURES)}, got {self.arch!r}")
        return compile_graph(graph, self.arch, name, templates=self.templates)
