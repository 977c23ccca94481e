"""check_pass finds rules that are wrong only here and there, among the graphs that it tries by default."""

from __future__ import annotations

import numpy as np
import pytest

from gcomp import RewritePass, either_order, made_by, require, rewrite
from gcomp.ir import Value
from gcomp.op import constant
from gcomp.ops import (
    Abs,
    Add,
    Cast,
    Clip,
    Conv,
    Expand,
    GreaterOrEqual,
    LeakyRelu,
    Less,
    MatMul,
    MatMulInteger,
    Max,
    Mul,
    Neg,
    Not,
    Pow,
    ReduceMean,
    ReduceSum,
    Relu,
    Sub,
    Transpose,
    Where,
)
from gcomp.rewrite import Rule, altered
from gcomp.rewrite import constant as known
from gcomp.testing import Counterexample, check_pass


@rewrite
def empty_axes(op: ReduceMean) -> Mul:
    """ReduceMean(x) -> ReduceSum(x) * (1 / n): of nothing the mean is NaN"""
    require(op.data.type.dtype.name == "f32" and op.data.type.is_static, "floats of known sizes")
    axes = known(op.axes).tolist() if op.axes is not None else list(range(op.data.type.rank))
    require(bool(axes) or not op.noop_with_empty_axes, "axes")
    count = np.prod([op.data.type.static_shape[axis] for axis in axes or range(op.data.type.rank)])
    total = ReduceSum(op.data, op.axes, op.keepdims, op.noop_with_empty_axes)
    return Mul(total.result, constant(np.float32(1 / max(count, 1))))


@rewrite
def not_a_number(op: Not) -> GreaterOrEqual:
    """Not(x < y) -> x >= y"""
    less = made_by(op.x, Less)
    return GreaterOrEqual(less.lhs, less.rhs)


@rewrite
def infinity(op: Sub) -> Value:
    """x - x -> 0"""
    require(op.lhs is op.rhs, "one value twice")
    require(op.result.type.is_static, "known sizes")
    shape = constant(np.array(op.result.type.static_shape, np.int64))
    return Expand(constant(np.zeros((), op.result.type.dtype.numpy)), shape).result


@rewrite
def largest(op: Relu) -> Clip:
    """Relu(x) -> Clip(x, 0, the largest number)"""
    require(op.x.type.dtype.name == "f32", "f32")
    return Clip(op.x, constant(np.float32(0)), constant(np.finfo(np.float32).max))


@rewrite
def zero_of_a_sign(op: Neg) -> Sub:
    """-(x - y) -> y - x: 0.0, not -0.0, where both are equal"""
    difference = made_by(op.x, Sub)
    return Sub(difference.rhs, difference.lhs)


@rewrite
def least_integer(op: GreaterOrEqual) -> Value:
    """|x| >= 0 -> true: the least integer stays negative"""
    require(made_by(op.lhs, Abs).x.type.dtype.is_integer, "integers")
    require(bool((known(op.rhs) == 0).all()), "zero")
    require(op.result.type.is_static, "known sizes")
    return constant(np.ones(op.result.type.static_shape, np.bool_))


@rewrite
def signed_and_unsigned(op: Cast) -> Cast:
    """Cast(Cast(x, a), b) -> Cast(x, b), where a has as many bits: but it may have another sign"""
    inner = made_by(op.x, Cast)
    wide, narrow = inner.result.type.dtype, inner.x.type.dtype
    require(wide.is_float == narrow.is_float and wide.bytes >= narrow.bytes, "no bits less")
    return Cast(inner.x, op.to)


@rewrite
def half_precision(op: Cast) -> Mul:
    """Cast(Cast(x) * c) -> x * Cast(c), where x is of the type that results: c is rounded first"""
    product = made_by(op.x, Mul)
    inner = made_by(product.lhs, Cast)
    factor = known(product.rhs)
    dtype = op.result.type.dtype
    require(inner.x.type.dtype == dtype and dtype.name in ("f16", "bf16"), "halves")
    require(product.result.type.dtype.name == "f32", "a product in single precision")
    return Mul(inner.x, constant(factor.astype(dtype.numpy)))


