"""lower-quantized: products between DequantizeLinear and QuantizeLinear become products of integers."""

from __future__ import annotations

import math

import numpy as np

from gcomp.evaluate import evaluate_op
from gcomp.ir import Value
from gcomp.op import Constant, Operator, constant_value
from gcomp.ops import (
    Add,
    Cast,
    Conv,
    ConvInteger,
    DequantizeLinear,
    Flatten,
    Gemm,
    MatMul,
    MatMulInteger,
    MaxPool,
    Mul,
    QuantizeLinear,
    Relu,
    Reshape,
    Squeeze,
    Transpose,
    Unsqueeze,
)
from gcomp.rewrite import (
    Refusal,
    RewritePass,
    altered,
    constant,
    either_order,
    made_by,
    only_user,
    require,
    rewrite,
)
from gcomp.types import F32, I8, I32, U8, Array


@rewrite
def conv_to_integer(op: Conv) -> Operator:
    """Conv(DQ(x), DQ(w), b) -> Mul(Cast(Add(ConvInteger(x, w), b')), scales)"""
    x, x_scale, x_zero = activation(op.x)
    w, w_scale = weights(op.w, 0)
    sums = ConvInteger(
        x, w, x_zero, None, op.auto_pad, op.dilations, op.group, op.kernel_shape, op.pads, op.strides
    )
    return rescaled(sums.result, x_scale * w_scale, op.b, (-1, *[1] * (op.x.type.rank - 2)))


@rewrite
def gemm_to_integer(op: Gemm) -> Operator:
    """Gemm(DQ(a), DQ(b), c) -> Mul(Cast(Add(MatMulInteger(a, b), c')), scales)"""
    require(op.alpha == op.beta == 1 and not op.trans_a, "a plain product")
    a, a_scale, a_zero = activation(op.a)
    b, b_scale = weights(op.b, 0 if op.trans_b else 1)
    require(op.c is None or op.c.type.rank == 1, "one addend per column")
    if op.trans_b:
        b = Constant(np.ascontiguousarray(constant(b).T)).result
    return rescaled(MatMulInteger(a, b, a_zero).result, a_scale * b_scale, op.c, (-1,))


@rewrite
def matmul_to_integer(op: MatMul) -> Operator:
    """MatMul(DQ(a), DQ(b)) -> Mul(Cast(MatMulInteger(a, b)), scales)"""
    require(op.b.type.rank == 2 and op.a.type.rank >= 2, "a matrix on the right")
    a, a_scale, a_zero = activation(op.a)
    b, b_scale = weights(op.b, 1)
    return rescaled(MatMulInteger(a, b, a_zero).result, a_scale * b_scale, None, (-1,))


@rewrite
def quantize_before(op: QuantizeLinear) -> Operator:
    """Q(MaxPool(x)) -> MaxPool(Q(x)), and so for what moves elements only

    Rounding keeps the order, so the largest element stays the largest; but a NaN, the largest of all before,
    is a zero among others then.
    """
    require(op.scale.type.size == 1 and not op.block_size, "one scale for the tensor")
    require(constant(op.scale).item() > 0, "a positive scale")
    move = op.x.producer
    if not isinstance(move, MaxPool | Reshape | Transpose | Flatten | Squeeze | Unsqueeze):
        raise Refusal("needs what moves elements only")
    only_user(move.results[0])
    require(op.result.type.dtype in (U8, I8), "bytes")
    require(len(move.results) == 1 or not move.results[1].users, "no indices of maxima")
    require(not isinstance(move, MaxPool) or largest(move.inputs[0]) < math.inf, "a maximum without NaN")
    first = move.fields()[0].name
    return altered(move, **{first: altered(op, x=move.inputs[0]).result})


@rewrite
def quantize_again(op: QuantizeLinear) -> Value:
    """Q(DQ(x)) -> x, with one scale and zero point"""
    restored = made_by(op.x, DequantizeLinear)
    require(op.scale.type.size == restored.scale.type.size == 1, "one scale for the tensor")
    require(restored.result.type.dtype == F32 and restored.x.type == op.result.type, "the same types")
    scale = constant(op.scale).item()
    require(constant(restored.scale).item() == scale, "the same scale")
    require(2.0**-100 < abs(scale) < 2.0**100, "a scale by which steps can be told")
    require(zero_of(op) == zero_of(restored), "the same zero point")
    return restored.x


