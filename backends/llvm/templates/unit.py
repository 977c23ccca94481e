"""What kernels multiply: elements of four bytes, which are an f32 or several smaller numbers side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..emit import Function, Value, vector


def multiply_add(fn: Function, a: Value, b: Value, c: Value, lanes: int) -> Value:
    """`a * b + c`, rounded once where the processor can, and always if the function is strict."""
    if fn.strict:
        return fn.fma(a, b, c, "float", lanes)
    type = vector("float", lanes)
    product = fn.value(f"fmul contract {type} {a}, {b}")
    return fn.value(f"fadd contract {type} {product}, {c}")


@dataclass(frozen=True)
class Unit:
    """The type of an element, that of a sum, also of four bytes, and how vectors of both are put together.

    An element holds `numbers`. `multiply_add(fn, x, w, sums, lanes)` adds the products of inputs and weights.
    Elements of the input lie at multiples of `align` bytes.
    """

    element: str
    sum: str
    multiply_add: Callable[[Function, Value, Value, Value, int], Value]
    align: int
    numbers: int


FLOATS = Unit("float", "float", multiply_add, 4, 1)
