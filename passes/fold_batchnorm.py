"""fold-batchnorm: puts factors and offsets per channel into the weights and bias of the product before."""

from __future__ import annotations

import numpy as np

from gcomp.ir import Value
from gcomp.op import Constant, single
from gcomp.ops import Add, BatchNormalization, Conv, Gemm, Mul, Sub
from gcomp.rewrite import RewritePass, altered, constant, either_order, made_by, only_user, require, rewrite
from gcomp.types import Array


@rewrite(tolerance="approximate")
def conv_batchnorm(norm: BatchNormalization) -> Conv:
    """BatchNormalization(Conv(x, w, b)) -> Conv(x, w', b')"""
    conv = made_by(norm.x, Conv)
    only_user(norm.x)
    factor, offset = factor_and_offset(norm)
    return scaled_conv(conv, factor, offset)


@rewrite(tolerance="approximate")
def gemm_batchnorm(norm: BatchNormalization) -> Gemm:
    """BatchNormalization(Gemm(a, b, c)) -> Gemm(a, b', c')"""
    gemm = made_by(norm.x, Gemm)
    only_user(norm.x)
    factor, offset = factor_and_offset(norm)
    weights = constant(gemm.b).astype(np.float64)
    bias = single(gemm.beta) * constant(gemm.c).astype(np.float64) if gemm.c is not None else np.zeros(1)
    return Gemm(
        gemm.a,
        rounded(weights * (factor[:, None] if gemm.trans_b else factor), gemm.b),
        rounded(np.broadcast_to(bias * factor + offset, bias.shape[:-1] + factor.shape), gemm.b),
        alpha=gemm.alpha,
        trans_a=gemm.trans_a,
        trans_b=gemm.trans_b,
    )


@rewrite(tolerance="approximate")
def batchnorm_to_scale(norm: BatchNormalization) -> Add:
    """BatchNormalization(x) -> Add(Mul(x, factor), offset)"""
    factor, offset = factor_and_offset(norm)
    shape = (-1, *[1] * (norm.x.type.rank - 2))
    return Add(
        Mul(norm.x, rounded(factor.reshape(shape), norm.x)).result, rounded(offset.reshape(shape), norm.x)
    )


@rewrite(tolerance="approximate")
def conv_factor(mul: Mul) -> Conv:
    """Mul(Conv(x, w, b), factor) -> Conv(x, w', b')"""
    conv, factor = either_order(mul, Conv)
    only_user(conv.result)
    return scaled_conv(conv, per_channel(conv, factor), 0.0)


@rewrite(tolerance="approximate")
def conv_offset(add: Add) -> Conv:
    """Add(Conv(x, w, b), offset) -> Conv(x, w, b')"""
    conv, offset = either_order(add, Conv)
    only_user(conv.result)
    return scaled_conv(conv, 1.0, per_channel(conv, offset))


@rewrite(tolerance="approximate")
def conv_negative_offset(sub: Sub) -> Conv:
    """Sub(Conv(x, w, b), offset) -> Conv(x, w, b')"""
    conv = made_by(sub.lhs, Conv)
    only_user(conv.result)
    return scaled_conv(conv, 1.0, -per_channel(conv, sub.rhs))


def factor_and_offset(norm: BatchNormalization) -> tuple[Array, Array]:
    """Per channel, in f64: what the normalisation multiplies with, and what it adds then."""
    scale, bias, mean, variance = (
        constant(value).astype(np.float64) for value in (norm.scale, norm.b, norm.input_mean, norm.input_var)
    )
    require(bool((variance + single(norm.epsilon) > 0).all()), "the variance must be positive")
    factor = scale / np.sqrt(variance + single(norm.epsilon))
    return factor, bias - mean * factor


def per_channel(conv: Conv, value: Value) -> Array:
    """A constant of shape [C, 1, 1], or one that broadcasts like it, as C factors in f64."""
    array, rank = constant(value), conv.result.type.rank
    shape = (1,) * (rank - array.ndim) + array.shape
    channels = constant(conv.w).shape[0]
    require(
        len(shape) == rank and shape[1] in (1, channels) and array.size == shape[1],
        "one constant per channel",
    )
    return np.broadcast_to(array.reshape(shape[1]).astype(np.float64), (channels,))


def scaled_conv(conv: Conv, factor: Array | float, offset: Array | float) -> Conv:
    """`conv`, whose weights are constant, with its result multiplied by `factor`, then raised by `offset`."""
    weights = constant(conv.w)
    bias = constant(conv.b).astype(np.float64) if conv.b is not None else np.zeros(len(weights))
    per_row = np.reshape(np.broadcast_to(factor, len(weights)), (-1, *[1] * (weights.ndim - 1)))
    return altered(
        conv,
        w=conv.w if np.all(per_row == 1) else rounded(weights * per_row, conv.w),
        b=rounded(bias * factor + offset, conv.w),
    )


def rounded(array: Array, like: Value) -> Value:
    """A constant of the type of `like`'s elements, which must not overflow there."""
    with np.errstate(over="ignore"):
        narrow = np.asarray(array.astype(like.type.dtype.numpy))
    require(bool(np.isfinite(narrow).all()), "finite weights")
    return Constant(narrow).result


PASS = RewritePass(
    "fold-batchnorm",
    [conv_batchnorm, gemm_batchnorm, batchnorm_to_scale, conv_factor, conv_offset, conv_negative_offset],
)
