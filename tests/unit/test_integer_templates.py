"""Kernels for products of bytes against their references: exact, for shapes, edges, signs and epilogues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.single import Single, empty, in_memory, logical, problem_for, single
from gcomp.backends.llvm.cpu import Cpu, from_options, host
from gcomp.expr import Expr
from gcomp.ir import Value
from gcomp.op import Constant, Operator, argument, constant
from gcomp.ops.integer import ConvInteger
from gcomp.ops.linear import MatMulInteger
from gcomp.ops.pool import MaxPool
from gcomp.tensor import Tensor
from gcomp.types import F32, I8, I32, U8, Array, DType, Layout, TensorType, channels_last


def processors() -> Iterator[Any]:
    """Those that this machine can act as, one for each way to multiply bytes."""
    mine = host()
    if mine.arch != "x86_64":
        yield pytest.param(mine, id=mine.name)
        return
    for name in ("x86-64", "haswell", "alderlake", "skylake-avx512", "cascadelake"):
        cpu = from_options({"cpu": name})
        if mine.has(*cpu.features):
            yield pytest.param(cpu, id=name)


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
    """The logical result for logical operands, each laid out as the kernel reads it."""
    problem = kernel.problem
    memory = [
        array if view is None else in_memory(array, view.type)
        for view, array in zip(problem.operands, arrays, strict=True)
    ]
    out = empty(problem.results[0].type)
    assert kernel.load()([*memory, out])() == 0
    return logical(out, problem.results[0].type)


def check(
    op: Operator,
    cpu: Cpu,
    arrays: Sequence[Array | None],
    layout: Layout | None = None,
    result_layout: Layout | None = None,
) -> None:
    """A template takes `op`, alone and with a bias and another sum behind it; both are exact."""
    constants = {i: array for i, array in enumerate(arrays) if i and array is not None}
    expected = np.asarray(op.reference(*arrays))
    given_ = [np.zeros(0, np.int8) if array is None else array for array in arrays]
    layouts = {0: layout} if layout else {}
    kernel = single(problem_for(op, cpu, constants, layouts, result_layout))
    assert kernel is not None
    np.testing.assert_array_equal(run(kernel, given_), expected)

    axis = 1 if isinstance(op, ConvInteger) else expected.ndim - 1
    bias = np.random.default_rng(2).integers(-(2**31), 2**31, expected.shape[axis]).astype(np.int32)
    other = np.random.default_rng(3).integers(-99, 99, expected.shape).astype(np.int32)

    def tail(y: Expr, extra: Sequence[Tensor], axes: Sequence[Expr]) -> Expr:
        return y + extra[0][axes[axis]] + extra[1][tuple(axes)]

    extra = [TensorType(I32, bias.shape), TensorType(I32, other.shape)]
    kernel = single(problem_for(op, cpu, constants, layouts, result_layout, extra, tail))
    assert kernel is not None
    shape = [-1 if i == axis else 1 for i in range(expected.ndim)]
    np.testing.assert_array_equal(run(kernel, [*given_, bias, other]), expected + bias.reshape(shape) + other)


@every_processor
@given(m=sizes, n=st.integers(1, 70), k=st.integers(1, 40), batch=st.integers(1, 3), dtype=dtypes)
def test_matmul(cpu: Cpu, m: int, n: int, k: int, batch: int, dtype: DType) -> None:
    a, b, zero = numbers(0, dtype, batch, m, k), numbers(1, I8, k, n), numbers(m, dtype)
    op = MatMulInteger(of(dtype, batch, m, k), constant(b), constant(zero))
    check(op, cpu, [a, b, zero, None])


@pytest.mark.parametrize(("depth", "dtype", "copied"), [(64, U8, False), (62, U8, True), (64, I8, True)])
def test_rows_of_whole_groups_of_bytes_are_read_where_they_are(
    depth: int, dtype: DType, copied: bool
) -> None:
    """Products of four unsigned bytes each: others are copied first."""
    w = numbers(1, I8, depth, 32)
    code = single(
        problem_for(
            MatMulInteger(of(dtype, 5, depth), constant(w)), from_options({"cpu": "icelake-server"}), {1: w}
        )
    )
    assert code is not None
    assert any(given.source == "scratch" for given in code.emitted.arguments) is copied


@pytest.mark.parametrize("shape", [(8, 3, 64), (1, 8, 3, 64), (8, 1, 3, 64)])
def test_batches_with_one_matrix_are_rows_of_it(shape: tuple[int, ...]) -> None:
    """As many products stand in the loop as for one matrix of 24 rows: tiles reach across batches."""

    def products(*shape: int) -> int:
        w = numbers(1, I8, 64, 32)
        op = MatMulInteger(of(U8, *shape), constant(w))
        code = single(problem_for(op, from_options({"cpu": "icelake-server"}), {1: w}))
        assert code is not None
        return code.text().count("vpdpbusd.512(")

    assert products(*shape) == products(24, 64) > products(3, 64)


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


@every_processor
def test_the_extremes_do_not_saturate(cpu: Cpu) -> None:
    for number, dtype in ((255, U8), (-128, I8)):
        a, b = np.full((3, 300), number, dtype.numpy), np.full((300, 20), -128, np.int8)
        check(MatMulInteger(of(dtype, 3, 300), constant(b)), cpu, [a, b, None, None])


def test_no_vectors_no_kernel() -> None:
    b = numbers(1, I8, 8, 5)
    cpu = from_options({"triple": "thumbv7em-none-eabi", "cpu": "cortex-m4"})
    assert not single(problem_for(MatMulInteger(of(U8, 4, 8), constant(b)), cpu, {1: b}))


def layouts(cpu: Cpu, channels: int, group: int) -> tuple[Layout, Layout]:
    """Those of the input, in small blocks if it has few channels, and of the result."""
    block = cpu.lanes(F32)
    few = channels < block // 2 and group == 1
    return channels_last(4, 4 if few else block), channels_last(4, block)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """The size of an image, and a convolution's attributes, kernel_shape included."""
    space = draw(sizes), draw(st.integers(1, 40))
    kernel, dilations = (tuple(draw(st.integers(1, most)) for _ in space) for most in (4, 2))
    strides, pads = tuple(draw(st.integers(1, 3)) for _ in space), [draw(st.integers(0, 3)) for _ in range(4)]
    for axis, size in enumerate(space):
        assume(size + pads[axis] + pads[axis + 2] > (kernel[axis] - 1) * dilations[axis])
    return {
        "space": space,
        "kernel_shape": kernel,
        "dilations": dilations,
        "strides": strides,
        "pads": tuple(pads),
    }


