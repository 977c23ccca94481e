"""Products with zeros in blocks: equal to the dense kernels on the same zeros, chosen where that pays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.single import Single, problem_for
from gcomp.backends.llvm.cpu import Cpu, host
from gcomp.backends.llvm.templates import block_sparse, gemm, pattern
from gcomp.op import Operator, constant
from gcomp.ops.convolution import Conv
from gcomp.ops.linear import Gemm, MatMul
from gcomp.tolerance import mismatch
from gcomp.types import Array, Layout
from tests.unit.test_templates import LAST, check, every_processor, numbers, of, run

sizes = st.integers(1, 70)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the estimate says: small shapes have the edges."""
    monkeypatch.setattr(pattern, "pays", lambda *_: True)


def sparse(seed: int, outputs: int, inputs: int, zeros: float) -> Array:
    """[outputs, inputs] with that share of blocks of four outputs zero."""
    keep = np.random.default_rng(seed).random((-(-outputs // 4), inputs)) >= zeros
    return numbers(seed, outputs, inputs) * np.repeat(keep, 4, axis=0)[:outputs]


def taken(op: Operator, cpu: Cpu, constants: dict[int, Array], last: Layout | None) -> None:
    """The sparse kernel takes it and agrees with numpy, alone and behind an epilogue."""
    layouts = {} if last is None else {0: last}
    emitted = block_sparse.match(problem_for(op, cpu, constants, layouts, last))
    assert emitted is not None and emitted.template == "block-sparse"
    check(op, cpu, constants, layouts, last)


zeros = st.sampled_from([0.0, 0.5, 0.9, 1.0])


@every_processor
@given(m=sizes, n=sizes, k=sizes, share=zeros, batch=st.integers(1, 2))
def test_matmul(cpu: Cpu, m: int, n: int, k: int, share: float, batch: int) -> None:
    b = np.ascontiguousarray(sparse(0, n, k, share).T)
    taken(MatMul(of(batch, m, k), constant(b)), cpu, {1: b}, None)


@every_processor
@given(m=sizes, n=st.integers(2, 70), k=sizes, share=zeros, bias=st.booleans(), transposed=st.booleans())
def test_gemm(cpu: Cpu, m: int, n: int, k: int, share: float, bias: bool, transposed: bool) -> None:
    w = sparse(0, n, k, share)
    b = w if transposed else np.ascontiguousarray(w.T)
    op = Gemm(of(m, k), constant(b), of(n) if bias else None, alpha=0.5, trans_b=int(transposed))
    taken(op, cpu, {1: b}, None)


@every_processor
@given(
    x=st.tuples(st.integers(1, 2), st.integers(1, 36), st.integers(1, 12), st.integers(1, 12)),
    filters=sizes,
    share=zeros,
    bias=st.booleans(),
)
def test_pointwise_convolution(cpu: Cpu, x: tuple[int, ...], filters: int, share: float, bias: bool) -> None:
    constants = {1: sparse(0, filters, x[1], share)[:, :, None, None]}
    if bias:
        constants[2] = numbers(3, filters)
    op = Conv(of(*x), constant(constants[1]), constant(constants[2]) if bias else None)
    taken(op, cpu, constants, LAST)


@every_processor
def test_many_chunks_of_rows_as_the_dense_kernel(cpu: Cpu) -> None:
    b = np.ascontiguousarray(sparse(1, 100, 90, 0.8).T)
    op = MatMul(of(333, 90), constant(b))
    taken(op, cpu, {1: b}, None)
    problem = problem_for(op, cpu, {1: b})
    found, wanted = (
        run(Single(problem, emitted), [numbers(5, 333, 90), b])
        for emitted in (block_sparse.match(problem), gemm.match(problem))
        if emitted is not None
    )
    assert mismatch(found, wanted, "close") == ""


@pytest.mark.parametrize(
    "op",
    [
        Gemm(of(8, 8), constant(numbers(0, 8, 8)), of(8, 1)),
        Gemm(of(8, 8), constant(numbers(0, 8, 8)), of(8), beta=0.5),
        Gemm(of(8, 8), constant(numbers(0, 8, 8)), trans_a=1),
        MatMul(of(2, 8, 8), constant(numbers(0, 2, 8, 8))),
        Conv(of(1, 8, 8, 8), constant(numbers(0, 8, 8, 3, 3))),
        Conv(of(1, 8, 8, 8), constant(numbers(0, 8, 8, 1, 1)), strides=(2, 2)),
        Conv(of(1, 8, 8, 8), constant(numbers(0, 8, 4, 1, 1)), group=2),
    ],
    ids=lambda op: op.kind,
)
def test_others_stay_dense(op: Operator) -> None:
    last = LAST if isinstance(op, Conv) else None
    w = constant_of(op)
    assert block_sparse.match(problem_for(op, host(), {1: w}, {0: last} if last else {}, last)) is None


def constant_of(op: Operator) -> Array:
    value = op.operands[1]
    assert value is not None and value.producer is not None
    return value.producer.attributes["value"]


def test_what_infinity_meets() -> None:
    """The documented deviation: a zero that is skipped gives 0 where 0 * inf is NaN."""
    b = np.zeros((8, 8), np.float32)
    b[:, :4] = 1
    op = MatMul(of(8, 8), constant(b))
    problem = problem_for(op, host(), {1: b})
    emitted = block_sparse.match(problem)
    assert emitted is not None
    found = run(Single(problem, emitted), [np.full((8, 8), np.inf, np.float32), b])
    assert np.isposinf(found[:, :4]).all() and (found[:, 4:] == 0).all()
