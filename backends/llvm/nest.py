"""Generic loop nests: any kernel, with no schedule but its own order and vectors along what is contiguous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from gcomp.diagnostics import UnsupportedError
from gcomp.expr import Expr, Literal_, Var, literal
from gcomp.kernel import (
    Checked,
    Compute,
    For,
    If,
    Kernel,
    Program,
    Statement,
    Store,
    While,
    children,
    inlined,
    substitute,
    walk,
)
from gcomp.tensor import Reduce, Tensor
from gcomp.types import TensorType

from .access import Access, Element, addressed, at_zero, coefficient, dense_strides
from .cpu import Cpu
from .emit import Function, Value, scalar, vector
from .problem import Argument, Emitted, View
from .vectorize import Evaluator

INLINE_LIMIT = 64
"""A stage of more distinct sub-expressions than this, read more than once, is computed once into scratch instead."""


def emit(
    kernel: Kernel, operands: Sequence[View | None], results: list[View], cpu: Cpu, name: str, in_place: bool
) -> Emitted:
    """The kernel as loops over its results; `kernel` is expanded and not yet inlined."""
    stages = inlined(kernel.stages, lambda tensor: tensor in kernel.results or _costly(kernel, tensor))
    fn = Function(name, [], "i32")
    accesses: dict[int, Access] = {}
    arguments: list[Argument] = []
    alias = "" if in_place else " noalias"

    def parameter(letter: str, index: int, tensor: Tensor, view: View) -> None:
        fn.parameters.append((f"ptr{alias}", f"{letter}{index}"))
        accesses[id(tensor)] = Access(f"%{letter}{index}", view.type, view.strides)

    for index, (tensor, view) in enumerate(zip(kernel.operands, operands, strict=True)):
        if tensor is not None and view is not None:
            parameter("x", index, tensor, view)
            arguments.append(Argument("operand", index))
    stages = _copy_returned_twice(kernel, stages)
    for index, (tensor, view) in enumerate(zip(kernel.results, results, strict=True)):
        parameter("y", index, tensor, view)
        arguments.append(Argument("result", index))
    scratch = _scratch(stages, accesses)
    if scratch:
        fn.parameters.append(("ptr noalias", "scratch"))
        arguments.append(Argument("scratch", bytes=_place_scratch(fn, scratch, accesses)))
    failed = fn.local("i32", 4) if _checks(stages) else None
    if failed:
        fn.store("0", failed, "i32", 4)
    for stage in stages:
        if isinstance(stage, Compute):
            _compute(fn, stage, accesses, cpu, failed)
        else:
            _program(fn, stage, accesses, failed)
    fn.do(f"ret i32 {fn.load(failed, 'i32', 4) if failed else 0}")
    return Emitted(fn, arguments, optimise=True, template="nest")


def _costly(kernel: Kernel, tensor: Tensor) -> bool:
    """Whether a stage is worth scratch: big, and read at several places or in a loop of its own."""
    stage = next((s for s in kernel.stages if isinstance(s, Compute) and s.result is tensor), None)
    if stage is None or sum(1 for _ in walk(stage.value)) <= INLINE_LIMIT:
        return False
    readers = [
        s
        for s in kernel.stages
        if isinstance(s, Compute) and any(_reads(part, tensor) for part in walk(s.value))
    ]
    in_loop = any(
        isinstance(part, Reduce) and any(_reads(p, tensor) for p in walk(part))
        for s in readers
        for part in walk(s.value)
    )
    return (
        in_loop or len(readers) > 1 or len(readers) < sum(isinstance(s, Program) for s in kernel.stages) + 1
    )


def _reads(part: Expr, tensor: Tensor) -> bool:
    return getattr(part, "tensor", None) is tensor


def _copy_returned_twice(kernel: Kernel, stages: list[Compute | Program]) -> list[Compute | Program]:
    """Gives each result a tensor of its own: an operand returned as it is, or a tensor returned twice, is copied."""
    seen: set[int] = {id(tensor) for tensor in kernel.operands if tensor is not None}
    for index, tensor in enumerate(kernel.results):
        if id(tensor) in seen:
            axes = tuple(Var(f"c{axis}", size) for axis, size in enumerate(tensor.shape))
            copy = Tensor(tensor.type, f"{tensor.name}.copy")
            stages = [*stages, Compute(copy, axes, tensor[axes] if axes else tensor.load(()))]
            kernel.results[index] = copy
        seen.add(id(kernel.results[index]))
    return stages


def _scratch(stages: list[Compute | Program], accesses: dict[int, Access]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for stage in stages:
        for tensor in (
            [stage.result] if isinstance(stage, Compute) else [*stage.results, *_stored(stage.body)]
        ):
            if id(tensor) not in accesses:
                found[id(tensor)] = tensor
    return list(found.values())


def _stored(body: list[Statement]) -> list[Tensor]:
    found: list[Tensor] = []
    for statement in body:
        match statement:
            case Store(tensor=tensor):
                found.append(tensor)
            case For(body=inner) | While(body=inner):
                found += _stored(inner)
            case If(then=then, other=other):
                found += _stored(then) + _stored(other)
    return found


def _place_scratch(fn: Function, tensors: list[Tensor], accesses: dict[int, Access]) -> int:
    end = 0
    for tensor in tensors:
        type = TensorType(tensor.dtype, tensor.shape)
        pointer = fn.element("%scratch", end, "i8")
        accesses[id(tensor)] = Access(pointer, type, dense_strides(type.static_shape))
        end += -(-prod(type.static_shape) * type.dtype.bytes // 64) * 64
    return end


def _checks(stages: list[Compute | Program]) -> bool:
    def expressions(body: list[Statement]) -> list[Expr]:
        found: list[Expr] = []
        for statement in body:
            match statement:
                case Store(index=index, value=value):
                    found += [*index, value]
                case For(extent=extent, body=inner):
                    found += [extent, *expressions(inner)]
                case While(condition=condition, body=inner):
                    found += [condition, *expressions(inner)]
                case If(condition=condition, then=then, other=other):
                    found += [condition, *expressions(then), *expressions(other)]
        return found

    roots = [x for s in stages for x in ([s.value] if isinstance(s, Compute) else expressions(s.body))]
    return any(isinstance(part, Checked) for root in roots for part in walk(root))


@dataclass
class _Loop:
    var: Var
    extent: int


def _compute(
    fn: Function, stage: Compute, accesses: dict[int, Access], cpu: Cpu, failed: Value | None
) -> None:
    access = accesses[id(stage.result)]
    try:
        shape = access.type.static_shape
    except ValueError as error:
        raise UnsupportedError(f"llvm: {error}; bind them with shapes= or dims=") from error
    if 0 in shape:
        return
    value, offset = addressed(stage.value, accesses), access.offset(stage.axes)
    order = _loop_order(access)
    _zero_padding(fn, access, shape)
    loops = [_Loop(stage.axes[axis], shape[axis]) for axis in order]
    value, offset, loops = _merge(value, offset, loops)
    lanes = cpu.vector_bytes // 4
    evaluator = Evaluator(fn, {}, failed=failed)
    inner = loops[-1] if loops else None
    vectorise = inner is not None and inner.extent >= lanes and _vectorisable(value, offset, inner.var)
    element = scalar(access.type.dtype)

    def put(ev: Evaluator, width: int) -> None:
        result = ev.full(value) if width > 1 else ev(value)
        if access.type.dtype.name == "bool":
            result = fn.value(f"zext {vector('i1', width)} {result} to {vector('i8', width)}")
        memory = "i8" if access.type.dtype.name == "bool" else element
        place = ev(offset) if ev.lane is None else fn.add(ev(at_zero(offset, ev.lane)), ev.variables[ev.lane])
        fn.store(result, fn.element(access.pointer, place, memory), vector(memory, width))

    def nest(depth: int, ev: Evaluator) -> None:
        if depth == len(loops):
            put(ev, 1)
            return
        loop = loops[depth]
        last = depth == len(loops) - 1 and vectorise

        def body(i: Value, _: list[Value]) -> None:
            bound: Mapping[Var, Value] = {**ev.variables, loop.var: i}
            if last:
                put(ev.inner(variables=bound, lanes=lanes, lane=loop.var), lanes)
            else:
                nest(depth + 1, ev.inner(variables=bound))

        def single(i: Value, _: list[Value]) -> None:
            put(ev.inner(variables={**ev.variables, loop.var: i}), 1)

        if last:
            whole = loop.extent // lanes * lanes
            fn.loop(0, whole, lanes, body)
            fn.loop(whole, loop.extent, 1, single)
        else:
            fn.loop(0, loop.extent, 1, body)

    nest(0, evaluator)


def _vectorisable(value: Expr, offset: Expr, var: Var) -> bool:
    """Whether stores are contiguous in `var`, and explicit vectors along it are no worse than scalar code."""
    if coefficient(offset, var) != 1:
        return False
    for part in walk(value):
        if isinstance(part, Element) and coefficient(part.index[0], var) not in (0, 1):
            return False
        if isinstance(part, Reduce) and any(
            coefficient(p.index[0], part.over[-1]) == 1 and coefficient(p.index[0], var) != 1
            for p in walk(part)
            if isinstance(p, Element)
        ):
            # Rows reduced along what is contiguous: lanes run along the row instead.
            if all(
                coefficient(p.index[0], var) == 0 or coefficient(p.index[0], part.over[-1]) == 1
                for p in walk(part)
                if isinstance(p, Element)
            ):
                return False
    return True


def _loop_order(access: Access) -> list[int]:
    """Logical axes, outermost loop first, as they lie in memory where the layout keeps each axis whole."""
    layout = access.type.layout
    rank = access.type.rank
    if layout is None or any(part.side != "whole" or len(part.axes) > 1 for part in layout.parts):
        return list(range(rank))
    return [part.axes[0] for part in layout.parts]


def _zero_padding(fn: Function, access: Access, shape: tuple[int, ...]) -> None:
    """Zeroes the lanes that a layout adds to the logical shape."""
    layout = access.type.layout
    if layout is None or access.type.physical == tuple(
        part.extent([*shape]) for part in layout.parts if part.tile == 1
    ):
        return
    physical = [int(extent) for extent in access.type.physical if isinstance(extent, int)]
    logical = [prod(shape[axis] for axis in part.axes) for part in layout.parts]
    whole = all(part.side == "whole" for part in layout.parts)
    memory = "i8" if access.type.dtype.name == "bool" else scalar(access.type.dtype)
    zero = "0" if not access.type.dtype.is_float else "0.0"

    def nest(axis: int, offset: Value, starts: list[int]) -> None:
        if axis == len(physical):
            fn.store(zero, fn.element(access.pointer, offset, memory), memory)
            return
        fn.loop(
            starts[axis],
            physical[axis],
            1,
            lambda i, _: nest(axis + 1, fn.add(offset, fn.mul(i, access.strides[axis])), starts),
        )

    if not whole:
        if prod(physical) != prod(shape):
            nest(0, "0", [0] * len(physical))
        return
    for axis, (padded, real) in enumerate(zip(physical, logical, strict=True)):
        if real < padded:
            nest(0, "0", [real if other == axis else 0 for other in range(len(physical))])


def _merge(value: Expr, offset: Expr, loops: list[_Loop]) -> tuple[Expr, Expr, list[_Loop]]:
    """Neighbouring loops made one wherever every address grows as if they were; vectors get longer so."""
    loops = [loop for loop in loops if loop.extent > 1] or loops[-1:]
    kept = {id(loop.var) for loop in loops}
    gone = {var: literal(0) for var in _variables(value, offset) if var.extent == 1 and id(var) not in kept}
    value, offset = substitute(value, dict(gone)), substitute(offset, dict(gone))
    position = len(loops) - 1
    while position > 0:
        outer, inner = loops[position - 1], loops[position]
        if _mergeable(value, offset, outer.var, inner):
            merged = Var(inner.var.name, outer.extent * inner.extent)
            swap: dict[Var, Expr] = {outer.var: literal(0), inner.var: merged}
            value, offset = substitute(value, swap), substitute(offset, swap)
            loops[position - 1 : position + 1] = [_Loop(merged, outer.extent * inner.extent)]
        position -= 1
    return value, offset, loops


def _variables(*expressions: Expr) -> list[Var]:
    return [part for x in expressions for part in walk(x) if isinstance(part, Var)]


def _mergeable(value: Expr, offset: Expr, outer: Var, inner: _Loop) -> bool:
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


def _program(fn: Function, stage: Program, accesses: dict[int, Access], failed: Value | None) -> None:
    """Statements one by one; nothing is remembered between them, since stores may change what loads see."""

    def evaluator(variables: Mapping[Var, Value]) -> Evaluator:
        return Evaluator(fn, variables, failed=failed)

    def block(body: list[Statement], variables: Mapping[Var, Value]) -> None:
        for statement in body:
            one(statement, variables)

    def compute(x: Expr, variables: Mapping[Var, Value]) -> Value:
        return evaluator(variables)(addressed(x, accesses))

    def one(statement: Statement, variables: Mapping[Var, Value]) -> None:
        match statement:
            case Store(tensor=tensor, index=index, value=value):
                access = accesses[id(tensor)]
                dtype = access.type.dtype
                memory = "i8" if dtype.name == "bool" else scalar(dtype)
                result = compute(value, variables)
                if dtype.name == "bool":
                    result = fn.value(f"zext i1 {result} to i8")
                place = compute(access.offset(index), variables)
                fn.store(result, fn.element(access.pointer, place, memory), memory)
            case For(var=var, extent=extent, body=body):
                stop = int(extent.value) if isinstance(extent, Literal_) else compute(extent, variables)
                fn.loop(0, stop, 1, lambda i, _: block(body, {**variables, var: i}))
            case If(condition=condition, then=then, other=other):
                yes, no, end = fn.label("then"), fn.label("else"), fn.label("end")
                fn.branch(compute(condition, variables), yes, no)
                for label, body in ((yes, then), (no, other)):
                    fn.block(label)
                    block(body, variables)
                    fn.jump(end)
                fn.block(end)
            case While(condition=condition, body=body):
                test, run, end = fn.label("while"), fn.label("do"), fn.label("end")
                fn.jump(test)
                fn.block(test)
                fn.branch(compute(condition, variables), run, end)
                fn.block(run)
                block(body, variables)
                fn.jump(test)
                fn.block(end)

    block(stage.body, {})
