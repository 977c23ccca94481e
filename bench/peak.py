"""What one core can do: fused multiply-adds per second with all operands in registers."""

from __future__ import annotations

import ctypes
import statistics
import time
from functools import cache

import numpy as np

from gcomp.backends.llvm.build import attributes
from gcomp.backends.llvm.cpu import Cpu
from gcomp.backends.llvm.emit import Function, Value, vector
from gcomp.backends.llvm.jit import emit_object, load_objects
from gcomp.types import F32

ACCUMULATORS = 16
"""Independent sums, enough to hide the latency of two units (12 where there are only 16 registers)."""
ITERATIONS = 20_000
SECONDS = 1e-3
"""How long the peak is measured: the clock of many processors follows what they do within milliseconds."""


class Peak:
    """The measurement, compiled once for a processor."""

    def __init__(self, cpu: Cpu) -> None:
        count = ACCUMULATORS if cpu.vector_registers >= 32 else 12
        lanes = cpu.lanes(F32)
        self.flops = 2 * lanes * count * ITERATIONS
        fn = Function("peak", [("ptr", "numbers")], "i32")
        type = vector("float", lanes)
        a, b = (fn.load(fn.element("%numbers", n * lanes, "float"), type, 4) for n in (0, 1))

        def body(_: Value, sums: list[Value]) -> list[Value]:
            return [fn.fma(a, b, total, "float", lanes) for total in sums]

        sums = fn.loop(0, ITERATIONS, 1, body, [(type, "zeroinitializer")] * count)
        for n, total in enumerate(sums):
            fn.store(total, fn.element("%numbers", n * lanes, "float"), type, 4)
        fn.do("ret i32 0")
        empty = Function("empty", [("ptr", f"p{n}") for n in range(4)], "i32")
        empty.do("ret i32 0")
        bodies = [str(one).replace("define hidden", "define") for one in (fn, empty)]
        text = "\n".join([*bodies, *fn.declarations, attributes(cpu)])
        self._numbers = np.full(count * lanes, 0.5, np.float32)
        self._loaded = load_objects([emit_object(text, cpu, False)], ["peak", "empty"])
        self._call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(self._loaded.addresses["peak"])
        self._empty = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)(self._loaded.addresses["empty"])

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


@cache
def peak(cpu: Cpu) -> Peak:
    """The measurement for a processor, compiled at the first call."""
    return Peak(cpu)