@rewrite
def drop_relu(op: QuantizeLinear) -> QuantizeLinear:
    """Q(Relu(x)) -> Q(x), where zero is the least of the stored numbers"""
    relu = made_by(op.x, Relu)
    require(op.scale.type.size == 1 and constant(op.scale).item() > 0, "one positive scale for the tensor")
    require(zero_of(op) == np.iinfo(op.result.type.dtype.numpy).min, "zero as the least number")
    return altered(op, x=relu.x)


@rewrite
def fold_scale(op: QuantizeLinear) -> QuantizeLinear:
    """Q(Mul(Cast(sums), scales), scale) -> Q(Mul(Cast(sums), scales / scale), 1), perhaps with a Relu between

    A result that lies halfway between two steps may go to the other one.
    """
    relu = op.x.producer if isinstance(op.x.producer, Relu) else None
    product = scaled_sums(made_by(relu.x if relu else op.x, Mul))
    only_user(op.x)
    return in_steps(op, rescaled_by(product, step_of(op)), relu)


@rewrite
def fold_scale_of_sum(op: QuantizeLinear) -> QuantizeLinear:
    """Q(Add(Mul(Cast(sums), scales), y), scale) -> Q(Add(Mul(Cast(sums), scales / scale), y / scale), 1)

    perhaps with a Relu between. The scale of `y` takes up the factor if it is DQ(x), which is not read again.
    """
    relu = op.x.producer if isinstance(op.x.producer, Relu) else None
    total = made_by(relu.x if relu else op.x, Add)
    product, other = either_order(total, Mul)
    product, step = scaled_sums(product), step_of(op)
    for value in (op.x, total.result):
        only_user(value)
    addend = other.producer
    if isinstance(addend, DequantizeLinear) and addend.scale.type.size == 1:
        addend = altered(addend, scale=Constant(divided(constant(addend.scale), step)).result)
    elif isinstance(other.owner, Constant):
        addend = Constant(divided(constant(other), step))
    else:
        addend = Mul(other, Constant(divided(np.ones((), np.float32), step)).result)
    return in_steps(op, Add(rescaled_by(product, step).result, addend.results[0]), relu)


def largest(value: Value) -> float:
    """What no element of `value` exceeds in size, if integers and constants that it is made of tell; or inf.

    Where that is finite, no element is NaN.
    """
    if value.type.dtype != F32:
        return math.inf
    match value.owner:
        case Constant() as op:
            size = float(abs(op.value).max(initial=0)) if np.isfinite(op.value).all() else math.inf
        case DequantizeLinear() as op:
            size = 2.0 ** (8 * op.x.type.dtype.bytes + 1) * largest(op.scale)
        case Cast() as op if op.x.type.dtype.is_integer:
            size = 2.0 ** (8 * op.x.type.dtype.bytes)
        case Mul() as op if isinstance(op.rhs.owner, Constant):
            size = largest(op.lhs) * largest(op.rhs)
        case Add() as op if isinstance(op.rhs.owner, Constant):
            size = largest(op.lhs) + largest(op.rhs)
        case Relu() | MaxPool() | Reshape() | Transpose() | Flatten() | Squeeze() | Unsqueeze() as op:
            size = largest(op.inputs[0])
        case _:
            return math.inf
    return size if size < 2.0**127 else math.inf


def scaled_sums(product: Mul) -> Mul:
    """`product`, which has to be that of integer sums and constant scales, read once."""
    sums = made_by(product.lhs, Cast).x.type.dtype, product.result.type.dtype
    require(sums == (I32, F32), "sums of integers, scaled in f32")
    constant(product.rhs)
    only_user(product.result)
    return product


def step_of(op: QuantizeLinear) -> Array:
    """The scale of `op`, which has to be a single one that is left to fold."""
    scale = constant(op.scale)
    require(scale.size == 1 and scale.dtype == np.float32 and scale.item() > 0, "one positive scale")
    require(scale.item() != 1, "a scale that is left to fold")
    return scale.reshape(())


