"""Code through TVM: a graph as a Relax module whose functions are TIR, made from the same kernels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from gcomp.ir import Graph
from gcomp.target import Module, Target

if TYPE_CHECKING:
    from .module import TVMModule


@dataclass(frozen=True)
class TVM(Target):
    """Code by TVM's own LLVM, for this machine's processor or another of its kind: `tvm{cpu=haswell}`."""

    name: ClassVar[str] = "tvm"
    cpu: str = ""

    @property
    def pipeline(self) -> str:
        return "fold-constants,simplify,fold-batchnorm,clean"

    def available(self) -> str | None:
        if find_spec("tvm") is None:
            return "TVM is not installed: pip install 'gcomp[tvm]'"
        try:
            import tvm as _  # noqa: F401, to see whether it can be
        except (ImportError, OSError, RuntimeError) as error:
            return f"TVM cannot be imported: {error}"
        return None

    def build(self, graph: Graph, *, name: str, threads: int, host_steps: bool) -> Module:
        from .module import compile_graph

        return compile_graph(graph, name, self.cpu)


def load(path: str | os.PathLike[str]) -> TVMModule:
    """The module in a file that this target wrote. Loading runs its code: load only what you trust.

    Raises `UnsupportedError` without TVM, `BuildError` for a file that is no such module.
    """
    from gcomp.diagnostics import UnsupportedError

    if reason := TVM().available():
        raise UnsupportedError(f"{os.fspath(path)}: {reason}")
    from .module import load

    return load(path)


TARGETS: dict[str, type[Target]] = {"tvm": TVM}
