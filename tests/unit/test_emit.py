"""The emitter: what it prints is taken by LLVM, and computes what it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.emit import Function, Value, lane_mask, mangled, number, scalar, vector
from gcomp.backends.llvm.jit import emit_object
from gcomp.backends.llvm.vectorize import Evaluator
from gcomp.diagnostics import BuildError
from gcomp.expr import Binary, Var, literal
from gcomp.types import BF16, BOOL, F16, F32, F64, I8, I64, U8, DType
from tests.functions import loaded, module_text


def summing(start: Value | int, stop: Value | int, step: int) -> Function:
    """`i64 (i64 a, i64 b)`: the sum of range(start, stop, step), and its length times 1000."""
    fn = Function("f", [("i64", "a"), ("i64", "b")], "i64")

    def body(i: Value, values: list[Value]) -> Sequence[Value]:
        return [fn.value(f"add i64 {values[0]}, {i}"), fn.value(f"add i64 {values[1]}, 1000")]

    total, count = fn.loop(start, stop, step, body, [("i64", "0"), ("i64", "0")])
    fn.do(f"ret i64 {fn.value(f'add i64 {total}, {count}')}")
    return fn


def expected_sum(start: int, stop: int, step: int) -> int:
    return sum(range(start, stop, step)) + 1000 * len(range(start, stop, step))


@pytest.mark.parametrize("step", [1, 3, 16])
def test_loops_between_values_known_at_run_time(step: int) -> None:
    run = loaded(summing("%a", "%b", step))
    for start in range(-2, 4):
        for stop in (-9, -2, 0, 1, 3, 4, 5, 40):
            assert run(start, stop) == expected_sum(start, stop, step)


@given(start=st.integers(-3, 3), stop=st.integers(-5, 40), step=st.sampled_from([1, 3, 16]))
def test_loops_between_numbers(start: int, stop: int, step: int) -> None:
    assert loaded(summing(start, stop, step))(0, 0) == expected_sum(start, stop, step)


def test_bounds_that_are_known_leave_no_loop_of_one_or_none() -> None:
    assert "phi" not in str(summing(0, 0, 1))
    assert "phi" not in str(summing(5, 6, 1))
    assert "phi" not in str(summing(0, 16, 16))
    assert "phi" in str(summing(0, 17, 16))
    assert "icmp slt i64 %a, %b" in str(summing("%a", "%b", 1))


def test_loops_within_loops_carry_values() -> None:
    fn = Function("f", [("i64", "n")], "i64")

    def rows(i: Value, outer: list[Value]) -> Sequence[Value]:
        def columns(j: Value, inner: list[Value]) -> Sequence[Value]:
            return [fn.add(inner[0], fn.mul(i, j))]

        return fn.loop(0, "%n", 1, columns, [("i64", outer[0])])

    (total,) = fn.loop(0, "%n", 1, rows, [("i64", "7")])
    fn.do(f"ret i64 {total}")
    run = loaded(fn)
    assert [run(n) for n in (0, 1, 5)] == [7, 7, 7 + sum(i * j for i in range(5) for j in range(5))]


PAIRS = [(3, 4), (0, "%a"), ("%a", 0), ("%a", 1), (1, "%a"), ("%a", "%b"), (-2, 5)]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_sums_and_products_fold_what_is_known(a: Value | int, b: Value | int) -> None:
    fn = Function("f", [("i64", "a"), ("i64", "b")], "i64")
    total, product = fn.add(a, b), fn.mul(a, b)
    known = {"%a": 11, "%b": 13}
    x, y = (known.get(str(v), v) for v in (a, b))
    if isinstance(a, int) and isinstance(b, int):
        assert (total, product) == (str(a + b), str(a * b))
        assert not fn.lines
    thousands = fn.value(f"mul i64 {product}, 1000")
    fn.do(f"ret i64 {fn.value(f'add i64 {total}, {thousands}')}")
    assert loaded(fn)(11, 13) == int(x) + int(y) + 1000 * int(x) * int(y)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (F32, [0.1, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38]),
        (F64, [0.1, -0.0, np.inf, np.nan, 5e-324]),
        (F16, [0.1, -0.0, np.inf, np.nan, 6e-8]),
        (BF16, [0.1, -0.0, np.inf, np.nan, 1e-40]),
        (I8, [-128, 127]),
        (U8, [255]),
        (I64, [-(2**63), 2**63 - 1]),
        (BOOL, [True, False]),
    ],
)
def test_numbers_are_exact(dtype: DType, values: list[float]) -> None:
    for value in values:
        fn = Function("f", [("ptr", "out")])
        kind = scalar(dtype)
        if dtype == BOOL:
            fn.store(fn.value(f"zext i1 {number(value, dtype)} to i8"), "%out", "i8")
        else:
            fn.store(number(value, dtype), "%out", kind)
        fn.do("ret void")
        out, wanted = np.zeros(1, dtype.numpy), np.array([value], dtype.numpy)
        loaded(fn)(out.ctypes.data)
        assert out.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize("active", [0, 1, 3])
def test_masks_guard_memory(lanes: int, active: int) -> None:
    """Lanes that are off read `other` and write nothing."""
    fn = Function("f", [("ptr", "x"), ("ptr", "y")])
    mask = lane_mask(active, lanes)
    other = fn.splat(number(-1.0, F32), "float", lanes)
    value = fn.masked_load("%x", mask, "float", lanes, other)
    fn.store(value, "%y", vector("float", lanes))
    fn.masked_store(value, fn.element("%y", lanes, "float"), mask, "float", lanes)
    fn.prefetch("%x", 3)
    fn.do("ret void")
    x, y = np.arange(1.0, lanes + 1, dtype=np.float32), np.full(2 * lanes, 9, np.float32)
    loaded(fn)(x.ctypes.data, y.ctypes.data)
    on = np.arange(lanes) < active
    assert np.array_equal(y[:lanes], np.where(on, x, -1))
    assert np.array_equal(y[lanes:], np.where(on, x, 9))


def test_vectors_of_one_value_and_fma() -> None:
    fn = Function("f", [("float", "a"), ("ptr", "out")])
    a = fn.splat("%a", "float", 4)
    three = fn.splat(number(3.0, F32), "float", 4)
    fn.store(fn.fma(a, a, three, "float", 4), "%out", vector("float", 4))
    fn.store(fn.fma("%a", "%a", number(1.0, F32), "float", 1), fn.element("%out", 4, "float"), "float")
    fn.do("ret void")
    out = np.zeros(5, np.float32)
    loaded(fn)(2.5, out.ctypes.data)
    assert out.tolist() == [9.25] * 4 + [7.25]


def test_what_is_called_is_declared_once() -> None:
    fn = Function("f", [("float", "a")], "float")
    fn.do(f"ret float {fn.fma('%a', '%a', fn.fma('%a', '%a', '%a', 'float', 1), 'float', 1)}")
    assert fn.declarations == {"declare float @llvm.fma.f32(float, float, float)"}
    assert module_text(fn).count("declare") == 1
    assert loaded(fn)(2.0) == 10.0


def test_stack_slots_lie_in_the_entry() -> None:
    """A slot asked for in a loop is there once, or the stack would grow with each iteration."""
    fn = Function("f", [("i64", "n")], "i64")

    def body(i: Value, _: list[Value]) -> None:
        slot = fn.local("i64", 8)
        fn.store(i, slot, "i64", 8)

    fn.loop(0, "%n", 1, body)
    fn.do("ret i64 0")
    text = str(fn)
    assert text.index("alloca") < text.index("br i1")
    assert loaded(fn)(1 << 20) == 0


def test_names_of_types() -> None:
    assert [scalar(dtype) for dtype in (F32, F64, F16, BF16, BOOL, U8, I64)] == [
        "float", "double", "half", "bfloat", "i1", "i8", "i64",
    ]  # fmt: skip
    assert (vector("float", 1), vector("float", 8)) == ("float", "<8 x float>")
    assert (mangled("double", 1), mangled("i8", 16)) == ("f64", "v16i8")


def test_text_that_llvm_does_not_take_is_shown() -> None:
    with pytest.raises(BuildError, match="LLVM does not take the text made for it") as error:
        emit_object("define void @f() {\n  ret i32 0\n}\n", host(), False)
    assert "ret i32 0" in str(error.value)


def test_indices_that_are_not_negative_are_divided_unsigned() -> None:
    """Which takes one instruction, where rounding down takes several."""
    i = Var("i", 40)
    fn = Function("f", [("i64", "i")], "i64")
    quotient = Evaluator(fn, {i: "%i"})(Binary("floordiv", i, literal(7), I64))
    fn.do(f"ret i64 {quotient}")
    assert "udiv i64 %i, 7" in str(fn) and "sdiv" not in str(fn)
    below = Function("f", [("i64", "i")], "i64")
    Evaluator(below, {i: "%i"})(Binary("floordiv", Binary("sub", i, literal(9), I64), literal(7), I64))
    assert "sdiv" in str(below)
