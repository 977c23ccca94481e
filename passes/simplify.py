"""simplify: removes what does nothing, and says the rest with fewer operators."""

from __future__ import annotations

import math

import numpy as np

from gcomp.dim import Dim
from gcomp.ir import Value
from gcomp.op import Constant
from gcomp.ops import (
    Add,
    AveragePool,
    Cast,
    Clip,
    Concat,
    Conv,
    Div,
    Dropout,
    Expand,
    Flatten,
    Gemm,
    Identity,
    MatMul,
    Mean,
    Mul,
    Pad,
    Relu,
    Reshape,
    Slice,
    Squeeze,
    Sub,
    Sum,
    Transpose,
    Unsqueeze,
)
from gcomp.rewrite import (
    RewritePass,
    altered,
    constant,
    either_order,
    made_by,
    only_user,
    require,
    rewrite,
    unread,
)


@rewrite
def drop_identity(op: Identity) -> Value:
    """Identity(x) -> x"""
    return unchanged(op.x, op.result)


@rewrite
def drop_dropout(op: Dropout) -> tuple[Value | None, ...]:
    """Dropout(x) -> x"""
    unread(*op.results[1:])
    return unchanged(op.data, op.results[0]), *[None for _ in op.results[1:]]


@rewrite
def drop_cast(op: Cast) -> Value:
    """Cast(x) -> x, to the type it has"""
    return unchanged(op.x, op.result)


@rewrite
def drop_expand(op: Expand) -> Value:
    """Expand(x) -> x, to the shape it has"""
    return unchanged(op.input, op.result)


@rewrite
def drop_concat(op: Concat) -> Value:
    """Concat(x) -> x"""
    require(len(op.inputs_) == 1, "one operand")
    return unchanged(op.inputs_[0], op.result)


@rewrite
def drop_slice(op: Slice) -> Value:
    """Slice(x) -> x, of everything in order"""
    require(bool((constant(op.steps) == 1).all()) if op.steps is not None else True, "steps of 1")
    require(op.data.type.is_static, "a known shape")
    return unchanged(op.data, op.result)


@rewrite
def drop_pad(op: Pad) -> Value:
    """Pad(x) -> x, by nothing"""
    require(bool((constant(op.pads) == 0).all()), "pads of 0")
    return unchanged(op.data, op.result)


@rewrite
def drop_neutral(op: Add | Sub | Mul | Div) -> Value:
    """x - 0, x + -0, x * 1, x / 1 -> x

    x + 0.0 stays: it turns -0.0 into 0.0.
    """
    if isinstance(op, Sub | Div):
        known, value = constant(op.rhs), op.lhs
    else:
        source, value = either_order(op, Constant)
        known = source.value
    neutral = known.dtype.type(1 if isinstance(op, Mul | Div) else -0.0 if isinstance(op, Add) else 0)
    require(known.tobytes() == np.full(known.shape, neutral).tobytes(), "the neutral element")
    return unchanged(value, op.result)


@rewrite
def drop_transpose(op: Transpose) -> Value:
    """Transpose(x) -> x, where axes keep their order"""
    require(order(op) == tuple(range(op.x.type.rank)), "axes in order")
    return unchanged(op.x, op.result)


@rewrite
def compose_transposes(op: Transpose) -> Transpose:
    """Transpose(Transpose(x)) -> Transpose(x)"""
    inner = made_by(op.x, Transpose)
    return Transpose(inner.x, tuple(order(inner)[axis] for axis in order(op)))


@rewrite
def transpose_to_reshape(op: Transpose) -> Reshape:
    """Transpose(x) -> Reshape(x), where only axes of size 1 move"""
    moved = [axis for axis in order(op) if op.x.type.shape[axis] != 1]
    require(moved == sorted(moved), "only axes of size 1 move")
    require(order(op) != tuple(range(op.x.type.rank)), "an axis moves")
    return reshaped(op.x, op.result)


@rewrite
def drop_reshape(op: Reshape) -> Value:
    """Reshape(x) -> x, to the shape it has"""
    return unchanged(op.data, op.result)


@rewrite
def compose_reshapes(op: Reshape) -> Reshape:
    """Reshape(Reshape(x)) -> Reshape(x)"""
    return reshaped(made_by(op.data, Reshape).data, op.result)


@rewrite
def view_to_reshape(op: Flatten | Squeeze | Unsqueeze) -> Reshape:
    """Flatten, Squeeze, Unsqueeze(x) -> Reshape(x)"""
    return reshaped(op.inputs[0], op.result)


