"""One operation of the kernel language as a TIR expression, for any element type."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from gcomp import expr as e
from gcomp.diagnostics import UnsupportedError
from gcomp.kernel import walk
from gcomp.types import BF16, BOOL, F16, F32, I64, DType

Tir = Any
"""A scalar TIR expression. Operands are variables or literals, so that using one twice costs nothing."""

_NAMES = {"f": "float", "i": "int", "u": "uint"}

_ROUNDINGS = {
    "sqrt": tirx.sqrt,
    "floor": tirx.floor,
    "ceil": tirx.ceil,
    "round": tirx.nearbyint,
    "trunc": tirx.trunc,
}


def tir_name(dtype: DType) -> str:
    """TVM's name for values of a type. Those of bf16 are f32 whose lower half is zero."""
    if dtype == BF16:
        return "float32"
    return "bool" if dtype == BOOL else _NAMES[dtype.name[0]] + dtype.name[1:]


def memory_name(dtype: DType) -> str:
    """TVM's name for elements in memory. bf16 lies there as its bits."""
    return "uint16" if dtype == BF16 else tir_name(dtype)


def from_memory(element: Tir, dtype: DType) -> Tir:
    """The value of an element that was read."""
    if dtype != BF16:
        return element
    wide = tirx.shift_left(tirx.Cast("uint32", element), tirx.IntImm("uint32", 16))
    return tirx.reinterpret("float32", wide)


def to_memory(value: Tir, dtype: DType) -> Tir:
    """The element to write for a value."""
    if dtype != BF16:
        return value
    if isinstance(value, tirx.FloatImm):
        return memory_number(float(value.value), dtype)
    upper = tirx.shift_right(tirx.reinterpret("uint32", value), tirx.IntImm("uint32", 16))
    return tirx.Cast("uint16", upper)


def memory_number(value: float | bool, dtype: DType) -> Tir:
    """A literal as an element in memory."""
    if dtype != BF16:
        return number(value, dtype)
    return tirx.IntImm("uint16", int(np.asarray(value, BF16.numpy).view(np.uint16)))


def rounded(value: Tir, dtype: DType) -> Tir:
    """What an operation on values of `dtype` gives: for bf16 the nearest, half to even."""
    if dtype != BF16 or isinstance(value, tirx.FloatImm):
        return value
    bits = tirx.reinterpret("uint32", value)
    odd = tirx.bitwise_and(tirx.shift_right(bits, tirx.IntImm("uint32", 16)), tirx.IntImm("uint32", 1))
    carried = tirx.Add(bits, tirx.Add(odd, tirx.IntImm("uint32", 0x7FFF)))
    quiet = tirx.bitwise_or(bits, tirx.IntImm("uint32", 0x00400000))
    kept = select(tirx.isnan(value), quiet, carried)
    return tirx.reinterpret("float32", tirx.bitwise_and(kept, tirx.IntImm("uint32", 0xFFFF0000)))


def number(value: float | bool, dtype: DType) -> Tir:
    """A literal."""
    if dtype.is_float:
        return tirx.FloatImm(tir_name(dtype), float(dtype.numpy.type(value)))
    return tirx.IntImm(tir_name(dtype), int(value))


def select(condition: Tir, then: Tir, other: Tir) -> Tir:
    return tirx.Select(condition, then, other)


def unary(op: e.UnaryName, a: Tir, of: DType) -> Tir:
    """The operation on a value of type `of`. Raises `UnsupportedError`."""
    match op:
        case "neg" if of.is_float:
            return tirx.Mul(a, number(-1, of))
        case "neg":
            return _wrapping("sub", number(0, of), a, of)
        case "not":
            return tirx.Not(a) if of.name == "bool" else tirx.bitwise_not(a)
        case "abs" if of.is_float:
            return tirx.abs(a)
        case "abs":
            if not of.is_signed:
                return a
            return select(tirx.LT(a, number(0, of)), _wrapping("sub", number(0, of), a, of), a)
        case "isnan":
            return is_nan(a, of)
        case "isinf":
            return tirx.EQ(tirx.abs(a), number(float("inf"), of))
        case _ if op in _ROUNDINGS and of.is_float:
            return _ROUNDINGS[op](a)
        case _:
            raise UnsupportedError(f"tvm: no code for {op} of {of}")


