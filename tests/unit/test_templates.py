"""Kernel templates against numpy in f64: shapes, edges, layouts and epilogues, on several processors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.single import Single, empty, in_memory, logical, problem_for, single
from gcomp.backends.llvm.cpu import Cpu, from_options, host
from gcomp.backends.llvm.templates import blocks, overrides, winograd
from gcomp.expr import Expr, maximum
from gcomp.op import Operator, argument, constant
from gcomp.ops.bfloat import BfloatConv, BfloatGemm, BfloatMatMul
from gcomp.ops.convolution import Conv
from gcomp.ops.linear import Gemm, MatMul
from gcomp.ops.pool import AveragePool, GlobalAveragePool, MaxPool
from gcomp.tensor import Tensor
from gcomp.tolerance import mismatch
from gcomp.types import F32, Array, Layout, TensorType, channels_last

LAST = channels_last(4, 16)


def processors() -> Iterator[Any]:
    """What this machine can run: its own widest vectors, and narrower ones."""
    mine = host()
    yield pytest.param(mine, id=mine.name)
    if mine.arch == "x86_64":
        if mine.vector_bytes == 64:
            yield pytest.param(from_options({"cpu": "haswell"}), id="avx2")
        yield pytest.param(from_options({"cpu": "x86-64-v2"}), id="sse")


every_processor = pytest.mark.parametrize("cpu", list(processors()))
sizes = st.integers(1, 20)


def arrays_for(op: Operator, constants: dict[int, Array], seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [
        constants[i] if i in constants else rng.standard_normal(v.type.static_shape).astype(np.float32)
        for i, v in enumerate(op.operands)
        if v is not None
    ]


def run(kernel: Single, arrays: Sequence[Array]) -> Array:
    """The result of a kernel on logical arrays."""
    problem = kernel.problem
    present = [i for i, v in enumerate(problem.kernel.operands) if v is not None]
    memory: list[Array] = [np.zeros(0, np.float32)] * len(problem.operands)
    for place, array in zip(present, arrays, strict=True):
        view = problem.operands[place]
        assert view is not None
        memory[place] = in_memory(array, view.type)
    out = empty(problem.results[0].type)
    assert kernel.load()([*memory, out])() == 0
    return logical(out, problem.results[0].type)


def check(
    op: Operator,
    cpu: Cpu,
    constants: dict[int, Array],
    layouts: dict[int, Layout] | None = None,
    result_layout: Layout | None = None,
    tolerance: str = "approximate",
) -> None:
    """A template takes `op`, alone and with scale, residual and relu behind it; both agree with numpy."""
    arrays = arrays_for(op, constants, 1)
    filled = iter(arrays)
    operands = [None if v is None else next(filled).astype(np.float64) for v in op.operands]
    expected = np.asarray(op.reference(*operands))
    kernel = single(problem_for(op, cpu, constants, layouts, result_layout))
    assert kernel is not None
    assert mismatch(run(kernel, arrays), expected.astype(np.float32), tolerance) == ""

    result = op.results[0].type
    rng = np.random.default_rng(2)
    axis = 1 if result_layout is not None or isinstance(op, GlobalAveragePool) else result.rank - 1
    scale = rng.standard_normal(result.static_shape[axis]).astype(np.float32)
    residual = rng.standard_normal(result.static_shape).astype(np.float32)

    def tail(y: Expr, extra: Sequence[Tensor], axes: Sequence[Expr]) -> Expr:
        return maximum(y * extra[0][axes[axis]] + extra[1][tuple(axes)], 0.0)

    extra = [TensorType(F32, scale.shape), TensorType(F32, residual.shape)]
    kernel = single(problem_for(op, cpu, constants, layouts, result_layout, extra, tail))
    assert kernel is not None
    shape = [-1 if i == axis else 1 for i in range(result.rank)]
    wanted = np.maximum(expected * scale.reshape(shape) + residual, 0).astype(np.float32)
    assert mismatch(run(kernel, [*arrays, scale, residual]), wanted, tolerance) == ""


def of(*shape: int) -> Any:
    return argument(TensorType(F32, shape))


def numbers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@every_processor
@given(m=sizes, n=st.integers(1, 70), k=st.integers(1, 40), batch=st.integers(1, 3), packed=st.booleans())
def test_matmul(cpu: Cpu, m: int, n: int, k: int, batch: int, packed: bool) -> None:
    b = numbers(0, k, n)
    check(MatMul(of(batch, m, k), constant(b) if packed else of(k, n)), cpu, {1: b} if packed else {})


@every_processor
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 4, 6), (2, 3, 6, 5)),
        ((2, 1, 4, 6), (3, 6, 18)),
        ((4, 6), (2, 6, 33)),
        ((1, 1, 8), (1, 8, 16)),
        ((3, 1, 8), (3, 8, 16)),
        ((40, 16), (16, 512)),
        ((2, 1, 40), (40, 300)),
    ],
)
def test_batches(cpu: Cpu, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    check(MatMul(of(*left), of(*right)), cpu, {})


@pytest.mark.parametrize("shape", [(8, 3, 16), (2, 4, 3, 16), (1, 24, 16)])
def test_batches_with_one_matrix_are_rows_of_it(shape: tuple[int, ...]) -> None:
    """No loop goes over batches, also where a residual is added that lies as they do."""

    def loops(*shape: int) -> int:
        def tail(y: Expr, extra: Sequence[Tensor], axes: Sequence[Expr]) -> Expr:
            return y + extra[0][tuple(axes)]

        cpu, b = from_options({"cpu": "haswell"}), numbers(0, 16, 32)
        residual = [TensorType(F32, (*shape[:-1], 32))]
        kernel = single(problem_for(MatMul(of(*shape), constant(b)), cpu, {1: b}, extra=residual, tail=tail))
        assert kernel is not None
        return kernel.text().count("= phi i64 ")

    assert loops(*shape) == loops(24, 16)


@pytest.mark.skipif(not host().multiplies_bfloats, reason="this processor has no products of bf16")
@given(m=sizes, n=st.integers(1, 70), k=st.integers(1, 140), batch=st.integers(1, 3))
def test_products_of_bfloats(m: int, n: int, k: int, batch: int) -> None:
    b = numbers(0, n, k).astype(ml_dtypes.bfloat16)
    check(BfloatGemm(of(m, k), constant(b), of(n), beta=0.5, trans_b=1), host(), {1: b})
    b = numbers(1, k, n).astype(ml_dtypes.bfloat16)
    check(BfloatMatMul(of(batch, m, k), constant(b)), host(), {1: b})
    b = numbers(2, k, 300 + n).astype(ml_dtypes.bfloat16)
    check(BfloatMatMul(of(1, k), constant(b)), host(), {1: b})


@pytest.mark.skipif(not host().multiplies_bfloats, reason="this processor has no products of bf16")
@pytest.mark.parametrize(("shape", "n"), [((257, 33), 20), ((2, 301, 40), 50), ((530, 1100), 33)])
def test_products_of_bfloats_in_blocks_of_rows(shape: tuple[int, ...], n: int) -> None:
    b = numbers(0, shape[-1], n).astype(ml_dtypes.bfloat16)
    check(BfloatMatMul(of(*shape), constant(b)), host(), {1: b})


@pytest.mark.skipif(not host().multiplies_bfloats, reason="this processor has no products of bf16")
@pytest.mark.parametrize(
    ("x", "filters", "kernel", "strides"),
    [
        ((1, 16, 9, 7), 20, (1, 1), (1, 1)),
        ((2, 37, 6, 5), 33, (1, 1), (2, 2)),
        ((1, 24, 1, 17), 40, (1, 1), (1, 1)),
        ((2, 18, 8, 9), 31, (3, 2), (1, 2)),
    ],
)
def test_convolutions_of_bfloats(
    x: tuple[int, ...], filters: int, kernel: tuple[int, int], strides: tuple[int, int]
) -> None:
    w, b = numbers(0, filters, x[1], *kernel).astype(ml_dtypes.bfloat16), numbers(1, filters)
    pads = tuple(2 * [size // 2 for size in kernel])
    op = BfloatConv(of(*x), constant(w), constant(b), strides=strides, pads=pads)
    check(op, host(), {1: w, 2: b}, {0: LAST}, LAST)


@every_processor
@pytest.mark.parametrize("n", [16, 256, 300, 513, 1024])
def test_vector_times_matrix(cpu: Cpu, n: int) -> None:
    b = numbers(0, 65, n)
    check(MatMul(of(1, 65), constant(b)), cpu, {1: b})


@every_processor
@given(
    m=sizes,
    n=st.integers(1, 40),
    k=sizes,
    transposed=st.tuples(st.booleans(), st.booleans()),
    c=st.sampled_from(["none", "scalar", "row", "column", "all"]),
    factors=st.sampled_from([(1.0, 1.0), (0.5, -2.0)]),
)
def test_gemm(
    cpu: Cpu, m: int, n: int, k: int, transposed: tuple[bool, bool], c: str, factors: tuple[float, float]
) -> None:
    b = numbers(0, *((n, k) if transposed[1] else (k, n)))
    a = of(*((k, m) if transposed[0] else (m, k)))
    shape = {"none": None, "scalar": (), "row": (n,), "column": (m, 1), "all": (m, n)}[c]
    addend = None if shape is None else of(*shape)
    op = Gemm(a, constant(b), addend, *factors, trans_a=int(transposed[0]), trans_b=int(transposed[1]))
    check(op, cpu, {1: b})


@st.composite
def convolutions(draw: st.DrawFn, depthwise: bool = False) -> dict[str, Any]:
    """Shapes and attributes of a small Conv with a result."""
    axes = [
        (draw(sizes), draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2)))
        for _ in range(2)
    ]
    pads = [draw(st.integers(0, 3)) for _ in range(4)]
    for axis, (size, kernel, _, dilation) in enumerate(axes):
        assume(size + pads[axis] + pads[axis + 2] >= (kernel - 1) * dilation + 1)
    channels = draw(st.integers(2 if depthwise else 1, 36))
    return {
        "x": (draw(st.integers(1, 2)), channels, axes[0][0], axes[1][0]),
        "filters": channels if depthwise else draw(st.integers(1, 70)),
        "kernel": (axes[0][1], axes[1][1]),
        "strides": (axes[0][2], axes[1][2]),
        "dilations": (axes[0][3], axes[1][3]),
        "pads": tuple(pads),
        "bias": draw(st.booleans()),
    }


def conv(group: int, of_: dict[str, Any], channels_last_input: bool, cpu: Cpu) -> None:
    w = numbers(0, of_["filters"], of_["x"][1] // group, *of_["kernel"])
    constants: dict[int, Array] = {1: w}
    if of_["bias"]:
        constants[2] = numbers(3, of_["filters"])
    bias = constant(constants[2]) if of_["bias"] else None
    given_ = {name: of_[name] for name in ("strides", "dilations", "pads")}
    op = Conv(of(*of_["x"]), constant(w), bias, group=group, **given_)
    check(op, cpu, constants, {0: LAST} if channels_last_input else {}, LAST)


@every_processor
@given(shape=convolutions(), channels_last_input=st.booleans())
def test_convolution(cpu: Cpu, shape: dict[str, Any], channels_last_input: bool) -> None:
    conv(1, shape, channels_last_input, cpu)


@every_processor
@settings(max_examples=10)
@given(shape=convolutions(), bytes=st.sampled_from([1 << 10, 4 << 10]))
def test_convolutions_in_blocks_of_taps_and_depth(cpu: Cpu, shape: dict[str, Any], bytes: int) -> None:
    """What deep convolutions of small images do, on shallow ones."""
    with patch.object(blocks, "PANEL", bytes):
        conv(1, shape, True, cpu)


@every_processor
@settings(max_examples=4)
@given(
    size=st.tuples(st.integers(12, 21), st.integers(12, 21)),
    channels=st.integers(32, 50),
    filters=st.integers(32, 70),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    batch=st.integers(1, 2),
    bias=st.booleans(),
)
def test_winograd(
    cpu: Cpu,
    size: tuple[int, int],
    channels: int,
    filters: int,
    pads: tuple[int, int, int, int],
    batch: int,
    bias: bool,
) -> None:
    w = numbers(0, filters, channels, 3, 3)
    op = Conv(of(batch, channels, *size), constant(w), pads=pads)
    kernel = single(problem_for(op, cpu, {1: w}, {0: LAST}, LAST))
    assert kernel is not None and kernel.emitted.template == "winograd"
    shape = {"x": (batch, channels, *size), "filters": filters, "kernel": (3, 3), "strides": (1, 1)}
    conv(1, {**shape, "dilations": (1, 1), "pads": pads, "bias": bias}, True, cpu)


def test_winograd_transforms_are_a_correlation() -> None:
    output, filters, inputs = (np.array(matrix) for matrix in winograd.matrices())
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(winograd.SIDE), rng.standard_normal(winograd.TAPS)
    product = output @ ((filters @ g) * (inputs @ d))
    assert np.allclose(product, np.correlate(d, g, "valid"), rtol=1e-12)


@every_processor
@given(shape=convolutions(depthwise=True))
def test_depthwise(cpu: Cpu, shape: dict[str, Any]) -> None:
    conv(shape["filters"], shape, True, cpu)


LARGER = [
    ((1, 64, 56, 56), 64, (1, 1), 1, 1),
    ((1, 96, 30, 31), 48, (3, 3), 1, 1),
    ((1, 32, 1, 90), 48, (1, 7), 1, 1),
    ((1, 32, 90, 1), 48, (7, 1), 1, 1),
    ((1, 160, 57, 57), 64, (1, 1), 2, 1),
    ((1, 64, 9, 9), 96, (3, 3), 1, 2),
    ((1, 40, 9, 9), 64, (3, 3), 2, 2),
    ((1, 8, 6, 30), 16, (3, 17), 1, 1),
    ((1, 260, 7, 7), 80, (3, 3), 1, 1),
    ((2, 150, 9, 14), 40, (3, 5), 2, 1),
    ((1, 48, 90, 90), 112, (1, 1), 1, 1),
    ((1, 128, 48, 48), 112, (3, 3), 1, 1),
]


@every_processor
@pytest.mark.parametrize(("x", "filters", "kernel", "stride", "group"), LARGER)
def test_larger_convolutions(
    cpu: Cpu, x: tuple[int, ...], filters: int, kernel: tuple[int, int], stride: int, group: int
) -> None:
    """Shapes that are cut into blocks, many panels, groups, one long axis, more taps than registers."""
    pads = (kernel[0] // 2, kernel[1] // 2) * 2
    shape = {"x": x, "filters": filters, "kernel": kernel, "strides": (stride,) * 2, "dilations": (1, 1)}
    conv(group, {**shape, "pads": pads, "bias": True}, True, cpu)


@every_processor
@given(shape=convolutions(depthwise=True), kind=st.sampled_from([MaxPool, AveragePool]), padded=st.booleans())
def test_pools(cpu: Cpu, shape: dict[str, Any], kind: type[MaxPool | AveragePool], padded: bool) -> None:
    options: dict[str, Any] = {"count_include_pad": int(padded)} if kind is AveragePool else {}
    reach = [(k - 1) * d for k, d in zip(shape["kernel"], shape["dilations"], strict=True)]
    assume(all(pad <= room for pad, room in zip(shape["pads"], reach * 2, strict=True)))
    options |= {name: shape[name] for name in ("strides", "dilations", "pads")}
    op = kind(of(*shape["x"]), shape["kernel"], **options)
    x = numbers(1, *shape["x"])
    with np.errstate(all="ignore"):
        assume(np.isfinite(op.reference(x)).all())
    check(op, cpu, {}, {0: LAST}, LAST)


@every_processor
@pytest.mark.parametrize("shape", [(1, 16, 7, 7), (2, 35, 3, 5), (1, 300, 7, 7), (1, 5, 1, 1)])
@pytest.mark.parametrize("result", [None, LAST], ids=["row-major", "channels-last"])
def test_global_average(cpu: Cpu, shape: tuple[int, ...], result: Layout | None) -> None:
    check(GlobalAveragePool(of(*shape)), cpu, {}, {0: LAST}, result)


@every_processor
def test_greatest_of_nan(cpu: Cpu) -> None:
    op = MaxPool(of(1, 16, 4, 4), (2, 2))
    x = numbers(0, 1, 16, 4, 4)
    x[0, 3, 1, 1] = x[0, 7, 0, 0] = np.nan
    kernel = single(problem_for(op, cpu, {}, {0: LAST}, LAST))
    assert kernel is not None
    assert mismatch(run(kernel, [x]), op.reference(x), "exact") == ""


def test_declined() -> None:
    """What no template takes goes to the generic nest."""
    w, cpu = numbers(0, 8, 3, 3, 3), host()
    op = Conv(of(1, 6, 9, 9), constant(w), group=2)
    assert single(problem_for(op, cpu, {1: w}, {0: LAST}, LAST)) is None
    w = numbers(0, 16, 6, 3, 3)
    assert single(problem_for(Conv(of(1, 6, 9, 9), constant(w)), cpu, {1: w})) is None
    assert single(problem_for(Conv(of(1, 6, 9, 9), of(16, 6, 3, 3)), cpu, {}, {0: LAST}, LAST)) is None
    assert single(problem_for(Gemm(of(4, 5), of(6, 5), trans_b=1), cpu)) is None


def test_found_by_operator() -> None:
    assert set(overrides()) >= {Gemm, MatMul, Conv, MaxPool, AveragePool, GlobalAveragePool}
    assert len(overrides()[Conv]) == 3  # sparse, dense, depthwise
