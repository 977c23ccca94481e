"""What a kernel template is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from gcomp.dim import Dim, symbol
from gcomp.expr import Checked, Expr, Var
from gcomp.kernel import Compute, Kernel, Literal_, walk
from gcomp.op import Operator, Storage
from gcomp.tensor import Reduce, Tensor
from gcomp.types import I64, Array, TensorType

from .access import Access, Element, addressed, at_zero, coefficient
from .cpu import Cpu
from .emit import Function, Value, lane_mask, scalar, vector
from .vectorize import Evaluator


@dataclass(frozen=True)
class View:
    """An operand or result as it lies in memory: its type, and a stride in elements per physical axis.

    `array` is that of a constant, and `storage` what it is best stored as; `aligned` says that the address is
    a multiple of 64.
    """

    type: TensorType
    strides: tuple[int, ...]
    array: Array | None = None
    aligned: bool = True
    storage: Storage = "dense"


@dataclass(frozen=True)
class Argument:
    """Where one pointer parameter of a kernel comes from.

    `packed` is the constant operand `index`, rearranged by `pack` at compile time; `scratch` is that many
    bytes.
    """

    source: Literal["operand", "result", "packed", "scratch"]
    index: int = 0
    pack: Callable[[], Array] | None = None
    bytes: Dim = 0


@dataclass
class Emitted:
    """A kernel: `i32 (ptr, ...)` returning 0 or an error code, and its arguments in order.

    Symbolic sizes that the function asks for follow as i64. `optimise` says whether LLVM's passes run on it,
    `template` what made it.
    """

    function: Function
    arguments: list[Argument]
    optimise: bool
    template: str


@dataclass
class Problem:
    """One step of the plan: an anchor operator, alone or with what was fused to it.

    `feeds[i]` is the index in `operands` of the anchor's i-th operand, None where that is absent or is
    computed by a prologue. `epilogue` gives the element of the only result at `epilogue.axes`, from loads of
    `anchor_result` (always at those same axes) and of other operands; None if the anchor's result is the
    result itself.
    """

    anchor: Operator
    kernel: Kernel
    operands: list[View | None]
    results: list[View]
    feeds: list[int | None]
    anchor_result: Tensor
    epilogue: Compute | None
    cpu: Cpu
    winograd: bool = True
    """Whether sums may be rearranged as Winograd does, which rounds differently from the direct sum."""
    strict: bool = False
    """Whether the result's bits must be the same on every processor: sums in one order, no zeros skipped."""
    exact: bool = False
    """Whether each operation of the epilogue rounds where it is written."""

    def view(self, operand: int) -> View | None:
        """How the anchor's operand lies in memory."""
        place = self.feeds[operand] if operand < len(self.feeds) else None
        return None if place is None else self.operands[place]


INLINE_LIMIT = 24
"""Epilogues of more distinct sub-expressions are functions: code stays small, and compiles fast.

The accumulators that live across the call are saved and loaded once each, as they would be for a loop over
them."""
SHORT = 8
"""Sub-expressions of an epilogue, at most, that find registers beside accumulators still in use."""


