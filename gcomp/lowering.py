"""From one operator to its kernel: operands become tensors, known scalars become literals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .diagnostics import UnsupportedError
from .ir import Op, Value
from .kernel import Expr, Kernel, Tensor, as_index, literal, select
from .op import Constant, Operator, constant_value
from .types import I64, STRING, Array, DType

SMALL = 64  # the most elements of a constant that may become literals


def lower_op(op: Operator) -> Kernel:
    """The kernel of an attached or detached operator, its `operands` one to one with those of `op`.

    An operand that is a constant of one element is replaced by a literal, so that kernels specialise on
    scalars: its place among the kernel's operands is None then, as that of an absent one. Raises
    `UnsupportedError` for an operator without `lower`.
    """
    k = Kernel([value.type if value is not None else None for value in op.operands])
    tensors: list[Tensor | None] = []
    for place, value in enumerate(op.operands):
        known = known_scalar(k, value)
        tensors.append(known or k.operands[place])
        if known is not None:
            k.operands[place] = None
    k.results = lowered(op, k, tensors)
    return k


def lowered(op: Operator, k: Kernel, tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """The tensors of the results of `op`, whose stages are added to `k`. Raises `UnsupportedError`."""
    if not op.has_lower():
        raise UnsupportedError(f"{op.kind} has no native code: it runs as a host step", origin=op.origin)
    results = op.lower(k, *tensors)
    return [results] if isinstance(results, Tensor) else list(results)


def known_scalar(k: Kernel, value: Value | None) -> Tensor | None:
    """For a constant of one element: a tensor of `k` computed from a literal. None for anything else."""
    return known_tensor(k, value, 1)


def known_tensor(k: Kernel, value: Value | None, largest: int = SMALL) -> Tensor | None:
    """For a constant of up to `largest` elements: a tensor of `k` computed from literals. None for others."""
    array = constant_value(value)
    if value is None or array is None or array.size > largest or value.type.dtype == STRING:
        return None
    dtype = value.type.dtype
    numbers = [literal(python_number(element, dtype), dtype) for element in array.ravel()]

    def element(*index: Expr) -> Expr:
        place: Expr = literal(0)
        for i, size in zip(index, value.type.shape, strict=True):
            place = place * as_index(size) + i
        chosen: Expr = numbers[-1] if numbers else literal(python_number(np.zeros(()), dtype), dtype)
        for number, expression in reversed([*enumerate(numbers[:-1])]):
            chosen = select(place.eq(number), expression, chosen)
        return chosen

    return k.compute(value.type, element)


def is_small_constant(op: Op) -> bool:
    """Whether `op` is a constant for a group's body: one element, or a few of i64, as a shape has."""
    if not isinstance(op, Constant) or op.result.type.dtype == STRING:
        return False
    return op.value.size == 1 or (op.result.type.dtype == I64 and 1 < op.value.size <= SMALL)


def python_number(array: Array, dtype: DType) -> float | bool:
    """The only element of `array` as the Python number that literals hold."""
    element = array.reshape(())
    return float(element) if dtype.is_float else bool(element) if dtype.name == "bool" else int(element)
