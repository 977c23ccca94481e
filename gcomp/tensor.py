"""Tensors of a kernel, and the expressions that read them: loads and reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .diagnostics import OpenSizeError
from .dim import Dim, Poly
from .expr import Expr, Index, Var, as_index, fresh_name, literal
from .types import DType, TensorType


@dataclass(eq=False)
class Tensor:
    """What a kernel reads or writes: an operand, a result, or scratch between stages."""

    type: TensorType
    name: str

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Expr:
        index = index if isinstance(index, tuple) else (index,)
        if len(index) != self.type.rank:
            raise ValueError(f"{self.name}: {self.type} indexed by {len(index)}")
        return Load(self, tuple(map(as_index, index)))

    def load(self, index: Sequence[Index], where: Expr | None = None, other: float | bool = 0) -> Expr:
        """The element at `index`; where the condition fails, `other`."""
        return Load(self, tuple(map(as_index, index)), where, other)

    def broadcast(self, index: Sequence[Expr]) -> Expr:
        """The element that numpy's broadcasting pairs with `index` of the (wider) result.

        Raises `OpenSizeError` where a symbol decides whether an axis is repeated.
        """
        own = index[len(index) - self.type.rank :]
        return Load(self, tuple(_paired(size, i) for size, i in zip(self.shape, own, strict=True)))

    def __repr__(self) -> str:
        return f"{self.name}: {self.type}"


@dataclass(frozen=True, eq=False)
class Load(Expr):
    """An element of `tensor`, at logical `index`.

    With `where`, the element is read only if that holds, else the value is `other`: the index may be anything
    then.
    """

    tensor: Tensor
    index: tuple[Expr, ...]
    where: Expr | None = None
    other: int | float | bool = 0

    @property
    def dtype(self) -> DType:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.tensor.type.dtype


@dataclass(frozen=True, eq=False)
class Reduce(Expr):
    """`body` combined over all values of the variables, in ascending order; `init` where there are none."""

    op: Literal["add", "mul", "min", "max", "and", "or"]
    over: tuple[Var, ...]
    body: Expr
    init: int | float | bool

    @property
    def dtype(self) -> DType:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.body.dtype


def reduce(
    op: Literal["add", "mul", "min", "max", "and", "or"],
    extents: Sequence[Dim],
    body: Callable[..., Expr],
    init: float | bool,
) -> Expr:
    """`body(*variables)` combined over all variables, each from 0 to its extent - 1; `init` is neutral."""
    over = tuple(Var(fresh_name("r"), extent) for extent in extents)
    return Reduce(op, over, body(*over), init) if over else body()


def _paired(size: Dim, index: Expr) -> Expr:
    """The index into an axis of `size` that broadcasting pairs with an index of the result."""
    if isinstance(size, Poly) and not (isinstance(index, Var) and index.extent == size):
        against = index.extent if isinstance(index, Var) else "another size"
        raise OpenSizeError(f"whether the size {size} is 1, to be repeated along {against}, must be known")
    is_wider = size == 1 and not (isinstance(index, Var) and index.extent == 1)
    return literal(0) if is_wider else index
