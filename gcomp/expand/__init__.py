"""Rewrites transcendental functions, powers and float remainders into primitive arithmetic."""

from __future__ import annotations

from collections.abc import Callable

from ..expr import Binary, Expr, Unary, cast
from ..kernel import Compute, Kernel, Stage, changed_program, transform
from ..types import BF16, F16, F32, F64
from . import functions32, functions64
from .powers import power, remainder

EXPANDED = (
    "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
    "tanh", "erf", "sigmoid",
)  # fmt: skip


def expand(x: Expr) -> Expr:
    """`x` without transcendental functions, `pow`, and `rem` of floats.

    What replaces them is arithmetic, comparisons, selections, roundings, casts and shifts: no branch, and no
    step that depends on a target, so that all targets agree. Half precision is computed in f32. Raises
    `ValueError` for a function of integers.
    """
    memo: dict[int, Expr] = {}
    return transform(x, _change(memo), memo)


def expanded(kernel: Kernel) -> Kernel:
    """A kernel over the same tensors whose expressions are expanded."""
    new = Kernel()
    new.operands, new.results = kernel.operands, kernel.results
    new.stages = [_expanded_stage(stage) for stage in kernel.stages]
    return new


def _expanded_stage(stage: Stage) -> Stage:
    if isinstance(stage, Compute):
        return Compute(stage.result, stage.axes, expand(stage.value))
    return changed_program(stage, _change({}))


def _change(memo: dict[int, Expr]) -> Callable[[Expr], Expr | None]:
    """What `transform` calls on each sub-expression; `memo` keeps what is shared shared."""

    def change(x: Expr) -> Expr | None:
        match x:
            case Unary(op=op, x=inside) if op in EXPANDED:
                return function(op, transform(inside, change, memo))
            case Binary(op="pow", lhs=lhs, rhs=rhs):
                return power(transform(lhs, change, memo), transform(rhs, change, memo))
            case Binary(op="rem", lhs=lhs, rhs=rhs) if x.dtype.is_float:
                return remainder(transform(lhs, change, memo), transform(rhs, change, memo))
            case _:
                return None

    return change


def function(name: str, x: Expr) -> Expr:
    """The expansion of one function of `x`: in its own type, in f32 for half precision, or by way of f64.

    Raises `ValueError` for a type that is no float.
    """
    if not x.dtype.is_float:
        raise ValueError(f"{name} needs a float, got {x.dtype}")
    if x.dtype in (F16, BF16):
        return cast(function(name, cast(x, F32)), x.dtype)
    if x.dtype == F32 and hasattr(functions32, name):
        return getattr(functions32, name)(x)
    return cast(getattr(functions64, name)(cast(x, F64)), x.dtype)