def convolution(cpu: Cpu, x: Array, w: Array, zero: int, group: int, dtype: DType, **attributes: Any) -> None:
    zeros = np.asarray(zero, dtype.numpy)
    op = ConvInteger(of(dtype, *x.shape), constant(w), constant(zeros), group=group, **attributes)
    check(op, cpu, [x, w, zeros, None], *layouts(cpu, x.shape[1], group))


@every_processor
@given(data=st.data(), dtype=dtypes, group=st.integers(1, 2), window=windows())
def test_convolution(
    cpu: Cpu, data: st.DataObject, dtype: DType, group: int, window: dict[str, tuple[int, ...]]
) -> None:
    depth = data.draw(st.integers(1, 40)) if group == 1 else cpu.lanes(F32) * data.draw(st.integers(1, 2))
    filters = data.draw(st.integers(1, 40)) if group == 1 else depth * 2
    images, zero = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([0, 7]))
    space = window.pop("space")
    x = numbers(0, dtype, images, group * depth, *space)
    w = numbers(1, I8, filters, depth, *window["kernel_shape"])
    convolution(cpu, x, w, zero, group, dtype, **window)


@every_processor
@given(window=windows(), dtype=dtypes, channels=st.integers(2, 40), zero=st.sampled_from([0, 7]))
def test_depthwise_convolution(
    cpu: Cpu, window: dict[str, tuple[int, ...]], dtype: DType, channels: int, zero: int
) -> None:
    x = numbers(0, dtype, 2, channels, *window.pop("space"))
    convolution(cpu, x, numbers(1, I8, channels, 1, *window["kernel_shape"]), zero, channels, dtype, **window)


