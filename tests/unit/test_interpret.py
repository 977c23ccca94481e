"""The interpreter of kernels: what the kernel language promises, how broken kernels are refused."""

from __future__ import annotations

import numpy as np
import pytest

from gcomp.diagnostics import IllFormed, InputError, RunError
from gcomp.dim import symbol
from gcomp.interpret import interpret
from gcomp.kernel import Checked, Expr, Fma, Kernel, Tensor, binary, cast, literal, reduce, unary
from gcomp.types import BF16, BOOL, F16, F32, F64, I8, I32, I64, U8, Array, DType, TensorType


def kernel_of(*types: TensorType) -> tuple[Kernel, list[Tensor]]:
    kernel = Kernel(types)
    return kernel, [tensor for tensor in kernel.operands if tensor is not None]


def of_pairs(op: str, dtype: DType, result: DType, lhs: list[float], rhs: list[float]) -> list[float]:
    """The binary operation on pairs of elements."""
    type = TensorType(dtype, (len(lhs),))
    kernel, (a, b) = kernel_of(type, type)
    kernel.results = [kernel.compute(TensorType(result, type.shape), lambda i: binary(op, a[i], b[i]))]  # type: ignore[arg-type]
    (found,) = interpret(kernel, [np.array(lhs, dtype.numpy), np.array(rhs, dtype.numpy)])
    return found.tolist()


@pytest.mark.parametrize(
    ("op", "dtype", "lhs", "rhs", "expected"),
    [
        ("floordiv", I32, [7, -7, 7, -7, 5], [2, 2, -2, -2, 0], [3, -4, -4, 3, 0]),
        ("truncdiv", I32, [7, -7, 7, -7, 5], [2, 2, -2, -2, 0], [3, -3, -3, 3, 0]),
        ("mod", I32, [7, -7, 7, -7, 5], [2, 2, -2, -2, 0], [1, 1, -1, -1, 0]),
        ("rem", I32, [7, -7, 7, -7, 5], [2, 2, -2, -2, 0], [1, -1, 1, -1, 0]),
        ("truncdiv", I8, [-128], [-1], [-128]),
        ("add", I8, [127, -128], [1, -1], [-128, 127]),
        ("mul", U8, [16], [17], [16]),
        ("shl", I32, [1, 1, -1], [31, 32, 1], [-(2**31), 0, -2]),
        ("shr", I32, [-8, -8], [1, 40], [-4, 0]),
        ("shr", U8, [200, 200], [1, 8], [100, 0]),
    ],
)
def test_integer_operations_are_defined_for_every_input(
    op: str, dtype: DType, lhs: list[float], rhs: list[float], expected: list[float]
) -> None:
    assert of_pairs(op, dtype, dtype, lhs, rhs) == expected


@pytest.mark.parametrize("op", ["min", "max"])
def test_extremes_propagate_nan(op: str) -> None:
    assert np.isnan(of_pairs(op, F32, F32, [np.nan, 1.0], [1.0, np.nan])).all()


@pytest.mark.parametrize(
    ("source", "target", "values", "expected"),
    [
        (F32, I32, [np.nan, np.inf, -np.inf, 1e20, -1.9, 1.9], [0, 2**31 - 1, -(2**31), 2**31 - 1, -1, 1]),
        (F32, U8, [-3.0, 300.0, 255.9], [0, 255, 255]),
        (F64, I64, [1e30, -1e30], [2**63 - 1, -(2**63)]),
        (BF16, I8, [200.0, -200.0], [127, -128]),
        (I32, I8, [200, -200], [-56, 56]),
        (F32, BOOL, [0.0, -0.0, np.nan, 0.25], [False, False, True, True]),
        (F64, F16, [1e6, 1.0], [np.inf, 1.0]),
    ],
)
def test_casts_truncate_saturate_and_wrap(
    source: DType, target: DType, values: list[float], expected: list[float]
) -> None:
    type = TensorType(source, (len(values),))
    kernel, (x,) = kernel_of(type)
    kernel.results = [kernel.compute(TensorType(target, type.shape), lambda i: cast(x[i], target))]
    (found,) = interpret(kernel, [np.array(values).astype(source.numpy)])
    assert found.tolist() == expected


def test_fma_rounds_once() -> None:
    """(1 + e)(1 - e) - 1 is -e**2, which two roundings turn into 0."""
    for dtype, e in ((F32, 2.0**-13), (F64, 2.0**-30)):
        type = TensorType(dtype, (1,))
        kernel, (a, b, c) = kernel_of(type, type, type)
        kernel.results = [kernel.compute(type, lambda i, a=a, b=b, c=c: Fma(a[i], b[i], c[i]))]
        (found,) = interpret(kernel, [np.array([v], dtype.numpy) for v in (1 + e, 1 - e, -1.0)])
        assert found[0] == -e * e


