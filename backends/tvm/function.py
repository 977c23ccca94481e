"""From a kernel to a TIR function: loops in the kernel's own order, one buffer for each tensor."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tvm import ir, tirx
from tvm.s_tir import SBlock, SBlockRealize

from gcomp import kernel as k
from gcomp.diagnostics import UnsupportedError
from gcomp.dim import Dim
from gcomp.expr import fresh_name
from gcomp.types import BOOL, I64, DType

from . import scalar
from .scalar import Tir, memory_name, number, tir_name

LONGEST_ROW = 4096
"""Elements of the longest row whose sums are kept beside each other."""

INDEX_ERROR = "an index is out of range"


def prim_func(kernel: k.Kernel) -> Any:
    """The function of an expanded kernel: its parameters are the operands that are there, then the results.

    Raises `UnsupportedError` for sizes that are not known and operations that TIR has not.
    """
    return _Writer(kernel).function()


class _Writer:
    """The statements of one function. `block` collects those of the innermost loop."""

    def __init__(self, kernel: k.Kernel) -> None:
        self.kernel = kernel
        self.stages = k.inlined(kernel.stages, lambda tensor: tensor in kernel.results)
        self.buffers: dict[k.Tensor, Any] = {}
        self.allocated: list[Any] = []
        self.block: list[Any] = []
        self.variables: dict[k.Var, Any] = {}
        self.known: ChainMap[int, tuple[Tir, k.Expr]] = ChainMap()

    def function(self) -> Any:
        operands = [self._declare(tensor) for tensor in self.kernel.operands if tensor is not None]
        results: list[Any] = []
        copies: list[tuple[k.Tensor, Any]] = []
        for tensor in self.kernel.results:
            if tensor in self.buffers:  # an operand, or returned before
                results.append(_buffer(tensor))
                copies.append((tensor, results[-1]))
            else:
                results.append(self._declare(tensor))
        for stage in self.stages:
            if isinstance(stage, k.Compute):
                self._compute(stage)
            else:
                self._statements(stage.body)
        for source, target in copies:
            axes = [k.Var(fresh_name("c"), size) for size in source.shape]
            self._loops(axes, partial(self._put, target, axes, source.load(axes)))
        allocations = [tirx.AllocBuffer(buffer) for buffer in self.allocated]
        body = _sequence([*allocations, *self.block])
        # TVM's passes expect one block around everything.
        root = SBlockRealize([], number(True, BOOL), SBlock([], [], [], "root", body))
        function = tirx.PrimFunc([*operands, *results], root)
        return function.with_attr({"tirx.noalias": True, "s_tir": True})

    def _declare(self, tensor: k.Tensor) -> Any:
        self.buffers[tensor] = _buffer(tensor)
        return self.buffers[tensor]

    def _buffer_of(self, tensor: k.Tensor) -> Any:
        """The buffer of a tensor; scratch is allocated when it is first met."""
        if tensor not in self.buffers:
            self.allocated.append(self._declare(tensor))
        return self.buffers[tensor]

    def _compute(self, stage: k.Compute) -> None:
        target, sums = self._buffer_of(stage.result), _column_sums(stage)
        if not sums:
            self._loops(stage.axes, partial(self._put, target, stage.axes, stage.value))
        else:
            self._loops(stage.axes[:-1], lambda: self._columns(stage, target, sums))

    def _columns(self, stage: k.Compute, target: Any, sums: Sequence[k.Reduce]) -> None:
        """One row of the result, the last axis innermost, so that LLVM makes vectors of its elements."""
        last = stage.axes[-1]
        totals: dict[int, Any] = {}
        for x in sums:
            buffer = tirx.decl_buffer(
                [_known(last.extent)], tir_name(x.dtype), fresh_name("v"), scope="local"
            )
            self.allocated.append(buffer)
            totals[id(x)] = buffer
            self._loops([last], partial(self._set, buffer, last, number(x.init, x.dtype)))
            self._loops([*x.over, last], partial(self._step, x, buffer, last))

        def finish() -> None:
            for x in sums:
                total = tirx.BufferLoad(totals[id(x)], [self.variables[last]])
                self.known[id(x)] = (self._bound(total, x.dtype), x)
            self._put(target, stage.axes, stage.value)

        self._loops([last], finish)

    def _step(self, x: k.Reduce, totals: Any, last: k.Var) -> None:
        value = self.value(x.body)
        total = tirx.BufferLoad(totals, [self.variables[last]])
        self._set(totals, last, self._combined(x, total, value))

    def _set(self, totals: Any, last: k.Var, value: Tir) -> None:
        self.block.append(tirx.BufferStore(totals, value, [self.variables[last]]))

    def _loops(self, axes: Sequence[k.Var], inside: Callable[[], None]) -> None:
        if not axes:
            inside()
        elif all(axis.extent != 0 for axis in axes):  # TVM computes with the sizes of loops that never run
            extent = number(_known(axes[0].extent), I64)
            self._loop(axes[0], extent, lambda: self._loops(axes[1:], inside))

    def _loop(self, var: k.Var, extent: Tir, inside: Callable[[], None]) -> None:
        self.variables[var] = index = tirx.Var(var.name, "int64")
        body = self._nested(inside)
        self.block.append(tirx.For(index, number(0, I64), extent, tirx.ForKind.SERIAL, body))

    def _nested(self, inside: Callable[[], None]) -> Any:
        """The statements that `inside` writes, as one; what it learns of values stays within."""
        outer, known = self.block, self.known
        self.block, self.known = [], known.new_child()
        inside()
        body = _sequence(self.block)
        self.block, self.known = outer, known
        return body

    def _put(self, target: Any, index: Sequence[k.Expr], value: k.Expr) -> None:
        """`target[index] = value`; a value is computed before the place is."""
        computed = self.value(value)
        element = scalar.to_memory(computed, value.dtype)
        self.block.append(tirx.BufferStore(target, element, [self.value(place) for place in index]))

    def _statements(self, body: Sequence[k.Statement]) -> None:
        for statement in body:
            self.known = ChainMap()  # each statement reads its operands anew
            match statement:
                case k.Store(tensor=tensor, index=index, value=value):
                    self._put(self._buffer_of(tensor), index, value)
                case k.For(var=var, extent=extent, body=inner):
                    count = self.value(extent)
                    self._loop(var, count, partial(self._statements, inner))
                case k.If(condition=condition, then=then, other=other):
                    holds = self.value(condition)
                    first = self._nested(partial(self._statements, then))
                    second = self._nested(partial(self._statements, other)) if other else None
                    self.block.append(tirx.IfThenElse(holds, first, second))
                case k.While(condition=condition, body=inner):
                    self._while(condition, inner)

    def _while(self, condition: k.Expr, body: Sequence[k.Statement]) -> None:
        """The condition is kept in a variable, for computing it may take statements."""
        going = self._variable(BOOL)

        def inside() -> None:
            self._statements(body)
            self.known = ChainMap()
            self._assign(going, self.value(condition))

        self._assign(going, self.value(condition))
        loop = self._nested(inside)
        self.block.append(tirx.While(_read(going), loop))

    def _variable(self, dtype: DType) -> Any:
        buffer = tirx.decl_buffer((), tir_name(dtype), fresh_name("v"), scope="local")
        self.allocated.append(buffer)
        return buffer

    def _assign(self, variable: Any, value: Tir) -> None:
        self.block.append(tirx.BufferStore(variable, value, []))

    def value(self, x: k.Expr) -> Tir:
        """A variable or literal with the value of `x`; each object is computed once where it can be."""
        if isinstance(x, k.Literal_):
            return number(x.value, x.dtype)
        if isinstance(x, k.Var):
            return self.variables[x]
        if isinstance(x, k.Size):
            return number(_known(x.dim), I64)
        if id(x) not in self.known:
            self.known[id(x)] = (self._bound(scalar.rounded(self._computed(x), x.dtype), x.dtype), x)
        return self.known[id(x)][0]

    def _bound(self, value: Tir, dtype: DType) -> Tir:
        """`value` in a variable, unless it is a literal.

        Floats pass through memory where they are chosen: the time of TVM's simplifier grows exponentially
        along a chain of selections that it can see through.
        """
        if isinstance(value, (tirx.IntImm, tirx.FloatImm)):
            return value
        if isinstance(value, tirx.Select) and dtype.is_float:
            variable = self._variable(dtype)
            self._assign(variable, value)
            value = _read(variable)
        made = tirx.Var(fresh_name("e"), tir_name(dtype))
        self.block.append(tirx.Bind(made, value))
        return made

    def _computed(self, x: k.Expr) -> Tir:
        match x:
            case k.Load():
                return self._load(x)
            case k.Unary(op=op, x=inside):
                return scalar.unary(op, self.value(inside), inside.dtype)
            case k.Binary(lhs=lhs, rhs=rhs):
                return scalar.binary(x, self.value(lhs), self.value(rhs))
            case k.Fma(a=a, b=b, c=c):
                return scalar.fma(self.value(a), self.value(b), self.value(c), x.dtype)
            case k.Select(condition=condition, then=then, other=other):
                return scalar.select(self.value(condition), self.value(then), self.value(other))
            case k.Cast(x=inside, dtype=dtype):
                return scalar.convert(self.value(inside), inside.dtype, dtype)
            case k.Bitcast(x=inside, dtype=dtype):
                return scalar.bitcast(self.value(inside), inside.dtype, dtype)
            case k.Checked(index=index, extent=extent):
                return self._checked(self.value(index), _known(extent))
            case k.Reduce():
                return self._reduce(x)
            case _:
                raise UnsupportedError(f"tvm: no code for {type(x).__name__}")

    def _load(self, x: k.Load) -> Tir:
        if x.tensor.type.size == 0:
            return number(x.other, x.dtype)
        buffer = self._buffer_of(x.tensor)
        places = [self.value(place) for place in x.index]
        element = tirx.BufferLoad(buffer, places)
        if x.where is not None:
            other = scalar.memory_number(x.other, x.dtype)
            element = tirx.if_then_else(self.value(x.where), element, other)
        return scalar.from_memory(element, x.dtype)

    def _checked(self, index: Tir, extent: int) -> Tir:
        inside = tirx.And(tirx.LE(number(0, I64), index), tirx.LT(index, number(extent, I64)))
        # The parameters are named in another order than the constructor takes them.
        kind, message = ir.StringImm("IndexError"), ir.StringImm(INDEX_ERROR)
        self.block.append(tirx.AssertStmt(inside, kind, [message]))
        return index

    def _combined(self, x: k.Reduce, total: Tir, value: Tir) -> Tir:
        total = self._bound(total, x.dtype)
        return scalar.rounded(scalar.combine(x.op, total, value, x.dtype), x.dtype)

    def _reduce(self, x: k.Reduce) -> Tir:
        total = self._variable(x.dtype)
        self._assign(total, number(x.init, x.dtype))

        def step() -> None:
            self._assign(total, self._combined(x, _read(total), self.value(x.body)))

        self._loops(x.over, step)
        return _read(total)


def _column_sums(stage: k.Compute) -> list[k.Reduce]:
    """The reductions of a stage, if each of them differs along the last axis, and that is not too long."""
    found = [part for part in k.walk(stage.value) if isinstance(part, k.Reduce)]
    if not found or not stage.axes or not 1 < _known(stage.axes[-1].extent) <= LONGEST_ROW:
        return []
    for x in found:
        inside = list(k.walk(x.body))
        if stage.axes[-1] not in inside or any(isinstance(part, (k.Reduce, k.Checked)) for part in inside):
            return []
    return found


def _buffer(tensor: k.Tensor) -> Any:
    return tirx.decl_buffer(
        [_known(size) for size in tensor.shape], memory_name(tensor.dtype), fresh_name("b")
    )


def _sequence(statements: list[Any]) -> Any:
    match statements:
        case []:
            return tirx.Evaluate(number(0, I64))
        case [only]:
            return only
        case _:
            return tirx.SeqStmt(statements)


def _read(variable: Any) -> Tir:
    return tirx.BufferLoad(variable, [])


def _known(size: Dim) -> int:
    """A size as an integer. Raises `UnsupportedError` for a symbolic one."""
    if not isinstance(size, int):
        raise UnsupportedError(f"tvm: the size {size} is not bound; bind it with shapes= or dims=")
    return size