@rewrite
def clip_to_relu(op: Clip) -> Relu:
    """Clip(x, 0, inf) -> Relu(x)

    A minimum of -0.0 stays: it is what comes of numbers below.
    """
    require(bool((constant(op.min) == 0).all()), "a minimum of 0")
    require(op.input.type.dtype.is_float, "floats")
    require(not np.signbit(constant(op.min)).any(), "a minimum that is not -0.0")
    require(bool((constant(op.max) == math.inf).all()), "a maximum of infinity")
    return Relu(op.input)


@rewrite
def short_sum(op: Sum | Mean) -> Value | Add:
    """Sum(x) -> x, Mean(x) -> x, Sum(x, y) -> Add(x, y)"""
    if len(op.inputs_) == 1:
        return unchanged(op.inputs_[0], op.result)
    require(type(op) is Sum and len(op.inputs_) == 2, "one operand, or a sum of two")
    return Add(*op.inputs_)


@rewrite
def matmul_to_gemm(op: MatMul) -> Gemm:
    """MatMul(a, weights) -> Gemm(a, weights)"""
    require(op.a.type.rank == op.b.type.rank == 2, "matrices")
    constant(op.b)
    return Gemm(op.a, op.b)


@rewrite
def add_to_gemm(op: Add) -> Gemm:
    """Add(Gemm(a, b), bias) -> Gemm(a, b, bias)"""
    gemm, bias = either_order(op, Gemm)
    only_user(gemm.result)
    require(gemm.c is None, "no bias yet")
    constant(bias)
    require(bias.type.rank <= 2 and op.result.type == gemm.result.type, "a bias that does not widen")
    return Gemm(gemm.a, gemm.b, bias, alpha=gemm.alpha, trans_a=gemm.trans_a, trans_b=gemm.trans_b)


@rewrite
def pad_into_conv(op: Conv) -> Conv:
    """Conv(Pad(x), w, b) -> Conv(x, w, b), padding more"""
    pad = made_by(op.x, Pad)
    return altered(op, x=pad.data, pads=padded(pad, op))


@rewrite
def pad_into_pool(op: AveragePool) -> AveragePool:
    """AveragePool(Pad(x)) -> AveragePool(x), padding more and counting the padding"""
    pad = made_by(op.x, Pad)
    require(not op.ceil_mode, "windows inside the padded input")
    require(bool(op.count_include_pad) or not any(op.pads or ()), "padding that counts")
    return altered(op, x=pad.data, pads=padded(pad, op), count_include_pad=1)


def unchanged(value: Value, result: Value) -> Value:
    """`value`, which must have the type of `result`."""
    require(value.type == result.type, "a result of the operand's type")
    return value


def order(op: Transpose) -> tuple[int, ...]:
    """Which axis of the operand each axis of the result is."""
    return tuple(op.perm) if op.perm is not None else tuple(reversed(range(op.x.type.rank)))


def reshaped(value: Value, result: Value) -> Reshape:
    """`value` in the shape of `result`, of which one size may be symbolic."""
    shape: list[Dim] = list(result.type.shape)
    unknown = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    require(len(unknown) <= 1, "at most one symbolic size")
    require(not unknown or 0 not in shape, "no empty axis beside a symbolic one")
    for axis in unknown:
        shape[axis] = -1
    return Reshape(value, Constant(np.array(shape, np.int64)).result, allowzero=int(0 in shape))


def padded(pad: Pad, op: Conv | AveragePool) -> tuple[int, ...]:
    """The pads of `op` with those of the Pad before it, which must put zeros around the spatial axes."""
    require(pad.mode == "constant" and op.auto_pad == "NOTSET", "explicit padding with a constant")
    require(pad.constant_value is None or not constant(pad.constant_value).any(), "zeros")
    rank = pad.data.type.rank
    axes = constant(pad.axes) % rank if pad.axes is not None else np.arange(rank)
    amounts = constant(pad.pads).reshape(2, -1)
    around = np.zeros((2, rank), np.int64)
    around[:, axes] = amounts
    require(bool((around >= 0).all()) and not around[:, :2].any(), "padding of space only")
    own = np.array(op.pads if op.pads is not None else (0,) * (2 * (rank - 2))).reshape(2, -1)
    return tuple(int(amount) for amount in (around[:, 2:] + own).ravel())


PASS = RewritePass(
    "simplify",
    [
        drop_identity,
        drop_dropout,
        drop_cast,
        drop_expand,
        drop_concat,
        drop_slice,
        drop_pad,
        drop_neutral,
        drop_transpose,
        compose_transposes,
        transpose_to_reshape,
        drop_reshape,
        compose_reshapes,
        view_to_reshape,
        clip_to_relu,
        short_sum,
        matmul_to_gemm,
        add_to_gemm,
        pad_into_conv,
        pad_into_pool,
    ],
)
