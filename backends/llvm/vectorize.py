"""Expressions to LLVM instructions, for one element or for a vector of them along one variable."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gcomp import kernel as k
from gcomp.diagnostics import BuildError, UnsupportedError
from gcomp.kernel import children, walk
from gcomp.native import ErrorCode
from gcomp.types import BOOL, I64

from .access import Element, at_zero, coefficient
from .arithmetic import binary, combine, convert, is_clamped, unary, zero
from .emit import Function, Value, mangled, number, scalar, vector


@dataclass
class Evaluator:
    """Emits expressions into `fn`.

    `variables` gives the SSA value of each loop variable. With `lanes` > 1, expressions that depend on `lane`
    are vectors for `lane` = value, value + 1, ...; others stay scalar until they meet one. Only the first
    `active` lanes are read from memory where that is given. `failed` is the stack slot of the kernel's
    status, for index checks. `anchors` gives the values of loads that are already in registers, by tensor
    identity.
    """

    fn: Function
    variables: Mapping[k.Var, Value]
    lanes: int = 1
    lane: k.Var | None = None
    mask: Value | None = None
    failed: Value | None = None
    anchors: Mapping[int, Value] = field(default_factory=dict[int, Value])
    _varying: dict[int, bool] = field(default_factory=dict[int, bool])
    _known: ChainMap[int, tuple[Value, k.Expr]] = field(default_factory=ChainMap[int, tuple[Value, k.Expr]])

    def inner(self, variables: Mapping[k.Var, Value]) -> Evaluator:
        """An evaluator for a nested block: it knows what is known here, and what it learns stays within."""
        return replace(self, variables=variables, _known=self._known.new_child())

    def along(
        self, lane: k.Var, lanes: int, variables: Mapping[k.Var, Value], mask: Value | None = None
    ) -> Evaluator:
        """An evaluator for a nested block that computes vectors along `lane`."""
        inner = self.inner(variables)
        return replace(inner, lane=lane, lanes=lanes, mask=mask, _varying={})

    def __call__(self, x: k.Expr) -> Value:
        """The value of `x` in the width that `varies` says."""
        if id(x) not in self._known:
            self._known[id(x)] = (self._emit(x), x)
        return self._known[id(x)][0]

    def full(self, x: k.Expr) -> Value:
        """The value of `x` as a vector of all lanes."""
        value = self(x)
        return value if self.width(x) == self.lanes else self.fn.splat(value, scalar(x.dtype), self.lanes)

    def varies(self, x: k.Expr) -> bool:
        """Whether `x` differs between lanes."""
        if self.lane is None:
            return False
        if id(x) not in self._varying:
            self._varying[id(x)] = (
                x is self.lane
                or (isinstance(x, k.Load) and id(x.tensor) in self.anchors)
                or any(map(self.varies, children(x)))
            )
        return self._varying[id(x)]

    def width(self, x: k.Expr) -> int:
        return self.lanes if self.lanes > 1 and self.varies(x) else 1

    def _emit(self, x: k.Expr) -> Value:
        match x:
            case k.Literal_():
                return number(x.value, x.dtype)
            case k.Var():
                return self._index(x)
            case k.Size():
                return str(self.fn.size(x.dim))
            case Element():
                return self._load(x)
            case k.Load():
                return self.anchors[id(x.tensor)]
            case k.Unary():
                return unary(self.fn, x.op, self(x.x), x.x.dtype, self.width(x))
            case k.Binary():
                lanes = max(self.width(x.lhs), self.width(x.rhs))
                a, b = (self(p) if self.width(p) == lanes else self.full(p) for p in (x.lhs, x.rhs))
                return binary(self.fn, x, a, b, lanes)
            case k.Fma() if x.dtype.is_float:
                a, b, c = (self._at(part, x) for part in (x.a, x.b, x.c))
                return self.fn.fma(a, b, c, scalar(x.dtype), self.width(x))
            case k.Select():
                lanes, wide = self.width(x), vector(scalar(x.dtype), self.width(x))
                condition = (
                    self._at(x.condition, x) if self.width(x.condition) == lanes else self(x.condition)
                )
                test = "i1" if self.width(x.condition) == 1 else f"<{lanes} x i1>"
                return self.fn.value(
                    f"select {test} {condition}, {wide} {self._at(x.then, x)}, {wide} {self._at(x.other, x)}"
                )
            case k.Cast():
                return convert(
                    self.fn, self(x.x), x.x.dtype, x.dtype, self.width(x), is_clamped(x.x, x.dtype)
                )
            case k.Bitcast() if BOOL not in (x.dtype, x.x.dtype):
                lanes = self.width(x)
                source, target = vector(scalar(x.x.dtype), lanes), vector(scalar(x.dtype), lanes)
                return self.fn.value(f"bitcast {source} {self(x.x)} to {target}")
            case k.Checked():
                return self._checked(x)
            case k.Reduce():
                return self._reduce(x)
            case _:
                raise UnsupportedError(f"llvm: no code for {type(x).__name__} of {x.dtype}")

    def _at(self, part: k.Expr, whole: k.Expr) -> Value:
        """`part` in the width of `whole`."""
        return (
            self(part)
            if self.width(part) == self.width(whole)
            else self.fn.splat(self(part), scalar(part.dtype), self.lanes)
        )

    def _index(self, x: k.Var) -> Value:
        base = self.variables[x]
        if x is not self.lane or self.lanes == 1:
            return base
        steps = "<" + ", ".join(f"i64 {lane}" for lane in range(self.lanes)) + ">"
        return self.fn.value(f"add <{self.lanes} x i64> {self.fn.splat(base, 'i64', self.lanes)}, {steps}")

    def _load(self, x: Element) -> Value:
        (offset,), element = x.index, scalar(x.dtype)
        memory = "i8" if x.dtype.name == "bool" else element
        lanes = self.width(x)
        if x.access.type.size == 0:
            return (
                number(x.other, x.dtype)
                if lanes == 1
                else self.fn.splat(number(x.other, x.dtype), element, lanes)
            )
        lane, where = self.lane, x.where
        step = coefficient(offset, lane) if lanes > 1 and lane is not None else 0
        if lanes > 1 and step == 0 and where is not None and self.width(where) == 1:
            lanes = 1
        if lanes > 1 and lane is not None and step == 1:
            base = self(at_zero(offset, lane))
            pointer = self.fn.element(x.access.pointer, self.fn.add(base, self.variables[lane]), memory)
            value = self._contiguous(x, pointer, memory)
        elif lanes > 1:
            value = self._gather(x, offset, memory)
        else:
            value = self._single(x, offset, memory, where)
        if x.dtype.name == "bool":
            zero = "zeroinitializer" if lanes > 1 else "0"
            value = self.fn.value(f"icmp ne {vector('i8', lanes)} {value}, {zero}")
        return value if lanes == self.width(x) else self.fn.splat(value, element, self.lanes)

    def _single(self, x: Element, offset: k.Expr, memory: str, where: k.Expr | None) -> Value:
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

    def _gather(self, x: Element, offset: k.Expr, memory: str) -> Value:
        index, lanes = self.full(offset), self.lanes
        pointers = self.fn.value(
            f"getelementptr inbounds {memory}, ptr {x.access.pointer}, <{lanes} x i64> {index}"
        )
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

    def _checked(self, x: k.Checked) -> Value:
        if self.failed is None:
            raise BuildError(f"llvm: a check of an index against {x.extent} needs a kernel with a status")
        extent = self.fn.size(x.extent)
        lanes, index = self.width(x), self(x.index)
        type = vector("i64", lanes)
        bad = self.fn.value(f"icmp uge {type} {index}, {self.fn.splat(str(extent), 'i64', lanes)}")
        any_bad = bad
        if lanes > 1:
            if self.mask is not None:
                any_bad = self.fn.value(f"and <{lanes} x i1> {bad}, {self.mask}")
            any_bad = self.fn.call("i1", f"llvm.vector.reduce.or.v{lanes}i1", [(f"<{lanes} x i1>", any_bad)])
        before = self.fn.load(self.failed, "i32", 4)
        self.fn.store(
            self.fn.value(f"select i1 {any_bad}, i32 {int(ErrorCode.INDEX)}, i32 {before}"),
            self.failed,
            "i32",
            4,
        )
        return self.fn.value(f"select {vector('i1', lanes)} {bad}, {type} {zero(I64, lanes)}, {type} {index}")

    def _reduce(self, x: k.Reduce) -> Value:
        lanes = self.width(x)
        neutral = self.fn.splat(number(x.init, x.dtype), scalar(x.dtype), lanes)
        along = self._contiguous_reduction(x) if lanes == 1 else None
        return self._reduce_over(x, list(x.over), neutral, lanes, along)

    def _reduce_over(
        self, x: k.Reduce, over: list[k.Var], start: Value, lanes: int, along: k.Var | None
    ) -> Value:
        if not over:
            return self._accumulate(x, start, lanes)
        var, rest = over[0], over[1:]
        if var is along and isinstance(var.extent, int):
            return self._reduce_lanes(x, var, var.extent, start)

        def body(i: Value, values: list[Value]) -> list[Value]:
            inner = self.inner({**self.variables, var: i})
            return [inner._reduce_over(x, rest, values[0], lanes, along)]

        carried = [(vector(scalar(x.dtype), lanes), start)]
        return self.fn.loop(0, self.fn.size(var.extent), 1, body, carried)[0]

    def _accumulate(self, x: k.Reduce, total: Value, lanes: int) -> Value:
        """`total` and one more element; strict sums of products are fused, as templates do it."""
        body = x.body
        is_product = isinstance(body, k.Binary) and body.op == "mul" and x.dtype.is_float
        if self.fn.strict and x.op == "add" and is_product:
            a, b = (self._at_width(part, lanes) for part in children(body))
            return self.fn.fma(a, b, total, scalar(x.dtype), lanes)
        return combine(self.fn, x.op, total, self._at_width(body, lanes), x.dtype, lanes)

    def _contiguous_reduction(self, x: k.Reduce) -> k.Var | None:
        """The last variable, where it is long and the loads of the body are contiguous in it."""
        var = x.over[-1]
        if not isinstance(var.extent, int) or var.extent < ROW_LANES or x.op in ("and", "or"):
            return None
        if x.dtype.name not in ("f32", "f64", "i32", "i64"):
            return None
        steps = [coefficient(p.index[0], var) for p in walk(x.body) if isinstance(p, Element)]
        nested = any(isinstance(p, (k.Reduce, k.Checked)) for p in walk(x.body))
        return var if steps and all(step in (0, 1) for step in steps) and 1 in steps and not nested else None

    def _reduce_lanes(self, x: k.Reduce, var: k.Var, extent: int, start: Value) -> Value:
        """Partial results in lanes, combined by halves at the end; masked lanes stay what they were."""
        lanes, element = ROW_LANES, scalar(x.dtype)
        whole = extent // lanes * lanes
        neutral = self.fn.splat(number(x.init, x.dtype), element, lanes)

        def step(i: Value, values: list[Value], mask: Value | None = None) -> list[Value]:
            inner = self.along(var, lanes, {**self.variables, var: i}, mask)
            value = inner._accumulate(x, values[0], lanes)
            if mask is not None:
                type = vector(element, lanes)
                value = self.fn.value(f"select <{lanes} x i1> {mask}, {type} {value}, {type} {values[0]}")
            return [value]

        partial = self.fn.loop(0, whole, lanes, step, [(vector(element, lanes), neutral)])
        if whole < extent:
            bits = ", ".join(f"i1 {'true' if n < extent - whole else 'false'}" for n in range(lanes))
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
            value = combine(self.fn, x.op, low, high, x.dtype, half, wide=True)
            lanes = half
        value = self.fn.value(f"extractelement <1 x {element}> {value}, i64 0")
        return combine(self.fn, x.op, start, value, x.dtype, 1)

    def _at_width(self, x: k.Expr, lanes: int) -> Value:
        value = self(x)
        return value if self.width(x) == lanes else self.fn.splat(value, scalar(x.dtype), lanes)


ROW_LANES = 16
"""Partial results of a reduction along a row: as many on every target, so that the order is the same."""
