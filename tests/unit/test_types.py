"""Sizes, types and layouts: their arithmetic against integers, their text against itself."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gcomp import dim as dims
from gcomp.diagnostics import InferenceError
from gcomp.types import (
    DTYPES,
    F32,
    STRING,
    Layout,
    Part,
    TensorType,
    broadcast_shapes,
    channels_last,
    dtype_by_code,
    dtype_of,
    parse_layout,
    parse_type,
)

NAMES = ("batch", "n", "width_2")
VALUES = st.fixed_dictionaries({name: st.integers(1, 30) for name in NAMES})


@st.composite
def sizes(draw, depth=3):
    """A size, and the function from values of the symbols to its integer."""
    if depth == 0 or draw(st.booleans()):
        name = draw(st.sampled_from((*NAMES, None)))
        if name is None:
            number = draw(st.integers(-20, 20))
            return number, lambda values: number
        return dims.symbol(name), lambda values: values[name]
    (a, f), (b, g) = draw(sizes(depth - 1)), draw(sizes(depth - 1))
    divisor, name = draw(st.integers(1, 9)), draw(st.sampled_from(NAMES))
    return draw(
        st.sampled_from(
            [
                (a + b, lambda values: f(values) + g(values)),
                (a - b, lambda values: f(values) - g(values)),
                (a * b, lambda values: f(values) * g(values)),
                (a // divisor, lambda values: f(values) // divisor),
                (a // (dims.symbol(name) * divisor), lambda values: f(values) // (values[name] * divisor)),
                (dims.ceildiv(a, divisor), lambda values: -(-f(values) // divisor)),
                (a % divisor, lambda values: f(values) % divisor),
                (dims.minimum(a, b), lambda values: min(f(values), g(values))),
                (dims.maximum(a, b), lambda values: max(f(values), g(values))),
            ]
        )
    )


def quotient(lhs: str, rhs: str):
    """A quotient of two sizes as `sizes` gives it."""
    whole, part = dims.parse(lhs), dims.parse(rhs)
    values = lambda size, given: dims.substitute(size, given)  # noqa: E731
    return whole // part, lambda given: values(whole, given) // values(part, given)


@given(sizes(), VALUES)
@example(quotient("n*batch*3", "n*2"), {"batch": 3, "n": 5, "width_2": 1})
@example(quotient("n*batch*6", "n*2"), {"batch": 3, "n": 5, "width_2": 1})
def test_a_size_computes_as_integers_do(size, values):
    dim, integer = size
    assert dims.substitute(dim, values) == integer(values)


@given(sizes())
def test_text_of_a_size_is_read_back(size):
    dim, _ = size
    again = dims.parse(str(dim))
    assert again == dim
    assert str(again) == str(dim)
    assert hash(again) == hash(dim)


@given(sizes(), sizes(), sizes())
def test_sizes_are_canonical(x, y, z):
    (a, _), (b, _), (c, _) = x, y, z
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert a * (b + c) == a * b + a * c
    assert a - a == 0
    assert (a * 6) // 3 == a * 2


@given(sizes(), VALUES, st.sampled_from(NAMES))
def test_symbols_are_those_that_matter(size, values, name):
    dim, integer = size
    if name not in dims.symbols(dim):
        assert integer(values) == integer(values | {name: values[name] + 1})


def test_products_divide_exactly():
    n, m = dims.symbol("n"), dims.symbol("m")
    assert (n * m * 6) // (n * 2) == m * 3
    assert (n * n + n) // n == n + 1
    assert dims.product([n, 4, m]) // 4 == n * m


def test_nothing_is_divided_by_a_size_of_0():
    n, m = dims.symbol("n"), dims.symbol("m")
    for divide in (lambda: n // 0, lambda: dims.floordiv(4, 0), lambda: dims.substitute(n // m, {"m": 0})):
        with pytest.raises(InferenceError, match="another number than 0"):
            divide()


@pytest.mark.parametrize(
    "text", ["", "n +", "n ** 2", "f(n)", "1.5", "n / 2", "min()", "'n'", "n // m()", "n // 0"]
)
def test_other_text_is_no_size(text):
    with pytest.raises(ValueError):
        dims.parse(text)


@given(st.text() | st.sampled_from(["batch size", "1", "a-b", "größe", "?", "None", "lambda", "min"]))
def test_symbols_are_identifiers(name):
    size = dims.symbol(name)
    assert str(size).isidentifier()
    assert dims.parse(str(size)) == size
    assert dims.symbol(str(size)) == size


def test_element_types_have_one_code_and_one_numpy_type():
    for dtype in DTYPES.values():
        assert dtype_by_code(dtype.code) is dtype
        assert dtype_of(np.empty(1, dtype.numpy)) is dtype
    assert dtype_of(np.array(["a"])) is STRING
    assert dtype_of(np.dtype(">f4")) is F32
    with pytest.raises(KeyError):
        dtype_of(np.dtype(np.complex64))
    with pytest.raises(KeyError):
        dtype_by_code(999)


@st.composite
def layouts(draw, rank):
    """Groups of merged axes in any order, each whole, rounded up, or split in an outer and an inner part."""
    axes = draw(st.permutations(range(rank)))
    cuts = sorted(draw(st.sets(st.integers(1, rank - 1)))) if rank > 1 else []
    parts = []
    for begin, end in itertools.pairwise([0, *cuts, rank]):
        group, tile = tuple(axes[begin:end]), draw(st.sampled_from((2, 4, 16)))
        kind = draw(st.sampled_from(("plain", "rounded", "tiled")))
        if kind == "tiled":
            parts += [Part(group, "outer", tile), Part(group, "inner", tile)]
        else:
            parts.append(Part(group, "whole", 1 if kind == "plain" else tile))
    return Layout(tuple(draw(st.permutations(parts))))


@st.composite
def types(draw):
    shape = tuple(draw(st.lists(sizes(depth=2).map(lambda size: size[0]), max_size=4)))
    layout = draw(st.none() | layouts(len(shape))) if shape else None
    return TensorType(draw(st.sampled_from(list(DTYPES.values()))), shape, layout)


@given(types())
def test_text_of_a_type_is_read_back(type):
    assert parse_type(str(type)) == type
    assert str(parse_type(str(type))) == str(type)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.data())
def test_a_layout_has_room_for_the_tensor(shape, data):
    layout = data.draw(layouts(len(shape)))
    assert parse_layout(str(layout)) == layout
    physical = layout.physical(shape)
    assert math.prod(physical) >= math.prod(shape)
    type = TensorType(F32, tuple(shape), layout)
    assert type.physical == physical
    assert type.bytes == 4 * math.prod(physical)
    if all(part.side == "whole" and part.tile == 1 for part in layout.parts):
        assert math.prod(physical) == math.prod(shape)


def test_channels_last_rounds_channels_up():
    type = TensorType(F32, (dims.symbol("n"), 3, 8, 9), channels_last(4, 16))
    assert str(type) == "f32[n,3,8,9 @ 0 2 3 1^16]"
    assert type.physical == (dims.symbol("n"), 8, 9, 16)


@pytest.mark.parametrize(
    "text", ["", "f32", "f32[", "f33[2]", "f32[2,]", "f32[2 @ x]", "f32[2] ", "f32[2]]", "f32[2 @]"]
)
def test_other_text_is_no_type(text):
    if text == "f32[2] ":  # spaces around are no matter
        assert parse_type(text) == TensorType(F32, (2,))
        return
    with pytest.raises(ValueError):
        parse_type(text)


@given(st.lists(st.lists(st.sampled_from((1, 2, 3)), max_size=4).map(tuple), max_size=3))
def test_shapes_broadcast_as_in_numpy(shapes):
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ValueError):
            broadcast_shapes(*shapes)
    else:
        assert broadcast_shapes(*shapes) == expected


def test_symbolic_sizes_broadcast():
    n, m = dims.symbol("n"), dims.symbol("m")
    assert broadcast_shapes((n, 3), (1,)) == (n, 3)
    assert broadcast_shapes((n,), (n,)) == (n,)
    assert broadcast_shapes((n,), (4,)) == (4,)
    assert broadcast_shapes((n,), (m,)) == (dims.maximum(n, m),)


def test_a_type_accepts_itself_and_refinements():
    n = dims.symbol("n")
    open_type, closed = TensorType(F32, (n, 3)), TensorType(F32, (5, 3))
    assert open_type.accepts(open_type)
    assert open_type.accepts(closed)
    assert not closed.accepts(open_type)
    assert not closed.accepts(TensorType(F32, (5, 4)))
    assert not closed.accepts(TensorType(DTYPES["f64"], (5, 3)))
    assert not open_type.accepts(TensorType(F32, (5, 3, 1)))
    assert not closed.accepts(TensorType(F32, (5, 3), channels_last(2, 4)))


def test_a_static_shape_is_only_there_without_symbols():
    assert TensorType(F32, (2, 3)).static_shape == (2, 3)
    with pytest.raises(ValueError, match="symbolic"):
        _ = TensorType(F32, (2, dims.symbol("n"))).static_shape


def test_a_symbol_stays_below_the_numbers_that_mean_to_the_end():
    n = dims.symbol("n")
    assert all(dims.minimum(n, most) == n for most in (dims.LARGEST, 2**31 - 1, 2**63 - 1))
    assert dims.minimum(n, dims.LARGEST - 1) != n
    assert dims.minimum(n * 2, dims.LARGEST) != n * 2
