"""Products of bytes, exact in 32 bits: the instructions that a processor has for them, and what they read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcomp.types import I8, I16, U8, Array, DType

from ..cpu import Cpu
from ..emit import Function, Value, vector
from ..problem import Problem, View
from .packing import pack
from .schedule import Tile, pieces
from .unit import Unit


@dataclass(frozen=True)
class Dots:
    """Neighbouring activations and weights fill an element of four bytes; one step multiplies them all.

    Activations are `stored` as u8, i8 or i16, weights as the signed type of that size. With `halves` a vector
    of weights holds the first number of each of its elements, then the second.
    """

    stored: DType
    unit: Unit
    halves: bool = False
    products: int = 0
    """Registers for products that are not added yet."""

    @property
    def together(self) -> int:
        """Numbers in an element."""
        return self.unit.numbers

    def offset(self, dtype: DType) -> int:
        """What is added to activations of `dtype` when they are stored."""
        if self.stored == I16 or self.stored == dtype:
            return 0
        return 128 if dtype == I8 else -128

    def elements(self, depth: int) -> int:
        """Elements that hold `depth` numbers."""
        return pieces(depth, self.together)

    def packed(self, w: Array, lanes: int, vectors: int, tile: Tile) -> Array:
        """Filters i8 [outputs, depth, taps, taps] as `packing.pack` lays out elements; zeros fill them up."""
        outputs, depth, *taps = w.shape
        signed = np.int16 if self.stored == I16 else np.int8
        room = np.zeros((outputs, self.elements(depth), self.together, *taps), signed)
        room.reshape(outputs, -1, *taps)[:, :depth] = w
        elements = np.ascontiguousarray(np.moveaxis(room, 2, -1)).view(np.int32)[..., 0]
        found = pack(elements, lanes, vectors, tile)
        if not self.halves:
            return found
        return found.view(signed).reshape(-1, lanes, self.together).swapaxes(1, 2).reshape(-1)


def dots_for(cpu: Cpu) -> Dots | None:
    """The fastest way that cannot saturate: four bytes at once, else two numbers of 16 bits.

    x86's vpmaddubsw is left aside: its sums of two products of u8 and i8 do not fit their 16 bits.
    """
    bits = cpu.vector_bytes * 8
    if bits < 128:
        return None
    if cpu.arch == "x86_64":
        if cpu.has("avx512vnni", "avx512vl") or (cpu.has("avxvnni") and bits < 512):
            return Dots(U8, _four(f"llvm.x86.avx512.vpdpbusd.{bits}"))
        names = {128: "sse2.pmadd.wd", 256: "avx2.pmadd.wd", 512: "avx512.pmaddw.d.512"}
        return Dots(I16, _two(f"llvm.x86.{names[bits]}"), products=2)
    if cpu.arch == "aarch64" and cpu.has("i8mm"):
        return Dots(U8, _four("llvm.aarch64.neon.usdot.v4i32.v16i8"))
    if cpu.arch == "aarch64" and cpu.has("dotprod"):
        return Dots(I8, _four("llvm.aarch64.neon.sdot.v4i32.v16i8"))
    return Dots(I16, Unit("i32", "i32", _widened, 1, 2), halves=True)


def _four(name: str) -> Unit:
    """An intrinsic that adds four products to each sum."""

    def multiply_add(fn: Function, x: Value, w: Value, sums: Value, lanes: int) -> Value:
        whole, parts = vector("i32", lanes), vector("i8", 4 * lanes)
        a, b = (fn.value(f"bitcast {whole} {value} to {parts}") for value in (x, w))
        return fn.call(whole, name, [(whole, sums), (parts, a), (parts, b)])

    return Unit("i32", "i32", multiply_add, 1, 4)


def _two(name: str) -> Unit:
    """An intrinsic that gives the sums of two products; of bytes they are far from 2 ** 31."""

    def multiply_add(fn: Function, x: Value, w: Value, sums: Value, lanes: int) -> Value:
        whole, parts = vector("i32", lanes), vector("i16", 2 * lanes)
        a, b = (fn.value(f"bitcast {whole} {value} to {parts}") for value in (x, w))
        return fn.value(f"add {whole} {sums}, {fn.call(whole, name, [(parts, a), (parts, b)])}")

    return Unit("i32", "i32", multiply_add, 1, 2)


def _widened(fn: Function, x: Value, w: Value, sums: Value, lanes: int) -> Value:
    """Two multiplications of 16 bits into 32, as most processors have."""
    whole, parts, half = vector("i32", lanes), vector("i16", 2 * lanes), vector("i16", lanes)
    a, b = (fn.value(f"bitcast {whole} {value} to {parts}") for value in (x, w))
    for number in range(2):
        sides: list[Value] = []
        for value, places in ((a, [number] * lanes), (b, range(number * lanes, (number + 1) * lanes))):
            mask = ", ".join(f"i32 {place}" for place in places)
            part = fn.value(f"shufflevector {parts} {value}, {parts} poison, <{lanes} x i32> <{mask}>")
            sides.append(fn.value(f"sext {half} {part} to {whole}"))
        sums = fn.value(f"add {whole} {sums}, {fn.value(f'mul {whole} {sides[0]}, {sides[1]}')}")
    return sums


def zero_of(problem: Problem, operand: int) -> int | None:
    """The zero point that the anchor's operand holds, 0 for an absent one; None if it is not one constant."""
    if problem.anchor.operands[operand] is None:
        return 0
    view = problem.view(operand)
    if view is None or view.array is None or view.array.size == 0:
        return None
    first = int(view.array.flat[0])
    return first if (view.array == first).all() else None


def corrections(w: Array, zero: int, room: int) -> Array:
    """For each filter of i8 [rows, ...] the i32 that an input of nothing but `zero` brings to 0.

    Zeros fill it up to `room`.
    """
    found = np.zeros(room, np.int32)
    sums = w.reshape(len(w), -1).sum(axis=1, dtype=np.int64)
    found[: len(w)] = (-zero * sums).astype(np.int32)  # modulo 2 ** 32, as all sums are
    return found


def is_signed_matrix(view: View | None, rank: int) -> bool:
    """Whether these are constant weights of i8."""
    return view is not None and view.array is not None and view.type.dtype == I8 and view.type.rank == rank
