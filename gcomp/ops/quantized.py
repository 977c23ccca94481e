"""Between numbers and their quantized form: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..dim import Dim
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, binary, cast, literal, maximum, minimum, reduce, select, unary
from ..op import Operator, argument, constant, operator
from ..types import BF16, F16, F32, I8, I16, I32, U8, U16, Array, DType, TensorType
from .index import axis_of

STORED = (U8, I8, U16, I16)
SCALES = (F32, F16, BF16)


class Quantization(Operator):
    """What both directions share: scales and zero points for all, or per index or block of `axis`."""

    x: Value
    scale: Value
    zero_point: Value | None = None
    axis: int = 1
    block_size: int = 0

    def check_parameters(self) -> None:
        """Raises `InferenceError` for scales and zero points that do not fit `x`."""
        x, scale = self.x.type, self.scale.type
        zeros = self.zero_point.type if self.zero_point is not None else scale
        if zeros.shape != scale.shape and not zeros.size == scale.size == 1:
            self.fail("zero points like scales", scale=self.scale, zero_point=self.zero_point)
        if scale.rank == 0 or (scale.rank == 1 and scale.shape[0] == 1 and not self.block_size):
            return
        axis = axis_of(self, self.axis, x.rank)
        if self.block_size:
            blocks = tuple(
                -(-size // self.block_size) if place == axis else size for place, size in enumerate(x.shape)
            )
            if scale.shape != blocks:
                self.fail("a scale per block", x=self.x, scale=self.scale, block_size=self.block_size)
        elif scale.shape != (x.shape[axis],):
            self.fail(f"a scale per index of axis {axis}", x=self.x, scale=self.scale)

    def spread(self, parameters: Array, x: Array) -> Array:
        """Scales or zero points as they broadcast to `x`."""
        if parameters.size == 1:
            return parameters.reshape(())
        axis = self.axis % x.ndim
        if self.block_size:
            repeated = np.repeat(parameters, self.block_size, axis)
            return repeated[tuple(slice(size) for size in x.shape)]
        return parameters.reshape(-1, *(1,) * (x.ndim - 1 - axis))

    def own(self, parameters: Tensor, index: tuple[Expr, ...]) -> Expr:
        """The scale or zero point for the element at `index`."""
        if parameters.type.size == 1:
            return parameters[(literal(0),) * parameters.type.rank]
        axis = self.axis % len(index)
        if self.block_size:
            return parameters[(*index[:axis], index[axis] // self.block_size, *index[axis + 1 :])]
        return parameters[index[axis]]


@operator(onnx="QuantizeLinear", since=10)
class QuantizeLinear(Quantization):
    """`round(x / scale) + zero_point`, half to even, saturated to the type of `zero_point`, or u8."""

    output_dtype: int = 0
    saturate: int = 1
    precision: int = 0

    onnx_names = {"scale": "y_scale", "zero_point": "y_zero_point"}  # noqa: RUF012
    tolerance = "quantized"

    def infer(self) -> TensorType:
        self.check_parameters()
        if self.x.type.dtype not in (*SCALES, I32) or self.scale.type.dtype not in SCALES:
            self.fail("floats and float scales", x=self.x, scale=self.scale)
        if self.zero_point is not None:
            dtype = self.zero_point.type.dtype
        else:
            dtype = self.coded(self.output_dtype) if self.output_dtype else U8
        if dtype not in STORED:
            self.fail(f"a stored type of {', '.join(map(str, STORED))}", dtype=dtype)
        return TensorType(dtype, self.x.type.shape)

    def reference(self, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
        dtype = self.result.type.dtype.numpy
        steps = np.rint(x.astype(np.float32) / self.spread(scale, x).astype(np.float32)).astype(np.float64)
        if zero_point is not None:
            steps = steps + self.spread(zero_point, x)
        limits = np.iinfo(dtype)
        return np.nan_to_num(np.clip(steps, limits.min, limits.max)).astype(dtype)

    def lower(self, k: Kernel, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        type = self.result.type

        def element(*index: Expr) -> Expr:
            steps = unary("round", cast(x[index], F32) / cast(self.own(scale, index), F32))
            if zero_point is not None:  # less its negative: unlike x + 0.0, x - 0.0 is x, whatever x is
                steps = steps - cast(literal(0, I32) - cast(self.own(zero_point, index), I32), F32)
            return saturated(steps, type.dtype)

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        image = argument(TensorType(F32, (2, 3, 4)), -20, 20)
        yield cls(image, constant(0.1), constant(128, np.uint8))
        yield cls(image, constant(0.1), constant(-3, np.int8))
        yield cls(image, constant(0.07))
        yield cls(image, constant([0.1, 0.2, 0.05]), constant([1, 2, 3], np.uint8))
        yield cls(image, argument(TensorType(F32, (4,)), 0.05, 0.5), constant([0] * 4, np.int8), axis=-1)
        yield cls(image, constant(0.01), constant(7, np.int16))
        blocks = argument(TensorType(F32, (2, 3, 2)), 0.05, 0.5)
        yield cls(image, blocks, constant(np.zeros((2, 3, 2), np.int8)), axis=2, block_size=2)
        halves = argument(TensorType(F16, (5,)), -20, 20)
        yield cls(halves, constant(0.5, np.float16), constant(3, np.uint8))
        yield cls(image, constant(0.1), constant([3], np.uint8), axis=2, block_size=2)


@operator(onnx="DequantizeLinear", since=10)
class DequantizeLinear(Quantization):
    """`(x - zero_point) * scale`, of the type of `scale`."""

    output_dtype: int = 0

    onnx_names = {"scale": "x_scale", "zero_point": "x_zero_point"}  # noqa: RUF012
    tolerance = "close"

    def infer(self) -> TensorType:
        self.check_parameters()
        x, scale = self.x.type, self.scale.type
        if x.dtype not in (*STORED, I32) or scale.dtype not in SCALES:
            self.fail("stored integers and float scales", x=self.x, scale=self.scale)
        if self.zero_point is not None and self.zero_point.type.dtype != x.dtype:
            self.fail("zero points of the stored type", x=self.x, zero_point=self.zero_point)
        return TensorType(
            self.coded(self.output_dtype, SCALES) if self.output_dtype else scale.dtype, x.shape
        )

    def reference(self, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
        steps = x.astype(np.int64)
        if zero_point is not None:
            steps = steps - self.spread(zero_point, x)
        numbers = steps.astype(np.float32) * self.spread(scale, x).astype(np.float32)
        return np.asarray(numbers).astype(self.result.type.dtype.numpy)

    def lower(self, k: Kernel, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        type = self.result.type

        def element(*index: Expr) -> Expr:
            steps = cast(x[index], I32)
            if zero_point is not None:
                steps = steps - cast(self.own(zero_point, index), I32)
            return cast(cast(steps, F32) * cast(self.own(scale, index), F32), type.dtype)

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(dtype: DType, *shape: int) -> Value:
            low = 0 if dtype == U8 else -128
            return argument(TensorType(dtype, shape), low, low + 255)

        yield cls(of(U8, 2, 3, 4), constant(0.1), constant(128, np.uint8))
        yield cls(of(I8, 2, 3, 4), constant(0.1), constant(-3, np.int8))
        yield cls(of(I8, 2, 3, 4), constant(0.07))
        yield cls(of(I8, 2, 3, 4), constant([0.1, 0.2, 0.05]), constant([0, -1, 2], np.int8))
        yield cls(of(U8, 5, 3), argument(TensorType(F32, (5,)), 0.05, 0.5), axis=0)
        yield cls(of(I32, 6), constant([0.01] * 6), axis=0)
        blocks = argument(TensorType(F32, (2, 2)), 0.05, 0.5)
        yield cls(of(I8, 2, 4), blocks, constant(np.zeros((2, 2), np.int8)), axis=1, block_size=2)
        yield cls(of(I8, 4), constant(0.5, np.float16), constant(3, np.int8))


@operator(onnx="DynamicQuantizeLinear", since=11)
class DynamicQuantizeLinear(Operator):
    """`x` quantized to u8 over its own range, zero included; the scale and the zero point come with it."""

    x: Value

    tolerance = "quantized"

    def infer(self) -> tuple[TensorType, ...]:
        if self.x.type.dtype != F32:
            self.fail("f32", x=self.x)
        return TensorType(U8, self.x.type.shape), TensorType(F32, ()), TensorType(U8, ())

    def reference(self, x: Array) -> tuple[Array, ...]:
        low = np.minimum(x.min(initial=0.0), np.float32(0))
        high = np.maximum(x.max(initial=0.0), np.float32(0))
        scale = np.float32((high - low) / np.float32(255))
        zero = np.rint(np.clip(-low / scale, 0, 255)) if scale else np.float32(0)
        steps = np.rint(x / scale) if scale else np.zeros_like(x)
        stored = np.clip(steps + zero, 0, 255).astype(np.uint8)
        return stored, np.asarray(scale, np.float32), np.asarray(zero, np.uint8)

    def lower(self, k: Kernel, x: Tensor) -> tuple[Tensor, ...]:
        stored, scalar, zero_type = (value.type for value in self.results)
        whole = x.shape

        def extreme(name: str) -> Tensor:
            op = "max" if name == "max" else "min"
            found = reduce(op, whole, lambda *at: x[at], 0.0)
            return k.compute(scalar, lambda: binary(op, found, 0.0))  # a scalar is no reduction with a start

        low, high = extreme("min"), extreme("max")
        scale = k.compute(scalar, lambda: (high[()] - low[()]) / 255.0)

        def zero() -> Expr:
            quotient = (literal(0.0, F32) - low[()]) / scale[()]
            wanted = minimum(maximum(quotient, 0.0), 255.0)
            return cast(unary("round", select(scale[()].eq(0.0), 0.0, wanted)), U8)

        zero_point = k.compute(zero_type, zero)

        def element(*index: Expr) -> Expr:
            steps = select(scale[()].eq(0.0), 0.0, unary("round", x[index] / scale[()]))
            return saturated(steps + cast(zero_point[()], F32), U8)

        return k.compute(stored, element), scale, zero_point

    @property
    def flops(self) -> Dim:
        return self.x.type.size * 4

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (3, 7)), -3, 5))
        yield cls(argument(TensorType(F32, (9,)), 1, 5))
        yield cls(argument(TensorType(F32, (2, 2)), -5, -1))


def saturated(steps: Expr, dtype: DType) -> Expr:
    """A whole number of f32 put into the range of a narrow integer type."""
    limits = np.iinfo(dtype.numpy)
    return cast(minimum(maximum(steps, float(limits.min)), float(limits.max)), dtype)
