"""Native code through LLVM, for this machine's processor or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gcomp.ir import Graph
from gcomp.target import Module, Target


@dataclass(frozen=True)
class LLVM(Target):
    """Native code for a processor: `llvm{triple=aarch64-linux-gnu,cpu=cortex-a76}`; this machine's by default.

    `features` adds or removes instruction sets (`+avx2-fma`); `templates=off` leaves only generic loop nests.
    """

    name: ClassVar[str] = "llvm"
    triple: str = ""
    cpu: str = ""
    features: str = ""
    templates: bool = True

    @property
    def pipeline(self) -> str:
        from .cpu import from_options

        lanes = max(4, from_options(self._cpu_options).vector_bytes // 4)
        return f"fold-constants,simplify,fold-batchnorm,clean,layout{{block={lanes}}},clean,fuse"

    @property
    def _cpu_options(self) -> dict[str, str]:
        return {"triple": self.triple, "cpu": self.cpu, "features": self.features}

    def available(self) -> str | None:
        try:
            from llvmlite import binding as _  # noqa: F401
        except (ImportError, OSError) as error:
            return f"llvmlite cannot be imported: {error}"
        return None

    def build(self, graph: Graph, *, name: str, threads: int, host_steps: bool) -> Module:
        from .cpu import from_options
        from .module import compile_graph

        return compile_graph(graph, from_options(self._cpu_options), name, self.templates)


TARGETS: dict[str, type[Target]] = {"llvm": LLVM}
