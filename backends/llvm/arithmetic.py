"""One operation of the kernel language on registers, for any element type and number of lanes."""

from __future__ import annotations

import numpy as np

from gcomp import expr as e
from gcomp.diagnostics import UnsupportedError
from gcomp.types import BF16, F32, I64, DType

from .emit import Function, Value, mangled, number, scalar, vector


def zero(dtype: DType, lanes: int) -> Value:
    return "zeroinitializer" if lanes > 1 else number(0, dtype)


def unary(fn: Function, op: e.UnaryName, a: Value, of: DType, lanes: int) -> Value:
    """The operation on a value of type `of`. Raises `UnsupportedError`."""
    type = vector(scalar(of), lanes)
    intrinsic = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "roundeven", "trunc": "trunc"}
    match op:
        case "neg":
            return fn.value(f"fneg {type} {a}" if of.is_float else f"sub {type} {zero(of, lanes)}, {a}")
        case "not" if not of.is_float:
            ones = fn.splat("true" if of.name == "bool" else "-1", scalar(of), lanes)
            return fn.value(f"xor {type} {a}, {ones}")
        case "abs" if of.is_float:
            return fn.call(type, f"llvm.fabs.{mangled(scalar(of), lanes)}", [(type, a)])
        case "abs" if not of.is_signed:
            return a
        case "abs":
            return fn.call(type, f"llvm.abs.{mangled(scalar(of), lanes)}", [(type, a), ("i1", "false")])
        case "isnan" if of.is_float:
            return fn.value(f"fcmp uno {type} {a}, {a}")
        case "isinf" if of.is_float:
            size = fn.call(type, f"llvm.fabs.{mangled(scalar(of), lanes)}", [(type, a)])
            return fn.value(
                f"fcmp oeq {type} {size}, {fn.splat(number(float('inf'), of), scalar(of), lanes)}"
            )
        case _ if op in intrinsic and of.is_float:
            return fn.call(type, f"llvm.{intrinsic[op]}.{mangled(scalar(of), lanes)}", [(type, a)])
        case _:
            raise UnsupportedError(f"llvm: no code for {op} of {of}")


def binary(fn: Function, x: e.Binary, a: Value, b: Value, lanes: int) -> Value:
    """`x` for operands whose values are `a` and `b`. Raises `UnsupportedError`."""
    of = x.lhs.dtype
    type = vector(scalar(of), lanes)
    if of.is_float:
        return _float(fn, x, a, b, type, lanes)
    signed = of.is_signed
    match x.op:
        case "add" | "sub" | "mul" | "and" | "or" | "xor":
            return fn.value(f"{x.op} {type} {a}, {b}")
        case "shl" | "shr":
            width = fn.splat(str(of.bytes * 8), scalar(of), lanes)
            test, bits = vector("i1", lanes), fn.value(f"icmp ult {type} {b}, {width}")
            shifted = fn.value(f"{'shl' if x.op == 'shl' else 'ashr' if signed else 'lshr'} {type} {a}, {b}")
            return fn.value(f"select {test} {bits}, {type} {shifted}, {type} {zero(of, lanes)}")
        case "lt" | "le":
            return fn.value(f"icmp {'s' if signed else 'u'}{x.op} {type} {a}, {b}")
        case "eq" | "ne":
            return fn.value(f"icmp {x.op} {type} {a}, {b}")
        case "min" | "max":
            if of.name == "bool":
                return fn.value(f"{'and' if x.op == 'min' else 'or'} {type} {a}, {b}")
            name = f"llvm.{'s' if signed else 'u'}{x.op}.{mangled(scalar(of), lanes)}"
            return fn.call(type, name, [(type, a), (type, b)])
        case "floordiv" | "truncdiv" | "mod" | "rem":
            return _divide(fn, x, a, b, type, lanes)
        case _:
            raise UnsupportedError(f"llvm: no code for {x.op} of {of}")


