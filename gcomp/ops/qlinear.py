"""Operators on quantized tensors that carry their scales: each is the plain operator between DQ and Q."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..ir import Op, Value
from ..op import Operator, argument, constant, operator
from ..types import I8, I32, U8, TensorType
from .arithmetic import Add, Mul
from .convolution import Conv
from .linear import MatMul
from .pool import GlobalAveragePool
from .quantized import DequantizeLinear, QuantizeLinear
from .rearrange import Transpose
from .softmax import Softmax, Softmax_1
from .superseded import Superseded


@operator(onnx="QLinearMatMul", since=10)
class QLinearMatMul(Superseded):
    """MatMul of quantized matrices to a quantized matrix."""

    a: Value
    a_scale: Value
    a_zero_point: Value
    b: Value
    b_scale: Value
    b_zero_point: Value
    y_scale: Value
    y_zero_point: Value

    tolerance = "quantized"

    def upgrade(self) -> Op:
        a = DequantizeLinear(self.a, self.a_scale, self.a_zero_point, axis=-2).result
        b = DequantizeLinear(self.b, self.b_scale, self.b_zero_point, axis=-1).result
        return QuantizeLinear(MatMul(a, b).result, self.y_scale, self.y_zero_point)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        a, b = argument(TensorType(U8, (4, 9)), 0, 255), argument(TensorType(I8, (9, 3)), -128, 127)
        one, per_column = constant(0.02), constant([0.01, 0.03, 0.02])
        zero, signed = constant(117, np.uint8), constant([3, 0, -7], np.int8)
        yield cls(a, one, zero, b, one, constant(0, np.int8), constant(0.1), constant(120, np.uint8))
        yield cls(a, one, zero, b, per_column, signed, constant(0.1), constant(120, np.uint8))


@operator(onnx="QLinearConv", since=10)
class QLinearConv(Superseded):
    """Conv of a quantized tensor with quantized filters and a bias of i32 in steps of both scales."""

    x: Value
    x_scale: Value
    x_zero_point: Value
    w: Value
    w_scale: Value
    w_zero_point: Value
    y_scale: Value
    y_zero_point: Value
    b: Value | None = None
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    tolerance = "quantized"

    def upgrade(self) -> Op:
        x = DequantizeLinear(self.x, self.x_scale, self.x_zero_point).result
        w = DequantizeLinear(self.w, self.w_scale, self.w_zero_point, axis=0).result
        b = None
        if self.b is not None:
            b = DequantizeLinear(self.b, Mul(self.x_scale, self.w_scale).result, axis=0).result
        y = Conv(
            x, w, b, self.auto_pad, self.dilations, self.group, self.kernel_shape, self.pads, self.strides
        )
        return QuantizeLinear(y.result, self.y_scale, self.y_zero_point)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x, w = (
            argument(TensorType(U8, (1, 3, 6, 6)), 0, 255),
            argument(TensorType(I8, (2, 3, 3, 3)), -128, 127),
        )
        zeros: Sequence[Value] = (constant(117, np.uint8), constant([0, 0], np.int8), constant(99, np.uint8))
        scales = constant(0.02), constant([0.01, 0.03]), constant(0.2)
        bias = argument(TensorType(I32, (2,)), -900, 900)
        yield cls(
            x, scales[0], zeros[0], w, scales[1], zeros[1], scales[2], zeros[2], bias, pads=(1, 1, 1, 1)
        )
        signed = constant(0, np.int8)
        yield cls(x, scales[0], zeros[0], w, constant(0.01), signed, scales[2], zeros[2], strides=(2, 2))


@operator(onnx="QLinearSoftmax", domain="com.microsoft")
class QLinearSoftmax(Superseded):
    """Softmax of a quantized tensor; before `opset` 13 over all axes from `axis` on."""

    x: Value
    x_scale: Value
    x_zero_point: Value | None
    y_scale: Value
    y_zero_point: Value
    axis: int = -1
    opset: int = 13

    tolerance = "quantized"

    def upgrade(self) -> Op:
        x = DequantizeLinear(self.x, self.x_scale, self.x_zero_point).result
        softmax = Softmax(x, self.axis) if self.opset >= 13 else Softmax_1(x, self.axis)
        return QuantizeLinear(softmax.result, self.y_scale, self.y_zero_point)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x, zeros = argument(TensorType(U8, (2, 3, 4)), 0, 255), constant(0, np.uint8)
        yield cls(x, constant(0.02), constant(117, np.uint8), constant(1 / 256), zeros)
        yield cls(x, constant(0.02), constant(117, np.uint8), constant(1 / 256), zeros, axis=1, opset=11)


class QLinearBinary(Superseded):
    """What QLinearAdd and QLinearMul share."""

    a: Value
    a_scale: Value
    a_zero_point: Value | None
    b: Value
    b_scale: Value
    b_zero_point: Value | None
    c_scale: Value
    c_zero_point: Value | None = None

    tolerance = "quantized"

    def operands_(self) -> tuple[Value, Value]:
        """Both operands as floats."""
        a = DequantizeLinear(self.a, self.a_scale, self.a_zero_point)
        b = DequantizeLinear(self.b, self.b_scale, self.b_zero_point)
        return a.result, b.result

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        a, b = argument(TensorType(U8, (3, 4)), 0, 255), argument(TensorType(U8, (4,)), 0, 255)
        zero = constant(117, np.uint8)
        yield cls(a, constant(0.02), zero, b, constant(0.03), zero, constant(0.1), zero)


@operator(onnx="QLinearAdd", domain="com.microsoft")
class QLinearAdd(QLinearBinary):
    """Add of quantized tensors."""

    def upgrade(self) -> Op:
        return QuantizeLinear(Add(*self.operands_()).result, self.c_scale, self.c_zero_point)


@operator(onnx="QLinearMul", domain="com.microsoft")
class QLinearMul(QLinearBinary):
    """Mul of quantized tensors."""

    def upgrade(self) -> Op:
        return QuantizeLinear(Mul(*self.operands_()).result, self.c_scale, self.c_zero_point)


@operator(onnx="QLinearGlobalAveragePool", domain="com.microsoft")
class QLinearGlobalAveragePool(Superseded):
    """GlobalAveragePool of a quantized tensor; with `channels_last` its channels are the last axis."""

    x: Value
    x_scale: Value
    x_zero_point: Value
    y_scale: Value
    y_zero_point: Value
    channels_last: int = 0

    tolerance = "quantized"

    def upgrade(self) -> Op:
        x, rank = DequantizeLinear(self.x, self.x_scale, self.x_zero_point).result, self.x.type.rank
        if self.channels_last:
            x = Transpose(x, (0, rank - 1, *range(1, rank - 1))).result
        pooled = GlobalAveragePool(x).result
        if self.channels_last:
            pooled = Transpose(pooled, (0, *range(2, rank), 1)).result
        return QuantizeLinear(pooled, self.y_scale, self.y_zero_point)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x, zero = argument(TensorType(U8, (1, 3, 4, 5)), 0, 255), constant(117, np.uint8)
        yield cls(x, constant(0.02), zero, constant(0.01), zero)
        yield cls(x, constant(0.02), zero, constant(0.01), zero, 1)
