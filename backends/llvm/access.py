"""Where elements lie: tensors as pointers with physical strides, and index arithmetic as expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from gcomp.expr import Binary, Expr, Literal_, Var, as_index, binary, literal
from gcomp.kernel import substitute, transform, walk
from gcomp.tensor import Load
from gcomp.types import TensorType

from .emit import Value


def dense_strides(extents: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides, in elements."""
    return tuple(prod(extents[axis + 1 :]) for axis in range(len(extents)))


@dataclass(frozen=True, eq=False)
class Access:
    """A tensor in memory: where its first element is, and each physical axis's stride in elements."""

    pointer: Value
    type: TensorType
    strides: tuple[int, ...]

    def offset(self, index: Sequence[Expr]) -> Expr:
        """The distance in elements from the pointer to the element at a logical index."""
        if self.type.layout is None:
            physical = list(index)
        else:
            physical = []
            for part in self.type.layout.parts:
                merged: Expr = literal(0)
                for axis in part.axes:
                    merged = binary(
                        "add", binary("mul", merged, as_index(self.type.shape[axis])), index[axis]
                    )
                match part.side:
                    case "whole":
                        physical.append(merged)
                    case "outer":
                        physical.append(binary("floordiv", merged, part.tile))
                    case "inner":
                        physical.append(binary("mod", merged, part.tile))
        total: Expr = literal(0)
        for place, stride in zip(physical, self.strides, strict=True):
            total = binary("add", total, binary("mul", place, stride))
        return total


@dataclass(frozen=True, eq=False)
class Element(Load):
    """A load whose place in memory is known: `index` is the one offset in elements from `access.pointer`."""

    access: Access = field(kw_only=True)


def coefficient(x: Expr, var: Var) -> int | None:
    """By how much `x` grows when `var` grows by one; None where that is not a constant."""
    match x:
        case Var():
            return int(x is var)
        case Literal_():
            return 0
        case Binary(op="add", lhs=lhs, rhs=rhs):
            a, b = coefficient(lhs, var), coefficient(rhs, var)
            return None if a is None or b is None else a + b
        case Binary(op="sub", lhs=lhs, rhs=rhs):
            a, b = coefficient(lhs, var), coefficient(rhs, var)
            return None if a is None or b is None else a - b
        case Binary(op="mul", lhs=lhs, rhs=Literal_(value=factor)):
            a = coefficient(lhs, var)
            return None if a is None else a * int(factor)
        case _:
            return None if depends(x, var) else 0


def depends(x: Expr, var: Var) -> bool:
    """Whether `var` occurs in `x`."""
    return any(e is var for e in walk(x))


def at_zero(x: Expr, var: Var) -> Expr:
    """`x` with 0 for `var`."""
    return substitute(x, {var: literal(0)})


def addressed(x: Expr, accesses: Mapping[int, Access]) -> Expr:
    """`x` with each load from a tensor in `accesses`, by its identity, given its place in memory."""

    def change(e: Expr) -> Expr | None:
        if not isinstance(e, Load) or isinstance(e, Element) or id(e.tensor) not in accesses:
            return None
        access = accesses[id(e.tensor)]
        offset = access.offset([transform(i, change) for i in e.index])
        where = None if e.where is None else transform(e.where, change)
        return Element(e.tensor, (offset,), where, e.other, access=access)

    return transform(x, change)