@every_processor
@pytest.mark.parametrize("shape", [(1, 64, 56, 56), (1, 24, 7, 7), (2, 3, 90, 130)])
def test_large_images_in_several_blocks(cpu: Cpu, shape: tuple[int, ...]) -> None:
    x, w = numbers(0, U8, *shape), numbers(1, I8, 20, shape[1], 3, 3)
    convolution(cpu, x, w, 77, 1, U8, pads=(1, 1, 1, 1))


@every_processor
@given(window=windows(), dtype=dtypes, channels=st.integers(1, 40))
def test_largest_bytes(cpu: Cpu, window: dict[str, tuple[int, ...]], dtype: DType, channels: int) -> None:
    x = numbers(0, dtype, 1, channels, *window.pop("space"))
    kernel = window["kernel_shape"]
    pads = tuple(min(pad, size - 1) for pad, size in zip(window["pads"], kernel * 2, strict=True))
    for axis, size in enumerate(x.shape[2:]):
        assume(size + pads[axis] + pads[axis + 2] > (kernel[axis] - 1) * window["dilations"][axis])
    attributes: dict[str, Any] = window | {"pads": pads}
    pool = MaxPool(of(dtype, *x.shape), **attributes)
    layout = channels_last(4, cpu.lanes(F32))
    code = single(problem_for(pool, cpu, None, {0: layout}, layout))
    assert code is not None
    np.testing.assert_array_equal(run(code, [x]), pool.reference(x))


@every_processor
def test_what_no_convolution_kernel_takes(cpu: Cpu) -> None:
    block = channels_last(4, cpu.lanes(F32))
    x, w = of(U8, 1, 64, 9, 9), numbers(1, I8, 64, 64, 3, 3)

    def taken(op: ConvInteger, w: Array | None, layout: Layout | None = block) -> bool:
        constants = {} if w is None else {1: w}
        return single(problem_for(op, cpu, constants, {0: layout} if layout else {}, layout)) is not None

    assert taken(ConvInteger(x, constant(w)), w)
    assert not taken(ConvInteger(x, constant(w)), w, None)
    assert not taken(ConvInteger(x, of(I8, *w.shape)), None)
    unsigned = numbers(1, U8, *w.shape)
    assert not taken(ConvInteger(x, constant(unsigned)), unsigned)
    narrow = numbers(1, I8, 32, 2, 3, 3)
    assert not taken(ConvInteger(x, constant(narrow), group=32), narrow)


@every_processor
def test_depthwise_kernels_know_both_zero_points(cpu: Cpu) -> None:
    layout, w = channels_last(4, cpu.lanes(F32)), numbers(1, I8, 64, 1, 3, 3)

    def taken(zero: Value | None, of_filters: Value | None) -> bool:
        op = ConvInteger(of(U8, 1, 64, 9, 9), constant(w), zero, of_filters, group=64)
        known = {place: value.owner for place, value in enumerate(op.operands) if value is not None}
        constants = {place: one.value for place, one in known.items() if isinstance(one, Constant)}
        return single(problem_for(op, cpu, constants, {0: layout}, layout)) is not None

    one, each = constant(3, np.uint8), constant(np.arange(64, dtype=np.int8), np.int8)
    assert taken(None, None) and taken(one, None) and taken(one, constant(np.full(64, 5, np.int8), np.int8))
    assert not taken(of(U8), None)
    assert not taken(one, each)
    assert not taken(None, of(I8))
