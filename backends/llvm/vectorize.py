"""Expressions to LLVM instructions, for one element or for a vector of neighbouring ones along one variable."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field

from gcomp import expr as e
from gcomp.diagnostics import UnsupportedError
from gcomp.kernel import children, walk
from gcomp.native import ErrorCode
from gcomp.types import I64, DType

from .access import Element, at_zero, coefficient
from .emit import Function, Value, mangled, number, scalar, vector


@dataclass
class Evaluator:
    """Emits expressions into `fn`.

    `variables` gives the SSA value of each loop variable. With `lanes` > 1, expressions that depend on `lane` are
    vectors for `lane` = value, value + 1, ...; others stay scalar until they meet one. Only the first `active` lanes
    are read from memory where that is given. `failed` is the stack slot of the kernel's status, for index checks.
    `anchors` gives the values of loads that are already in registers, by tensor identity.
    """

    fn: Function
    variables: Mapping[e.Var, Value]
    lanes: int = 1
    lane: e.Var | None = None
    mask: Value | None = None
    failed: Value | None = None
    anchors: Mapping[int, Value] = field(default_factory=dict[int, Value])
    _varying: dict[int, bool] = field(default_factory=dict[int, bool])
    _known: ChainMap[int, tuple[Value, e.Expr]] = field(default_factory=ChainMap[int, tuple[Value, e.Expr]])

    def inner(self, **changes: object) -> Evaluator:
        """An evaluator for a nested block: it knows what is known here, and what it learns stays within."""
        settings = {name: getattr(self, name) for name in self.__dataclass_fields__} | {"_known": self._known.new_child()}
        if "lane" in changes:
            settings["_varying"] = {}
        return Evaluator(**(settings | changes))

    def __call__(self, x: e.Expr) -> Value:
        """The value of `x` in the width that `varies` says."""
        if id(x) not in self._known:
            self._known[id(x)] = (self._emit(x), x)
        return self._known[id(x)][0]

    def full(self, x: e.Expr) -> Value:
        """The value of `x` as a vector of all lanes."""
        value = self(x)
        return value if self.width(x) == self.lanes else self.fn.splat(value, scalar(x.dtype), self.lanes)

    def varies(self, x: e.Expr) -> bool:
        """Whether `x` differs between lanes."""
        if self.lane is None:
            return False
        if id(x) not in self._varying:
            self._varying[id(x)] = (
                x is self.lane
                or (isinstance(x, e.Load) and id(x.tensor) in self.anchors)
                or any(map(self.varies, children(x)))
            )
        return self._varying[id(x)]

    def width(self, x: e.Expr) -> int:
        return self.lanes if self.lanes > 1 and self.varies(x) else 1

    def _emit(self, x: e.Expr) -> Value:
        match x:
            case e.Literal_():
                return number(x.value, x.dtype)
            case e.Var():
                return self._index(x)
            case e.Size():
                raise UnsupportedError(f"llvm: the size {x.dim} is not bound; bind it with shapes= or dims=")
            case Element():
                return self._load(x)
            case e.Load():
                return self.anchors[id(x.tensor)]
            case e.Unary():
                return self._unary(x)
            case e.Binary():
                return self._binary(x)
            case e.Fma():
                a, b, c = (self._at(part, x) for part in (x.a, x.b, x.c))
                return self.fn.fma(a, b, c, scalar(x.dtype), self.width(x))
            case e.Select():
                lanes, type = self.width(x), vector(scalar(x.dtype), self.width(x))
                condition = self._at(x.condition, x) if self.width(x.condition) == lanes else self(x.condition)
                test = "i1" if self.width(x.condition) == 1 else f"<{lanes} x i1>"
                return self.fn.value(
                    f"select {test} {condition}, {type} {self._at(x.then, x)}, {type} {self._at(x.other, x)}"
                )
            case e.Cast():
                return self._cast(x)
            case e.Bitcast():
                lanes = self.width(x)
                source, target = vector(scalar(x.x.dtype), lanes), vector(scalar(x.dtype), lanes)
                return self.fn.value(f"bitcast {source} {self(x.x)} to {target}")
            case e.Checked():
                return self._checked(x)
            case e.Reduce():
                return self._reduce(x)
            case _:
                raise UnsupportedError(f"llvm: no code for {type(x).__name__}")

    def _at(self, part: e.Expr, whole: e.Expr) -> Value:
        """`part` in the width of `whole`."""
        return self(part) if self.width(part) == self.width(whole) else self.fn.splat(self(part), scalar(part.dtype), self.lanes)

    def _index(self, x: e.Var) -> Value:
        base = self.variables[x]
        if x is not self.lane or self.lanes == 1:
            return base
        steps = "<" + ", ".join(f"i64 {lane}" for lane in range(self.lanes)) + ">"
        return self.fn.value(f"add <{self.lanes} x i64> {self.fn.splat(base, 'i64', self.lanes)}, {steps}")

    def _load(self, x: Element) -> Value:
        assert x.access is not None
        (offset,), element = x.index, scalar(x.dtype)
        memory = "i8" if x.dtype.name == "bool" else element
        lanes = self.width(x)
        if x.access.type.size == 0:
            return number(x.other, x.dtype) if lanes == 1 else self.fn.splat(number(x.other, x.dtype), element, lanes)
        step = coefficient(offset, self.lane) if lanes > 1 and self.lane is not None else 0
        where = x.where
        if lanes > 1 and step == 0 and where is not None and self.width(where) == 1:
            lanes = 1
        if lanes > 1 and step == 1:
            assert self.lane is not None
            base = self(at_zero(offset, self.lane))
            pointer = self.fn.element(x.access.pointer, self.fn.add(base, self.variables[self.lane]), memory)
            value = self._contiguous(x, pointer, memory)
        elif lanes > 1:
            value = self._gather(x, offset, memory)
        else:
            value = self._single(x, offset, memory, where)
        if x.dtype.name == "bool":
            zero = "zeroinitializer" if lanes > 1 else "0"
            value = self.fn.value(f"icmp ne {vector('i8', lanes)} {value}, {zero}")
        return value if lanes == self.width(x) else self.fn.splat(value, element, self.lanes)

    def _single(self, x: Element, offset: e.Expr, memory: str, where: e.Expr | None) -> Value:
        assert x.access is not None
        if where is None:
            return self.fn.load(self.fn.element(x.access.pointer, self(offset), memory), memory)
        safe = self.fn.value(f"select i1 {self(where)}, i64 {self(offset)}, i64 0")
        value = self.fn.load(self.fn.element(x.access.pointer, safe, memory), memory)
        return self.fn.value(f"select i1 {self(where)}, {memory} {value}, {memory} {self._other(x, memory)}")

    def _contiguous(self, x: Element, pointer: Value, memory: str) -> Value:
        mask = self._mask(x)
        if mask is None:
            return self.fn.load(pointer, vector(memory, self.lanes))
        other = self.fn.splat(self._other(x, memory), memory, self.lanes)
        return self.fn.masked_load(pointer, mask, memory, self.lanes, other)

    def _gather(self, x: Element, offset: e.Expr, memory: str) -> Value:
        assert x.access is not None
        index, lanes = self.full(offset), self.lanes
        pointers = self.fn.value(f"getelementptr inbounds {memory}, ptr {x.access.pointer}, <{lanes} x i64> {index}")
        mask = self._mask(x) or self.fn.splat("true", "i1", lanes)
        type, other = vector(memory, lanes), self.fn.splat(self._other(x, memory), memory, lanes)
        arguments = [(f"<{lanes} x ptr>", pointers), ("i32", "1"), (f"<{lanes} x i1>", mask), (type, other)]
        return self.fn.call(type, f"llvm.masked.gather.{mangled(memory, lanes)}.v{lanes}p0", arguments)

    def _mask(self, x: Element) -> Value | None:
        if x.where is None:
            return self.mask
        where = self.full(x.where)
        return where if self.mask is None else self.fn.value(f"and <{self.lanes} x i1> {where}, {self.mask}")

    def _other(self, x: Element, memory: str) -> Value:
        return str(int(x.other)) if memory == "i8" else number(x.other, x.dtype)

    def _unary(self, x: e.Unary) -> Value:
        lanes, of = self.width(x), x.x.dtype
        a, type = self(x.x), vector(scalar(of), lanes)
        intrinsic = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "roundeven", "trunc": "trunc"}
        match x.op:
            case "neg":
                return self.fn.value(f"fneg {type} {a}" if of.is_float else f"sub {type} {self._zero(of, lanes)}, {a}")
            case "not":
                ones = self.fn.splat("true" if of.name == "bool" else "-1", scalar(of), lanes)
                return self.fn.value(f"xor {type} {a}, {ones}")
            case "abs" if of.is_float:
                return self.fn.call(type, f"llvm.fabs.{mangled(scalar(of), lanes)}", [(type, a)])
            case "abs" if not of.is_signed:
                return a
            case "abs":
                return self.fn.call(type, f"llvm.abs.{mangled(scalar(of), lanes)}", [(type, a), ("i1", "false")])
            case "isnan":
                return self.fn.value(f"fcmp uno {type} {a}, {a}")
            case "isinf":
                size = self.fn.call(type, f"llvm.fabs.{mangled(scalar(of), lanes)}", [(type, a)])
                return self.fn.value(f"fcmp oeq {type} {size}, {self.fn.splat(number(float('inf'), of), scalar(of), lanes)}")
            case _ if x.op in intrinsic and of.is_float:
                return self.fn.call(type, f"llvm.{intrinsic[x.op]}.{mangled(scalar(of), lanes)}", [(type, a)])
            case _:
                raise UnsupportedError(f"llvm: no code for {x.op} of {of}")

    def _binary(self, x: e.Binary) -> Value:
        lanes = max(self.width(x.lhs), self.width(x.rhs))
        of = x.lhs.dtype
        type = vector(scalar(of), lanes)
        a = self(x.lhs) if self.width(x.lhs) == lanes else self.full(x.lhs)
        b = self(x.rhs) if self.width(x.rhs) == lanes else self.full(x.rhs)
        if of.is_float:
            return self._float(x, a, b, type, lanes)
        signed = of.is_signed
        match x.op:
            case "add" | "sub" | "mul" | "and" | "or" | "xor":
                return self.fn.value(f"{x.op} {type} {a}, {b}")
            case "shl" | "shr":
                width = self.fn.splat(str(of.bytes * 8), scalar(of), lanes)
                test, bits = vector("i1", lanes), self.fn.value(f"icmp ult {type} {b}, {width}")
                shifted = self.fn.value(f"{'shl' if x.op == 'shl' else 'ashr' if signed else 'lshr'} {type} {a}, {b}")
                return self.fn.value(f"select {test} {bits}, {type} {shifted}, {type} {self._zero(of, lanes)}")
            case "lt" | "le":
                return self.fn.value(f"icmp {'s' if signed else 'u'}{x.op} {type} {a}, {b}")
            case "eq" | "ne":
                return self.fn.value(f"icmp {x.op} {type} {a}, {b}")
            case "min" | "max":
                if of.name == "bool":
                    return self.fn.value(f"{'and' if x.op == 'min' else 'or'} {type} {a}, {b}")
                name = f"llvm.{'s' if signed else 'u'}{x.op}.{mangled(scalar(of), lanes)}"
                return self.fn.call(type, name, [(type, a), (type, b)])
            case "floordiv" | "truncdiv" | "mod" | "rem":
                return self._divide(x, a, b, type, lanes)
            case _:
                raise UnsupportedError(f"llvm: no code for {x.op} of {of}")

    def _float(self, x: e.Binary, a: Value, b: Value, type: str, lanes: int) -> Value:
        test = vector("i1", lanes)
        match x.op:
            case "add" | "sub" | "mul" | "div":
                flags = " contract" if x.op != "div" else ""
                return self.fn.value(f"f{x.op}{flags} {type} {a}, {b}")
            case "lt" | "le" | "eq":
                return self.fn.value(f"fcmp o{x.op} {type} {a}, {b}")
            case "ne":
                return self.fn.value(f"fcmp une {type} {a}, {b}")
            case "min" | "max":
                # One x86 instruction returns its second operand where either is NaN.
                if isinstance(x.rhs, e.Literal_) and x.rhs.value == x.rhs.value:
                    a, b = b, a
                keep = self.fn.value(f"fcmp {'olt' if x.op == 'min' else 'ogt'} {type} {a}, {b}")
                best = self.fn.value(f"select {test} {keep}, {type} {a}, {type} {b}")
                if any(isinstance(p, e.Literal_) and p.value == p.value for p in (x.lhs, x.rhs)):
                    return best
                nan = self.fn.value(f"fcmp uno {type} {a}, {a}")
                return self.fn.value(f"select {test} {nan}, {type} {a}, {type} {best}")
            case _:
                raise UnsupportedError(f"llvm: no code for {x.op} of {x.lhs.dtype}")

    def _divide(self, x: e.Binary, a: Value, b: Value, type: str, lanes: int) -> Value:
        of, zero, test = x.lhs.dtype, self._zero(x.lhs.dtype, lanes), vector("i1", lanes)
        known = isinstance(x.rhs, e.Literal_) and x.rhs.value > 0
        low, _ = e.bounds(x.lhs) if of == I64 else (None, None)
        if known and (not of.is_signed or (low is not None and low >= 0)):
            return self.fn.value(f"{'udiv' if x.op in ('floordiv', 'truncdiv') else 'urem'} {type} {a}, {b}")
        by_zero = self.fn.value(f"icmp eq {type} {b}, {zero}")
        one = self.fn.splat("1", scalar(of), lanes)
        safe = self.fn.value(f"select {test} {by_zero}, {type} {one}, {type} {b}")
        if of.is_signed:  # the least number divided by -1 overflows
            minus = self.fn.value(f"icmp eq {type} {safe}, {self.fn.splat('-1', scalar(of), lanes)}")
            safe = self.fn.value(f"select {test} {minus}, {type} {one}, {type} {safe}")
            dividend = self.fn.value(f"sub {type} {zero}, {a}")
            dividend = self.fn.value(f"select {test} {minus}, {type} {dividend}, {type} {a}")
        else:
            dividend = a
        s = "s" if of.is_signed else "u"
        quotient = self.fn.value(f"{s}div {type} {dividend}, {safe}")
        rest = self.fn.value(f"sub {type} {dividend}, {self.fn.value(f'mul {type} {quotient}, {safe}')}")
        result = quotient if x.op in ("floordiv", "truncdiv") else rest
        if of.is_signed and x.op in ("floordiv", "mod"):
            inexact = self.fn.value(f"icmp ne {type} {rest}, {zero}")
            sign = self.fn.value(f"icmp slt {type} {self.fn.value(f'xor {type} {rest}, {safe}')}, {zero}")
            fix = self.fn.value(f"and {test} {inexact}, {sign}")
            fixed = self.fn.value(
                f"sub {type} {quotient}, {one}" if x.op == "floordiv" else f"add {type} {rest}, {safe}"
            )
            result = self.fn.value(f"select {test} {fix}, {type} {fixed}, {type} {result}")
        return self.fn.value(f"select {test} {by_zero}, {type} {zero}, {type} {result}")

    def _cast(self, x: e.Cast) -> Value:
        lanes, a = self.width(x), self(x.x)
        of, to = x.x.dtype, x.dtype
        source, target = vector(scalar(of), lanes), vector(scalar(to), lanes)
        if to.name == "bool":
            zero = self._zero(of, lanes)
            return self.fn.value(f"fcmp une {source} {a}, {zero}" if of.is_float else f"icmp ne {source} {a}, {zero}")
        if of.is_float and to.is_float:
            if of.bytes == to.bytes:  # f16 and bf16
                a, source = self.fn.value(f"fpext {source} {a} to {vector('float', lanes)}"), vector("float", lanes)
            elif of.bytes == 8 and to.bytes == 2:  # LLVM would call a function
                a, source = self._to_odd(a, lanes), vector("float", lanes)
            return self.fn.value(f"{'fpext' if of.bytes < to.bytes else 'fptrunc'} {source} {a} to {target}")
        if of.is_float:
            name = f"llvm.fpto{'s' if to.is_signed else 'u'}i.sat.{mangled(scalar(to), lanes)}.{mangled(scalar(of), lanes)}"
            return self.fn.call(target, name, [(source, a)])
        if to.is_float:
            return self.fn.value(f"{'si' if of.is_signed else 'ui'}tofp {source} {a} to {target}")
        if of.name == "bool" or of.bytes < to.bytes:
            return self.fn.value(f"{'sext' if of.is_signed else 'zext'} {source} {a} to {target}")
        return a if of.bytes == to.bytes else self.fn.value(f"trunc {source} {a} to {target}")

    def _to_odd(self, a: Value, lanes: int) -> Value:
        """A double as the float that rounding to odd gives, which may be rounded again without harm.

        Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57(4), 2008.
        """
        fn = self.fn
        double, single, bits = vector("double", lanes), vector("float", lanes), vector("i32", lanes)
        test, one = vector("i1", lanes), fn.splat("1", "i32", lanes)
        near = fn.value(f"fptrunc {double} {a} to {single}")
        back = fn.value(f"fpext {single} {near} to {double}")
        size, got = (fn.call(double, f"llvm.fabs.{mangled('double', lanes)}", [(double, v)]) for v in (a, back))
        pattern = fn.value(f"bitcast {single} {near} to {bits}")
        even = fn.value(f"icmp eq {bits} {fn.value(f'and {bits} {pattern}, {one}')}, {fn.splat('0', 'i32', lanes)}")
        less, more = (fn.value(f"fcmp {order} {double} {got}, {size}") for order in ("olt", "ogt"))
        up, down = fn.value(f"add {bits} {pattern}, {one}"), fn.value(f"sub {bits} {pattern}, {one}")
        moved = fn.value(f"select {test} {less}, {bits} {up}, {bits} {pattern}")
        moved = fn.value(f"select {test} {more}, {bits} {down}, {bits} {moved}")
        odd = fn.value(f"select {test} {even}, {bits} {moved}, {bits} {pattern}")
        return fn.value(f"bitcast {bits} {odd} to {single}")

    def _checked(self, x: e.Checked) -> Value:
        assert self.failed is not None and isinstance(x.extent, int)
        lanes, index = self.width(x), self(x.index)
        type = vector("i64", lanes)
        bad = self.fn.value(f"icmp uge {type} {index}, {self.fn.splat(str(x.extent), 'i64', lanes)}")
        any_bad = bad
        if lanes > 1:
            if self.mask is not None:
                any_bad = self.fn.value(f"and <{lanes} x i1> {bad}, {self.mask}")
            any_bad = self.fn.call("i1", f"llvm.vector.reduce.or.v{lanes}i1", [(f"<{lanes} x i1>", any_bad)])
        before = self.fn.load(self.failed, "i32", 4)
        self.fn.store(self.fn.value(f"select i1 {any_bad}, i32 {int(ErrorCode.INDEX)}, i32 {before}"), self.failed, "i32", 4)
        return self.fn.value(f"select {vector('i1', lanes)} {bad}, {type} {self._zero(I64, lanes)}, {type} {index}")

    def _reduce(self, x: e.Reduce) -> Value:
        lanes = self.width(x)
        neutral = self.fn.splat(number(x.init, x.dtype), scalar(x.dtype), lanes)
        along = self._contiguous_reduction(x) if lanes == 1 else None
        return self._reduce_over(x, list(x.over), neutral, lanes, along)

    def _reduce_over(self, x: e.Reduce, over: list[e.Var], start: Value, lanes: int, along: e.Var | None) -> Value:
        if not over:
            value = self._at_width(x.body, lanes)
            return self.combine(x.op, start, value, x.dtype, lanes)
        var, rest = over[0], over[1:]
        if not isinstance(var.extent, int):
            raise UnsupportedError(f"llvm: the size {var.extent} is not bound; bind it with shapes= or dims=")
        if var is along:
            return self._reduce_lanes(x, var, start)

        def body(i: Value, values: list[Value]) -> list[Value]:
            inner = self.inner(variables={**self.variables, var: i})
            return [inner._reduce_over(x, rest, values[0], lanes, along)]

        return self.fn.loop(0, var.extent, 1, body, [(vector(scalar(x.dtype), lanes), start)])[0]

    def _contiguous_reduction(self, x: e.Reduce) -> e.Var | None:
        """The last variable, where it is long and the loads of the body are contiguous in it: lanes run along it."""
        var = x.over[-1]
        if not isinstance(var.extent, int) or var.extent < ROW_LANES or x.op in ("and", "or"):
            return None
        if x.dtype.name not in ("f32", "f64", "i32", "i64"):
            return None
        steps = [coefficient(p.index[0], var) for p in walk(x.body) if isinstance(p, Element)]
        nested = any(isinstance(p, (e.Reduce, e.Checked)) for p in walk(x.body))
        return var if steps and all(step in (0, 1) for step in steps) and 1 in steps and not nested else None

    def _reduce_lanes(self, x: e.Reduce, var: e.Var, start: Value) -> Value:
        """Lane partial results, combined by halves at the end; the remainder is masked to the neutral element."""
        assert isinstance(var.extent, int)
        lanes, element = ROW_LANES, scalar(x.dtype)
        whole = var.extent // lanes * lanes
        neutral = self.fn.splat(number(x.init, x.dtype), element, lanes)

        def step(i: Value, values: list[Value], mask: Value | None = None) -> list[Value]:
            inner = self.inner(variables={**self.variables, var: i}, lanes=lanes, lane=var, mask=mask)
            value = inner._at_width(x.body, lanes)
            if mask is not None:
                value = self.fn.value(f"select <{lanes} x i1> {mask}, {vector(element, lanes)} {value}, {vector(element, lanes)} {neutral}")
            return [self.combine(x.op, values[0], value, x.dtype, lanes)]

        partial = self.fn.loop(0, whole, lanes, step, [(vector(element, lanes), neutral)])
        if whole < var.extent:
            bits = ", ".join(f"i1 {'true' if n < var.extent - whole else 'false'}" for n in range(lanes))
            partial = step(str(whole), partial, f"<{bits}>")
        value = partial[0]
        while lanes > 1:
            half = lanes // 2
            low, high = (
                self.fn.value(
                    f"shufflevector {vector(element, lanes)} {value}, {vector(element, lanes)} poison, "
                    f"<{half} x i32> <{', '.join(f'i32 {first + n}' for n in range(half))}>"
                )
                for first in (0, half)
            )
            value = self.combine(x.op, low, high, x.dtype, half, wide=True)
            lanes = half
        value = self.fn.value(f"extractelement <1 x {element}> {value}, i64 0")
        return self.combine(x.op, start, value, x.dtype, 1)

    def _at_width(self, x: e.Expr, lanes: int) -> Value:
        value = self(x)
        return value if self.width(x) == lanes else self.fn.splat(value, scalar(x.dtype), lanes)

    def combine(self, op: str, a: Value, b: Value, dtype: DType, lanes: int, wide: bool = False) -> Value:
        """One step of a reduction."""
        element = scalar(dtype)
        type = f"<{lanes} x {element}>" if wide else vector(element, lanes)
        suffix = f"v{lanes}{mangled(element, 1)}" if wide else mangled(element, lanes)
        if dtype.is_float:
            if op in ("add", "mul"):
                return self.fn.value(f"f{op} contract {type} {a}, {b}")
            return self.fn.call(type, f"llvm.{op}imum.{suffix}", [(type, a), (type, b)])
        if op in ("min", "max") and dtype.name != "bool":
            return self.fn.call(type, f"llvm.{'s' if dtype.is_signed else 'u'}{op}.{suffix}", [(type, a), (type, b)])
        return self.fn.value(f"{ {'min': 'and', 'max': 'or'}.get(op, op)} {type} {a}, {b}")

    def _zero(self, dtype: DType, lanes: int) -> Value:
        return "zeroinitializer" if lanes > 1 else number(0, dtype)


ROW_LANES = 16
"""Partial results of a reduction along a row: the same number on every target, so that its order is the same too."""
