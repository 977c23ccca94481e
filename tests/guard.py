"""Runs native code in memory between protected pages: a step outside ends the process, so children run it."""

from __future__ import annotations

import argparse
import ctypes
import math
import mmap
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import gcomp
from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.module import LLVMModule, compile_graph
from gcomp.native import ALIGNMENT, Frame, NativeModule
from gcomp.testing.samples import graph_of, native_samples, sample
from gcomp.types import Array
from tests.networks import networks

Placement = Literal["end", "start", "odd"]
"""Right before a protected page, right after one, or one byte further, where no element is aligned."""

RUNS: tuple[tuple[Placement, int], ...] = (("end", 0xFF), ("start", 0x55), ("odd", 0xAA))
"""Each placement with the byte that outputs and arena are full of; bytes 0xFF are a NaN."""

_PROT_NONE = 0
_PAGE = mmap.PAGESIZE
_PROCESS = ctypes.CDLL(None, use_errno=True)


class Fenced:
    """`size` bytes between two pages that must not be touched; up to those, everything is `poison`."""

    def __init__(self, size: int, placement: Placement, poison: int, content: Array | None = None) -> None:
        self.size, self._poison = size, poison
        self._room = -(-max(size + (placement == "odd"), 1) // _PAGE) * _PAGE
        self._map = mmap.mmap(-1, self._room + 2 * _PAGE)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + _PAGE
        _protect(self._base - _PAGE, _PAGE, _PROT_NONE)
        _protect(self._base + self._room, _PAGE, _PROT_NONE)
        self.address = self._base + {"end": self._room - size, "start": 0, "odd": 1}[placement]
        ctypes.memset(self._base, poison, self._room)
        if content is not None:
            ctypes.memmove(self.address, content.ctypes.data, min(size, content.nbytes))
            _protect(self._base, self._room, mmap.PROT_READ)

    @property
    def content(self) -> bytes:
        return ctypes.string_at(self.address, self.size)

    @property
    def spilled(self) -> bool:
        """Whether anything was written beside it."""
        before = self.address - self._base
        sides = ((self._base, before), (self.address + self.size, self._room - before - self.size))
        return any(ctypes.string_at(place, n).strip(bytes([self._poison])) for place, n in sides)


def _protect(address: int, size: int, rights: int) -> None:
    if _PROCESS.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), rights):
        raise OSError(ctypes.get_errno(), "mprotect")


def guarded_run(
    module: NativeModule,
    weights: Array,
    arrays: Sequence[Array],
    placement: Placement,
    poison: int,
    short: str,
) -> list[bytes]:
    """The outputs' bytes. Inputs and weights can only be read; arena and weights keep their alignment.

    The buffers of the kind `short` lack their last bytes. Raises `AssertionError` for an error code, or if
    something was written beside a buffer.
    """

    def fenced(kind: str, size: int, lacking: int, content: Array | None = None) -> Fenced:
        aligned: Placement = "start" if kind in ("arena", "weights") and placement == "odd" else placement
        return Fenced(size - lacking * (kind == short), aligned, poison, content)

    shapes = module.shapes(arrays)
    inputs = [fenced("inputs", array.nbytes, array.itemsize, array) for array in arrays]
    outputs = [
        fenced("outputs", dtype.itemsize * math.prod(shape), dtype.itemsize)
        for shape, dtype in shapes.results
    ]
    arena = fenced("arena", -(-shapes.arena_bytes // ALIGNMENT) * ALIGNMENT, ALIGNMENT)
    constants = fenced("weights", weights.nbytes, ALIGNMENT, weights)
    frame = Frame(module._context, shapes)
    if shapes.arena_bytes:
        frame.context.arena = arena.address
    if weights.nbytes:
        frame.context.weights = constants.address
    for tensor, buffer in zip(frame.tensors, (*inputs, *outputs), strict=True):
        tensor.data = buffer.address
    code = module._run(*frame.arguments)
    assert code == 0, f"error {code}"
    for kind, buffers in (("an output", outputs), ("the arena", [arena])):
        assert not any(buffer.spilled for buffer in buffers), f"written beside {kind}"
    return [output.content for output in outputs]


def cases() -> list[str]:
    """What can be run: `Conv-3` is a sample of an operator, other names are networks."""
    return [*(f"{name}-{place}" for name, place in native_samples()), *networks()]


def survey(folder: Path, names: Sequence[str], *options: str) -> list[str]:
    """Runs cases by name in child processes; a line for each thing that is wrong.

    `folder` is the root of the checkout. A child that dies is followed by one for the cases after that.
    """
    found: list[str] = []
    left = list(names)
    while left:
        command = [sys.executable, "-m", "tests.guard", *options, *left]
        child = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        lines = child.stdout.splitlines()
        found += [line.removeprefix("wrong: ") for line in lines if line.startswith("wrong: ")]
        if child.returncode == 0:
            break
        begun = [line.removeprefix("begin: ") for line in lines if line.startswith("begin: ")]
        if not begun:
            raise RuntimeError(f"a child failed before its first case: {child.stderr}")
        reason = signal.Signals(-child.returncode).name if child.returncode < 0 else child.stderr.strip()
        found.append(f"{begun[-1]}: {reason}")
        left = left[left.index(begun[-1].split(",")[0]) + 1 :]
    return found


def _check(case: str, short: str) -> None:
    known: list[object] = []
    for templates in (True, False):
        print(f"begin: {case}, templates {'on' if templates else 'off'}", flush=True)
        module, arrays = _compiled(case, templates)
        if (code := _identity(module)) in known:
            continue
        known.append(code)
        expected = [array.tobytes() for array in module(*arrays)]
        for placement, poison in RUNS:
            who = f"{case}, templates {'on' if templates else 'off'}, {placement}"
            print("begin:", who, flush=True)
            try:
                results = guarded_run(
                    module._native, module.artefact.weights, arrays, placement, poison, short
                )
                assert results == expected, "other bits than in ordinary memory"
            except AssertionError as error:
                print(f"wrong: {who}: {error}", flush=True)


def _compiled(case: str, templates: bool) -> tuple[LLVMModule, list[Array]]:
    """A sample as it is, a network after the passes."""
    if case in networks():
        graph, arrays = networks()[case]()
        module = gcomp.compile(
            graph, target=f"llvm{{templates={'on' if templates else 'off'}}}", host_steps=False
        )
        assert isinstance(module, LLVMModule)
        return module, arrays
    name, place = case.rsplit("-", 1)
    graph, arrays = graph_of(sample(name, int(place)))
    return compile_graph(graph, host(), name, templates), arrays


def _identity(module: LLVMModule) -> object:
    """The same for modules of the same code."""
    return module.program.entry, sorted(module.program.units)


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs cases in guarded memory; dies of a violation.")
    parser.add_argument(
        "--short", default="", help="the kind of buffers to make too short, to see it noticed"
    )
    parser.add_argument("cases", nargs="+")
    options = parser.parse_args()
    for case in options.cases:
        _check(case, options.short)


if __name__ == "__main__":
    main()