def test_reductions_nest_and_an_empty_one_is_its_start() -> None:
    kernel, (x,) = kernel_of(TensorType(F64, (2, 3, 4)))
    type = TensorType(F64, (2,))

    def peaks(i: Expr) -> Expr:
        return reduce("add", [3], lambda j: reduce("max", [4], lambda r: x[i, j, r], -np.inf), 0.0)

    kernel.results = [
        kernel.compute(type, peaks),
        kernel.compute(type, lambda i: reduce("mul", [0], lambda r: x[i, r, 0], 1.0)),
    ]
    values = np.random.default_rng(0).normal(size=(2, 3, 4))
    sums, ones = interpret(kernel, [values])
    np.testing.assert_allclose(sums, values.max(2).sum(1))
    assert ones.tolist() == [1.0, 1.0]


def test_long_reductions_run_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcomp.interpret.LARGEST", 64)
    kernel, (a, b) = kernel_of(TensorType(F64, (5, 7, 3)), TensorType(F64, (7, 3, 6)))

    def element(i: Expr, j: Expr) -> Expr:
        return reduce("add", [7, 3], lambda r, s: a[i, r, s] * b[r, s, j], 0.0)

    kernel.results = [kernel.compute(TensorType(F64, (5, 6)), element)]
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(5, 7, 3)), rng.normal(size=(7, 3, 6))
    np.testing.assert_allclose(interpret(kernel, [left, right])[0], np.tensordot(left, right, 2))


def test_programs_loop_branch_and_see_their_own_stores() -> None:
    """The number of steps that the Collatz sequence of each element takes to 1."""
    kernel, (x,) = kernel_of(TensorType(I64, (4,)))
    steps, now = kernel.scratch(TensorType(I64, (4,))), kernel.scratch(TensorType(I64, ()))
    program = kernel.program(steps)
    with program.loop(4) as i:
        program.store(now, (), x[i])
        with program.repeat(now[()] > 1):
            with program.when((now[()] % 2).eq(0)):
                program.store(now, (), now[()] // 2)
            with program.otherwise():
                program.store(now, (), now[()] * 3 + 1)
            program.store(steps, [i], steps[i] + 1)
    kernel.results = [steps]
    assert interpret(kernel, [np.array([1, 2, 3, 7])])[0].tolist() == [0, 1, 7, 16]


def test_symbolic_sizes_come_from_the_operands() -> None:
    n = symbol("n")
    kernel, (x,) = kernel_of(TensorType(F32, (n, 2)))
    kernel.results = [kernel.compute(TensorType(F32, (n * 2,)), lambda i: x[i // 2, i % 2])]
    assert interpret(kernel, [np.arange(6, dtype=np.float32).reshape(3, 2)])[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_masked_loads_read_nothing_where_their_condition_fails() -> None:
    kernel, (x,) = kernel_of(TensorType(F32, (3,)))
    kernel.results = [
        kernel.compute(TensorType(F32, (5,)), lambda i: x.load([i - 1], (i >= 1) & (i < 4), 9.0))
    ]
    assert interpret(kernel, [np.array([1, 2, 3], np.float32)])[0].tolist() == [9, 1, 2, 3, 9]


def test_indices_out_of_range_are_refused() -> None:
    kernel, (x,) = kernel_of(TensorType(F32, (3,)))
    kernel.results = [kernel.compute(TensorType(F32, (3,)), lambda i: x[i + 1])]
    with pytest.raises(IllFormed, match="index 0 below 3"):
        interpret(kernel, [np.zeros(3, np.float32)])
    kernel, (x, at) = kernel_of(TensorType(F32, (3,)), TensorType(I64, (1,)))
    kernel.results = [kernel.compute(TensorType(F32, (1,)), lambda i: x[Checked(at[i], 3)])]
    for index in (-1, 3):
        with pytest.raises(RunError, match="index out of range"):
            interpret(kernel, [np.zeros(3, np.float32), np.array([index])])


def test_stores_out_of_range_are_refused() -> None:
    kernel, _ = kernel_of()
    result = kernel.scratch(TensorType(I64, (2,)))
    kernel.program(result).store(result, [literal(2)], 1)
    kernel.results = [result]
    with pytest.raises(IllFormed, match="within"):
        interpret(kernel, [])


@pytest.mark.parametrize("array", [None, np.zeros(2, np.float32), np.zeros(3, np.float64)])
def test_operands_that_do_not_fit_are_refused(array: Array | None) -> None:
    kernel, (x,) = kernel_of(TensorType(F32, (3,)))
    kernel.results = [kernel.compute(TensorType(F32, (3,)), lambda i: unary("neg", x[i]))]
    with pytest.raises(InputError, match="interpret"):
        interpret(kernel, [array])
