"""LLVM text of fused multiply-add and rounding, which LLVM calls where the processor has no instruction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .cpu import Cpu


@dataclass(frozen=True)
class _Float:
    """A type: how the names of C's functions for it end, its bits, and from where on all of it is whole."""

    name: str
    suffix: str
    bits: int
    whole: str

    @property
    def sign(self) -> int:
        return -(1 << self.bits - 1)


_FLOATS = (
    _Float("float", "f", 32, "0x4160000000000000"),
    _Float("double", "", 64, "0x4330000000000000"),
)

# Added to a number without its sign, the least number from which on all are whole rounds it, half to even.
_NEAREST = """\
define weak hidden {name} @roundeven{suffix}({name} %x) #1 {{
  %bits = bitcast {name} %x to i{bits}
  %sign = and i{bits} %bits, {sign}
  %size.bits = xor i{bits} %bits, %sign
  %size = bitcast i{bits} %size.bits to {name}
  %moved = fadd {name} %size, {whole}
  %near = fsub {name} %moved, {whole}
  %near.bits = bitcast {name} %near to i{bits}
  %all = or i{bits} %near.bits, %sign
  %signed = bitcast i{bits} %all to {name}
  %has.fraction = fcmp olt {name} %size, {whole}
  %result = select i1 %has.fraction, {name} %signed, {name} %x
  ret {name} %result
}}
"""

# The nearest whole number, or the one before it if that lies on the wrong side; zeros keep the sign of x.
_DIRECTED = """\
define weak hidden {name} @{function}{suffix}({name} %x) #1 {{
  %near = call {name} @roundeven{suffix}({name} %x)
  %bits = bitcast {name} %x to i{bits}
  %sign = and i{bits} %bits, {sign}
  %one.bits = or i{bits} {one}, {of_one}
  %one = bitcast i{bits} %one.bits to {name}
  %other = {step} {name} %near, %one
  %above = fcmp ogt {name} %near, %x
  %below = fcmp olt {name} %near, %x
  %negative = icmp ne i{bits} %sign, 0
  %is.wrong = {wrong}
  %chosen = select i1 %is.wrong, {name} %other, {name} %near
  %chosen.bits = bitcast {name} %chosen to i{bits}
  %all = or i{bits} %chosen.bits, %sign
  %result = bitcast i{bits} %all to {name}
  ret {name} %result
}}
"""

_DIRECTIONS = {
    "floor": ("fsub", "0", "and i1 %above, true"),
    "ceil": ("fadd", "0", "and i1 %below, true"),
    "trunc": ("fsub", "%sign", "select i1 %negative, i1 %below, i1 %above"),
}
"""How each gets from the nearest number to the one before, the sign of that step, and when it has to."""


def _two_sum(a: str, b: str, sum: str, rest: str) -> Iterator[str]:
    """`sum + rest` is `a + b` (Knuth)."""
    yield f"%{sum} = fadd double %{a}, %{b}"
    yield f"%{sum}.b = fsub double %{sum}, %{a}"
    yield f"%{sum}.a = fsub double %{sum}, %{sum}.b"
    yield f"%{sum}.rest.a = fsub double %{a}, %{sum}.a"
    yield f"%{sum}.rest.b = fsub double %{b}, %{sum}.b"
    yield f"%{rest} = fadd double %{sum}.rest.a, %{sum}.rest.b"


def _split(x: str) -> Iterator[str]:
    """`high + low` is `x`, each of at most 26 bits (Veltkamp)."""
    yield f"%{x}.wide = fmul double %{x}, 0x41A0000002000000"
    yield f"%{x}.beyond = fsub double %{x}.wide, %{x}"
    yield f"%{x}.high = fsub double %{x}.wide, %{x}.beyond"
    yield f"%{x}.low = fsub double %{x}, %{x}.high"


