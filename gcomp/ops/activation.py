"""Activations: Relu and its relatives, Clip, sigmoid and exponential units, Gelu, Mish, Swish."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, cast, literal, maximum, minimum, select, unary
from ..op import Operator, argument, constant, operator, single
from ..semantics import error_function, logistic
from ..types import F16, F32, F64, FLOATS, I8, I32, INTEGERS, NUMBERS, Array, TensorType
from .elementwise import (
    UnaryOperator,
    greater,
    lesser,
    number,
    one_dtype,
)
from .superseded import Superseded


@operator(onnx="Relu", since=6)
class Relu(UnaryOperator):
    """`max(x, 0)`; NaN stays."""

    dtypes = (*FLOATS, *(t for t in INTEGERS if t.is_signed))

    def formula(self, x: Expr) -> Expr:
        return maximum(x, number(0, x.dtype))

    def numpy(self, x: Array) -> Array:
        return greater(x, np.zeros((), x.dtype))


@operator(onnx="LeakyRelu", since=6)
class LeakyRelu(UnaryOperator):
    """`x` where it is positive, else `alpha * x`."""

    alpha: float = 0.01

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return select(x < 0.0, x * single(self.alpha), x)

    def numpy(self, x: Array) -> Array:
        return np.where(x < 0, x * single(self.alpha), x)


@operator(onnx="PRelu", since=7)
class PRelu(Operator):
    """`x` where it is not negative, else `slope * x`; the slope broadcasts to `x`."""

    x: Value
    slope: Value

    def infer(self) -> TensorType:
        dtype = one_dtype(self, NUMBERS, self.x, self.slope)
        slope, shape = self.slope.type.shape, self.x.type.shape
        own = shape[len(shape) - len(slope) :]
        if len(slope) > len(shape) or any(
            size not in (1, wanted) for size, wanted in zip(slope, own, strict=True)
        ):
            self.fail("a slope that broadcasts to x", x=self.x, slope=self.slope)
        return TensorType(dtype, shape)

    def reference(self, x: Array, slope: Array) -> Array:
        return np.where(x < 0, x * slope, x)

    def lower(self, k: Kernel, x: Tensor, slope: Tensor) -> Tensor:
        zero = number(0, x.dtype)
        return k.compute(self.result.type, lambda *i: select(x[i] < zero, x[i] * slope.broadcast(i), x[i]))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape, slope in (
            (F32, (2, 3, 7), (3, 1)),
            (F32, (2, 3, 7), (1,)),
            (F32, (), ()),
            (F32, (0, 3), (3,)),
            (F16, (4, 5), (5,)),
            (I32, (4, 5), (4, 1)),
        ):
            yield cls(argument(TensorType(dtype, shape)), argument(TensorType(dtype, slope)))


@operator(onnx="Elu", since=6)
class Elu(UnaryOperator):
    """`x` where it is positive, else `alpha * (exp(x) - 1)`."""

    alpha: float = 1.0

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return select(x < 0.0, (unary("exp", x) - 1.0) * single(self.alpha), x)

    def numpy(self, x: Array) -> Array:
        return np.where(x < 0, single(self.alpha) * np.expm1(x), x)


@operator(onnx="Celu", since=12)
class Celu(UnaryOperator):
    """`max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`."""

    alpha: float = 1.0

    dtypes = (F32,)
    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return select(x < 0.0, (unary("exp", x / self.alpha) - 1.0) * self.alpha, x)

    def numpy(self, x: Array) -> Array:
        return np.where(x < 0, self.alpha * np.expm1(x / self.alpha), x)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from super().samples()
        yield cls(argument(TensorType(F32, (4, 5))), alpha=2.0)


@operator(onnx="Selu", since=6)
class Selu(UnaryOperator):
    """`gamma * x` where it is positive, else `gamma * alpha * (exp(x) - 1)`."""

    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        negative = (unary("exp", x) - 1.0) * single(self.alpha)
        return select(x > 0.0, x, negative) * single(self.gamma)

    def numpy(self, x: Array) -> Array:
        return single(self.gamma) * np.where(x > 0, x, single(self.alpha) * np.expm1(x))


@operator(onnx="HardSigmoid", since=6)
class HardSigmoid(UnaryOperator):
    """`max(0, min(1, alpha * x + beta))`."""

    alpha: float = 0.2
    beta: float = 0.5

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return maximum(0.0, minimum(1.0, x * single(self.alpha) + single(self.beta)))

    def numpy(self, x: Array) -> Array:
        return np.clip(x * single(self.alpha) + single(self.beta), 0.0, 1.0)


@operator(onnx="HardSwish", since=14)
class HardSwish(UnaryOperator):
    """`x * max(0, min(1, x / 6 + 0.5))`."""

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return x * maximum(0.0, minimum(1.0, x * (1 / 6) + 0.5))

    def numpy(self, x: Array) -> Array:
        return x * np.clip(x / 6 + 0.5, 0.0, 1.0)


@operator(onnx="Softplus", since=1)
class Softplus(UnaryOperator):
    """`log(1 + exp(x))`."""

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return softplus(x)

    def numpy(self, x: Array) -> Array:
        return np.logaddexp(x, 0.0)


@operator(onnx="Softsign", since=1)
class Softsign(UnaryOperator):
    """`x / (1 + |x|)`."""

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return x / (unary("abs", x) + 1.0)

    def numpy(self, x: Array) -> Array:
        return x / (1 + abs(x))


@operator(onnx="ThresholdedRelu", since=10)
class ThresholdedRelu(UnaryOperator):
    """`x` where it is above `alpha`, else 0."""

    alpha: float = 1.0

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return select(x > single(self.alpha), x, 0.0)

    def numpy(self, x: Array) -> Array:
        return np.where(x > single(self.alpha), x, 0.0)


@operator(onnx="Shrink", since=9)
class Shrink(UnaryOperator):
    """`x + bias` below `-lambd`, `x - bias` above `lambd`, 0 between."""

    bias: float = 0.0
    lambd: float = 0.5

    dtypes = NUMBERS
    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        zero = number(0, x.dtype)
        real = x if x.dtype.is_float else cast(x, F32)
        bias, lambd = single(self.bias), single(self.lambd)
        near = select(real > lambd, cast(real - bias, x.dtype), zero)
        return select(real < -lambd, cast(real + bias, x.dtype), near)

    def numpy(self, x: Array) -> Array:
        bias, lambd = single(self.bias), single(self.lambd)
        return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype in (F32, F64, F16, I32):
            x = argument(TensorType(dtype, (4, 9)), -6.0, 6.0)
            yield cls(x)
            yield cls(x, bias=1.5, lambd=2.0)


@operator(onnx="Gelu", since=20)
class Gelu(UnaryOperator):
    """`x * Phi(x)`, Phi being the normal distribution's cumulative function, or its approximation by tanh."""

    approximate: str = "none"

    low = -2.0  # further down 1 + erf cancels, in peers too
    tolerance = "approximate"

    def infer(self) -> TensorType:
        if self.approximate not in ("none", "tanh"):
            self.fail("approximate to be none or tanh", approximate=self.approximate)
        return super().infer()

    def formula(self, x: Expr) -> Expr:
        if self.approximate == "tanh":
            inside = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
            return x * 0.5 * (unary("tanh", inside) + 1.0)
        return x * 0.5 * (unary("erf", x * math.sqrt(0.5)) + 1.0)

    def numpy(self, x: Array) -> Array:
        if self.approximate == "tanh":
            return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return 0.5 * x * (1 + error_function(x * math.sqrt(0.5)))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from super().samples()
        yield cls(argument(TensorType(F32, (4, 5))), approximate="tanh")

    @property
    def flops(self) -> Any:
        return self.result.type.size * 20


