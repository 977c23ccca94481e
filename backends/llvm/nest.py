"""Generic loop nests: any kernel, with no schedule but its own order and vectors along what is contiguous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gcomp.arena import rounded
from gcomp.dim import Dim
from gcomp.expr import Expr, Literal_, Var
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
    inlined,
    walk,
)
from gcomp.plan import dense
from gcomp.tensor import Reduce, Tensor
from gcomp.types import TensorType

from . import compute
from .access import Access, addressed
from .cpu import Cpu
from .emit import Function, Value, scalar
from .problem import Argument, Emitted, View
from .vectorize import Evaluator

INLINE_LIMIT = 64
"""Stages of more distinct sub-expressions than this that are read repeatedly are computed into scratch."""


def emit(
    kernel: Kernel,
    operands: Sequence[View | None],
    results: list[View],
    cpu: Cpu,
    name: str,
    in_place: bool,
    strict: bool = False,
    exact: bool = False,
) -> Emitted:
    """The kernel as loops over its results; `kernel` is expanded and not yet inlined."""
    stages = staged(kernel)
    fn = Function(name, [], "i32", strict=strict, exact=exact)
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
    for index, (tensor, view) in enumerate(zip(kernel.results, results, strict=True)):
        parameter("y", index, tensor, view)
        arguments.append(Argument("result", index))
    scratch = _scratch(stages, accesses)
    if scratch:
        fn.parameters.append(("ptr noalias", "scratch"))
        arguments.append(Argument("scratch", bytes=_place_scratch(fn, scratch, accesses)))
    failed = fn.local("i32", 4) if checks(stages) else None
    if failed:
        fn.store("0", failed, "i32", 4)
    for stage in stages:
        if isinstance(stage, Compute):
            compute.emit(fn, stage, accesses, cpu, failed)
        else:
            program(fn, stage, accesses, failed)
    fn.do(f"ret i32 {fn.load(failed, 'i32', 4) if failed else 0}")
    return Emitted(fn, arguments, optimise=True, template="nest")


def staged(kernel: Kernel) -> list[Compute | Program]:
    """What has to be computed one after the other: for each result and each scratch tensor a stage."""
    stages = inlined(kernel.stages, lambda tensor: tensor in kernel.results or _costly(kernel, tensor))
    return _copy_returned_twice(kernel, stages)


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
    """Gives each result a tensor of its own: operands returned, and tensors returned twice, are copied."""
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
    found = {id(tensor): tensor for stage in stages for tensor in made(stage) if id(tensor) not in accesses}
    return list(found.values())


def made(stage: Compute | Program) -> list[Tensor]:
    """The tensors that a stage writes; those that a program fills more than once may be there twice."""
    return [stage.result] if isinstance(stage, Compute) else [*stage.results, *_stored(stage.body)]


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


def _place_scratch(fn: Function, tensors: list[Tensor], accesses: dict[int, Access]) -> Dim:
    end: Dim = 0
    for tensor in tensors:
        type = TensorType(tensor.dtype, tensor.shape)
        pointer = fn.element("%scratch", fn.size(end), "i8")
        accesses[id(tensor)] = Access(pointer, type, dense(type))
        end = end + rounded(type.bytes)
    return end


def checks(stages: list[Compute | Program]) -> bool:
    """Whether an index is checked in one of the stages."""
    return any(isinstance(part, Checked) for s in stages for root in roots(s) for part in walk(root))


def roots(stage: Compute | Program) -> list[Expr]:
    """The expressions of a stage."""
    return [stage.value] if isinstance(stage, Compute) else _expressions(stage.body)


def _expressions(body: list[Statement]) -> list[Expr]:
    found: list[Expr] = []
    for statement in body:
        match statement:
            case Store(index=index, value=value):
                found += [*index, value]
            case For(extent=extent, body=inner):
                found += [extent, *_expressions(inner)]
            case While(condition=condition, body=inner):
                found += [condition, *_expressions(inner)]
            case If(condition=condition, then=then, other=other):
                found += [condition, *_expressions(then), *_expressions(other)]
    return found


def program(fn: Function, stage: Program, accesses: Mapping[int, Access], failed: Value | None) -> None:
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
