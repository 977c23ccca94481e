"""Native code through LLVM, for this machine's processor, another one, or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gcomp.ir import Graph
from gcomp.precision import DEFAULT
from gcomp.target import Module, Target

from .cuda import CUDA

if TYPE_CHECKING:
    from .cpu import Cpu

STRICT_BLOCK = 16
"""Channels in a block where bits must not depend on the processor: no target has wider vectors of f32."""


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
        return self.pipeline_for(DEFAULT)

    def pipeline_for(self, precision: str) -> str:
        cpu = self.processor
        lanes = max(4, cpu.vector_bytes // 4)
        # What lies side by side in memory decides the order of sums, and which zeros are skipped some bits.
        block = STRICT_BLOCK if precision == "strict" else lanes
        chosen = "" if precision == DEFAULT else f",precision{{mode={precision}}}"
        machine = f"lanes={lanes},registers={cpu.vector_registers},units={cpu.fma_units}"
        sparse = "" if precision == "strict" or not self.templates else f",sparsify{{{machine}}}"
        return (
            f"fold-constants,simplify,lower-quantized,fold-batchnorm,clean{chosen}{sparse},"
            f"layout{{block={block}}},clean,fuse"
        )

    def refuses(self, precision: str) -> str | None:
        cpu = self.processor
        if precision == "strict" and not cpu.is_exact:
            return f"{cpu.name} gives other bits than those that have fused multiply-add, x86-64 or aarch64"
        if precision == "bf16" and not cpu.multiplies_bfloats:
            return f"{cpu.name} has no products of bf16 (AVX512-BF16)"
        return None

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