def _to_odd(sum: str, rest: str, result: str) -> Iterator[str]:
    """`sum + rest` rounded to the neighbour whose last bit is set: it may be rounded again."""
    yield f"%{sum}.bits = bitcast double %{sum} to i64"
    yield f"%{rest}.bits = bitcast double %{rest} to i64"
    yield f"%{sum}.last = trunc i64 %{sum}.bits to i1"
    yield f"%{sum}.is.even = xor i1 %{sum}.last, true"
    yield f"%{rest}.is.there = fcmp one double %{rest}, 0.0"
    yield f"%{sum}.moves = and i1 %{sum}.is.even, %{rest}.is.there"
    yield f"%{sum}.signs = xor i64 %{sum}.bits, %{rest}.bits"
    yield f"%{sum}.shrinks = icmp slt i64 %{sum}.signs, 0"
    yield f"%{sum}.step = select i1 %{sum}.shrinks, i64 -1, i64 1"
    yield f"%{sum}.next = add i64 %{sum}.bits, %{sum}.step"
    yield f"%{sum}.odd = select i1 %{sum}.moves, i64 %{sum}.next, i64 %{sum}.bits"
    yield f"%{result} = bitcast i64 %{sum}.odd to double"


def _fused_float() -> Iterator[str]:
    """The product of two f32 is exact in f64; the sum is rounded to odd there."""
    for x in "abc":
        yield f"%{x} = fpext float %{x}.float to double"
    yield "%product = fmul double %a, %b"
    yield from _two_sum("product", "c", "sum", "rest")
    yield from _to_odd("sum", "rest", "odd")
    yield "%result = fptrunc double %odd to float"
    yield "ret float %result"


def _fused_double() -> Iterator[str]:
    """Boldo and Melquiond, Emulation of FMA and correctly rounded sums, IEEE ToC 2008, figure 2.

    What overflows on the way is the plain product and sum; products below 2 ** -969 may round twice.
    """
    yield "%product = fmul double %a, %b"
    yield from _split("a")
    yield from _split("b")
    yield "%left.0 = fmul double %a.high, %b.high"
    yield "%left.1 = fsub double %left.0, %product"
    yield "%cross.0 = fmul double %a.high, %b.low"
    yield "%left.2 = fadd double %left.1, %cross.0"
    yield "%cross.1 = fmul double %a.low, %b.high"
    yield "%left.3 = fadd double %left.2, %cross.1"
    yield "%cross.2 = fmul double %a.low, %b.low"
    yield "%error = fadd double %left.3, %cross.2"
    yield from _two_sum("c", "error", "low", "lowest")
    yield from _two_sum("product", "low", "high", "middle")
    yield from _two_sum("lowest", "middle", "tail", "rest")
    yield from _to_odd("tail", "rest", "odd")
    yield "%fused = fadd double %high, %odd"
    yield "%plain = fadd double %product, %c"
    yield "%overflows = fcmp uno double %fused, %fused"
    yield "%result = select i1 %overflows, double %plain, double %fused"
    yield "ret double %result"


def _function(head: str, lines: Iterator[str]) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"define weak hidden {head} #1 {{\n{body}\n}}\n"


def _whole_numbers(type: _Float) -> Iterator[str]:
    facts = {**vars(type), "sign": type.sign, "one": "1065353216" if type.suffix else "4607182418800017408"}
    yield _NEAREST.format(**facts)
    for function, (step, of_one, wrong) in _DIRECTIONS.items():
        yield _DIRECTED.format(**facts, function=function, step=step, of_one=of_one, wrong=wrong)


def rounding_text(cpu: Cpu) -> str:
    """The functions that LLVM may call on this processor; nothing for one that rounds by itself."""
    if cpu.arch != "x86_64":
        return ""
    parts: list[str] = []
    if not cpu.has("fma"):
        parts += [
            _function("float @fmaf(float %a.float, float %b.float, float %c.float)", _fused_float()),
            _function("double @fma(double %a, double %b, double %c)", _fused_double()),
        ]
    if not cpu.has("sse4.1"):
        parts += [text for type in _FLOATS for text in _whole_numbers(type)]
    return "\n".join(parts)
