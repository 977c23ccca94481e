"""The kernels that are timed: matrix products and convolutions of well-known networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np

from gcomp.backends.llvm.cpu import Cpu
from gcomp.backends.llvm.problem import Problem
from gcomp.backends.llvm.templates.bfloats import PAIRS
from gcomp.backends.llvm.templates.unit import FLOATS, Unit
from gcomp.expr import Expr, maximum
from gcomp.op import argument, constant
from gcomp.ops.bfloat import BfloatMatMul, rounded
from gcomp.ops.convolution import Conv
from gcomp.ops.linear import MatMul
from gcomp.tensor import Tensor
from gcomp.types import F32, Array, TensorType, channels_last

from .single import problem_for

Kind = Literal["gemm", "bf16", "thin", "dynamic", "direct", "strided", "1x1", "stem", "depthwise", "winograd"]

BARRED: dict[Kind, float] = {"gemm": 0.9, "bf16": 0.88, "direct": 0.9, "strided": 0.9, "1x1": 0.9}
"""The share of the peak that rows of a kind ought to reach."""
BLOCK = 16
THIN = 8
"""Rows of a matrix product, at most, that is bound by memory: each weight is used no more often."""


@dataclass(frozen=True)
class Row:
    """One shape. `make` gives the problem, the arrays of its operands, and the expected result in f64."""

    kind: Kind
    name: str
    sizes: tuple[int, ...]

    def make(self, cpu: Cpu) -> tuple[Problem, list[Array], Array]:
        rng = np.random.default_rng(0)
        if self.kind == "bf16":
            return _bfloat_product(self.sizes, cpu, rng)
        if self.kind in ("gemm", "thin", "dynamic"):
            return _product(self.sizes, self.kind != "dynamic", cpu, rng)
        row_major, depthwise = self.kind == "stem", self.kind == "depthwise"
        return _convolution(self.sizes, row_major, depthwise, self.kind == "winograd", cpu, rng)

    @property
    def unit(self) -> Unit:
        """What is multiplied, which decides the peak."""
        return PAIRS if self.kind == "bf16" else FLOATS

    def is_for(self, cpu: Cpu) -> bool:
        """Whether the processor has what it takes."""
        return self.kind != "bf16" or cpu.multiplies_bfloats

    @property
    def flops(self) -> int:
        """Multiplications and additions, as if each tap were computed."""
        if self.kind in ("gemm", "bf16", "thin", "dynamic"):
            m, n, k = self.sizes
            return 2 * m * n * k
        c, size, o, kernel, stride = self.sizes
        out = -(-size // stride)
        return 2 * out * out * o * kernel * kernel * (1 if self.kind == "depthwise" else c)


def _product(
    sizes: Sequence[int], packed: bool, cpu: Cpu, rng: np.random.Generator
) -> tuple[Problem, list[Array], Array]:
    m, n, k = sizes
    a, b = (rng.standard_normal(shape, np.float32) for shape in ((m, k), (k, n)))
    right = constant(b) if packed else argument(TensorType(F32, (k, n)))
    op = MatMul(argument(TensorType(F32, (m, k))), right)
    problem = problem_for(op, cpu, {1: b} if packed else {})
    return problem, [a, b], a.astype(np.float64) @ b.astype(np.float64)


def _bfloat_product(
    sizes: Sequence[int], cpu: Cpu, rng: np.random.Generator
) -> tuple[Problem, list[Array], Array]:
    m, n, k = sizes
    a = rng.standard_normal((m, k), np.float32)
    b = rng.standard_normal((k, n), np.float32).astype(ml_dtypes.bfloat16)
    op = BfloatMatMul(argument(TensorType(F32, (m, k))), constant(b))
    return problem_for(op, cpu, {1: b}), [a, b], rounded(a).astype(np.float64) @ b.astype(np.float64)


def _convolution(
    sizes: Sequence[int], row_major: bool, depthwise: bool, winograd: bool, cpu: Cpu, rng: np.random.Generator
) -> tuple[Problem, list[Array], Array]:
    c, size, o, kernel, stride = sizes
    x = rng.standard_normal((1, c, size, size), np.float32)
    w = rng.standard_normal((o, 1 if depthwise else c, kernel, kernel), np.float32)
    b = rng.standard_normal(o, np.float32)
    op = Conv(
        argument(TensorType(F32, x.shape)),
        constant(w),
        constant(b),
        strides=(stride, stride),
        pads=(kernel // 2,) * 4,
        group=c if depthwise else 1,
    )
    layout = channels_last(4, BLOCK)

    def relu(y: Expr, _extra: Sequence[Tensor], _axes: object) -> Expr:
        return maximum(y, 0.0)

    problem = problem_for(op, cpu, {1: w, 2: b}, {} if row_major else {0: layout}, layout, tail=relu)
    problem.winograd = winograd
    expected = op.reference(x.astype(np.float64), w.astype(np.float64), b.astype(np.float64))
    return problem, [x, w, b], np.maximum(expected, 0)


def _gemm(m: int, n: int, k: int) -> Row:
    return Row("gemm" if m > THIN else "thin", f"{m}x{n}x{k}", (m, n, k))


def _conv(kind: Kind, c: int, size: int, o: int, kernel: int, stride: int = 1) -> Row:
    pace = f" s{stride}" if stride > 1 else ""
    return Row(kind, f"{kernel}x{kernel}{pace} {c}->{o} @{size}", (c, size, o, kernel, stride))


BFLOAT_PRODUCTS = (
    *((128, 768, 768), (128, 3072, 768), (197, 768, 3072), (3136, 64, 64)),
    *((784, 128, 512), (196, 1024, 256), (49, 512, 2048), (1024, 1024, 1024)),
)

ROWS: list[Row] = [
    _gemm(128, 768, 768),
    _gemm(128, 3072, 768),
    _gemm(197, 768, 3072),
    _gemm(3136, 64, 64),
    _gemm(784, 128, 512),
    _gemm(196, 1024, 256),
    _gemm(49, 512, 2048),
    _gemm(1024, 1024, 1024),
    *(Row("bf16", f"{m}x{n}x{k}", (m, n, k)) for m, n, k in BFLOAT_PRODUCTS),
    _conv("direct", 64, 56, 64, 3),
    _conv("direct", 128, 28, 128, 3),
    _conv("direct", 256, 14, 256, 3),
    _conv("direct", 512, 7, 512, 3),
    _conv("direct", 32, 112, 64, 3),
    _conv("winograd", 64, 56, 64, 3),
    _conv("winograd", 128, 28, 128, 3),
    _conv("winograd", 256, 14, 256, 3),
    _conv("winograd", 32, 112, 64, 3),
    _conv("strided", 128, 56, 128, 3, 2),
    _conv("strided", 256, 28, 256, 3, 2),
    _conv("1x1", 64, 56, 64, 1),
    _conv("1x1", 64, 56, 256, 1),
    _conv("1x1", 256, 56, 64, 1),
    _conv("1x1", 128, 28, 512, 1),
    _conv("1x1", 1024, 14, 256, 1),
    _conv("1x1", 512, 7, 2048, 1),
    _conv("1x1", 256, 56, 512, 1, 2),
    _conv("stem", 3, 224, 64, 7, 2),
    _conv("stem", 3, 224, 32, 3, 2),
    Row("dynamic", "128x128x64", (128, 128, 64)),
    Row("dynamic", "1024x1024x1024", (1024, 1024, 1024)),
    _gemm(1, 4096, 4096),
    _gemm(8, 3072, 768),
    _conv("depthwise", 32, 112, 32, 3),
    _conv("depthwise", 144, 56, 144, 3, 2),
    _conv("depthwise", 576, 14, 576, 3),
]
