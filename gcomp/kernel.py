"""The kernel language: what `lower` speaks and every backend translates. No target is known here.

A kernel is a list of stages over tensors. A `Compute` stage gives, per output index, a pure expression over
loads, with named reductions; it fuses, inlines, and becomes a vector prologue or epilogue. A `Program` stage
is sequential: loops, conditions, stores; it is opaque to fusion. Indices are logical: where an element lies
in memory is the layout's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from .expr import (
    Binary,
    BinaryName,
    Bitcast,
    Cast,
    Checked,
    Expr,
    Fma,
    Index,
    Literal_,
    Operand,
    Select,
    Size,
    Unary,
    UnaryName,
    Var,
    as_expr,
    as_index,
    binary,
    bounds,
    cast,
    fresh_name,
    literal,
    maximum,
    minimum,
    select,
    unary,
)
from .tensor import Load, Reduce, Tensor, reduce
from .types import TensorType

__all__ = [
    "Binary",
    "BinaryName",
    "Bitcast",
    "Cast",
    "Checked",
    "Compute",
    "Expr",
    "Fma",
    "For",
    "If",
    "Index",
    "Kernel",
    "Literal_",
    "Load",
    "Operand",
    "Program",
    "Reduce",
    "Select",
    "Size",
    "Stage",
    "Statement",
    "Store",
    "Tensor",
    "Unary",
    "UnaryName",
    "Var",
    "While",
    "as_expr",
    "as_index",
    "binary",
    "bounds",
    "cast",
    "changed_program",
    "children",
    "fresh_name",
    "inlined",
    "literal",
    "maximum",
    "minimum",
    "rebuild",
    "reduce",
    "select",
    "structure",
    "substitute",
    "transform",
    "unary",
    "walk",
]


@dataclass(eq=False)
class Compute:
    """`result[axes] = value` for all values of `axes`."""

    result: Tensor
    axes: tuple[Var, ...]
    value: Expr


@dataclass(eq=False)
class Store:
    """`tensor[index] = value`."""

    tensor: Tensor
    index: tuple[Expr, ...]
    value: Expr


@dataclass(eq=False)
class For:
    """`body` for `var` = 0 .. extent - 1, in order."""

    var: Var
    extent: Expr
    body: list[Statement]


@dataclass(eq=False)
class If:
    condition: Expr
    then: list[Statement]
    other: list[Statement]


@dataclass(eq=False)
class While:
    """`body` as long as `condition` holds before it."""

    condition: Expr
    body: list[Statement]


Statement = Store | For | If | While


@dataclass(eq=False)
class Program:
    """Statements in order. Loads see what earlier statements stored: each reads its operands anew."""

    results: list[Tensor]
    body: list[Statement] = field(default_factory=list)
    _blocks: list[list[Statement]] = field(default_factory=list)

    def store(self, tensor: Tensor, index: Sequence[Index], value: Operand) -> None:
        self._block.append(Store(tensor, tuple(map(as_index, index)), as_expr(value, tensor.dtype)))

    @contextmanager
    def loop(self, extent: Index) -> Generator[Var]:
        """`with program.loop(n) as i:`; the extent may be an expression."""
        var = Var(fresh_name("i"), extent if not isinstance(extent, Expr) else 1 << 62)
        with self._nested(For(var, as_index(extent), [])):
            yield var

    @contextmanager
    def when(self, condition: Expr) -> Generator[None]:
        with self._nested(If(condition, [], [])):
            yield

    @contextmanager
    def otherwise(self) -> Generator[None]:
        """Follows `when`."""
        last = self._block[-1]
        if not isinstance(last, If):
            raise ValueError("otherwise follows when")
        self._blocks.append(last.other)
        yield
        self._blocks.pop()

    @contextmanager
    def repeat(self, condition: Expr) -> Generator[None]:
        """A while loop."""
        with self._nested(While(condition, [])):
            yield

    @property
    def _block(self) -> list[Statement]:
        return self._blocks[-1] if self._blocks else self.body

    @contextmanager
    def _nested(self, statement: For | If | While) -> Generator[None]:
        self._block.append(statement)
        self._blocks.append(statement.then if isinstance(statement, If) else statement.body)
        yield
        self._blocks.pop()


Stage = Compute | Program


class Kernel:
    """Stages in order, between operands and results. `lower` methods receive one and add to it."""

    def __init__(self, operands: Sequence[TensorType | None] = ()) -> None:
        self.operands: list[Tensor | None] = [
            Tensor(t, f"x{i}") if t is not None else None for i, t in enumerate(operands)
        ]
        self.stages: list[Stage] = []
        self.results: list[Tensor] = []

    def compute(self, type: TensorType, value: Callable[..., Operand]) -> Tensor:
        """A tensor of `type` whose element at `index` is `value(*index)`, of the dtype of `type`."""
        result = self.scratch(type)
        axes = tuple(Var(fresh_name("i"), size) for size in type.shape)
        self.stages.append(Compute(result, axes, as_expr(value(*axes), type.dtype)))
        return result

    def scratch(self, type: TensorType) -> Tensor:
        """A tensor for a program to fill. Scratch of shape () serves as a variable."""
        return Tensor(type, fresh_name("t"))

    def program(self, *results: Tensor) -> Program:
        """A sequential stage that fills `results`, which must be scratch tensors."""
        self.stages.append(program := Program(list(results)))
        return program


def children(x: Expr) -> tuple[Expr, ...]:
    """The direct sub-expressions, those of indices and conditions included."""
    match x:
        case Load(index=index, where=where):
            return (*index, *([where] if where is not None else []))
        case Unary(x=a) | Cast(x=a) | Bitcast(x=a):
            return (a,)
        case Binary(lhs=a, rhs=b):
            return (a, b)
        case Fma(a=a, b=b, c=c):
            return (a, b, c)
        case Select(condition=a, then=b, other=c):
            return (a, b, c)
        case Checked(index=a):
            return (a,)
        case Reduce(body=a):
            return (a,)
        case _:
            return ()


def rebuild(x: Expr, parts: Sequence[Expr]) -> Expr:
    """`x` over other sub-expressions, given in the order of `children`; simplified again."""
    match x:
        case Load(index=index, where=where):
            return replace(
                x, index=tuple(parts[: len(index)]), where=parts[-1] if where is not None else None
            )
        case Unary(op=op):
            return unary(op, parts[0])
        case Cast(dtype=dtype):
            return cast(parts[0], dtype)
        case Bitcast(dtype=dtype):
            return Bitcast(parts[0], dtype)
        case Binary(op=op):
            return binary(op, *parts)
        case Fma():
            return Fma(*parts)
        case Select():
            return Select(*parts)
        case Checked(extent=extent):
            return Checked(parts[0], extent)
        case Reduce(op=op, over=over, init=init):
            return Reduce(op, over, parts[0], init)
        case _:
            return x


def transform(x: Expr, change: Callable[[Expr], Expr | None], memo: dict[int, Expr] | None = None) -> Expr:
    """`x` with each sub-expression for which `change` returns one replaced by that; sharing is kept."""
    memo = {} if memo is None else memo
    if id(x) not in memo:
        new = change(x)
        if new is None:
            old = children(x)
            parts = [transform(part, change, memo) for part in old]
            new = x if all(a is b for a, b in zip(old, parts, strict=True)) else rebuild(x, parts)
        memo[id(x)] = new
    return memo[id(x)]


def walk(x: Expr) -> Iterator[Expr]:
    """Each distinct sub-expression once, `x` first."""
    seen: set[int] = set()
    pending = [x]
    while pending:
        node = pending.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            pending.extend(children(node))


def structure(x: Expr) -> tuple[Any, ...]:
    """A key equal for expressions of the same structure over the same variables and tensors."""
    match x:
        case Var():
            return ("var", x)
        case Literal_(value=value, dtype=dtype):
            return ("literal", value, dtype)
        case Size(dim=dim):
            return ("size", dim)
        case Load(tensor=tensor, other=other):
            head: tuple[Any, ...] = ("load", tensor, other)
        case Unary(op=op) | Binary(op=op):
            head = (op,)
        case Cast(dtype=dtype) | Bitcast(dtype=dtype):
            head = (type(x).__name__, dtype)
        case Checked(extent=extent):
            head = ("checked", extent)
        case Reduce(op=op, over=over, init=init):
            head = ("reduce", op, over, init)
        case _:
            head = (type(x).__name__,)
    return (*head, *map(structure, children(x)))


def substitute(x: Expr, values: dict[Var, Expr]) -> Expr:
    """`x` with variables replaced."""
    return transform(x, lambda e: values.get(e) if isinstance(e, Var) else None)


def inlined(stages: Sequence[Stage], keep: Callable[[Tensor], bool]) -> list[Stage]:
    """The stages; each `Compute` without reduction that `keep` does not claim is put where it is loaded."""
    bodies: dict[Tensor, Compute] = {}
    known: dict[tuple[Any, ...], Expr] = {}

    def expand(x: Expr) -> Expr | None:
        if not isinstance(x, Load) or x.tensor not in bodies:
            return None
        body, index = bodies[x.tensor], tuple(transform(i, expand) for i in x.index)
        key = (x.tensor, *map(structure, index))
        if key not in known:
            known[key] = substitute(body.value, dict(zip(body.axes, index, strict=True)))
        value = known[key]
        if x.where is None:
            return value
        where = transform(x.where, expand)
        guarded = transform(
            value,
            lambda e: (
                Load(e.tensor, e.index, _both(where, e.where), e.other) if isinstance(e, Load) else None
            ),
        )
        return Select(where, guarded, as_expr(x.other, x.dtype))

    result: list[Stage] = []
    for stage in stages:
        if isinstance(stage, Compute):
            value = transform(stage.value, expand)
            stage = Compute(stage.result, stage.axes, value)
            if not keep(stage.result) and not any(isinstance(e, Reduce) for e in walk(value)):
                bodies[stage.result] = stage
                continue
        else:
            stage = changed_program(stage, expand)
        result.append(stage)
    return result


def _both(a: Expr, b: Expr | None) -> Expr:
    return a if b is None else binary("and", a, b)


def changed_program(program: Program, expand: Callable[[Expr], Expr | None]) -> Program:
    """`program` with `expand` applied, as `transform` does, to all expressions in it."""

    def block(body: list[Statement]) -> list[Statement]:
        return [statement(s) for s in body]

    def statement(s: Statement) -> Statement:
        match s:
            case Store():
                return Store(
                    s.tensor, tuple(transform(i, expand) for i in s.index), transform(s.value, expand)
                )
            case For():
                return For(s.var, transform(s.extent, expand), block(s.body))
            case If():
                return If(transform(s.condition, expand), block(s.then), block(s.other))
            case While():
                return While(transform(s.condition, expand), block(s.body))

    return Program(program.results, block(program.body))