def _float(fn: Function, x: e.Binary, a: Value, b: Value, type: str, lanes: int) -> Value:
    test = vector("i1", lanes)
    match x.op:
        case "add" | "sub" | "mul" | "div" if x.lhs.dtype == BF16:  # LLVM 22 rounds vectors wrongly for ARM
            a, b = (convert(fn, value, BF16, F32, lanes) for value in (a, b))
            return _to_bfloat(fn, fn.value(f"f{x.op} {vector('float', lanes)} {a}, {b}"), lanes)
        case "lt" | "le" | "eq" | "ne" if x.lhs.dtype == BF16:
            name = f"fcmp {'une' if x.op == 'ne' else f'o{x.op}'}"
            return fn.value(f"{name} {vector('float', lanes)} {_bits(fn, a, lanes)}, {_bits(fn, b, lanes)}")
        case "add" | "sub" | "mul" | "div":
            flags = fn.contract if x.op != "div" else ""
            return fn.value(f"f{x.op}{flags} {type} {a}, {b}")
        case "lt" | "le" | "eq":
            return fn.value(f"fcmp o{x.op} {type} {a}, {b}")
        case "ne":
            return fn.value(f"fcmp une {type} {a}, {b}")
        case "min" | "max":
            # One x86 instruction returns its second operand where either is NaN.
            if isinstance(x.rhs, e.Literal_) and x.rhs.value == x.rhs.value:
                a, b = b, a
            keep = fn.value(f"fcmp {'olt' if x.op == 'min' else 'ogt'} {type} {a}, {b}")
            best = fn.value(f"select {test} {keep}, {type} {a}, {type} {b}")
            if any(isinstance(p, e.Literal_) and p.value == p.value for p in (x.lhs, x.rhs)):
                return best
            nan = fn.value(f"fcmp uno {type} {a}, {a}")
            return fn.value(f"select {test} {nan}, {type} {a}, {type} {best}")
        case _:
            raise UnsupportedError(f"llvm: no code for {x.op} of {x.lhs.dtype}")


def _divide(fn: Function, x: e.Binary, a: Value, b: Value, type: str, lanes: int) -> Value:
    of, nought, test = x.lhs.dtype, zero(x.lhs.dtype, lanes), vector("i1", lanes)
    known = isinstance(x.rhs, e.Literal_) and x.rhs.value > 0
    low, _ = e.bounds(x.lhs) if of == I64 else (None, None)
    if known and (not of.is_signed or (low is not None and low >= 0)):
        return fn.value(f"{'udiv' if x.op in ('floordiv', 'truncdiv') else 'urem'} {type} {a}, {b}")
    by_zero = fn.value(f"icmp eq {type} {b}, {nought}")
    one = fn.splat("1", scalar(of), lanes)
    safe = fn.value(f"select {test} {by_zero}, {type} {one}, {type} {b}")
    if of.is_signed:  # the least number divided by -1 overflows
        minus = fn.value(f"icmp eq {type} {safe}, {fn.splat('-1', scalar(of), lanes)}")
        safe = fn.value(f"select {test} {minus}, {type} {one}, {type} {safe}")
        dividend = fn.value(f"sub {type} {nought}, {a}")
        dividend = fn.value(f"select {test} {minus}, {type} {dividend}, {type} {a}")
    else:
        dividend = a
    s = "s" if of.is_signed else "u"
    quotient = fn.value(f"{s}div {type} {dividend}, {safe}")
    rest = fn.value(f"sub {type} {dividend}, {fn.value(f'mul {type} {quotient}, {safe}')}")
    result = quotient if x.op in ("floordiv", "truncdiv") else rest
    if of.is_signed and x.op in ("floordiv", "mod"):
        inexact = fn.value(f"icmp ne {type} {rest}, {nought}")
        sign = fn.value(f"icmp slt {type} {fn.value(f'xor {type} {rest}, {safe}')}, {nought}")
        fix = fn.value(f"and {test} {inexact}, {sign}")
        fixed = fn.value(
            f"sub {type} {quotient}, {one}" if x.op == "floordiv" else f"add {type} {rest}, {safe}"
        )
        result = fn.value(f"select {test} {fix}, {type} {fixed}, {type} {result}")
    return fn.value(f"select {test} {by_zero}, {type} {nought}, {type} {result}")


