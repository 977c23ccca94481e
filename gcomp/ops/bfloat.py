"""Products in bf16: the input is rounded to it where it is read, weights are stored so, sums are f32."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np

from ..ir import Value
from ..kernel import Kernel, Tensor, cast
from ..op import Operator, argument, constant, operator
from ..types import BF16, F32, Array, TensorType
from .convolution import Conv
from .linear import Gemm, MatMul


def rounded(x: Array) -> Array:
    """f32 as the nearest numbers that bf16 has, ties to even."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def lower_rounded(k: Kernel, x: Tensor) -> Tensor:
    """The same as a stage of `k`."""
    return k.compute(TensorType(F32, x.shape), lambda *index: cast(cast(x[index], BF16), F32))


def lower_widened(k: Kernel, w: Tensor) -> Tensor:
    """bf16 as f32."""
    return k.compute(TensorType(F32, w.shape), lambda *index: cast(w[index], F32))


def check_bfloats(op: Operator, x: Value, w: Value, addend: Value | None = None) -> None:
    """Raises `InferenceError` unless all are f32 but the weights, which are bf16."""
    if x.type.dtype != F32 or w.type.dtype != BF16 or (addend is not None and addend.type.dtype != F32):
        op.fail("f32 operands and weights of bf16", x=x, w=w, addend=addend)


def weights(*shape: int) -> Value:
    """A constant of seeded bf16, for samples."""
    return constant(np.random.default_rng(1).standard_normal(shape).astype(ml_dtypes.bfloat16))


@operator()
class BfloatMatMul(MatMul):
    """MatMul of `a`, f32 rounded to bf16, and `b`, bf16, in f32."""

    def check_types(self) -> None:
        check_bfloats(self, self.a, self.b)

    def reference(self, a: Array, b: Array) -> Array:
        return super().reference(rounded(a), b.astype(np.float32))

    def lower(self, k: Kernel, a: Tensor, b: Tensor) -> Tensor:
        return super().lower(k, lower_rounded(k, a), lower_widened(k, b))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for left, right in (
            ((5, 7), (7, 3)),
            ((1, 34), (34, 600)),
            ((2, 3, 40), (40, 17)),
            ((9, 64), (64, 48)),
        ):
            yield cls(argument(TensorType(F32, left)), weights(*right))
        yield cls(argument(TensorType(F32, (3, 6))), argument(TensorType(BF16, (6, 4))))


@operator()
class BfloatGemm(Gemm):
    """Gemm of `a`, f32 rounded to bf16, and `b`, bf16, in f32; `alpha` and `c` are f32."""

    def check_types(self) -> None:
        check_bfloats(self, self.a, self.b, self.c)

    def reference(self, a: Array, b: Array, c: Array | None) -> Array:
        return super().reference(rounded(a), b.astype(np.float32), c)

    def lower(self, k: Kernel, a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
        return super().lower(k, lower_rounded(k, a), lower_widened(k, b), c)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(5, 7), weights(7, 3), of(3))
        yield cls(of(5, 7), weights(30, 7), of(5, 30), beta=0.5, trans_b=1)
        yield cls(of(6, 4), weights(6, 5), alpha=2.0, trans_a=1)
        yield cls(of(1, 64), weights(10, 64), of(10), trans_b=1)


@operator()
class BfloatConv(Conv):
    """Conv of `x`, f32 rounded to bf16, and `w`, bf16, in f32; `b` is f32."""

    def check_types(self) -> None:
        check_bfloats(self, self.x, self.w, self.b)

    def reference(self, x: Array, w: Array, b: Array | None) -> Array:
        return super().reference(rounded(x), w.astype(np.float32), b)

    def lower(self, k: Kernel, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return super().lower(k, lower_rounded(k, x), lower_widened(k, w), b)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(1, 3, 8, 8), weights(4, 3, 3, 3), of(4))
        yield cls(of(2, 18, 5, 6), weights(20, 18, 1, 1), of(20))
        yield cls(of(2, 7, 5, 6), weights(33, 7, 3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