def binary(x: e.Binary, a: Tir, b: Tir) -> Tir:
    """`x` for operands whose values are `a` and `b`. Raises `UnsupportedError`."""
    of = x.lhs.dtype
    if of.name == "bool":
        return _logical(x.op, a, b)
    match x.op:
        case "add" | "sub" | "mul":
            if not of.is_float and not _is_index(x):
                return _wrapping(x.op, a, b, of)
            return {"add": tirx.Add, "sub": tirx.Sub, "mul": tirx.Mul}[x.op](a, b)
        case "div" if of.is_float:
            return tirx.Div(a, b)
        case "lt":
            return tirx.LT(a, b)
        case "le":
            return tirx.LE(a, b)
        case "eq":
            return tirx.EQ(a, b)
        case "ne":
            return differs(a, b, of)
        case "min" | "max":
            return extremum(x.op, a, b, of)
        case _ if of.is_float:
            raise UnsupportedError(f"tvm: no code for {x.op} of {of}")
        case "and":
            return tirx.bitwise_and(a, b)
        case "or":
            return tirx.bitwise_or(a, b)
        case "xor":
            return tirx.bitwise_xor(a, b)
        case "shl" | "shr":
            return _shift(x.op, a, b, of)
        case "floordiv" | "truncdiv" | "mod" | "rem":
            return _divide(x, a, b)
        case _:
            raise UnsupportedError(f"tvm: no code for {x.op} of {of}")


def _logical(op: e.BinaryName, a: Tir, b: Tir) -> Tir:
    match op:
        case "and" | "min" | "mul":
            return tirx.And(a, b)
        case "or" | "max" | "add":
            return tirx.Or(a, b)
        case "xor" | "ne":
            return tirx.Or(tirx.And(a, tirx.Not(b)), tirx.And(tirx.Not(a), b))
        case "eq":
            return tirx.Or(tirx.And(a, b), tirx.And(tirx.Not(a), tirx.Not(b)))
        case "lt":
            return tirx.And(tirx.Not(a), b)
        case "le":
            return tirx.Or(tirx.Not(a), b)
        case _:
            raise UnsupportedError(f"tvm: no code for {op} of bool")


def is_nan(a: Tir, of: DType) -> Tir:
    """TVM takes `a == a` for true."""
    return tirx.isnan(tirx.Cast("float32", a) if of == F16 else a)


def differs(a: Tir, b: Tir, of: DType) -> Tir:
    """Whether two values are not equal, as a NaN is not."""
    different = tirx.Not(tirx.EQ(a, b))
    if not of.is_float:
        return different
    return tirx.Or(different, tirx.Or(is_nan(a, of), is_nan(b, of)))


def extremum(op: str, a: Tir, b: Tir, of: DType) -> Tir:
    """The lesser or the greater of two numbers; a NaN if one of them is."""
    if not of.is_float:
        return tirx.Min(a, b) if op == "min" else tirx.Max(a, b)
    best = select(tirx.LT(a, b) if op == "min" else tirx.LT(b, a), a, b)
    return select(is_nan(a, of), a, best)


def combine(op: str, a: Tir, b: Tir, of: DType) -> Tir:
    """One step of a reduction."""
    if of.name == "bool":
        return tirx.And(a, b) if op in ("and", "min", "mul") else tirx.Or(a, b)
    match op:
        case "min" | "max":
            return extremum(op, a, b, of)
        case "and":
            return tirx.bitwise_and(a, b)
        case "or":
            return tirx.bitwise_or(a, b)
        case _:
            if not of.is_float:
                return _wrapping(op, a, b, of)
            return {"add": tirx.Add, "mul": tirx.Mul}[op](a, b)


def fma(a: Tir, b: Tir, c: Tir, of: DType) -> Tir:
    """`a * b + c` rounded once."""
    if of.is_integer:
        return _wrapping("add", _wrapping("mul", a, b, of), c, of)
    if of == BF16:  # rounded to it by the caller
        return fma(a, b, c, F32)
    if of == F16:  # a product of halves is exact in f32
        wide = [tirx.Cast("float32", part) for part in (a, b, c)]
        return tirx.Cast("float16", fma(wide[0], wide[1], wide[2], F32))
    return tirx.call_llvm_pure_intrin(tir_name(of), "llvm.fma", a, b, c)


def convert(a: Tir, of: DType, to: DType) -> Tir:
    """A value of type `of` as one of type `to`, by the rules of `expr.Cast`."""
    if of == to:
        return a
    if to.name == "bool":
        return differs(a, number(0, of), of)
    if of.is_float and to.is_integer:
        return _truncated(a, of, to)
    if {of, to} == {F32, BF16}:
        return a
    if isinstance(a, tirx.IntImm):  # TVM would take the bits of a cast that it folds to zero for a pointer
        return number(int(a.value), to) if to.is_float else _folded("add", int(a.value), 0, to)
    return tirx.Cast(tir_name(to), a)