def is_clamped(x: e.Expr, dtype: DType) -> bool:
    """Whether `x` is `min(max(y, low), high)` with both limits in the range of a narrow integer type."""
    match x:
        case e.Binary("min", e.Binary("max", _, e.Literal_(value=low)), e.Literal_(value=high)):
            if not dtype.is_integer or dtype.bytes > 2:  # f32 holds the limits of these exactly
                return False
            limits = np.iinfo(dtype.numpy)
            return limits.min <= low <= high <= limits.max
        case _:
            return False


def convert(fn: Function, a: Value, of: DType, to: DType, lanes: int, fits: bool = False) -> Value:
    """A value of type `of` as one of type `to`, by the rules of `expr.Cast`.

    `fits` says that it is known to lie within the range of `to`, or to be NaN.
    """
    source, target = vector(scalar(of), lanes), vector(scalar(to), lanes)
    if to.name == "bool" and of == BF16:
        a, of, source = _bits(fn, a, lanes), F32, vector("float", lanes)
    if to.name == "bool":
        nought = zero(of, lanes)
        return fn.value(
            f"fcmp une {source} {a}, {nought}" if of.is_float else f"icmp ne {source} {a}, {nought}"
        )
    if of.is_float and to.is_float:
        if of.bytes == to.bytes:  # f16 and bf16
            a, source = fn.value(f"fpext {source} {a} to {vector('float', lanes)}"), vector("float", lanes)
            of = F32
        elif of.bytes == 8 and to.bytes == 2:  # LLVM would call a function
            a, source, of = _to_odd(fn, a, lanes), vector("float", lanes), F32
        if to.name == "bf16" and of == F32:
            return _to_bfloat(fn, a, lanes)
        return fn.value(f"{'fpext' if of.bytes < to.bytes else 'fptrunc'} {source} {a} to {target}")
    if of.is_float:
        return _truncated(fn, a, of, to, lanes, fits)
    if to.is_float:
        return fn.value(f"{'si' if of.is_signed else 'ui'}tofp {source} {a} to {target}")
    if of.name == "bool" or of.bytes < to.bytes:
        return fn.value(f"{'sext' if of.is_signed else 'zext'} {source} {a} to {target}")
    return a if of.bytes == to.bytes else fn.value(f"trunc {source} {a} to {target}")


def _bits(fn: Function, a: Value, lanes: int) -> Value:
    """A bfloat as a float, by its bits: where an extended one is compared LLVM compares bfloats instead, and
    then may find no instruction for that.
    """
    wide, short = vector("i32", lanes), vector("i16", lanes)
    bits = fn.value(f"bitcast {vector('bfloat', lanes)} {a} to {short}")
    upper = fn.value(
        f"shl {wide} {fn.value(f'zext {short} {bits} to {wide}')}, {fn.splat('16', 'i32', lanes)}"
    )
    return fn.value(f"bitcast {wide} {upper} to {vector('float', lanes)}")


def _to_bfloat(fn: Function, a: Value, lanes: int) -> Value:
    """A float as a bfloat, half to even; LLVM would call a function for it on most processors."""
    wide, short, test = vector("i32", lanes), vector("i16", lanes), vector("i1", lanes)

    def both(value: int) -> Value:
        return fn.splat(str(value), "i32", lanes)

    bits = fn.value(f"bitcast {vector('float', lanes)} {a} to {wide}")
    upper = fn.value(f"lshr {wide} {bits}, {both(16)}")
    odd = fn.value(f"and {wide} {upper}, {both(1)}")
    carried = fn.value(f"add {wide} {bits}, {fn.value(f'add {wide} {odd}, {both(0x7FFF)}')}")
    rounded = fn.value(f"lshr {wide} {carried}, {both(16)}")
    nan = fn.value(f"fcmp uno {vector('float', lanes)} {a}, {a}")
    quiet = fn.value(f"or {wide} {upper}, {both(0x40)}")
    chosen = fn.value(f"select {test} {nan}, {wide} {quiet}, {wide} {rounded}")
    halved = fn.value(f"trunc {wide} {chosen} to {short}")
    return fn.value(f"bitcast {short} {halved} to {vector('bfloat', lanes)}")