@dataclass
class Epilogue:
    """Applies what follows the anchor to values in registers, and stores them.

    `pointers` are the kernel's pointer parameters: by operand index, and the result's.
    """

    problem: Problem
    fn: Function
    operands: dict[int, Value]
    result: Value
    _outlined: dict[tuple[int, int, int | None], Function] = field(
        default_factory=dict[tuple[int, int, "int | None"], Function]
    )

    def __post_init__(self) -> None:
        problem = self.problem
        out = problem.results[0]
        self._access = Access(self.result, out.type, out.strides)
        self._value: Expr | None = None
        if problem.epilogue is None:
            self._axes: Sequence[Var] = [Var(f"a{axis}", size) for axis, size in enumerate(out.type.shape)]
            return
        accesses = {
            id(tensor): Access(pointer, view.type, view.strides)
            for index, pointer in self.operands.items()
            if (tensor := problem.kernel.operands[index]) is not None
            and (view := problem.operands[index]) is not None
        }
        self._axes = problem.epilogue.axes
        self._value = addressed(problem.epilogue.value, accesses)

    def mergeable(self, outer: int, inner: int) -> bool:
        """Whether one index, `inner`, may run through logical axes `outer` and `inner`, with 0 for `outer`.

        It holds where every place in memory grows by the extent of `inner` as much with the former as with
        the latter.
        """
        extent = self.problem.results[0].type.shape[inner]
        offsets = [self._access.offset(self._axes)]
        if self._value is not None:
            if any(isinstance(part, (Reduce, Checked)) for part in walk(self._value)):
                return False
            offsets += [part.index[0] for part in walk(self._value) if isinstance(part, Element)]
        steps = [(coefficient(o, self._axes[outer]), coefficient(o, self._axes[inner])) for o in offsets]
        return all(a is not None and b is not None and a == b * extent for a, b in steps)

    def store(
        self, value: Value, index: Sequence[Value], lane_axis: int, lanes: int, active: int | None = None
    ) -> None:
        """Stores `lanes` results along `lane_axis`, the first of them at logical `index` (i64 values).

        `value` is the anchor's result in a register. Only the first `active` lanes are elements; of the
        others those that pad the layout become zero and the rest is left alone.
        """
        if self._size > INLINE_LIMIT:
            self._call(value, index, lane_axis, lanes, active)
        else:
            self._store(value, index, lane_axis, lanes, active)

    @property
    def is_short(self) -> bool:
        """Whether some results can well be stored while others are still summed up: nothing else is read."""
        return self._size <= SHORT and not self.operands

    @cached_property
    def _size(self) -> int:
        """How much it computes; literals, and where its operands lie, do not count."""
        if self._value is None:
            return 0
        return sum(part.dtype != I64 and not isinstance(part, Literal_) for part in walk(self._value))

    def _call(
        self, value: Value, index: Sequence[Value], lane_axis: int, lanes: int, active: int | None
    ) -> None:
        """Calls a function that stores one vector."""
        places = [("ptr", pointer) for pointer in (*self.operands.values(), self.result)]
        element = scalar(self.problem.anchor_result.dtype)
        values: list[tuple[str, Value | int]] = [
            (vector(element, lanes), value),
            *(("i64", place) for place in index),
            *places,
        ]
        key = (lane_axis, lanes, active)
        if key not in self._outlined:
            names = [
                "value",
                *(f"i{axis}" for axis in range(len(index))),
                *(f"x{n}" for n in self.operands),
                "y",
            ]
            types = [type for type, _ in values]
            fn = Function(
                f"epilogue{len(self._outlined)}",
                list(zip(types, names, strict=True)),
                linkage="internal",
                strict=self.problem.strict,
                exact=self.problem.exact,
            )
            pointers = {operand: f"%x{operand}" for operand in self.operands}
            inner = Epilogue(self.problem, fn, pointers, "%y")
            inner._store("%value", [f"%i{axis}" for axis in range(len(index))], lane_axis, lanes, active)
            fn.do("ret void")
            self._outlined[key] = fn
            self.fn.functions.append(fn)
        called = self._outlined[key]
        values += [("i64", self.fn.size(symbol(name))) for name in called.symbols]
        self.fn.do(f"call void @{called.name}({', '.join(f'{type} {v}' for type, v in values)})")

    def _store(
        self, value: Value, index: Sequence[Value], lane_axis: int, lanes: int, active: int | None
    ) -> None:
        fn, out = self.fn, self.problem.results[0]
        lane = self._axes[lane_axis]
        variables = dict(zip(self._axes, index, strict=True))
        mask = lane_mask(active, lanes) if active is not None and active < lanes else None
        anchors = {id(self.problem.anchor_result): value}
        evaluate = Evaluator(fn, variables, lanes, lane, mask, anchors=anchors)
        if self._value is not None:
            value = evaluate.full(self._value)
        element = scalar(out.type.dtype)
        offset = self._access.offset(self._axes)
        start = fn.add(
            evaluate(at_zero(offset, lane)), fn.mul(variables[lane], coefficient(offset, lane) or 0)
        )
        pointer = fn.element(self.result, start, element)
        if mask is None:
            fn.store(value, pointer, vector(element, lanes))
        elif out.type.layout is not None:  # the rounded axis has room for all lanes
            type = vector(element, lanes)
            zeroed = fn.value(f"select <{lanes} x i1> {mask}, {type} {value}, {type} zeroinitializer")
            fn.store(zeroed, pointer, type)
        else:
            fn.masked_store(value, pointer, mask, element, lanes)
