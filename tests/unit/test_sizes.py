"""Symbolic sizes as instructions, against the arithmetic of the sizes themselves."""

from __future__ import annotations

import numpy as np
import pytest

from gcomp.backends.llvm.emit import Function
from gcomp.diagnostics import OpenSizeError
from gcomp.dim import Dim, ceildiv, maximum, minimum, substitute, symbol
from tests.functions import loaded

N, M = symbol("n"), symbol("m")
SIZES: list[Dim] = [
    12,
    N,
    N * 784 + 3,
    N * N * M - 2 * M,
    N // 7,
    ceildiv(N * 40, 64) * 64,
    (N - M) // 5,
    maximum(N, 3 * M, 20),
    minimum(N * 2, M) + maximum(N // 2, M),
]


def test_instructions_compute_the_sizes() -> None:
    fn = Function("sizes", [("ptr", "to")])
    for place, size in enumerate(SIZES):
        fn.store(str(fn.size(size)), fn.element("%to", place, "i64"), "i64", 8)
    fn.do("ret void")
    assert fn.symbols == ["n", "m"]
    fn.parameters += [("i64", f"size.{symbol}") for symbol in fn.symbols]
    fn.symbols = []
    code, found = loaded(fn), np.zeros(len(SIZES), np.int64)
    for n in range(0, 60, 7):
        for m in (0, 1, 5, 33):
            code(found.ctypes.data, n, m)
            assert found.tolist() == [substitute(size, {"n": n, "m": m}) for size in SIZES]


def test_a_size_is_computed_once() -> None:
    fn = Function("twice", [])
    assert fn.size(N * 3) == fn.size(N * 3)
    assert str(fn).count("mul") == 1


def test_a_quotient_by_a_symbol_is_refused() -> None:
    with pytest.raises(OpenSizeError, match=r"\(n\)//\(m\) needs a divisor"):
        Function("quotient", []).size(N // M)
