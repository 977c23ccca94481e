"""Runs any kernel in numpy: a second executor beside references and native code, for tests and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import dim as dims
from .diagnostics import IllFormed, InputError, RunError
from .dim import Dim, Poly
from .kernel import (
    Binary,
    Bitcast,
    Cast,
    Checked,
    Compute,
    Expr,
    Fma,
    For,
    If,
    Kernel,
    Literal_,
    Load,
    Program,
    Reduce,
    Select,
    Size,
    Statement,
    Store,
    Tensor,
    Unary,
    Var,
    While,
)
from .semantics import BINARY, UNARY, convert, fused
from .types import Array

LARGEST = 1 << 24
"""Elements of the largest intermediate array; a longer reduction runs over its first variable in Python."""


def interpret(
    kernel: Kernel, operands: Sequence[Array | None], sizes: Mapping[str, int] | None = None
) -> list[Array]:
    """The results of `kernel` for an array per operand (None for an absent one), in logical shapes.

    `sizes` gives the symbols that the shapes of the operands do not tell. Raises `InputError` for operands
    that do not fit, `RunError` where a checked index is out of range, `IllFormed` where an unchecked one is.
    """
    return Interpreter(kernel, operands, dict(sizes or {})).run()


class Interpreter:
    """The state of one run: the sizes of symbols and the array of each tensor."""

    def __init__(self, kernel: Kernel, operands: Sequence[Array | None], sizes: dict[str, int]) -> None:
        self.kernel, self.sizes = kernel, sizes
        self.arrays: dict[Tensor, Array] = {}
        given = [(t, a) for t, a in zip(kernel.operands, operands, strict=True) if t is not None]
        for tensor, array in given:
            if array is None:
                raise InputError(f"interpret: {tensor!r} needs an array, got none")
            for size, actual in zip(tensor.shape, array.shape, strict=False):
                if isinstance(size, Poly) and str(size).isidentifier():
                    self.sizes.setdefault(str(size), actual)
        for tensor, array in given:
            if array is None or array.shape != self.shape(tensor) or array.dtype != tensor.dtype.numpy:
                raise InputError(f"interpret: {tensor!r} needs its type, got {getattr(array, 'shape', None)}")
            self.arrays[tensor] = array

    def run(self) -> list[Array]:
        """The arrays of the results."""
        with np.errstate(all="ignore"):
            for stage in self.kernel.stages:
                if isinstance(stage, Compute):
                    self.compute(stage)
                else:
                    self.program(stage)
        return [self.arrays[tensor] for tensor in self.kernel.results]

    def size(self, dim: Dim) -> int:
        """A size as an integer. Raises `InputError` where a symbol is unknown."""
        value = dims.substitute(dim, self.sizes)
        if not isinstance(value, int):
            raise InputError(f"interpret: the size {dim} needs {', '.join(sorted(dims.symbols(value)))}")
        return value

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        return tuple(self.size(dim) for dim in tensor.shape)

    def compute(self, stage: Compute) -> None:
        """All elements at once: each axis runs along an axis of the arrays of which the value is made."""
        shape = self.shape(stage.result)
        grid: dict[Var, Array] = {}
        for place, (axis, size) in enumerate(zip(stage.axes, shape, strict=True)):
            grid[axis] = np.arange(size).reshape([-1] + [1] * (len(shape) - 1 - place))
        value = Evaluation(self, grid, len(shape)).value(stage.value)
        self.arrays[stage.result] = np.array(np.broadcast_to(value, shape), stage.result.dtype.numpy)

    def program(self, program: Program) -> None:
        """One statement after the other."""
        for tensor in program.results:
            self.arrays[tensor] = np.zeros(self.shape(tensor), tensor.dtype.numpy)
        self.block(program.body, {})

    def block(self, body: Sequence[Statement], variables: dict[Var, Array]) -> None:
        for statement in body:
            match statement:
                case Store():
                    self.store(statement, variables)
                case For(var=var, extent=extent, body=inside):
                    for i in range(int(self.scalar(extent, variables))):
                        self.block(inside, {**variables, var: np.asarray(i)})
                case If(condition=condition, then=then, other=other):
                    self.block(then if self.scalar(condition, variables) else other, variables)
                case While(condition=condition, body=inside):
                    while self.scalar(condition, variables):
                        self.block(inside, variables)

    def scalar(self, x: Expr, variables: dict[Var, Array]) -> Any:
        return Evaluation(self, variables, 0).value(x)[()]

    def store(self, statement: Store, variables: dict[Var, Array]) -> None:
        tensor = statement.tensor
        if tensor not in self.arrays:
            self.arrays[tensor] = np.zeros(self.shape(tensor), tensor.dtype.numpy)
        value = self.scalar(statement.value, variables)
        index = tuple(int(self.scalar(i, variables)) for i in statement.index)
        array = self.arrays[tensor]
        if any(not 0 <= i < size for i, size in zip(index, array.shape, strict=True)):
            raise IllFormed(f"a store to {tensor!r} needs an index within {array.shape}, got {index}")
        array[index] = value


class Evaluation:
    """Values of expressions over a grid of variables.

    A variable of a reduction runs along a new first axis, so that arrays made outside still broadcast.
    """

    def __init__(
        self, run: Interpreter, variables: dict[Var, Array], rank: int, known: dict[Expr, Array] | None = None
    ) -> None:
        self.run, self.variables, self.rank = run, variables, rank
        self.known = known if known is not None else {}

    def value(self, x: Expr) -> Array:
        """An array that broadcasts to the grid."""
        if x not in self.known:
            self.known[x] = np.asarray(self.fresh(x))
        return self.known[x]

    def fresh(self, x: Expr) -> Any:
        match x:
            case Var():
                return self.variables[x]
            case Literal_(value=value, dtype=dtype):
                return np.asarray(value, dtype.numpy)
            case Size(dim=dim):
                return np.asarray(self.run.size(dim), np.int64)
            case Load():
                return self.load(x)
            case Unary(op=op, x=inside):
                return UNARY[op](self.value(inside))
            case Binary(op=op, lhs=lhs, rhs=rhs):
                return BINARY[op](self.value(lhs), self.value(rhs))
            case Fma(a=a, b=b, c=c):
                return fused(self.value(a), self.value(b), self.value(c))
            case Select(condition=condition, then=then, other=other):
                return np.where(self.value(condition), self.value(then), self.value(other))
            case Cast(x=inside, dtype=dtype):
                return convert(self.value(inside), dtype)
            case Bitcast(x=inside, dtype=dtype):
                return np.array(self.value(inside)).view(dtype.numpy)
            case Checked(index=index, extent=extent):
                return self.checked(self.value(index), self.run.size(extent))
            case Reduce():
                return self.reduce(x)
            case _:
                raise IllFormed(f"interpret: {type(x).__name__} is no expression")

    def checked(self, index: Array, extent: int) -> Array:
        if index.size and (index.min() < 0 or index.max() >= extent):
            raise RunError(f"index out of range: {index.min()} to {index.max()}, extent {extent}")
        return index

    def load(self, x: Load) -> Array:
        if x.tensor not in self.run.arrays:
            raise IllFormed(f"{x.tensor!r} is read before it is written")
        array = self.run.arrays[x.tensor]
        mask = np.asarray(True) if x.where is None else self.value(x.where)
        places: list[Array] = []
        for axis, (expression, size) in enumerate(zip(x.index, array.shape, strict=True)):
            place = self.value(expression)
            inside = (place >= 0) & (place < size)
            if not np.all(inside | ~mask):
                raise IllFormed(
                    f"a load of {x.tensor!r} needs index {axis} below {size}, got {place.ravel()[:8]}"
                )
            places.append(np.where(inside, place, 0))
        if array.size == 0:
            shape = np.broadcast_shapes(mask.shape, *(place.shape for place in places))
            return np.full(shape, x.other, array.dtype)
        values = array[tuple(places)]
        return values if x.where is None else np.where(mask, values, np.asarray(x.other, array.dtype))

    def reduce(self, x: Reduce) -> Array:
        """All values at once, or, where that takes too much memory, one of the first variable at a time."""
        extents = [self.run.size(var.extent) for var in x.over]
        combine = _COMBINE[x.op]
        start = np.asarray(x.init, x.body.dtype.numpy)
        if 0 in extents:
            return start
        if self._cells(extents) > LARGEST:
            total = start
            rest = Reduce(x.op, x.over[1:], x.body, x.init) if x.over[1:] else x.body
            for i in range(extents[0]):
                inner = {**self.variables, x.over[0]: np.asarray(i)}
                total = combine(total, Evaluation(self.run, inner, self.rank, dict(self.known)).value(rest))
            return total
        inner = dict(self.variables)
        for depth, (var, size) in enumerate(zip(x.over, extents, strict=True)):
            inner[var] = np.arange(size).reshape([-1] + [1] * (self.rank + depth))
        rank = self.rank + len(extents)
        body = Evaluation(self.run, inner, rank, dict(self.known)).value(x.body)
        shape = np.broadcast_shapes(body.shape, (*reversed(extents), *[1] * self.rank))
        full = np.broadcast_to(body, shape)
        for _ in extents:
            full = combine.reduce(full, axis=0, initial=None, dtype=_reduced_dtype(x, full))
        return combine(full, start) if x.op not in ("and", "or") else full

    def _cells(self, extents: Sequence[int]) -> int:
        grid = [array.size for array in self.variables.values()]
        return int(np.prod([*extents, *grid], dtype=np.float64))


_COMBINE: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.logical_and,
    "or": np.logical_or,
}


def _reduced_dtype(x: Reduce, values: Array) -> Any:
    """The type in which numpy adds and multiplies; for extremes and conjunctions it takes none."""
    return values.dtype if x.op in ("add", "mul") else None
