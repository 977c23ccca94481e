"""A thin structured emitter that prints LLVM text: loops that carry values, memory access, vectors."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

from gcomp.dim import Dim
from gcomp.types import DType

from .sizes import emit_size

Value = str
"""An SSA name or a literal, as LLVM text."""

_SCALARS = {"f32": "float", "f64": "double", "f16": "half", "bf16": "bfloat", "bool": "i1"}


def scalar(dtype: DType) -> str:
    """The LLVM type of one element in a register; in memory a bool is an i8."""
    return _SCALARS.get(dtype.name) or f"i{dtype.bytes * 8}"


def vector(element: str, lanes: int) -> str:
    return element if lanes == 1 else f"<{lanes} x {element}>"


def number(value: float | bool, dtype: DType) -> Value:
    """A literal of the element type, bit-exact."""
    if dtype.name == "bool":
        return "true" if value else "false"
    if dtype.is_integer:
        return str(int(value))
    bits = dtype.numpy.type(value)
    if dtype.name in ("f16", "bf16"):
        return f"0x{'H' if dtype.name == 'f16' else 'R'}{int(bits.view('u2')):04X}"
    return f"0x{struct.unpack('<Q', struct.pack('<d', float(bits)))[0]:016X}"


class Function:
    """One function under construction. `value` adds an instruction and names its result.

    `exact`: each operation on floats rounds where it is written. `strict`: so that they are the same on every
    processor, where sums of products are fused besides, and in one order.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[tuple[str, str]],
        returns: str = "void",
        linkage: str = "hidden",
        strict: bool = False,
        exact: bool = False,
    ) -> None:
        self.name, self.parameters, self.returns = name, list(parameters), returns
        self.linkage, self.strict, self.exact = linkage, strict, exact or strict
        self.functions: list[Function] = []
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self._values = self._labels = 0
        self._block = "entry"
        self._entry_allocas: list[str] = []
        self.symbols: list[str] = []
        self._sizes: dict[Dim, Value] = {}
        self._prelude: list[str] = []

    def __str__(self) -> str:
        sizes = [("i64", _size_of(symbol)) for symbol in self.symbols]
        parameters = ", ".join(f"{type} %{name}" for type, name in (*self.parameters, *sizes))
        body = "\n".join([*self._entry_allocas, *self._prelude, *self.lines])
        return f"define {self.linkage} {self.returns} @{self.name}({parameters}) #0 {{\nentry:\n{body}\n}}\n"

    @property
    def contract(self) -> str:
        """The flag by which a product and a sum may become one instruction, with a blank; none if exact."""
        return "" if self.exact else " contract"

    def value(self, text: str) -> Value:
        self._values += 1
        self.lines.append(f"  %v{self._values} = {text}")
        return f"%v{self._values}"

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def call(self, returns: str, name: str, arguments: Sequence[tuple[str, Value]]) -> Value:
        """Calls an intrinsic or function, declaring it."""
        self.declarations.add(f"declare {returns} @{name}({', '.join(type for type, _ in arguments)})")
        text = f"call {returns} @{name}({', '.join(f'{type} {value}' for type, value in arguments)})"
        if returns == "void":
            self.do(text)
            return ""
        return self.value(text)

    def label(self, hint: str) -> str:
        self._labels += 1
        return f"{hint}{self._labels}"

    def block(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self._block = label

    def branch(self, condition: Value, then: str, other: str) -> None:
        self.do(f"br i1 {condition}, label %{then}, label %{other}")

    def jump(self, label: str) -> None:
        self.do(f"br label %{label}")

    def local(self, type: str, align: int = 64) -> Value:
        """A stack slot that lives as long as the function."""
        self._values += 1
        self._entry_allocas.append(f"  %v{self._values} = alloca {type}, align {align}")
        return f"%v{self._values}"

    def size(self, dim: Dim) -> Value | int:
        """A size: a number as it is, else an i64 that the function computes as it begins.

        Each symbol that is asked for becomes a parameter behind the others, in the order of `symbols`. Raises
        `OpenSizeError` as `emit_size` does.
        """
        if isinstance(dim, int):
            return dim
        if dim not in self._sizes:
            self._sizes[dim] = emit_size(dim, self._symbol, self._first)
        return self._sizes[dim]

    def _symbol(self, name: str) -> Value:
        if name not in self.symbols:
            self.symbols.append(name)
        return f"%{_size_of(name)}"

    def _first(self, text: str) -> Value:
        """Adds an instruction before all others."""
        self._values += 1
        self._prelude.append(f"  %v{self._values} = {text}")
        if found := re.search(r"@(llvm\.[\w.]+)", text):
            self.declarations.add(f"declare i64 @{found[1]}(i64, i64)")
        return f"%v{self._values}"

    def loop(
        self,
        start: Value | int,
        stop: Value | int,
        step: int,
        body: Callable[[Value, list[Value]], Sequence[Value] | None],
        carried: Sequence[tuple[str, Value]] = (),
    ) -> list[Value]:
        """`for i in range(start, stop, step)`, carrying values: `body(i, values)` returns the next ones.

        Bounds that are known decide here: no iteration gives `carried` back, one runs the body inline.
        """
        values = [value for _, value in carried]
        if isinstance(start, int) and isinstance(stop, int):
            if start >= stop:
                return values
            if start + step >= stop:
                return list(body(str(start), values) or [])
        guarded = not (isinstance(start, int) and isinstance(stop, int))
        head, latch_out, end = self.label("loop"), "", self.label("end")
        before = self._block
        if guarded:
            self.branch(self.value(f"icmp slt i64 {start}, {stop}"), head, end)
        else:
            self.jump(head)
        self.block(head)
        place = len(self.lines)
        index, phis = f"%{head}.i", [f"%{head}.p{n}" for n in range(len(values))]
        results = list(body(index, phis) or [])
        following = self.value(f"add nuw nsw i64 {index}, {step}")
        again = self.value(f"icmp slt i64 {following}, {stop}")
        latch_out = self._block
        self.branch(again, head, end)
        self.lines[place:place] = [
            f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{latch_out} ]",
            *(
                f"  {phi} = phi {type} [ {value}, %{before} ], [ {result}, %{latch_out} ]"
                for phi, (type, value), result in zip(phis, carried, results, strict=True)
            ),
        ]
        self.block(end)
        if not guarded:
            return results
        return [
            self.value(f"phi {type} [ {value}, %{before} ], [ {result}, %{latch_out} ]")
            for (type, value), result in zip(carried, results, strict=True)
        ]

    def add(self, a: Value | int, b: Value | int) -> Value:
        """i64 sum, folded where both are known."""
        if str(a).lstrip("-").isdigit() and str(b).lstrip("-").isdigit():
            return str(int(a) + int(b))
        if str(a) == "0" or str(b) == "0":
            return str(b) if str(a) == "0" else str(a)
        return self.value(f"add nsw i64 {a}, {b}")

    def mul(self, a: Value | int, b: Value | int) -> Value:
        """i64 product, folded where both are known."""
        if str(a).lstrip("-").isdigit() and str(b).lstrip("-").isdigit():
            return str(int(a) * int(b))
        if str(a) == "1" or str(b) == "1":
            return str(b) if str(a) == "1" else str(a)
        if str(a) == "0" or str(b) == "0":
            return "0"
        return self.value(f"mul nsw i64 {a}, {b}")

    def element(self, pointer: Value, offset: Value | int, type: str) -> Value:
        """The address `offset` elements of `type` beyond `pointer`."""
        if str(offset) == "0":
            return pointer
        return self.value(f"getelementptr inbounds {type}, ptr {pointer}, i64 {offset}")

    def load(self, pointer: Value, type: str, align: int = 1) -> Value:
        """The value there; of bf16 its bits: LLVM asserts where it vectorizes copies of some bfloats."""
        bits = type.replace("bfloat", "i16")
        found = self.value(f"load {bits}, ptr {pointer}, align {align}")
        return found if bits == type else self.value(f"bitcast {bits} {found} to {type}")

    def store(self, value: Value, pointer: Value, type: str, align: int = 1) -> None:
        """Writes the value; of bf16 its bits, as `load` reads them."""
        bits = type.replace("bfloat", "i16")
        if bits != type:
            value = self.value(f"bitcast {type} {value} to {bits}")
        self.do(f"store {bits} {value}, ptr {pointer}, align {align}")

    def splat(self, value: Value, element: str, lanes: int) -> Value:
        """A vector with `value` in every lane."""
        if lanes == 1:
            return value
        if not value.startswith("%"):
            return "<" + ", ".join([f"{element} {value}"] * lanes) + ">"
        type = vector(element, lanes)
        first = self.value(f"insertelement {type} poison, {element} {value}, i64 0")
        return self.value(f"shufflevector {type} {first}, {type} poison, <{lanes} x i32> zeroinitializer")

    def fma(self, a: Value, b: Value, c: Value, element: str, lanes: int) -> Value:
        """`a * b + c` rounded once, per lane."""
        type = vector(element, lanes)
        return self.call(type, f"llvm.fma.{mangled(element, lanes)}", [(type, a), (type, b), (type, c)])

    def masked_load(
        self, pointer: Value, mask: Value, element: str, lanes: int, other: Value = "zeroinitializer"
    ) -> Value:
        type = vector(element, lanes)
        if element == "bfloat":  # its bits, as `load`
            bits = vector("i16", lanes)
            given = self.value(f"bitcast {type} {other} to {bits}")
            return self.value(
                f"bitcast {bits} {self.masked_load(pointer, mask, 'i16', lanes, given)} to {type}"
            )
        arguments = [("ptr", pointer), ("i32", "1"), (f"<{lanes} x i1>", mask), (type, other)]
        return self.call(type, f"llvm.masked.load.{mangled(element, lanes)}.p0", arguments)

    def masked_store(self, value: Value, pointer: Value, mask: Value, element: str, lanes: int) -> None:
        if element == "bfloat":
            value = self.value(f"bitcast {vector(element, lanes)} {value} to {vector('i16', lanes)}")
            element = "i16"
        arguments = [
            (vector(element, lanes), value),
            ("ptr", pointer),
            ("i32", "1"),
            (f"<{lanes} x i1>", mask),
        ]
        self.call("void", f"llvm.masked.store.{mangled(element, lanes)}.p0", arguments)

    def prefetch(self, pointer: Value, locality: int) -> None:
        """Asks for the cache line of `pointer`; locality 3 is the nearest level."""
        self.call(
            "void", "llvm.prefetch.p0", [("ptr", pointer), ("i32", "0"), ("i32", str(locality)), ("i32", "1")]
        )


def _size_of(symbol: str) -> str:
    """The parameter that holds a symbol."""
    return f"size.{symbol}"


def mangled(element: str, lanes: int) -> str:
    """The type suffix of an overloaded intrinsic."""
    short = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}.get(element, element)
    return short if lanes == 1 else f"v{lanes}{short}"


def lane_mask(count: int, lanes: int) -> Value:
    """The constant mask with the first `count` lanes set."""
    return "<" + ", ".join(f"i1 {'true' if lane < count else 'false'}" for lane in range(lanes)) + ">"
