"""Where buffers lie, for every value of symbolic sizes."""

from __future__ import annotations

from itertools import combinations

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from gcomp.arena import ALIGNMENT, Buffer, most, place, rounded, stack
from gcomp.diagnostics import OpenSizeError
from gcomp.dim import Dim, ceildiv, maximum, minimum, substitute, symbol

N = symbol("n")
HIGH = 40


def offsets(buffers: list[Buffer], value: int) -> dict[Buffer, int]:
    """Where each buffer begins, as the code computes it."""
    found: dict[Buffer, int] = {}
    for buffer in buffers:
        ends = (found[under] + bytes_at(under, value) for under in buffer.under)
        found[buffer] = max(ends, default=0)
    return found


def bytes_at(buffer: Buffer, value: int) -> int:
    size = substitute(rounded(buffer.size), {"n": value})
    assert isinstance(size, int)
    return size


@st.composite
def some_buffers(draw: st.DrawFn) -> list[Buffer]:
    found: list[Buffer] = []
    for _ in range(draw(st.integers(1, 9))):
        size = draw(st.integers(0, 9)) * 28 * N + draw(st.integers(0, 500))
        first = draw(st.integers(0, 12))
        bytes = most(size, {"n": (1, HIGH)})
        found.append(Buffer("arena", bytes, first=first, last=first + draw(st.integers(0, 6)), size=size))
    return found


@given(some_buffers(), st.integers(1, HIGH))
def test_buffers_in_use_at_once_stay_apart(buffers: list[Buffer], value: int) -> None:
    total = place(buffers)
    stack(buffers)
    at = offsets(buffers, value)
    for a, b in combinations(buffers, 2):
        if a.first <= b.last and b.first <= a.last and bytes_at(a, value) and bytes_at(b, value):
            assert at[a] + bytes_at(a, value) <= at[b] or at[b] + bytes_at(b, value) <= at[a]
    assert max(at[buffer] + bytes_at(buffer, value) for buffer in buffers) <= total
    assert all(start % ALIGNMENT == 0 for start in at.values())


@given(some_buffers())
@example([Buffer("arena", size, first=0, last=0, size=size) for size in (1, 0)])
def test_at_the_largest_size_the_places_are_those_of_the_plan(buffers: list[Buffer]) -> None:
    place(buffers)
    stack(buffers)
    at = offsets(buffers, HIGH)
    assert [at[buffer] for buffer in buffers] == [buffer.offset for buffer in buffers]


def test_the_greatest_value_of_a_size() -> None:
    sizes: list[tuple[Dim, int]] = [
        (7, 7),
        (3 * N + 1, 121),
        (ceildiv(N, 64) * 64, 64),
        (maximum(2 * N, 9) * 4, 320),
        (minimum(N, 9), 9),
        (N * N, 1600),
    ]
    assert [most(size, {"n": (1, HIGH)}) for size, _ in sizes] == [expected for _, expected in sizes]


@pytest.mark.parametrize("size", [9 - N, N * N - N, symbol("k"), -(N // 2)], ids=str)
def test_a_size_that_may_shrink_has_no_known_greatest_value(size: Dim) -> None:
    with pytest.raises(OpenSizeError, match="the greatest value"):
        most(size, {"n": (1, HIGH)})
