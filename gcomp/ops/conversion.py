"""Operators that pass elements on, perhaps in another type: Cast, CastLike, Identity, Dropout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..ir import Op, Value
from ..kernel import Kernel, Tensor, cast, literal
from ..op import Operator, argument, constant, constant_value, operator
from ..types import (
    BF16,
    BOOL,
    F16,
    F32,
    F64,
    FLOATS,
    I8,
    I32,
    I64,
    STRING,
    U8,
    Array,
    DType,
    TensorType,
)
from .elementwise import Content
from .superseded import Superseded


@operator(onnx="Cast", since=6)
class Cast(Operator):
    """`x` in the type with ONNX's number `to`.

    Floats to integers truncate and saturate, NaN becomes 0; integers to narrower ones wrap; to bool: not 0.
    """

    x: Value
    to: int

    def infer(self) -> TensorType:
        return TensorType(self.dtype, self.x.type.shape)

    @property
    def dtype(self) -> DType:
        """The result's element type. Raises `InferenceError`."""
        dtype = self.coded(self.to)
        if STRING in (dtype, self.x.type.dtype) and dtype != self.x.type.dtype:
            self.fail("numbers or bool", x=self.x, to=dtype)
        return dtype

    def reference(self, x: Array) -> Array:
        return converted(x, self.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        return k.compute(self.result.type, lambda *i: cast(x[i], self.dtype))

    def content(self, x: Content) -> Content:
        return x if self.dtype in (I32, I64) else None

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for source, target in (
            (F32, F64),
            (F64, F32),
            (F32, F16),
            (F16, F32),
            (F32, BF16),
            (BF16, F32),
            (F32, I32),
            (F32, U8),
            (F64, I64),
            (F32, I8),
            (F16, I64),
            (I64, F32),
            (I32, I8),
            (I64, I32),
            (U8, I8),
            (U8, F16),
            (F32, BOOL),
            (I64, BOOL),
            (BOOL, F32),
            (BOOL, I64),
        ):
            yield cls(argument(TensorType(source, (3, 37)), -300.0, 300.0), target.code)
        yield cls(argument(TensorType(F32, ())), I32.code)
        yield cls(argument(TensorType(F32, (0, 3))), I32.code)
        special = np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 1e30, -0.75, 255.5], np.float32)
        for target in (I32, I64, U8, I8, F16, BOOL):
            yield cls(constant(special), target.code)


@operator(onnx="CastLike", since=15)
class CastLike(Operator):
    """`input` in the element type of `target_type`."""

    input: Value
    target_type: Value

    def infer(self) -> TensorType:
        return Cast(self.input, self.target_type.type.dtype.code).result.type

    def reference(self, input: Array, target_type: Array) -> Array:
        return converted(input, self.target_type.type.dtype)

    def lower(self, k: Kernel, input: Tensor, target_type: Tensor) -> Tensor:
        return k.compute(self.result.type, lambda *i: cast(input[i], self.result.type.dtype))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for source, target in ((F32, I32), (I64, F32), (F32, F16)):
            yield cls(argument(TensorType(source, (3, 5)), -9.0, 9.0), argument(TensorType(target, (2,))))


@operator(onnx="Identity", since=1)
class Identity(Operator):
    """`x` itself."""

    x: Value

    def infer(self) -> TensorType:
        return TensorType(self.x.type.dtype, self.x.type.shape)

    def reference(self, x: Array) -> Array:
        return x

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        return k.compute(self.result.type, lambda *i: x[i])

    def content(self, x: Content) -> Content:
        return x

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape in ((F32, (3, 37)), (F32, ()), (I64, (0, 3)), (BOOL, (2, 9)), (F16, (7,))):
            yield cls(argument(TensorType(dtype, shape)))

    @property
    def flops(self) -> int:
        return 0


@operator(onnx="Dropout", since=12)
class Dropout(Operator):
    """`data` itself, and as a second result, where `outputs` is 2, that every element was kept.

    Only inference has a meaning here: `training_mode` has to be absent or known to be false.
    """

    data: Value
    ratio: Value | None = None
    training_mode: Value | None = None
    seed: int = 0
    outputs: int = 1

    def infer(self) -> TensorType | tuple[TensorType, ...]:
        if self.data.type.dtype not in FLOATS:
            self.fail("floats", data=self.data)
        if self.training_mode is not None:
            training = constant_value(self.training_mode)
            if training is None or training.any():
                self.fail("training_mode to be false", training_mode=self.training_mode)
        type = TensorType(self.data.type.dtype, self.data.type.shape)
        return (type, TensorType(BOOL, type.shape))[: self.outputs]

    def reference(self, data: Array, ratio: Array | None, training_mode: Array | None) -> tuple[Array, ...]:
        return (data, np.ones(data.shape, np.bool_))[: self.outputs]

    def lower(
        self, k: Kernel, data: Tensor, ratio: Tensor | None, training_mode: Tensor | None
    ) -> tuple[Tensor, ...]:
        results = [k.compute(self.results[0].type, lambda *i: data[i])]
        results += [k.compute(value.type, lambda *_: literal(True, BOOL)) for value in self.results[1:]]
        return tuple(results)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = argument(TensorType(F32, (3, 7)))
        yield cls(x)
        yield cls(x, constant(0.5), outputs=2)
        yield cls(x, None, constant(np.array(False)), outputs=2)

    @property
    def flops(self) -> int:
        return 0


@operator(onnx="Dropout", since=7)
class Dropout_7(Superseded):
    """Dropout with its ratio as an attribute; always inference."""

    data: Value
    ratio: float = 0.5
    outputs: int = 1

    def upgrade(self) -> Op:
        return Dropout(self.data, constant(self.ratio), outputs=self.outputs)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (3, 7))))


def converted(x: Array, dtype: DType) -> Array:
    """`x` in another type under the rules of `Cast`."""
    if x.dtype.kind in "fV" and dtype.is_integer:
        return saturated(x.astype(np.float64), dtype)
    return x.astype(dtype.numpy)


def saturated(value: Any, dtype: DType) -> Array:
    """Floats as `dtype`; toward integers they truncate and saturate, and NaN becomes 0."""
    if dtype.is_float:
        return np.asarray(value).astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    least, greatest = dtype.numpy.type(info.min), dtype.numpy.type(info.max)
    whole = np.trunc(np.where(np.isnan(value), 0.0, value))
    inside = (whole > float(least)) & (whole < float(greatest))
    converted: Array = np.where(inside, whole, 0.0).astype(dtype.numpy)
    return np.select([inside, whole > 0], [converted, np.asarray(greatest)], np.asarray(least))
