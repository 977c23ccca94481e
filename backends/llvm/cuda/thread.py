"""What one thread of a GPU executes, as LLVM text: which element it makes, natural alignment."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from math import prod

from gcomp.plan import physical_extents
from gcomp.types import TensorType

from ..access import Access
from ..emit import Function, Value, mangled, scalar, vector

SIDE = 16
"""Threads along each side of a block that is taken for a square."""
THREADS = SIDE * SIDE
"""Threads of a block."""

_BYTES = {"double": 8, "float": 4, "half": 2, "bfloat": 2}


class Thread(Function):
    """A kernel under construction. Buffers are aligned to their elements, so that each is one access."""

    def __init__(self, name: str) -> None:
        super().__init__(name, [], "void", linkage="ptx_kernel")
        self.globals: list[str] = []

    def load(self, pointer: Value, type: str, align: int = 1) -> Value:
        return super().load(pointer, type, max(align, _alignment(type)))

    def store(self, value: Value, pointer: Value, type: str, align: int = 1) -> None:
        super().store(value, pointer, type, max(align, _alignment(type)))

    def masked_load(
        self, pointer: Value, mask: Value, element: str, lanes: int, other: Value = "zeroinitializer"
    ) -> Value:
        type = vector(element, lanes)
        align = str(_alignment(element))
        arguments = [("ptr", pointer), ("i32", align), (f"<{lanes} x i1>", mask), (type, other)]
        return self.call(type, f"llvm.masked.load.{mangled(element, lanes)}.p0", arguments)

    def write(self, value: Value, access: Access, offset: Value | int) -> None:
        """Stores an element of a tensor, `offset` elements into it."""
        element = scalar(access.type.dtype)
        if element == "i1":
            value, element = self.value(f"zext i1 {value} to i8"), "i8"
        self.store(value, self.element(access.pointer, offset, element), element)

    def shared(self, name: str, element: str, size: int) -> Value:
        """Memory for `size` elements that all threads of a block see, aligned to 16 bytes."""
        symbol = f"@{self.name}_{name}"
        self.globals.append(f"{symbol} = internal addrspace(3) global [{size} x {element}] poison, align 16")
        return f"addrspacecast (ptr addrspace(3) {symbol} to ptr)"

    def barrier(self) -> None:
        """Waits for all threads of the block: what they wrote to shared memory before can be read after."""
        self.call("void", "llvm.nvvm.barrier.cta.sync.aligned.all", [("i32", "0")])

    @contextmanager
    def where(self, condition: Value | None) -> Generator[None]:
        """What is emitted inside is done where the condition (i1) holds; always if there is none."""
        if condition is None:
            yield
            return
        inside, after = self.label("inside"), self.label("after")
        self.branch(condition, inside, after)
        self.block(inside)
        yield
        self.jump(after)
        self.block(after)

    def register(self, name: str) -> Value:
        """A special register along x (i32): `ctaid`, the block's number, or `tid`, the thread's in it."""
        return self.call("i32", f"llvm.nvvm.read.ptx.sreg.{name}.x", [])

    def widened(self, place: Value) -> Value:
        """An i32 that is no less than 0 as an i64."""
        return self.value(f"zext i32 {place} to i64") if place.startswith("%") else place

    def plus(self, a: Value, b: Value | int) -> Value:
        """The sum of two i32."""
        if "0" in (str(a), str(b)):
            return str(b) if str(a) == "0" else a
        return self.value(f"add i32 {a}, {b}")

    def number(self, total: int) -> Value:
        """This thread's number in the grid; an i32 where `total` threads can be counted so, else an i64."""
        block, lane = self.register("ctaid"), self.register("tid")
        type = counter(total)
        if type == "i64":
            block, lane = (self.value(f"zext i32 {value} to i64") for value in (block, lane))
        first = self.value(f"mul {type} {block}, {THREADS}")
        return self.value(f"add {type} {first}, {lane}")

    def places(self, number: Value, extents: Sequence[int]) -> list[Value]:
        """The index along each extent (i64) of the element `number` in row-major order."""
        type = counter(prod(extents))
        found = self.split(number, extents, type)
        if type == "i64":
            return found
        return [self.widened(place) for place in found]

    def split(self, number: Value, extents: Sequence[int], type: str) -> list[Value]:
        """`number` as digits, the last of them counting up to the last extent."""
        found: list[Value] = []
        for axis in reversed(range(len(extents))):
            outer = prod(extents[:axis]) > 1
            if extents[axis] == 1:
                found.append("0")
            elif not outer:
                found.append(number)
                number = "0"
            else:
                found.append(self.value(f"urem {type} {number}, {extents[axis]}"))
                number = self.value(f"udiv {type} {number}, {extents[axis]}")
        return found[::-1]

    def logical(self, type: TensorType, places: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        """The logical index at a place in memory, and the conditions (i1) that it is no padding."""
        if type.layout is None:
            return list(places), []
        shape, merged, room = type.static_shape, dict[tuple[int, ...], Value](), dict[tuple[int, ...], int]()
        for part, place, extent in zip(type.layout.parts, places, physical_extents(type), strict=True):
            step = self.mul(place, part.tile) if part.side == "outer" else place
            merged[part.axes] = self.add(merged.get(part.axes, "0"), step)
            room[part.axes] = room.get(part.axes, 1) * extent
        index, inside = ["0"] * len(shape), list[Value]()
        for axes, value in merged.items():
            sizes = [shape[axis] for axis in axes]
            if room[axes] > prod(sizes):
                inside.append(self.value(f"icmp ult i64 {value}, {prod(sizes)}"))
            for axis, digit in zip(axes, self.split(value, sizes, "i64"), strict=True):
                index[axis] = digit
        return index, inside


def counter(total: int) -> str:
    """The type in which `total` threads, and the idle ones of the last block, can be counted."""
    return "i32" if total + THREADS <= 1 << 31 else "i64"


def _alignment(type: str) -> int:
    """Bytes to which an element of this type, or of this vector of them, is aligned."""
    element = re.sub(r"<\d+ x (\w+)>", r"\1", type)
    return _BYTES.get(element) or max(1, int(element.removeprefix("i")) // 8)
