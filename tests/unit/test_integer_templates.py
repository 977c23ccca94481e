"""Kernels for products of bytes against their references: exact, for shapes, edges, signs and epilogues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.single import Single, empty, problem_for, single
from gcomp.backends.llvm.cpu import Cpu, from_options, host
from gcomp.expr import Expr
from gcomp.op import Operator, argument, constant
from gcomp.ops.integer import ConvInteger
from gcomp.ops.linear import MatMulInteger
from gcomp.tensor import Tensor
from gcomp.types import I8, I32, U8, Array, DType, TensorType


def processors() -> Iterator[Any]:
    """Those that add four products at once and that this machine can act as."""
    mine = host()
    if mine.arch == "x86_64" and mine.has("avx512vnni", "avx512vl"):
        yield pytest.param(mine, id=mine.name)
    if mine.arch == "x86_64" and mine.has("avxvnni"):
        yield pytest.param(from_options({"cpu": "alderlake"}), id="avxvnni")


every_processor = pytest.mark.parametrize("cpu", list(processors()))
sizes = st.integers(1, 20)
dtypes = st.sampled_from([U8, I8])


def of(dtype: DType, *shape: int) -> Any:
    return argument(TensorType(dtype, shape))


def numbers(seed: int, dtype: DType, *shape: int) -> Array:
    """Bytes over the whole range, its ends among them more often than by chance."""
    limits = np.iinfo(dtype.numpy)
    wide = np.random.default_rng(seed).integers(limits.min - 40, limits.max + 41, shape)
    return wide.clip(limits.min, limits.max).astype(dtype.numpy)


def run(kernel: Single, arrays: Sequence[Array]) -> Array:
    problem = kernel.problem
    memory = [np.ascontiguousarray(array) for array in arrays]
    out = empty(problem.results[0].type)
    assert kernel.load()([*memory, out])() == 0
    return out


def check(op: Operator, cpu: Cpu, arrays: Sequence[Array | None], axis: int) -> None:
    """A template takes `op`, alone and with a bias along `axis` and another sum behind it; both are exact."""
    constants = {i: array for i, array in enumerate(arrays) if i and array is not None}
    expected = np.asarray(op.reference(*arrays))
    given_ = [np.zeros(0, np.int8) if array is None else array for array in arrays]
    kernel = single(problem_for(op, cpu, constants))
    assert kernel is not None
    np.testing.assert_array_equal(run(kernel, given_), expected)

    bias = np.random.default_rng(2).integers(-(2**31), 2**31, expected.shape[axis]).astype(np.int32)
    other = np.random.default_rng(3).integers(-99, 99, expected.shape).astype(np.int32)

    def tail(y: Expr, extra: Sequence[Tensor], axes: Sequence[Expr]) -> Expr:
        return y + extra[0][axes[axis]] + extra[1][tuple(axes)]

    extra = [TensorType(I32, bias.shape), TensorType(I32, other.shape)]
    kernel = single(problem_for(op, cpu, constants, extra=extra, tail=tail))
    assert kernel is not None
    shape = [-1 if i == axis else 1 for i in range(expected.ndim)]
    np.testing.assert_array_equal(run(kernel, [*given_, bias, other]), expected + bias.reshape(shape) + other)


@every_processor
@given(m=sizes, n=st.integers(1, 70), k=st.integers(1, 40), batch=st.integers(1, 3), dtype=dtypes)
def test_matmul(cpu: Cpu, m: int, n: int, k: int, batch: int, dtype: DType) -> None:
    a, b, zero = numbers(0, dtype, batch, m, k), numbers(1, I8, k, n), numbers(m, dtype)
    op = MatMulInteger(of(dtype, batch, m, k), constant(b), constant(zero))
    check(op, cpu, [a, b, zero, None], 2)


@every_processor
def test_what_no_matmul_kernel_takes(cpu: Cpu) -> None:
    a, b = of(U8, 4, 8), numbers(1, I8, 8, 5)
    assert single(problem_for(MatMulInteger(a, constant(b)), cpu, {1: b}))
    assert not single(problem_for(MatMulInteger(a, of(I8, 8, 5)), cpu))
    zero = numbers(3, I8)
    op = MatMulInteger(a, constant(b), None, constant(zero))
    assert not single(problem_for(op, cpu, {1: b, 3: zero}))
    unsigned = numbers(1, U8, 8, 5)
    assert not single(problem_for(MatMulInteger(a, constant(unsigned)), cpu, {1: unsigned}))


def test_without_the_instruction_there_is_no_kernel() -> None:
    b = numbers(1, I8, 8, 5)
    op = MatMulInteger(of(U8, 4, 8), constant(b))
    for cpu in (from_options({"cpu": "haswell"}), from_options({"cpu": "x86-64"})):
        assert not single(problem_for(op, cpu, {1: b}))


@every_processor
@given(data=st.data(), dtype=dtypes, group=st.integers(1, 2))
def test_convolution(cpu: Cpu, data: st.DataObject, dtype: DType, group: int) -> None:
    draw = data.draw
    space = [draw(sizes), draw(st.integers(1, 40))]
    kernel, dilations = [draw(st.integers(1, 4)) for _ in space], [draw(st.integers(1, 2)) for _ in space]
    strides, pads = [draw(st.integers(1, 3)) for _ in space], [draw(st.integers(0, 3)) for _ in range(4)]
    for axis, size in enumerate(space):
        assume(size + pads[axis] + pads[axis + 2] > (kernel[axis] - 1) * dilations[axis])
    depth = draw(st.integers(1 if group == 1 else 4, 9))
    filters, images = group * draw(st.integers(1, 20)), draw(st.integers(1, 2))
    x, w = numbers(0, dtype, images, group * depth, *space), numbers(1, I8, filters, depth, *kernel)
    zero = numbers(depth, dtype)
    op = ConvInteger(
        of(dtype, *x.shape),
        constant(w),
        constant(zero),
        group=group,
        strides=tuple(strides),
        dilations=tuple(dilations),
        pads=tuple(pads),
    )
    check(op, cpu, [x, w, zero, None], 1)


@every_processor
@pytest.mark.parametrize("shape", [(1, 64, 56, 56), (1, 24, 7, 7), (2, 3, 90, 130)])
def test_large_images_in_several_blocks(cpu: Cpu, shape: tuple[int, ...]) -> None:
    x, w, zero = numbers(0, U8, *shape), numbers(1, I8, 20, shape[1], 3, 3), numbers(2, U8)
    op = ConvInteger(of(U8, *shape), constant(w), constant(zero), pads=(1, 1, 1, 1))
    check(op, cpu, [x, w, zero, None], 1)


@every_processor
def test_what_no_convolution_kernel_takes(cpu: Cpu) -> None:
    w = numbers(1, I8, 8, 1, 3, 3)
    depthwise = ConvInteger(of(U8, 1, 8, 9, 9), constant(w), group=8)
    assert not single(problem_for(depthwise, cpu, {1: w}))
    assert not single(problem_for(ConvInteger(of(U8, 1, 1, 9, 9), of(I8, 8, 1, 3, 3)), cpu))
    sparse = ConvInteger(of(U8, 1, 1, 9, 9), constant(w), strides=(1, 5))
    assert not single(problem_for(sparse, cpu, {1: w}))
    flat = numbers(1, I8, 8, 4, 3)
    assert not single(problem_for(ConvInteger(of(U8, 1, 4, 9), constant(flat)), cpu, {1: flat}))
