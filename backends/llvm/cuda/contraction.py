"""Sums of products as matrix products: which axes of a result are rows, which columns, what is summed over.

Any `Compute` whose value holds one sum of products is one, whatever operator it comes from: the left factor
of each product depends on the rows and the right one on the columns. What is done to the factors before (a
cast, padding, a zero point) and to the sum after (bias, activation, residual) goes along as expressions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from gcomp.expr import Binary, Checked, Expr, Var
from gcomp.kernel import Compute, Load, Reduce, Tensor, transform, walk
from gcomp.types import F32, F64, I32, I64, U32, U64, TensorType

SUMS = (F32, F64, I32, I64, U32, U64)
SMALLEST = 8
"""Rows, columns and terms of a sum from which on loading tiles together is worth its barriers."""
LARGEST = 1 << 30
"""What threads count in 32 bits, tiles that stick out included."""


@dataclass(frozen=True)
class Contraction:
    """`value` at all `batch`, `rows` and `columns`, from the sum over `depth` of `left * right`.

    `left` knows nothing of the columns, `right` nothing of the rows. `value` reads the sum, which starts at
    `start`, as the one element of `total`.
    """

    left: Expr
    right: Expr
    start: float
    batch: list[Var]
    rows: list[Var]
    columns: list[Var]
    depth: list[Var]
    total: Tensor
    value: Expr


def contraction(stage: Compute) -> Contraction | None:
    """The stage as a matrix product; None where it is none, or too small for tiles to pay."""
    sums = [part for part in walk(stage.value) if isinstance(part, Reduce)]
    if len(sums) != 1 or stage.result.type.layout is not None:
        return None
    (found,), product = sums, sums[0].body
    if found.op != "add" or found.dtype not in SUMS or not isinstance(product, Binary) or product.op != "mul":
        return None
    if any(isinstance(part, Checked) for part in walk(stage.value)):
        return None
    left, right = product.lhs, product.rhs
    used = [{part for part in walk(side) if isinstance(part, Var)} for side in (left, right)]
    rows = [axis for axis in stage.axes if axis in used[0] - used[1]]
    columns = [axis for axis in stage.axes if axis in used[1] - used[0]]
    if last_of(stage.axes) in rows:  # neighbouring threads write neighbouring columns
        left, right, rows, columns = right, left, columns, rows
    batch = [axis for axis in stage.axes if axis not in {*rows, *columns}]
    sizes = [count(rows), count(columns), count(found.over)]
    if min(sizes) < SMALLEST or max(*sizes, count(stage.axes)) > LARGEST:
        return None
    total = Tensor(TensorType(found.dtype, ()), "total")
    value = transform(stage.value, lambda part: Load(total, ()) if part is found else None)
    return Contraction(left, right, found.init, batch, rows, columns, list(found.over), total, value)


def count(axes: Sequence[Var]) -> int:
    """The places along these axes, all of known extent."""
    return prod(extents(axes))


def extents(axes: Sequence[Var]) -> list[int]:
    return [axis.extent for axis in axes if isinstance(axis.extent, int)]


def last_of(axes: Sequence[Var]) -> Var | None:
    """The innermost axis of more than one place."""
    return next((axis for axis in reversed(axes) if axis.extent != 1), None)