@rewrite
def axes_alike(op: Transpose) -> Value:
    """Transpose(Transpose(x, p), p) -> x, where types tell no difference"""
    inner = made_by(op.x, Transpose)
    require(inner.perm == op.perm and inner.x.type == op.result.type, "the same axes twice")
    return inner.x


@rewrite
def square_matrices(op: Transpose) -> MatMul:
    """Transpose(a @ b) -> Transpose(a) @ Transpose(b)"""
    product = made_by(op.x, MatMul)
    require(op.perm == (1, 0), "axes swapped")
    require(product.a.type == product.b.type, "square matrices")
    return MatMul(Transpose(product.a, (1, 0)).result, Transpose(product.b, (1, 0)).result)


@rewrite
def symbols(op: Mul) -> Mul:
    """x * Expand(y) -> x * y, where x has sizes: perhaps fewer than the result"""
    factor, x = either_order(op, Expand)
    require(not x.type.is_static and x.type.rank == op.result.type.rank, "symbolic sizes")
    return Mul(x, factor.input)


@rewrite
def default_attribute(op: LeakyRelu) -> LeakyRelu:
    """LeakyRelu(LeakyRelu(x, a), b) -> LeakyRelu(x, a * b): not where a is negative"""
    inner = made_by(op.x, LeakyRelu)
    return LeakyRelu(inner.x, inner.alpha * op.alpha)


@rewrite
def optional_operand(op: Mul) -> Conv:
    """Conv(x, w, b) * s -> Conv(x, w * s, b)"""
    conv = made_by(op.lhs, Conv)
    factor, weights = known(op.rhs), known(conv.w)
    require(factor.size == 1, "one number")
    return altered(conv, w=constant(weights * factor.reshape(()).astype(weights.dtype)))


@rewrite
def stride(op: Conv) -> Conv:
    """Conv(x, w) -> without dilations and strides, where w is 1 in all directions"""
    require(op.w.type.is_static and all(size == 1 for size in op.w.type.shape[2:]), "single taps")
    require(op.dilations is not None or op.strides is not None, "dilations or strides")
    return altered(op, dilations=None, strides=None)


@rewrite
def zero_point(op: MatMulInteger) -> MatMulInteger:
    """MatMulInteger(a, b, _, 0) -> MatMulInteger(a, b), by the first zero point"""
    point = known(op.b_zero_point)
    require(point.size > 0 and point.flat[0] == 0, "a zero point of 0")
    return MatMulInteger(op.a, op.b, op.a_zero_point)


@rewrite
def order_of_operands(op: Sub) -> Add:
    """x - -y -> x + y, from either side"""
    negation, x = either_order(op, Neg)
    return Add(x, negation.x)


@rewrite
def first_element(op: Pow) -> Mul:
    """x ** 2 -> x * x, by the first exponent"""
    exponent = known(op.rhs)
    require(op.lhs.type == op.result.type and op.lhs.type.dtype.is_float, "floats")
    require(exponent.size > 0 and exponent.flat[0] == 2, "squares")
    return Mul(op.lhs, op.lhs)


@rewrite
def chosen_twice(op: Where) -> Value:
    """Where(c, x, x) -> x: but c may be larger"""
    require(op.x is op.y, "one value twice")
    return op.x


@rewrite
def bounds_that_cross(op: Clip) -> Clip:
    """Clip(Clip(x, a, b), c, d) -> Clip(x, max(a, c), b): not where c > b"""
    inner = made_by(op.input, Clip)
    require(op.max is None, "no upper bound")
    if op.min is None or inner.min is None:
        return altered(inner, min=op.min or inner.min)
    return Clip(inner.input, Max((inner.min, op.min)).result, inner.max)


FAULTS = [rule for rule in list(globals().values()) if isinstance(rule, Rule)]


@pytest.mark.parametrize("rule", FAULTS, ids=lambda rule: rule.name)
def test_a_fault_is_found(rule: Rule) -> None:
    with pytest.raises(Counterexample) as found:
        check_pass(RewritePass("wrong", [rule]))
    assert "raises" not in found.value.complaint