def divided(factors: Array, step: Array) -> Array:
    """The factors in steps of `step`, which have to be finite."""
    with np.errstate(over="ignore"):
        folded = np.asarray(factors / step, np.float32)
    require(bool(np.isfinite(folded).all()), "finite factors")
    return folded


def rescaled_by(product: Mul, step: Array) -> Mul:
    """`product` in steps of `step`."""
    return altered(product, rhs=Constant(divided(constant(product.rhs), step)).result)


def in_steps(op: QuantizeLinear, steps: Operator, relu: Relu | None) -> QuantizeLinear:
    """`op` of what counts its steps already, after a Relu if there was one."""
    if relu is not None:
        steps = Relu(steps.results[0])
    one = Constant(np.ones_like(constant(op.scale)))
    return altered(op, x=steps.results[0], scale=one.result)


def activation(value: Value) -> tuple[Value, Array, Value | None]:
    """The bytes, the scale and the zero point of an activation that has one of each."""
    restored = made_by(value, DequantizeLinear)
    require(restored.x.type.dtype in (U8, I8) and restored.result.type.dtype == F32, "bytes for f32")
    require(restored.scale.type.size == 1, "one scale for the tensor")
    require(bool(np.isfinite(constant(restored.scale)).all()), "a finite scale")
    zero = restored.zero_point
    if zero is not None:
        zero = Constant(constant(zero).reshape(())).result
    return restored.x, constant(restored.scale).astype(np.float32).reshape(()), zero


def weights(value: Value, axis: int) -> tuple[Value, Array]:
    """The bytes of constant weights without zero points, and their scales: one, or one along `axis`."""
    restored = made_by(value, DequantizeLinear)
    rank = restored.x.type.rank
    require(restored.x.type.dtype == I8 and restored.result.type.dtype == F32, "signed bytes for f32")
    constant(restored.x)
    scale = constant(restored.scale)
    require(
        scale.size == 1 or (scale.ndim == 1 and not restored.block_size and restored.axis % rank == axis),
        "a scale per output channel",
    )
    require(bool(np.isfinite(scale).all()), "finite scales")
    zeros = restored.zero_point
    require(zeros is None or not constant(zeros).any(), "no zero points of weights")
    return restored.x, scale.astype(np.float32).reshape(() if scale.size == 1 else -1)


def rescaled(sums: Value, scale: Array, bias: Value | None, shape: tuple[int, ...]) -> Operator:
    """The sums in steps of `scale` as f32, with a bias per channel; `shape` lays it along its axis.

    A bias in the same steps is added before, exactly; another one after.
    """
    if bias is None:
        return _scaled(sums, scale, shape)
    producer = bias.producer
    if isinstance(producer, DequantizeLinear) and isinstance(producer.x.owner, Constant):
        if producer.x.type.dtype == I32 and zero_of(producer) == 0 and not producer.block_size:
            steps, own = constant(producer.x), constant(producer.scale)
            if own.size in (1, scale.size) and np.allclose(
                own.reshape(-1), scale.reshape(-1), rtol=1e-6, atol=0
            ):
                return _scaled(Add(sums, Constant(steps.reshape(shape)).result).result, scale, shape)
        (array,) = evaluate_op(producer, [constant_value(value) for value in producer.operands])
    else:
        array = constant(bias)
    return Add(_scaled(sums, scale, shape).result, Constant(array.reshape(shape)).result)


def _scaled(sums: Value, scale: Array, shape: tuple[int, ...]) -> Mul:
    factors = scale.reshape(shape) if scale.ndim else scale
    return Mul(Cast(sums, F32.code).result, Constant(factors).result)


def zero_of(op: QuantizeLinear | DequantizeLinear) -> int | None:
    """The zero point, if there is one and the same for all elements."""
    if op.zero_point is None:
        return 0
    zeros = constant(op.zero_point)
    return int(zeros.flat[0]) if zeros.size and bool((zeros == zeros.flat[0]).all()) else None


PASS = RewritePass(
    "lower-quantized",
    [
        conv_to_integer,
        gemm_to_integer,
        matmul_to_integer,
        quantize_before,
        quantize_again,
        drop_relu,
        fold_scale,
        fold_scale_of_sum,
    ],
)
