"""Runs native samples in memory between protected pages: a step outside it ends the process, so a child runs them."""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.module import LLVMModule, compile_graph
from gcomp.native import ALIGNMENT, NativeModule, _Frame
from gcomp.types import Array
from tests.samples import graph_of, native_samples, sample

Placement = Literal["end", "start", "odd"]
"""Right before a protected page, right after one, or one byte further, where no element is aligned."""

RUNS: tuple[tuple[Placement, int], ...] = (("end", 0xFF), ("start", 0x55), ("odd", 0xAA))
"""Each placement with the byte that outputs and arena are full of; bytes 0xFF are a NaN."""

_PROT_NONE = 0
_PAGE = mmap.PAGESIZE
_PROCESS = ctypes.CDLL(None, use_errno=True)


class Fenced:
    """`size` bytes between two pages that must not be touched; around it, up to those, lie `poison` bytes too."""

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
    module: NativeModule, weights: Array, arrays: Sequence[Array], placement: Placement, poison: int, short: str
) -> list[bytes]:
    """The outputs' bytes. Inputs and weights can only be read; arena and weights keep their alignment.

    The buffers of the kind `short` lack their last bytes. Raises `AssertionError` for an error code, or if
    something was written beside a buffer.
    """

    def fenced(kind: str, size: int, lacking: int, content: Array | None = None) -> Fenced:
        aligned: Placement = "start" if kind in ("arena", "weights") and placement == "odd" else placement
        return Fenced(size - lacking * (kind == short), aligned, poison, content)

    inputs = [fenced("inputs", array.nbytes, array.itemsize, array) for array in arrays]
    outputs = [
        fenced("outputs", dtype.itemsize * _product(shape), dtype.itemsize) for shape, dtype in module._results
    ]
    arena = fenced("arena", -(-module._arena_bytes // ALIGNMENT) * ALIGNMENT, ALIGNMENT)
    constants = fenced("weights", weights.nbytes, ALIGNMENT, weights)
    frame = _Frame(module)
    if module._arena_bytes:
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


def survey(folder: Path, places: Sequence[int], *options: str) -> list[str]:
    """Runs samples, by their place in `native_samples()`, in child processes; what is wrong, a line a sample.

    `folder` is the root of the checkout. A child that dies is followed by one for the samples after that.
    """
    found: list[str] = []
    left = list(places)
    while left:
        command = [sys.executable, "-m", "tests.guard", *options, *map(str, left)]
        child = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        lines = child.stdout.splitlines()
        found += [line.removeprefix("wrong: ") for line in lines if line.startswith("wrong: ")]
        if child.returncode == 0:
            break
        begun = [line.split(" ", 2) for line in lines if line.startswith("begin ")]
        assert begun, f"a child failed before the first sample: {child.stderr}"
        reason = signal.Signals(-child.returncode).name if child.returncode < 0 else child.stderr.strip()
        found.append(f"{begun[-1][2]}: {reason}")
        left = left[left.index(int(begun[-1][1])) + 1 :]
    return found


def _check(place: int, short: str) -> None:
    name, number = native_samples()[place]
    graph, arrays = graph_of(sample(name, number))
    known: list[object] = []
    for templates in (True, False):
        module = compile_graph(graph, host(), name, templates)
        if (code := _identity(module)) in known:
            continue
        known.append(code)
        expected = [array.tobytes() for array in module(*arrays)]
        for placement, poison in RUNS:
            who = f"{name}-{number} {'templates' if templates else 'nests'}, {placement}"
            print("begin", place, who, flush=True)
            try:
                results = guarded_run(
                    module._native, module.artefact.weights, arrays, placement, poison, short
                )
                assert results == expected, "other bits than in ordinary memory"
            except AssertionError as error:
                print("wrong:", f"{who}: {error}", flush=True)


def _identity(module: LLVMModule) -> object:
    """The same for modules of the same code."""
    program = module.program
    return program.entry, sorted(program.units)


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs samples in guarded memory; dies of a violation.")
    parser.add_argument("--short", default="", help="the kind of buffers to make too short, to see it noticed")
    parser.add_argument("places", type=int, nargs="+")
    options = parser.parse_args()
    for place in options.places:
        _check(place, options.short)


if __name__ == "__main__":
    main()