@operator(onnx="Mish", since=18)
class Mish(UnaryOperator):
    """`x * tanh(log(1 + exp(x)))`."""

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return x * unary("tanh", softplus(x))

    def numpy(self, x: Array) -> Array:
        return x * np.tanh(np.logaddexp(x, 0.0))


@operator(onnx="Swish", since=24)
class Swish(UnaryOperator):
    """`x * sigmoid(alpha * x)`."""

    alpha: float = 1.0

    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return x * unary("sigmoid", x if self.alpha == 1 else x * single(self.alpha))

    def numpy(self, x: Array) -> Array:
        return x * logistic(single(self.alpha) * x)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from super().samples()
        yield cls(argument(TensorType(F32, (4, 5))), alpha=1.702)


@operator(onnx="Clip", since=11)
class Clip(Operator):
    """`input` limited to [min, max], scalars; NaN stays.

    An absent one is the least or the greatest finite number, so that infinities are limited all the same.
    """

    input: Value
    min: Value | None = None
    max: Value | None = None

    def infer(self) -> TensorType:
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        dtype = one_dtype(self, NUMBERS, self.input, *bounds)
        if any(bound.type.size != 1 for bound in bounds):
            self.fail("scalar bounds", **{f"bound{i}": bound for i, bound in enumerate(bounds)})
        return TensorType(dtype, self.input.type.shape)

    def reference(self, input: Array, min: Array | None, max: Array | None) -> Array:
        least, greatest = self.input.type.dtype.extremes
        low = least if min is None else min.reshape(())
        high = greatest if max is None else max.reshape(())
        bounds = np.asarray(low, input.dtype), np.asarray(high, input.dtype)
        return lesser(greater(input, bounds[0]), bounds[1])

    def lower(self, k: Kernel, input: Tensor, min: Tensor | None, max: Tensor | None) -> Tensor:
        dtype = self.input.type.dtype
        least, greatest = (literal(float(number), dtype) for number in dtype.extremes)

        def element(*index: Expr) -> Expr:
            value = input[index]
            if min is not None or dtype.is_float:
                value = maximum(value, least if min is None else min[(0,) * min.type.rank])
            if max is not None or dtype.is_float:
                value = minimum(value, greatest if max is None else max[(0,) * max.type.rank])
            return value

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = argument(TensorType(F32, (3, 37)), -9.0, 9.0)
        yield cls(x, constant(0.0), constant(6.0))
        yield cls(x, constant(-1.5))
        yield cls(x, None, constant(np.array([1.5], np.float32)))
        yield cls(x)
        yield cls(x, constant(2.0), constant(-2.0))
        yield cls(x, argument(TensorType(F32, ()), -1.0, 0.0), argument(TensorType(F32, ()), 1.0, 2.0))
        for dtype in (F16, F64, I8, I32):
            low, high = (constant(np.array(v, dtype.numpy)) for v in (-2, 3))
            yield cls(argument(TensorType(dtype, (2, 9)), -9.0, 9.0), low, high)


@operator(onnx="Clip", since=6)
class Clip_6(Superseded):
    """Clip with its bounds as attributes; those that f32 ends with stand for the ends of the type."""

    x: Value
    min: float = float(F32.extremes[0])
    max: float = float(F32.extremes[1])

    def upgrade(self) -> Op:
        def bound(value: float) -> Value | None:
            array = np.array(single(value), self.x.type.dtype.numpy)
            return None if single(value) in F32.extremes else constant(array)

        return Clip(self.x, bound(self.min), bound(self.max))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = argument(TensorType(F32, (3, 7)), -9.0, 9.0)
        yield cls(x, 0.0, 6.0)
        yield cls(x, max=1.0)
        yield cls(x)
        yield cls(x, -math.inf, math.inf)


def softplus(x: Expr) -> Expr:
    """`log(1 + exp(x))` without overflow, and without loss where exp(x) is small."""
    small = unary("exp", -unary("abs", x))
    # log(1 + s) as s * log(u) / (u - 1) with u = 1 + s rounded: the rounding cancels.
    sum_ = small + 1.0
    rest = sum_ - 1.0
    log1p = select(rest.eq(0.0), small, unary("log", sum_) * (small / rest))
    return maximum(x, 0.0) + log1p
