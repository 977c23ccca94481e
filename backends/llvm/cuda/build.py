"""From a planned graph to PTX, one blob of weights, and the launches to replay."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from gcomp.arena import ALIGNMENT, Buffer
from gcomp.diagnostics import BuildError
from gcomp.plan import Plan
from gcomp.plan import View as Place
from gcomp.port import Port
from gcomp.types import Array
from gcomp.version import __version__

from ..build import Weights
from ..select import NAME
from .codegen import compiled, joined, module_text
from .kernels import Emitted, Scratch, select
from .thread import THREADS

Address = tuple[Literal["arena", "weights"], int]
"""Which of the two blocks of device memory, and how many bytes into it."""


@dataclass(frozen=True)
class Launch:
    """One kernel, by its symbol, on `grid` blocks of `block` threads, with the addresses that it is given."""

    kernel: str
    grid: int
    block: int
    arguments: list[Address]


@dataclass(frozen=True)
class Program:
    """All of a compiled graph: `texts` are the kernels' LLVM modules by symbol, `ptx` all of them in one.

    `inputs`, `outputs` and `status` are byte offsets in the arena. The status, an i32, is zero before a run
    and holds an `ErrorCode` after it.
    """

    name: str
    arch: str
    texts: dict[str, str]
    ptx: str
    launches: list[Launch]
    weights: Array
    arena_bytes: int
    inputs: list[int]
    outputs: list[int]
    status: int

    def manifest(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> dict[str, Any]:
        """What has to be known to run the PTX, as JSON can hold it."""

        def described(port: Port, offset: int) -> dict[str, Any]:
            sizes = [size for size in port.shape if isinstance(size, int)]
            return {
                "name": port.name,
                "dtype": port.dtype.name,
                "shape": sizes,
                "bytes": prod(sizes) * port.dtype.bytes,
                "offset": offset,
            }

        return {
            "name": self.name,
            "target": {"triple": "nvptx64-nvidia-cuda", "cpu": self.arch},
            "inputs": [described(p, offset) for p, offset in zip(inputs, self.inputs, strict=True)],
            "outputs": [described(p, offset) for p, offset in zip(outputs, self.outputs, strict=True)],
            "arena_bytes": self.arena_bytes,
            "weights_bytes": self.weights.nbytes,
            "status": self.status,
            "launches": [
                {"kernel": one.kernel, "grid": one.grid, "block": one.block, "arguments": one.arguments}
                for one in self.launches
            ],
            "compiler": f"gcomp {__version__}",
        }


def build(plan: Plan, arch: str, name: str, templates: bool = True) -> Program:
    """Compiles all kernels of a plan. Raises `UnsupportedError`, `BuildError`."""
    selections = [select(step, templates) for step in plan.steps]
    end = plan.arena_bytes
    scratch, end = end, end + max((s.scratch for s in selections), default=0)
    inputs, end = _laid_out(plan.inputs, end)
    outputs, end = _laid_out(plan.outputs, end)
    builder = _Builder(arch, scratch, inputs, outputs, end)
    for selection in selections:
        for kernel in selection.kernels:
            builder.add(kernel)
    parts = compiled(list(builder.texts.values()), arch)
    return Program(
        name,
        arch,
        builder.texts,
        joined(parts),
        builder.launches,
        builder.weights.blob(),
        end + ALIGNMENT,
        inputs,
        outputs,
        end,
    )


def _laid_out(places: Sequence[Place], start: int) -> tuple[list[int], int]:
    """Byte offsets of buffers one after the other from `start`, and where they end."""
    offsets: list[int] = []
    for place in places:
        offsets.append(start)
        start += -(-place.buffer.bytes // ALIGNMENT) * ALIGNMENT
    return offsets, start


class _Builder:
    def __init__(self, arch: str, scratch: int, inputs: list[int], outputs: list[int], status: int) -> None:
        self.arch, self.scratch, self.status = arch, scratch, status
        self.inputs, self.outputs = inputs, outputs
        self.texts: dict[str, str] = {}
        self.launches: list[Launch] = []
        self.weights = Weights()

    def add(self, kernel: Emitted) -> None:
        text = module_text(kernel.function, self.arch)
        symbol = f"gcomp_{kernel.template}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.texts[symbol] = text.replace(f"@{NAME}", f"@{symbol}")
        arguments = [self._address(argument) for argument in kernel.arguments]
        if kernel.checks:
            arguments.append(("arena", self.status))
        block = min(THREADS, kernel.threads)
        self.launches.append(Launch(symbol, -(-kernel.threads // THREADS), block, arguments))

    def _address(self, argument: Place | Scratch) -> Address:
        if isinstance(argument, Scratch):
            return "arena", self.scratch + argument.offset
        offset = argument.offset * argument.type.dtype.bytes
        space, base = self._base(argument.buffer)
        return space, base + offset

    def _base(self, buffer: Buffer) -> Address:
        match buffer.space:
            case "arena":
                return "arena", buffer.offset
            case "input":
                return "arena", self.inputs[buffer.index]
            case "output":
                return "arena", self.outputs[buffer.index]
            case "constant":
                array = buffer.array
                if array is None:
                    raise BuildError(f"a constant of {buffer.bytes} bytes needs an array, got none")
                return "weights", self.weights.place(id(array), array.nbytes, lambda: array)