def bitcast(a: Tir, of: DType, to: DType) -> Tir:
    bits = to_memory(a, of)
    return from_memory(bits if to == BF16 else tirx.reinterpret(tir_name(to), bits), to)


def _is_index(x: e.Expr) -> bool:
    """Whether `x` serves to find elements: such numbers do not overflow. Bits of floats do not."""
    return x.dtype == I64 and not any(isinstance(part, e.Bitcast) for part in walk(x))


def _wrapping(op: str, a: Tir, b: Tir, of: DType) -> Tir:
    """Arithmetic modulo 2**bits: TVM takes the overflow of any integer for impossible.

    It is written in bits that TVM's simplifier does not see through.
    """
    if isinstance(a, tirx.IntImm) and isinstance(b, tirx.IntImm):
        return _folded(op, int(a.value), int(b.value), of)
    bits, unsigned = of.bytes * 8, f"uint{of.bytes * 8}"

    def raw(x: Tir) -> Tir:
        if isinstance(x, tirx.IntImm):
            return tirx.IntImm(unsigned, int(x.value) % (1 << bits))
        return tirx.reinterpret(unsigned, x) if of.is_signed else x

    left, right = raw(a), raw(b)
    if op == "mul":
        result = tirx.Mul(left, right)
    elif op == "add":
        result = tirx.Add(left, right)
    elif isinstance(b, tirx.IntImm):
        result = tirx.Add(left, tirx.IntImm(unsigned, -int(b.value) % (1 << bits)))
    else:
        result = tirx.Add(tirx.Add(left, tirx.bitwise_not(right)), tirx.IntImm(unsigned, 1))
    return tirx.reinterpret(tir_name(of), result) if of.is_signed else result


def _folded(op: str, a: int, b: int, of: DType) -> Tir:
    result = a + b if op == "add" else a - b if op == "sub" else a * b
    wrapped = result % (1 << of.bytes * 8)
    return number(wrapped - (1 << of.bytes * 8) if wrapped > int(np.iinfo(of.numpy).max) else wrapped, of)


def _shift(op: str, a: Tir, b: Tir, of: DType) -> Tir:
    inside = tirx.LT(b, number(of.bytes * 8, of))
    if of.is_signed:
        inside = tirx.And(inside, tirx.LE(number(0, of), b))
    by = select(inside, b, number(0, of))
    shifted = tirx.shift_left(a, by) if op == "shl" else tirx.shift_right(a, by)
    return select(inside, shifted, number(0, of))


def _divide(x: e.Binary, a: Tir, b: Tir) -> Tir:
    of = x.lhs.dtype
    quotient_wanted = x.op in ("floordiv", "truncdiv")
    low, _ = e.bounds(x.lhs) if of == I64 else (None, None)
    known = isinstance(x.rhs, e.Literal_) and x.rhs.value > 0
    if known and (not of.is_signed or (low is not None and low >= 0)):
        return tirx.Div(a, b) if quotient_wanted else tirx.Mod(a, b)
    nought, one = number(0, of), number(1, of)
    by_zero = tirx.EQ(b, nought)
    safe = select(by_zero, one, b)
    if of.is_signed:  # the least number divided by -1 overflows
        minus = tirx.EQ(b, number(-1, of))
        safe = select(minus, one, safe)
        a = select(minus, _wrapping("sub", nought, a, of), a)
    quotient, rest = tirx.Div(a, safe), tirx.Mod(a, safe)
    result = quotient if quotient_wanted else rest
    if of.is_signed and x.op in ("floordiv", "mod"):
        signs = _logical("ne", tirx.LT(rest, nought), tirx.LT(safe, nought))
        fix = tirx.And(tirx.Not(tirx.EQ(rest, nought)), signs)
        fixed = _wrapping("sub", quotient, one, of) if quotient_wanted else tirx.Add(rest, safe)
        result = select(fix, fixed, result)
    return select(by_zero, nought, result)


def _truncated(a: Tir, of: DType, to: DType) -> Tir:
    """A float as an integer, NaN as 0, saturating."""
    if of.bytes < 4:
        a, of = tirx.Cast("float32", a) if of == F16 else a, F32
    limits = np.iinfo(to.numpy)
    above = tirx.LE(number(float(limits.max) + (1.0 if to.bytes > 2 else 0.0), of), a)
    below = tirx.LE(a, number(float(limits.min), of))
    inside = tirx.And(tirx.And(tirx.Not(above), tirx.Not(below)), tirx.Not(is_nan(a, of)))
    value = tirx.Cast(tir_name(to), select(inside, a, number(0, of)))
    value = select(above, number(int(limits.max), to), value)
    return select(below, number(int(limits.min), to), value)
