"""Kernels: what the constructors of expressions simplify, what inlining keeps, what programs refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gcomp import kernel as language
from gcomp.dim import symbol
from gcomp.interpret import interpret
from gcomp.kernel import (
    Binary,
    BinaryName,
    Compute,
    Expr,
    Kernel,
    Literal_,
    Load,
    Reduce,
    Select,
    Var,
    binary,
    bounds,
    cast,
    children,
    inlined,
    literal,
    rebuild,
    select,
    structure,
    substitute,
    transform,
    walk,
)
from gcomp.lowering import lower_op
from gcomp.testing.samples import native_samples, operand_arrays, sample
from gcomp.types import BOOL, F32, I32, I64, Array, TensorType

EXTENTS = (5, 1, 4)
COMPARISONS = ("lt", "le", "eq", "ne")
OPERATIONS = ("add", "sub", "mul", "floordiv", "mod", "min", "max", *COMPARISONS)

Formula = Any
"""A variable's place, `("literal", number)`, or `(operation, formula, formula)`."""

places = st.integers(0, len(EXTENTS) - 1)
leaves = st.one_of(
    places,
    st.tuples(st.just("literal"), st.integers(-9, 9)),
    st.just(("literal", 4)),
    st.tuples(st.just("mul"), places, st.sampled_from([("literal", 4), ("literal", 8)])),
)
numbers = st.recursive(
    leaves, lambda inner: st.tuples(st.sampled_from(OPERATIONS[:7]), inner, inner), max_leaves=8
)
formulas = numbers | st.tuples(st.sampled_from(COMPARISONS), numbers, numbers)


def built(formula: Formula, axes: tuple[Var, ...], make: Callable[[str, Expr, Expr], Expr]) -> Expr:
    if isinstance(formula, int):
        return axes[formula]
    if formula[0] == "literal":
        return literal(formula[1])
    op, lhs, rhs = formula
    return make(op, built(lhs, axes, make), built(rhs, axes, make))


def plain(op: Any, lhs: Expr, rhs: Expr) -> Expr:
    """The operation as it stands, nothing simplified."""
    return Binary(op, lhs, rhs, BOOL if op in COMPARISONS else I64)


def over_all_indices(make: Callable[..., Expr]) -> Array:
    """The value at every index."""
    kernel = Kernel()
    kind = make(*(Var(f"i{axis}", extent) for axis, extent in enumerate(EXTENTS))).dtype
    kernel.results = [kernel.compute(TensorType(kind, EXTENTS), make)]
    return interpret(kernel, [])[0]


@given(formula=formulas)
@example(("floordiv", ("add", ("mul", 0, ("literal", 8)), ("mul", 2, ("literal", 4))), ("literal", 4)))
@example(("mod", ("add", ("mul", 0, ("literal", 4)), 2), ("literal", 4)))
@example(("floordiv", ("add", ("mul", 0, ("literal", 8)), ("sub", 2, ("literal", 7))), ("literal", 4)))
@example(("mod", ("sub", 0, ("literal", 7)), ("literal", 4)))
@example(("lt", ("sub", 0, ("literal", 4)), ("literal", 1)))
@example(("le", 2, ("literal", 3)))
@example(("floordiv", 0, ("literal", 0)))
@example(("floordiv", 0, ("literal", 4)))
@example(("lt", ("mul", 0, ("literal", -2)), ("literal", 0)))
def test_simplified_index_arithmetic_is_equal_to_plain(formula: Formula) -> None:
    found = over_all_indices(lambda *axes: built(formula, axes, binary))  # pyright: ignore[reportArgumentType]
    assert np.array_equal(found, over_all_indices(lambda *axes: built(formula, axes, plain)))


@given(formula=numbers)
@example(("mul", 0, ("literal", -3)))
def test_bounds_hold(formula: Formula) -> None:
    axes = tuple(Var(f"i{axis}", extent) for axis, extent in enumerate(EXTENTS))
    low, high = bounds(built(formula, axes, plain))
    values = over_all_indices(lambda *axes: built(formula, axes, plain))
    assert low is None or low <= values.min()
    assert high is None or values.max() <= high


