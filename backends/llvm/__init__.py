"""Native code through LLVM, for this machine's processor, another one, or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gcomp.ir import Graph
from gcomp.target import Module, Target

from .cuda import CUDA

if TYPE_CHECKING:
    from .cpu import Cpu


@dataclass(frozen=True)
class LLVM(Target):
    """Native code for this machine, or for another: `llvm{triple=aarch64-linux-gnu,cpu=cortex-a76}`.

    `features` adds or removes instruction sets (`+avx2-fma`); `templates=off` leaves only generic loop nests.
    """

    name: ClassVar[str] = "llvm"
    triple: str = ""
    cpu: str = ""
    features: str = ""
    templates: bool = True

    @property
    def pipeline(self) -> str:
        lanes = max(4, self.processor.vector_bytes // 4)
        return (
            f"fold-constants,simplify,lower-quantized,fold-batchnorm,clean,layout{{block={lanes}}},clean,fuse"
        )

    @property
    def processor(self) -> Cpu:
        """The processor that the options describe. Raises `InputError`."""
        from .cpu import from_options

        return from_options({"triple": self.triple, "cpu": self.cpu, "features": self.features})

    def available(self) -> str | None:
        try:
            from llvmlite import binding as _  # noqa: F401, to see whether it can be
        except (ImportError, OSError) as error:
            return f"llvmlite cannot be imported: {error}"
        return None

    def build(self, graph: Graph, *, name: str, threads: int, host_steps: bool) -> Module:
        from .module import compile_graph

        return compile_graph(graph, self.processor, name, self.templates)

    def restore(self, key: str, again: Callable[[], Module]) -> Module | None:
        from .stored import restore

        return restore(key, self.processor, again)

    def keep(self, key: str, module: Module) -> None:
        from .stored import keep

        keep(key, self.processor, module)


TARGETS: dict[str, type[Target]] = {"llvm": LLVM, "cuda": CUDA}
