"""precision: says in the graph how exact its numbers have to be, and puts products into bf16 where asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import ml_dtypes

from gcomp.diagnostics import InputError
from gcomp.ir import Graph, Value
from gcomp.op import Constant
from gcomp.ops import BfloatConv, BfloatGemm, BfloatMatMul, Conv, Gemm, MatMul
from gcomp.precision import PRECISIONS, demand
from gcomp.rewrite import RewritePass, constant, require, rewrite
from gcomp.types import F32

FEWEST = 16
"""Channels below which a convolution stays as it is: it reads images as they come, channel by channel."""


@rewrite
def matmul_in_bfloats(op: MatMul) -> BfloatMatMul:
    """MatMul(a, b) -> BfloatMatMul(a, b in bf16), of a constant matrix b"""
    require(op.a.type.rank >= 2 and op.b.type.rank == 2, "a matrix on the right, no vector on the left")
    return BfloatMatMul(op.a, in_bfloats(op.b))


@rewrite
def gemm_in_bfloats(op: Gemm) -> BfloatGemm:
    """Gemm(a, b, c) -> BfloatGemm(a, b in bf16, c), of a constant matrix b"""
    require(op.alpha == 1 and not op.trans_a, "alpha 1 and a left side as it is")
    return BfloatGemm(op.a, in_bfloats(op.b), op.c, beta=op.beta, trans_b=op.trans_b)


@rewrite
def conv_in_bfloats(op: Conv) -> BfloatConv:
    """Conv(x, w, b) -> BfloatConv(x, w in bf16, b), of constant filters of one tap over images"""
    channels = op.w.type.shape[1]
    require(op.kernel == (1, 1) and op.group == 1, "filters of one tap over images")
    require(isinstance(channels, int) and channels >= FEWEST, f"{FEWEST} channels or more")
    return BfloatConv(op.x, in_bfloats(op.w), op.b, **{name: getattr(op, name) for name in op.attributes})


def in_bfloats(value: Value) -> Value:
    """The constant f32 `value`, rounded."""
    require(value.type.dtype == F32, "f32")
    rounded = Constant(constant(value).astype(ml_dtypes.bfloat16)).result
    rounded.name = f"{value.name}_bf16" if value.name else ""
    return rounded


BFLOATS = RewritePass("precision", [matmul_in_bfloats, gemm_in_bfloats, conv_in_bfloats])


@dataclass(frozen=True)
class Precision:
    """Has the graph ask for the precision `mode`, of which backends read it.

    `bf16` also turns products of f32 with constant matrices into those of bf16, 1x1 convolutions included.
    Raises `InputError` for a mode that there is not.
    """

    name: str = field(default="precision", init=False)
    mode: str = "strict"

    def run(self, graph: Graph) -> bool:
        if self.mode not in PRECISIONS:
            raise InputError(f"precision: mode must be one of {', '.join(PRECISIONS)}, got {self.mode!r}")
        changed = demand(graph, self.mode)
        return (self.mode == "bf16" and BFLOATS.run(graph)) or changed


PASS = Precision()
