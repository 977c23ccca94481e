"""Powers of each element: Pow, of floats and of integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, binary, cast, select
from ..op import Operator, argument, constant, operator
from ..types import F16, F32, F64, I32, I64, NUMBERS, Array, TensorType
from .conversion import saturated
from .elementwise import accumulator, broadcast_samples, broadcast_type, number, one_dtype


@operator(onnx="Pow", since=7)
class Pow(Operator):
    """`lhs ** rhs` in the type of `lhs`. Integers wrap; to a negative power they are 0, save 1 and -1."""

    lhs: Value
    rhs: Value

    tolerance = "close"

    def infer(self) -> TensorType:
        one_dtype(self, NUMBERS, self.lhs)
        one_dtype(self, NUMBERS, self.rhs)
        return broadcast_type(self, self.lhs.type.dtype, self.lhs, self.rhs)

    def reference(self, lhs: Array, rhs: Array) -> Array:
        base, power = self.lhs.type.dtype, self.rhs.type.dtype
        if base.is_integer and power.is_integer:
            return integer_power(lhs, rhs)
        value = np.power(lhs.astype(np.float64), rhs.astype(np.float64))
        return saturated(value, base)

    def lower(self, k: Kernel, lhs: Tensor, rhs: Tensor) -> Tensor:
        type, base, power = self.result.type, lhs.dtype, rhs.dtype
        inside = (
            base if base.is_integer and power.is_integer else F64 if base.is_integer else accumulator(base)
        )

        def element(*index: Expr) -> Expr:
            x, y = lhs.broadcast(index), rhs.broadcast(index)
            exponent = y if inside.is_integer else cast(y, inside)
            if inside.is_integer:
                return integer_power_formula(x, exponent)
            return cast(binary("pow", cast(x, inside), exponent), base)

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for left, right in broadcast_samples((F32, F64, F16)):
            yield cls(argument(left, 0.0, 4.0), argument(right))
        floats, integers = TensorType(F32, (3, 7)), TensorType(I64, (3, 7))
        yield cls(argument(floats), constant(2.0))
        yield cls(argument(floats), constant(np.array([-3, -2, -1, 0, 1, 2, 3])))
        yield cls(argument(integers, -3, 9), constant(np.array([0, 1, 2, 3, 21, -1, -2])))
        yield cls(argument(TensorType(I32, (3, 7)), 0, 9), constant(0.5))

    @property
    def flops(self) -> Any:
        return self.result.type.size * 16


def integer_power(base: Array, power: Array) -> Array:
    """`base ** power` modulo the width of `base`, by squaring; a negative power truncates."""
    negative = power < 0
    result = np.ones(np.broadcast_shapes(base.shape, power.shape), base.dtype)
    square, rest = base, np.where(negative, 0, power)
    while np.any(rest):
        result = np.where(rest & 1, result * square, result)
        square, rest = square * square, rest >> 1
    parity = np.where(power & 1, base, np.ones_like(base))
    inverse = np.where(abs(base) == 1, parity, np.zeros_like(base))
    return np.where(negative, inverse, result).astype(base.dtype)


def integer_power_formula(base: Expr, power: Expr) -> Expr:
    """The same as an expression, one squaring per bit of the exponent."""
    dtype, bits = base.dtype, power.dtype.bytes * 8 - power.dtype.is_signed
    zero, one = number(0, dtype), number(1, dtype)
    result, square = one, base
    for bit in range(bits):
        chosen = ((power >> bit) & 1).ne(0)
        result = select(chosen, result * square, result)
        square = square * square
    if not power.dtype.is_signed:
        return result
    odd = (power & 1).ne(0)
    inverse = select(base.eq(one), one, zero)
    if dtype.is_signed:
        inverse = select(base.eq(number(-1, dtype)), select(odd, base, one), inverse)
    return select(power < 0, inverse, result)