def _truncated(fn: Function, a: Value, of: DType, to: DType, lanes: int, fits: bool) -> Value:
    """A float as an integer, NaN as 0, saturating; LLVM's own intrinsic is scalar code on some processors."""
    if of.bytes < 4:
        a, of = convert(fn, a, of, F32, lanes), F32
    source, target, test = vector(scalar(of), lanes), vector(scalar(to), lanes), vector("i1", lanes)
    if fits:
        number_ = fn.value(f"fcmp ord {source} {a}, {a}")
        safe = fn.value(f"select {test} {number_}, {source} {a}, {source} {zero(of, lanes)}")
        return fn.value(f"fpto{'s' if to.is_signed else 'u'}i {source} {safe} to {target}")
    limits = np.iinfo(to.numpy)
    ceiling = float(limits.max) + 1.0 if to.bytes * 8 > 24 else float(limits.max)
    low, high = (fn.splat(number(x, of), scalar(of), lanes) for x in (float(limits.min), ceiling))
    number_ = fn.value(f"fcmp ord {source} {a}, {a}")
    above = fn.value(f"fcmp oge {source} {a}, {high}")
    below = fn.value(f"fcmp ole {source} {a}, {low}")
    inside = fn.value(
        f"xor {test} {fn.value(f'or {test} {above}, {below}')}, {fn.splat('true', 'i1', lanes)}"
    )
    inside = fn.value(f"and {test} {inside}, {number_}")
    safe = fn.value(f"select {test} {inside}, {source} {a}, {source} {zero(of, lanes)}")
    value = fn.value(f"fpto{'s' if to.is_signed else 'u'}i {source} {safe} to {target}")
    most, least = (fn.splat(str(int(x)), scalar(to), lanes) for x in (limits.max, limits.min))
    value = fn.value(f"select {test} {above}, {target} {most}, {target} {value}")
    return fn.value(f"select {test} {below}, {target} {least}, {target} {value}")


def _to_odd(fn: Function, a: Value, lanes: int) -> Value:
    """A double as the float that rounding to odd gives, which may be rounded again without harm.

    Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57(4), 2008.
    """
    double, single, bits = vector("double", lanes), vector("float", lanes), vector("i32", lanes)
    test, one = vector("i1", lanes), fn.splat("1", "i32", lanes)
    near = fn.value(f"fptrunc {double} {a} to {single}")
    back = fn.value(f"fpext {single} {near} to {double}")
    size, got = (fn.call(double, f"llvm.fabs.{mangled('double', lanes)}", [(double, v)]) for v in (a, back))
    pattern = fn.value(f"bitcast {single} {near} to {bits}")
    even = fn.value(
        f"icmp eq {bits} {fn.value(f'and {bits} {pattern}, {one}')}, {fn.splat('0', 'i32', lanes)}"
    )
    less, more = (fn.value(f"fcmp {order} {double} {got}, {size}") for order in ("olt", "ogt"))
    up, down = fn.value(f"add {bits} {pattern}, {one}"), fn.value(f"sub {bits} {pattern}, {one}")
    moved = fn.value(f"select {test} {less}, {bits} {up}, {bits} {pattern}")
    moved = fn.value(f"select {test} {more}, {bits} {down}, {bits} {moved}")
    odd = fn.value(f"select {test} {even}, {bits} {moved}, {bits} {pattern}")
    return fn.value(f"bitcast {bits} {odd} to {single}")


def combine(fn: Function, op: str, a: Value, b: Value, dtype: DType, lanes: int, wide: bool = False) -> Value:
    """One step of a reduction."""
    element = scalar(dtype)
    type = f"<{lanes} x {element}>" if wide else vector(element, lanes)
    suffix = f"v{lanes}{mangled(element, 1)}" if wide else mangled(element, lanes)
    if dtype.is_float:
        if op in ("add", "mul"):
            return fn.value(f"f{op}{fn.contract} {type} {a}, {b}")
        return fn.call(type, f"llvm.{op}imum.{suffix}", [(type, a), (type, b)])
    if op in ("min", "max") and dtype.name != "bool":
        return fn.call(type, f"llvm.{'s' if dtype.is_signed else 'u'}{op}.{suffix}", [(type, a), (type, b)])
    return fn.value(f"{ {'min': 'and', 'max': 'or'}.get(op, op) } {type} {a}, {b}")
