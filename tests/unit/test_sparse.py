"""Products with sparse weights: equal to the dense kernels on the same zeros, whatever their shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.single import Single, problem_for
from gcomp.backends.llvm.cpu import Cpu, from_options, host
from gcomp.backends.llvm.jit import assembly
from gcomp.backends.llvm.templates import gemm, pattern, sparse, template_for
from gcomp.ir import Value
from gcomp.op import Constant, Operator, Storage, constant
from gcomp.ops.convolution import Conv
from gcomp.ops.linear import Gemm, MatMul
from gcomp.tolerance import mismatch
from gcomp.types import Array, Layout
from tests.unit.test_templates import LAST, check, every_processor, numbers, of, run

BLOCKS: dict[Storage, int] = {"unstructured": 1, "4x1": 4}

sizes = st.integers(1, 70)
zeros = st.sampled_from([0.0, 0.5, 0.9, 1.0])
forms = st.sampled_from(list(BLOCKS))


def weights(form: Storage, share: float, outputs: int, *others: int) -> Array:
    """[outputs, ...] with that share of blocks of neighbouring outputs zero."""
    block = BLOCKS[form]
    keep = np.random.default_rng(0).random((-(-outputs // block), *others)) >= share
    return numbers(0, outputs, *others) * np.repeat(keep, block, axis=0)[:outputs]


def stored(array: Array, form: Storage) -> Value:
    return Constant(array, form).result


def taken(op: Operator, cpu: Cpu, constants: dict[int, Array], last: Layout | None) -> None:
    """The sparse kernel takes it and agrees with numpy, alone and behind an epilogue."""
    layouts = {} if last is None else {0: last}
    emitted = sparse.match(problem_for(op, cpu, constants, layouts, last))
    assert emitted is not None and emitted.template == "sparse"
    check(op, cpu, constants, layouts, last)


@every_processor
@given(form=forms, m=sizes, n=sizes, k=sizes, share=zeros, batch=st.integers(1, 2))
def test_matmul(cpu: Cpu, form: Storage, m: int, n: int, k: int, share: float, batch: int) -> None:
    b = np.ascontiguousarray(weights(form, share, n, k).T)
    taken(MatMul(of(batch, m, k), stored(b, form)), cpu, {1: b}, None)


@every_processor
@given(
    form=forms,
    m=sizes,
    n=st.integers(2, 70),
    k=sizes,
    share=zeros,
    bias=st.booleans(),
    transposed=st.booleans(),
)
def test_gemm(
    cpu: Cpu, form: Storage, m: int, n: int, k: int, share: float, bias: bool, transposed: bool
) -> None:
    w = weights(form, share, n, k)
    b = w if transposed else np.ascontiguousarray(w.T)
    op = Gemm(of(m, k), stored(b, form), of(n) if bias else None, alpha=0.5, trans_b=int(transposed))
    taken(op, cpu, {1: b}, None)


@every_processor
@given(
    form=forms,
    x=st.tuples(st.integers(1, 2), st.integers(1, 36), st.integers(1, 12), st.integers(1, 12)),
    filters=sizes,
    share=zeros,
    bias=st.booleans(),
)
def test_pointwise_convolution(
    cpu: Cpu, form: Storage, x: tuple[int, ...], filters: int, share: float, bias: bool
) -> None:
    constants = {1: weights(form, share, filters, x[1], 1, 1)}
    if bias:
        constants[2] = numbers(3, filters)
    op = Conv(of(*x), stored(constants[1], form), constant(constants[2]) if bias else None)
    taken(op, cpu, constants, LAST)


@every_processor
@given(
    form=forms,
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    channels=st.tuples(st.integers(1, 36), st.integers(1, 36)),
    share=zeros,
)
def test_convolution(
    cpu: Cpu,
    form: Storage,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, ...],
    channels: tuple[int, int],
    share: float,
) -> None:
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    padded = [s + pads[i] + pads[i + 2] for i, s in enumerate(size)]
    size = tuple(s + max(0, r - p) for s, r, p in zip(size, reach, padded, strict=True))  # type: ignore[assignment]
    inputs, filters = channels
    w = weights(form, share, filters, inputs, *kernel)
    op = Conv(of(1, inputs, *size), stored(w, form), strides=strides, dilations=dilations, pads=pads)
    taken(op, cpu, {1: w}, LAST)


@every_processor
@pytest.mark.parametrize("form", list(BLOCKS))
@pytest.mark.parametrize(
    ("x", "filters", "kernel"),
    [((1, 80, 19, 17), 70, 3), ((2, 300, 5, 5), 24, 3), ((1, 16, 9, 30), 20, 5), ((1, 2100, 3, 3), 17, 1)],
)
def test_sections_and_chunks(cpu: Cpu, form: Storage, x: tuple[int, ...], filters: int, kernel: int) -> None:
    w = weights(form, 0.8, filters, x[1], kernel, kernel) / np.float32(np.sqrt(x[1] * kernel))
    op = Conv(of(*x), stored(w, form), pads=(kernel // 2,) * 4)
    taken(op, cpu, {1: w}, LAST)


@every_processor
@pytest.mark.parametrize("form", list(BLOCKS))
def test_many_chunks_of_rows_as_the_dense_kernel(cpu: Cpu, form: Storage) -> None:
    b = np.ascontiguousarray(weights(form, 0.8, 100, 90).T)
    op = MatMul(of(333, 90), stored(b, form))
    taken(op, cpu, {1: b}, None)
    problem = problem_for(op, cpu, {1: b})
    found, wanted = (
        run(Single(problem, emitted), [numbers(5, 333, 90), b])
        for emitted in (sparse.match(problem), gemm.match(problem))
        if emitted is not None
    )
    assert mismatch(found, wanted, "close") == ""


@pytest.mark.parametrize(
    "op",
    [
        Gemm(of(8, 8), stored(numbers(0, 8, 8), "4x1"), of(8, 1)),
        Gemm(of(8, 8), stored(numbers(0, 8, 8), "4x1"), of(8), beta=0.5),
        Gemm(of(8, 8), stored(numbers(0, 8, 8), "4x1"), trans_a=1),
        MatMul(of(2, 8, 8), stored(numbers(0, 2, 8, 8), "4x1")),
        Conv(of(1, 8, 8, 8), stored(numbers(0, 8, 4, 1, 1), "4x1"), group=2),
        Conv(of(1, 8, 8, 8), stored(numbers(0, 8, 8, 6, 6), "4x1")),
        Conv(of(1, 8, 8, 8), stored(numbers(0, 8, 8, 3, 3), "dense")),
    ],
    ids=lambda op: op.kind,
)
def test_others_are_left_to_other_kernels(op: Operator) -> None:
    last = LAST if isinstance(op, Conv) else None
    w = op.operands[1]
    assert w is not None and isinstance(w.owner, Constant)
    problem = problem_for(op, host(), {1: w.owner.value}, {0: last} if last else {}, last)
    assert sparse.match(problem) is None


def test_it_is_asked_first() -> None:
    b = weights("4x1", 0.5, 8, 8)
    match = template_for(MatMul)
    emitted = match(problem_for(MatMul(of(8, 8), stored(b, "4x1")), host(), {1: b})) if match else None
    assert emitted is not None and emitted.template == "sparse"


@pytest.mark.parametrize("form", list(BLOCKS))
def test_the_inner_loop_holds_multiply_adds_and_no_stores(form: Storage) -> None:
    """Also none to the stack: sums stay in registers."""
    cpu = from_options({"triple": "x86_64-linux-gnu", "cpu": "x86-64-v4"})
    b = np.ascontiguousarray(weights(form, 0.8, 96, 96).T)
    problem = problem_for(MatMul(of(96, 96), stored(b, form)), cpu, {1: b})
    emitted = sparse.match(problem)
    assert emitted is not None
    text = assembly(Single(problem, emitted).text(), cpu, emitted.optimise)
    loops = [part for part in text.split(".p2align") if "vfmadd" in part.split("\tj")[0]]
    assert loops
    for loop in loops:
        body = loop.split("\tj")[0]
        assert "(%rsp)" not in body and not any(
            line.endswith(")") and "vmov" in line for line in body.splitlines()
        )


def test_what_is_stored() -> None:
    matrix = np.zeros((6, 4), np.float32)
    matrix[1, 2], matrix[3, 0], matrix[5, 1], matrix[4, 2] = 1, 2, 3, 4
    found = pattern.pattern_of(matrix, 4, [(0, 2), (2, 4)], together=1)
    assert found.rows == 2
    np.testing.assert_array_equal(found.starts, [0, 1, 2, 2, 3, 4])
    np.testing.assert_array_equal(found.order, [0, 1, 0, 1])
    np.testing.assert_array_equal(found.filled, [2, 2])
    np.testing.assert_array_equal(found.inputs, [0, 1, 0, 0])
    np.testing.assert_array_equal(found.values, [[0, 0, 0, 2], [0, 3, 0, 0], [0, 1, 0, 0], [4, 0, 0, 0]])


def test_fuller_rows_come_first() -> None:
    matrix = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 1]], np.float32)
    found = pattern.pattern_of(matrix, 1, [(0, 3)], together=3)
    assert found.rows == 6
    np.testing.assert_array_equal(found.order, [2, 3, 0, 1, 4, 5])
    np.testing.assert_array_equal(found.starts, [0, 3, 5, 6, 6, 6, 6])
    np.testing.assert_array_equal(found.filled, [3])


def test_what_infinity_meets() -> None:
    """The documented deviation: a zero that is skipped gives 0 where 0 * inf is NaN."""
    b = np.zeros((8, 8), np.float32)
    b[:, :4] = 1
    problem = problem_for(MatMul(of(8, 8), stored(b, "4x1")), host(), {1: b})
    emitted = sparse.match(problem)
    assert emitted is not None
    found = run(Single(problem, emitted), [np.full((8, 8), np.inf, np.float32), b])
    assert np.isposinf(found[:, :4]).all() and (found[:, 4:] == 0).all()
