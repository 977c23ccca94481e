"""One `Compute` stage as loops over its result: vectors along what is contiguous, neighbours merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gcomp.dim import Dim, product
from gcomp.expr import Expr, Var, literal
from gcomp.kernel import Compute, Reduce, children, substitute, walk

from . import transpose
from .access import Access, Element, addressed, at_zero, coefficient
from .cpu import Cpu
from .emit import Function, Value, lane_mask, scalar, vector
from .transpose import Loop
from .vectorize import ROW_LANES, Evaluator


def emit(
    fn: Function, stage: Compute, accesses: Mapping[int, Access], cpu: Cpu, failed: Value | None
) -> None:
    """Adds the stage to `fn`."""
    access = accesses[id(stage.result)]
    shape = access.type.shape
    if 0 in shape:
        return
    loops = [Loop(stage.axes[axis], shape[axis]) for axis in _loop_order(access)]
    lanes = ROW_LANES if fn.strict else cpu.vector_bytes // 4  # it decides the order of sums
    value, offset, loops = _merge(addressed(stage.value, accesses), access.offset(stage.axes), loops, lanes)
    pads = bool(loops) and _pads_last(access, loops[-1].extent, lanes)
    if not pads:
        _zero_padding(fn, access, shape)
    if transpose.emit(fn, access, value, offset, loops, lanes, pads, failed):
        return
    wide = bool(loops) and (pads or _fills(loops[-1].extent, lanes))
    vectors = wide and _vectorisable(value, offset, loops[-1].var)
    if pads and not vectors:
        _zero_padding(fn, access, shape)
    nest = _Nest(fn, access, value, offset, loops, lanes if vectors else 1, pads)
    nest.emit(0, Evaluator(fn, {}, failed=failed))


def _fills(extent: Dim, lanes: int) -> bool:
    """Whether a loop has work for vectors: none of it left over where the extent is symbolic."""
    return extent >= lanes if isinstance(extent, int) else extent % lanes == 0


def _pads_last(access: Access, extent: Dim, lanes: int) -> bool:
    """Whether the layout only adds to the last axis, of this extent, as many lanes as fill whole vectors."""
    if access.type.layout is None:
        return False
    *others, last = access.type.layout.parts
    return (
        all(part.side == "whole" and part.tile == 1 for part in others)
        and (last.side, last.tile, len(last.axes)) == ("whole", lanes, 1)
        and isinstance(extent, int)
        and extent == access.type.shape[last.axes[0]]
    )


@dataclass(frozen=True)
class _Nest:
    """`access[offset] = value` over all loops; with `lanes` above 1 the last of them is in vectors.

    `pads`: the last axis has room for whole vectors, and what lies beyond its extent becomes zero.
    """

    fn: Function
    access: Access
    value: Expr
    offset: Expr
    loops: list[Loop]
    lanes: int
    pads: bool

    def emit(self, depth: int, evaluate: Evaluator) -> None:
        fn = self.fn
        if depth == len(self.loops):
            self._put(evaluate, 1)
            return
        loop, lanes = self.loops[depth], self.lanes

        def bound(i: Value) -> Mapping[Var, Value]:
            return {**evaluate.variables, loop.var: i}

        if lanes == 1 or depth < len(self.loops) - 1:
            stop = fn.size(loop.extent)
            fn.loop(0, stop, 1, lambda i, _: self.emit(depth + 1, evaluate.inner(bound(i))))
            return
        whole = fn.size(loop.extent // lanes * lanes)
        fn.loop(0, whole, lanes, lambda i, _: self._put(evaluate.along(loop.var, lanes, bound(i)), lanes))
        if isinstance(loop.extent, int) and isinstance(whole, int) and whole < loop.extent:
            rest = loop.extent - whole
            mask = lane_mask(rest, lanes)
            self._put(evaluate.along(loop.var, lanes, bound(str(whole)), mask), rest)

    def _put(self, evaluate: Evaluator, count: int) -> None:
        """Stores one element, or the first `count` of a vector."""
        fn, lanes = self.fn, evaluate.lanes
        result = evaluate.full(self.value)
        memory = element = scalar(self.access.type.dtype)
        if element == "i1":
            memory = "i8"
            result = fn.value(f"zext {vector('i1', lanes)} {result} to {vector('i8', lanes)}")
        if evaluate.lane is None:
            place = evaluate(self.offset)
        else:
            place = fn.add(evaluate(at_zero(self.offset, evaluate.lane)), evaluate.variables[evaluate.lane])
        pointer, type = fn.element(self.access.pointer, place, memory), vector(memory, lanes)
        if count == lanes:
            fn.store(result, pointer, type)
        elif self.pads:
            padded = f"select <{lanes} x i1> {evaluate.mask}, {type} {result}, {type} zeroinitializer"
            fn.store(fn.value(padded), pointer, type)
        else:
            fn.masked_store(result, pointer, lane_mask(count, lanes), memory, lanes)


def _vectorisable(value: Expr, offset: Expr, var: Var) -> bool:
    """Whether stores are contiguous in `var`, and explicit vectors along it are no worse than scalar code."""
    if coefficient(offset, var) != 1:
        return False
    return not any(
        (isinstance(part, Element) and coefficient(part.index[0], var) not in (0, 1))
        or (isinstance(part, Reduce) and _reduces_rows(part, var))
        for part in walk(value)
    )


def _reduces_rows(part: Reduce, var: Var) -> bool:
    """Whether what is reduced is contiguous along the reduction, not along `var`: lanes run along it then."""
    loads = [p.index[0] for p in walk(part) if isinstance(p, Element)]
    steps = [(coefficient(x, part.over[-1]), coefficient(x, var)) for x in loads]
    return any(a == 1 and b != 1 for a, b in steps) and all(a == 1 or b == 0 for a, b in steps)


def _loop_order(access: Access) -> list[int]:
    """Logical axes, outermost loop first, as they lie in memory where the layout keeps each axis whole."""
    layout = access.type.layout
    rank = access.type.rank
    if layout is None or any(part.side != "whole" or len(part.axes) > 1 for part in layout.parts):
        return list(range(rank))
    return [part.axes[0] for part in layout.parts]


def _zero_padding(fn: Function, access: Access, shape: tuple[Dim, ...]) -> None:
    """Zeroes the lanes that a layout adds to the logical shape."""
    layout = access.type.layout
    if layout is None or access.type.physical == tuple(
        part.extent([*shape]) for part in layout.parts if part.tile == 1
    ):
        return
    physical = access.type.physical
    logical = [product(shape[axis] for axis in part.axes) for part in layout.parts]
    whole = all(part.side == "whole" for part in layout.parts)
    memory = "i8" if access.type.dtype.name == "bool" else scalar(access.type.dtype)
    zero = "0" if not access.type.dtype.is_float else "0.0"

    def nest(axis: int, offset: Value, starts: list[Dim]) -> None:
        if axis == len(physical):
            fn.store(zero, fn.element(access.pointer, offset, memory), memory)
            return
        fn.loop(
            fn.size(starts[axis]),
            fn.size(physical[axis]),
            1,
            lambda i, _: nest(axis + 1, fn.add(offset, fn.mul(i, access.strides[axis])), starts),
        )

    if not whole:
        if product(physical) != product(shape):
            nest(0, "0", [0] * len(physical))
        return
    for axis, (padded, real) in enumerate(zip(physical, logical, strict=True)):
        if real != padded:
            nest(0, "0", [real if other == axis else 0 for other in range(len(physical))])


def _merge(value: Expr, offset: Expr, loops: list[Loop], lanes: int) -> tuple[Expr, Expr, list[Loop]]:
    """Neighbouring loops made one wherever every address grows as if they were; vectors get longer so."""
    loops = [loop for loop in loops if loop.extent != 1] or loops[-1:]
    kept = {id(loop.var) for loop in loops}
    gone = {var: literal(0) for var in _variables(value, offset) if var.extent == 1 and id(var) not in kept}
    value, offset = substitute(value, dict(gone)), substitute(offset, dict(gone))
    position = len(loops) - 1
    while position > 0:
        outer, inner = loops[position - 1], loops[position]
        if _keeps_vectors(outer, inner, lanes) and _mergeable(value, offset, outer.var, inner):
            merged = Var(inner.var.name, outer.extent * inner.extent)
            swap: dict[Var, Expr] = {outer.var: literal(0), inner.var: merged}
            value, offset = substitute(value, swap), substitute(offset, swap)
            loops[position - 1 : position + 1] = [Loop(merged, merged.extent)]
        position -= 1
    return value, offset, loops


def _keeps_vectors(outer: Loop, inner: Loop, lanes: int) -> bool:
    """Whether the merged loop has vectors if the inner one had: where it is symbolic, it leaves no rest."""
    known = isinstance(outer.extent, int) and isinstance(inner.extent, int)
    return known or not _fills(inner.extent, lanes) or _fills(outer.extent * inner.extent, lanes)


def _variables(*expressions: Expr) -> list[Var]:
    return [part for x in expressions for part in walk(x) if isinstance(part, Var)]


def _mergeable(value: Expr, offset: Expr, outer: Var, inner: Loop) -> bool:
    elements = [part for part in walk(value) if isinstance(part, Element)]
    offsets = [offset, *(element.index[0] for element in elements)]
    steps = [(coefficient(o, outer), coefficient(o, inner.var)) for o in offsets]
    alike = all(a is not None and b is not None and a == b * inner.extent for a, b in steps)
    return alike and not any(_used_as_value(value, var) for var in (outer, inner.var))


def _used_as_value(x: Expr, var: Var) -> bool:
    """Whether `var` takes part in `x` otherwise than to say which element is read."""
    seen: set[int] = set()
    pending = [x]
    while pending:
        part = pending.pop()
        if part is var:
            return True
        if id(part) not in seen:
            seen.add(id(part))
            where = [part.where] if isinstance(part, Element) and part.where is not None else []
            pending.extend(where if isinstance(part, Element) else children(part))
    return False
