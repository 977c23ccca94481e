"""Runs a saved program on a GPU; needs Python and the NVIDIA driver, nothing else: `python model.pyz`.

The program's own inputs are run first, and the outputs compared with those that the reference gave for them;
then it is timed. The exit status is 0 where they agree.
"""

from __future__ import annotations

import ctypes
import json
import math
import struct
import sys
import time
import weakref
import zipfile
from argparse import ArgumentParser
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from gcomp.diagnostics import GcompError, RunError

from .driver import Driver, first_gpu

PLAN, PTX, WEIGHTS, EXAMPLE = "plan.json", "kernels.ptx", "weights.bin", "example.bin"
"""The files of a program. An example is the bytes of each input, and of each output that they should give."""

SECONDS, MOST = 1.0, 1000
"""How long the program is timed, and how many runs that takes at most."""

Memory = tuple[int, int]
"""An address of this process, and how many bytes are there."""


class Resident:
    """A program on a device: its code, its weights and its arena, which it gives back when it goes.

    `plan` is what `Program.manifest` describes. Raises `RunError` where the device is too old, lacks the
    memory, or refuses the code.
    """

    def __init__(self, plan: Mapping[str, Any], ptx: str, weights: Memory, device: Driver) -> None:
        self._plan, self._device = plan, device
        arch = plan["target"]["cpu"]
        if device.capability < int(arch.removeprefix("sm_")):
            raise RunError(
                f"{plan['name']}: compiled for {arch}, this GPU is sm_{device.capability}; "
                "compile for it with target cuda{arch=...}"
            )
        with device.current(), ExitStack() as stack:
            module = device.load(ptx)
            stack.callback(device.unload, module)
            bases = dict[str, int]()
            for space, size in (("arena", plan["arena_bytes"]), ("weights", weights[1])):
                bases[space] = device.allocate(size)
                stack.callback(device.free, bases[space])
            device.write(bases["weights"], *weights)
            names = {launch["kernel"] for launch in plan["launches"]}
            functions = {name: device.function(module, name) for name in names}
            self._release = weakref.finalize(self, _released, device, stack.pop_all())
        self._release.atexit = False  # the driver ends with the process, and may have gone by then
        self._arena = bases["arena"]
        self._launches = [
            (
                functions[one["kernel"]],
                one["grid"],
                one["block"],
                [bases[base] + at for base, at in one["arguments"]],
            )
            for one in plan["launches"]
        ]

    def run(self, inputs: Sequence[Memory], outputs: Sequence[Memory]) -> int:
        """Copies inputs there and outputs back; gives the status, an `ErrorCode`."""
        with self._device.current():
            for port, memory in zip(self._plan["inputs"], inputs, strict=True):
                self._device.write(self._arena + port["offset"], *memory)
            status = self._launched()
            for port, memory in zip(self._plan["outputs"], outputs, strict=True):
                self._device.read(self._arena + port["offset"], *memory)
        return status

    def repeat(self) -> None:
        """Runs again on the inputs that are there, and waits for the end."""
        with self._device.current():
            self._launched()

    def kernels(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Each launch: its kernel's name, and what starts it alone and waits for its end."""
        for described, launch in zip(self._plan["launches"], self._launches, strict=True):

            def once(launch: tuple[Any, ...] = launch) -> None:
                with self._device.current():
                    self._device.launch(*launch)
                    self._device.synchronize()

            yield described["kernel"], once

    def _launched(self) -> int:
        device, place, status = self._device, self._arena + self._plan["status"], ctypes.c_int32()
        device.zero(place, ctypes.sizeof(status))
        for launch in self._launches:
            device.launch(*launch)
        device.read(place, ctypes.addressof(status), ctypes.sizeof(status))
        return status.value


def _released(device: Driver, held: ExitStack) -> None:
    with device.current():
        held.close()


def main(arguments: Sequence[str], place: Path, device: Callable[[], Driver] = first_gpu) -> int:
    """Runs the program in the folder or archive `place`; gives the exit status."""
    parser = ArgumentParser(prog=place.name, description="Runs a model on a GPU, checks and times it.")
    parser.add_argument("--kernels", action="store_true", help="time each kernel alone, too")
    told = parser.parse_args(arguments)
    try:
        return _checked_and_timed(place, device(), told.kernels)
    except GcompError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _checked_and_timed(place: Path, device: Driver, each: bool) -> int:
    plan: dict[str, Any] = json.loads(_file(place, PLAN))
    weights, example = bytearray(_file(place, WEIGHTS)), bytearray(_file(place, EXAMPLE))
    resident = Resident(plan, _file(place, PTX).decode(), _memory(weights), device)
    print(f"{plan['name']}, for {plan['target']['cpu']}, on {device.name} (sm_{device.capability})")
    sizes = [port["bytes"] for port in (*plan["inputs"], *plan["outputs"])]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    given = [bytearray(example[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
    inputs, expected = given[: len(plan["inputs"])], given[len(plan["inputs"]) :]
    outputs = [bytearray(len(one)) for one in expected]
    here, there = [_memory(one) for one in inputs], [_memory(one) for one in outputs]
    if status := resident.run(here, there):
        raise RunError(f"{plan['name']}: {plan['errors'][str(status)]} (error {status})")
    right = True
    for port, actual, wanted in zip(plan["outputs"], outputs, expected, strict=True):
        said = difference(port, bytes(actual), bytes(wanted))
        right &= said.startswith("agrees")
        print(f"  {port['name']}: {said}")
    print(f"  a run takes {_timed(resident.repeat)}, {_timed(lambda: resident.run(here, there))} with copies")
    for name, once in resident.kernels() if each else ():
        print(f"  {name}: {_timed(once, 0.1)}")
    return 0 if right else 1


def difference(port: Mapping[str, Any], actual: bytes, expected: bytes) -> str:
    """How far an output is from what it should be, by the bounds in its description (gcomp's `allowance`)."""
    pairs = list(zip(_numbers(actual, port["dtype"]), _numbers(expected, port["dtype"]), strict=True))
    largest = max((abs(e) for _, e in pairs if math.isfinite(e)), default=0.0)
    bound, worst, wrong = port["bound"], 0.0, 0
    for a, e in pairs:
        if a == e or (a != a and e != e):
            continue
        error = abs(a - e) if math.isfinite(a) and math.isfinite(e) else math.inf
        size = abs(e) if math.isfinite(e) else 0.0
        wrong += not error <= size * bound["relative"] + largest * bound["scaled"] + bound["least"]
        worst = max(worst, error)
    if wrong:
        return (
            f"{wrong} of {len(pairs)} elements differ, by {worst:.3g} at most; the largest is {largest:.3g}"
        )
    return f"agrees, at most {worst:.3g} off; the largest is {largest:.3g}"


_FORMATS = {
    "f16": "e", "f32": "f", "f64": "d", "bool": "?", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i",
    "u32": "I", "i64": "q", "u64": "Q",
}  # fmt: skip


def _numbers(data: bytes, dtype: str) -> tuple[float, ...]:
    if dtype == "bf16":  # the upper half of an f32
        data = array("I", (half << 16 for half in array("H", data))).tobytes()
        dtype = "f32"
    code = _FORMATS[dtype]
    return struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data)


def _timed(run: Callable[[], object], share: float = 1.0) -> str:
    """The median and the least time of some runs."""
    run()
    times: list[float] = []
    end = time.perf_counter() + SECONDS * share
    while not times or (len(times) < MOST and time.perf_counter() < end):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return f"{median(times) * 1e3:.3f} ms (median of {len(times)}, at best {min(times) * 1e3:.3f} ms)"


def _memory(data: bytearray) -> Memory:
    """Where the bytes lie, as long as `data` lives."""
    return (ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data)) if data else 0), len(data)


def _file(place: Path, name: str) -> bytes:
    if place.is_dir():
        return (place / name).read_bytes()
    with zipfile.ZipFile(place) as archive:
        return archive.read(name)