def test_index_arithmetic_gets_simple() -> None:
    i, j = Var("i", 5), Var("j", 4)
    assert (i + 0) is i
    assert (i * 1) is i
    assert (i // 1) is i
    assert structure(i * 0) == structure(literal(0))
    assert structure((i * 4 + j) // 4) == structure(i)
    assert structure((i * 4 + j) % 4) == structure(j)
    assert structure((i * 8 + j) // 4) == structure(i * 2)
    assert structure((i + 1) + 2) == structure(i + 3)
    assert structure((i + 1) - 1) == structure(i)
    assert structure(1 + i) == structure(i + 1)
    assert structure(i < 5) == structure(Literal_(True, BOOL))
    assert structure(i >= 5) == structure(Literal_(False, BOOL))
    assert isinstance(i < 4, Binary)
    assert bounds(i * 4 + j) == (0, 19)
    k = Var("k", symbol("n"))
    assert bounds(k) == (0, None)
    assert bounds(k - i) == (-4, None)
    assert bounds(i - k) == (None, 4)


def test_only_index_arithmetic_is_simplified() -> None:
    """Adding 0 to a float is no identity, and i32 wraps elsewhere than i64."""
    x, n = literal(1.5, F32), cast(Var("i", 3), I32)
    assert isinstance(x + 0.0, Binary)
    assert isinstance(n * 1, Binary)


def kernel_over(stages: list[Any], like: Kernel) -> Kernel:
    kernel = Kernel()
    kernel.operands, kernel.results, kernel.stages = like.operands, like.results, stages
    return kernel


@pytest.mark.parametrize(("name", "place"), native_samples())
def test_inlining_keeps_the_meaning(name: str, place: int) -> None:
    op = sample(name, place)
    kernel = lower_op(op)
    arrays = operand_arrays(op)
    given = [a if t is not None else None for t, a in zip(kernel.operands, arrays, strict=True)]
    stages = inlined(kernel.stages, lambda tensor: tensor in kernel.results)
    assert len(stages) <= len(kernel.stages)
    for found, expected in zip(
        interpret(kernel_over(stages, kernel), given), interpret(kernel, given), strict=True
    ):
        assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")


@pytest.mark.parametrize(("name", "place"), native_samples())
def test_expressions_are_rebuilt_from_their_parts(name: str, place: int) -> None:
    for stage in lower_op(sample(name, place)).stages:
        if isinstance(stage, Compute):
            for x in walk(stage.value):
                again = rebuild(x, children(x))
                assert type(again) is type(x)
                assert vars(again) == vars(x)


def test_inlining_leaves_what_reduces_and_what_is_claimed() -> None:
    kernel = Kernel([TensorType(F32, (4, 3))])
    (x,) = kernel.operands
    assert x is not None
    twice = kernel.compute(x.type, lambda i, j: x[i, j] * 2.0)
    rows = TensorType(F32, (4,))
    total = kernel.compute(rows, lambda i: language.reduce("add", [3], lambda j: twice[i, j], 0.0))
    kernel.results = [kernel.compute(rows, lambda i: total[i] + 1.0)]
    last = kernel.results[0]
    assert [s.result for s in inlined(kernel.stages, lambda t: t is last) if isinstance(s, Compute)] == [
        total,
        last,
    ]
    kept = inlined(kernel.stages, lambda t: t in (twice, last))
    assert [s.result for s in kept if isinstance(s, Compute)] == [twice, total, last]


def test_what_is_read_under_a_condition_is_inlined_under_it() -> None:
    kernel = Kernel([TensorType(F32, (3,))])
    (x,) = kernel.operands
    assert x is not None
    root = kernel.compute(x.type, lambda i: language.unary("sqrt", x[i]))
    padded = TensorType(F32, (5,))
    kernel.results = [kernel.compute(padded, lambda i: root.load([i - 1], (i >= 1) & (i < 4), -1.0))]
    (stage,) = inlined(kernel.stages, lambda t: t in kernel.results)
    assert isinstance(stage, Compute) and isinstance(stage.value, Select)
    loads = [part for part in walk(stage.value) if isinstance(part, Load)]
    assert loads and all(load.where is not None for load in loads)
    given: list[Array | None] = [np.array([1, 4, 9], np.float32)]
    assert interpret(kernel_over([stage], kernel), given)[0].tolist() == [-1, 1, 2, 3, -1]


def test_shared_parts_stay_shared() -> None:
    """Forty doublings are forty nodes, however often they are transformed."""
    i, j = Var("i", 5), Var("j", 5)
    x: Expr = cast(i, F32)
    for _ in range(40):
        x = x + x
    assert sum(1 for _ in walk(substitute(x, {i: j}))) == sum(1 for _ in walk(x)) == 42
    assert transform(x, lambda e: None) is x


def test_every_operation_has_a_name_of_its_own() -> None:
    x, y = literal(6.0, F32), cast(Var("i", 9), F32)
    n, m = cast(y, I32), literal(3, I32)
    made = [x + y, x - y, x * y, x / y, n // m, n % m, n & m, n | m, n ^ m, n << m, n >> m, x < y, x <= y]
    made += [x.eq(y), x.ne(y)]
    found = [part.op for part in made if isinstance(part, Binary)]
    assert len(set(found)) == len(made)
    assert set(found) <= set(get_args(BinaryName))
    assert [(part.lhs, part.rhs) for part in (x > y, x >= y) if isinstance(part, Binary)] == [(y, x)] * 2


def test_mistakes_are_told() -> None:
    kernel = Kernel([TensorType(F32, (4, 3))])
    (x,) = kernel.operands
    assert x is not None
    with pytest.raises(ValueError, match="indexed by 1"):
        x[0]
    with pytest.raises(ValueError, match="add of f32 and i64"):
        binary("add", x[0, 0], literal(1))
    with pytest.raises(ValueError, match="needs one expression"):
        select(Literal_(True, BOOL), 1.0, 2.0)
    with pytest.raises(ValueError, match="otherwise follows when"), kernel_program(kernel):
        pass


def kernel_program(kernel: Kernel) -> Any:
    program = kernel.program()
    target = kernel.scratch(TensorType(I64, ()))
    program.store(target, (), 1)
    return program.otherwise()


def test_a_reduction_over_nothing_is_its_body() -> None:
    assert isinstance(language.reduce("add", [], lambda: literal(2.0, F32), 0.0), Literal_)
    assert isinstance(language.reduce("add", [2], lambda _: literal(2.0, F32), 0.0), Reduce)
