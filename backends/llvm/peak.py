"""What one core can do: fused multiply-adds a second from registers, and bytes a second from each cache."""

from __future__ import annotations

import ctypes
import statistics
import time
from functools import cache

import numpy as np

from gcomp.native import aligned
from gcomp.steps import Limits
from gcomp.types import F32

from .build import module_text
from .cpu import Cpu
from .emit import Function, Value, vector
from .jit import emit_object, load_objects
from .templates.unit import FLOATS, Unit

ACCUMULATORS = 16
"""Independent sums, enough to hide the latency of two units (12 where there are only 16 registers)."""
ITERATIONS = 20_000
SECONDS = 1e-3
"""How long the peak is measured: the clock of many processors follows what they do within milliseconds."""
BURSTS = 8
"""Measurements of the peak for the limits; the fastest counts."""
SIZES = tuple(1 << bits for bits in range(14, 27))
"""Bytes that are read over and over: what fits the nearest cache up to what fits few."""
READS = 3
"""Least number of measurements of a size; the fastest counts."""


class Peak:
    """The measurement, compiled once for a processor and what it multiplies."""

    def __init__(self, cpu: Cpu, unit: Unit = FLOATS) -> None:
        count = ACCUMULATORS if cpu.vector_registers >= 32 else 12
        lanes = cpu.lanes(F32)
        self.flops = 2 * unit.numbers * lanes * count * ITERATIONS
        self._chunk = 4 * lanes * count
        # External ones are looked up by name; `sum` and `nothing` travel in the module of `peak`.
        peak, total, empty = _multiply(count, lanes, unit), _sum(count, lanes), nothing(4)
        peak.functions = [total, empty]
        self._numbers = np.full(count * lanes, 0.5, np.float32)
        names = ["peak", "sum", empty.name]
        self._loaded = load_objects([emit_object(module_text(peak, cpu), cpu, False)], names)
        pointer = ctypes.c_void_p
        addresses = self._loaded.addresses
        self._call = ctypes.CFUNCTYPE(ctypes.c_int, pointer)(addresses["peak"])
        self._sum = ctypes.CFUNCTYPE(ctypes.c_int, pointer, ctypes.c_int64, ctypes.c_int64, pointer)(
            addresses["sum"]
        )
        self._empty = ctypes.CFUNCTYPE(ctypes.c_int, *[pointer] * 4)(addresses[empty.name])

    def __call__(self) -> float:
        """Flop per second, over so short a time that the clock stays what it is at this moment."""
        self._numbers[...] = 0.5
        address, bursts = self._numbers.ctypes.data, 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < SECONDS:
            self._call(address)
            bursts += 1
        return self.flops * bursts / elapsed

    def overhead(self) -> float:
        """Seconds that calling a function of four pointers and reading the clock take by themselves."""
        seconds: list[float] = []
        for _ in range(200):
            start = time.perf_counter()
            self._empty(0, 0, 0, 0)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    def bandwidth(self) -> tuple[tuple[int, float], ...]:
        """Bytes read a second for each of `SIZES`; what fits a nearer cache is never called slower."""
        memory = aligned(SIZES[-1])
        memory[...] = 0  # or all of its pages would be one page of zeros
        rates: list[tuple[int, float]] = []
        for size in reversed(SIZES):
            best = max(self._read(memory.ctypes.data, size), *(rate for _, rate in rates[-1:]), 0.0)
            rates.append((size, best))
        return tuple(reversed(rates))

    def _read(self, address: int, size: int) -> float:
        """Bytes a second of the fastest of several measurements, each of a MiB or more."""
        steps, passes = size // self._chunk, max(1, SIZES[-1] // 64 // size)
        best, began, done = 0.0, time.perf_counter(), 0
        while done < READS or time.perf_counter() - began < SECONDS:
            start = time.perf_counter()
            self._sum(address, steps, passes, self._numbers.ctypes.data)
            best = max(best, passes * steps * self._chunk / (time.perf_counter() - start))
            done += 1
        return best


def _multiply(count: int, lanes: int, unit: Unit) -> Function:
    fn = Function("peak", [("ptr", "numbers")], "i32", "dso_local")
    type, element = vector(unit.sum, lanes), unit.element
    a, b = (fn.load(fn.element("%numbers", n * lanes, element), vector(element, lanes), 4) for n in (0, 1))

    def body(_: Value, sums: list[Value]) -> list[Value]:
        return [unit.multiply_add(fn, a, b, total, lanes) for total in sums]

    sums = fn.loop(0, ITERATIONS, 1, body, [(type, "zeroinitializer")] * count)
    for n, total in enumerate(sums):
        fn.store(total, fn.element("%numbers", n * lanes, unit.sum), type, 4)
    fn.do("ret i32 0")
    return fn


def _sum(count: int, lanes: int) -> Function:
    """Adds up `steps` times `count` vectors, `passes` times, each into a sum of its own; stores the sums."""
    sizes = [("i64", "steps"), ("i64", "passes")]
    fn = Function("sum", [("ptr", "numbers"), *sizes, ("ptr", "sums")], "i32", "dso_local")
    type = vector("float", lanes)
    zeros = [(type, "zeroinitializer")] * count

    def body(step: Value, sums: list[Value]) -> list[Value]:
        row = fn.element("%numbers", fn.mul(step, count * lanes), "float")
        loads = [fn.load(fn.element(row, n * lanes, "float"), type, 4) for n in range(count)]
        return [fn.value(f"fadd {type} {a}, {b}") for a, b in zip(sums, loads, strict=True)]

    def once(_: Value, sums: list[Value]) -> list[Value]:
        return fn.loop("0", "%steps", 1, body, [(type, total) for total in sums])

    for n, total in enumerate(fn.loop("0", "%passes", 1, once, zeros)):
        fn.store(total, fn.element("%sums", n * lanes, "float"), type, 4)
    fn.do("ret i32 0")
    return fn


def nothing(pointers: int) -> Function:
    """A function of so many pointers that does nothing."""
    fn = Function("nothing", [("ptr", f"p{n}") for n in range(pointers)], "i32", "dso_local")
    fn.do("ret i32 0")
    return fn


@cache
def peak(cpu: Cpu, unit: Unit = FLOATS) -> Peak:
    """The measurement for a processor, compiled at the first call."""
    return Peak(cpu, unit)


def limits(cpu: Cpu) -> Limits:
    """What one core of this machine can do now, running the code of `cpu`."""
    measure = peak(cpu)
    return Limits(max(measure() for _ in range(BURSTS)), measure.bandwidth())
