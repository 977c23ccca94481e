"""Schedules: how extents are cut, which tiles fit the registers, and what the loops they lead to hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rows import BARRED, ROWS, Row
from bench.single import copied, empty, in_memory, single
from gcomp.backends.llvm.cpu import Cpu, from_options, host
from gcomp.backends.llvm.emit import Function
from gcomp.backends.llvm.templates import blocks
from gcomp.backends.llvm.templates.axis import Axis
from gcomp.backends.llvm.templates.schedule import SHALLOW, Tile, balanced, choose
from gcomp.backends.llvm.templates.tile import Contraction, Weights
from gcomp.types import Array

AVX512 = from_options({"triple": "x86_64-unknown-linux-gnu", "cpu": "skylake-avx512"})


@given(extent=st.integers(1, 300), most=st.integers(1, 40))
def test_balanced_pieces(extent: int, most: int) -> None:
    runs = balanced(extent, most)
    pieces = [run.size for run in runs for _ in range(run.count)]
    assert sum(pieces) == extent
    assert max(pieces) <= most and max(pieces) - min(pieces) <= 1
    assert len(pieces) == -(-extent // most)
    assert [run.start for run in runs] == [0, *(run.stop for run in runs[:-1])]


@pytest.mark.parametrize("cpu", [host(), from_options({"cpu": "haswell"})], ids=lambda cpu: cpu.name)
@given(
    rows=st.integers(1, 300), vectors=st.integers(1, 40), depth=st.integers(1, 200), kernel=st.integers(1, 7)
)
def test_tiles_fit_the_registers(cpu: Cpu, rows: int, vectors: int, depth: int, kernel: int) -> None:
    tile = choose(cpu, rows, vectors, depth, kernel=kernel)
    assert tile.rows * tile.vectors + max(tile.taps, tile.last) * tile.vectors < cpu.vector_registers
    assert tile.last == 0 or depth * kernel <= SHALLOW
    assert choose(cpu, rows, vectors, depth, kernel=kernel, in_turn=False) == replace(tile, last=0)


def square(size: int, kernel: int) -> Axis:
    """Of an image whose results are as many as its elements."""
    return Axis(size, size, 1, kernel, pad=kernel // 2)


@pytest.mark.parametrize(
    ("outer", "inner", "depth", "vectors", "block"),
    [
        # input and half of the results: 784 KiB + 392 KiB; weights of 144 KiB stay: 25 blocks of 32 KiB
        (square(56, 3), square(56, 3), 64, 4, 3),
        # the same of a quarter of the size stays in the cache
        (square(28, 3), square(28, 3), 64, 4, None),
        # one panel reads its input once
        (square(56, 3), square(56, 3), 64, 2, None),
        # weights of 1.1 MiB are read twice, the input of 1.5 MiB need not be
        (square(28, 3), square(28, 3), 512, 4, 14),
        # weights of 3.1 MiB read twice cost more than that input
        (square(28, 5), square(28, 5), 512, 4, None),
        # 512 tiles of a matrix of 4 MiB beside weights of 64 KiB
        (Axis(1, 1, 0), Axis(4096, 4096, 256), 256, 4, 4),
        # a row of results, of which some lack taps, is not cut
        (Axis(1, 1, 0), square(4096, 3), 256, 4, None),
    ],
)
def test_blocks_are_cut_where_what_panels_read_leaves_the_cache(
    outer: Axis, inner: Axis, depth: int, vectors: int, block: int | None
) -> None:
    def nothing(*_: object) -> Any: ...

    weights = Weights("", None, 0, 64, 16)
    tile = Tile(8, 2, 1)
    nest = Contraction(
        Function("f", ()), 16, outer, inner, depth, 1, vectors, vectors, tile, "", weights, nothing, nothing
    )
    assert nest._block() == block


def test_weights_of_a_block_fill_what_is_meant_for_them() -> None:
    tile, lanes = Tile(8, 2), 16
    assert blocks.depth_of(tile, lanes) * tile.vectors * lanes * 4 == blocks.PANEL


def hottest_loop(assembly: str) -> list[str]:
    """The instructions of the innermost loop that multiplies most: from a label to a jump back to it."""
    lines = [line.strip() for line in assembly.splitlines()]
    labels = {line[:-1]: n for n, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    loops: list[list[str]] = []
    for n, line in enumerate(lines):
        jump = re.fullmatch(r"j\w+\s+(\.L\w+)", line)
        if jump and labels.get(jump[1], n) < n:
            body = lines[labels[jump[1]] + 1 : n]
            if not any(re.fullmatch(r"\.L\w+:", inner) for inner in body):
                loops.append(body)
    return max(loops, key=products)


def products(lines: Sequence[str]) -> int:
    """How many of the instructions multiply and add."""
    return sum("fmadd" in line or "vdpbf16ps" in line for line in lines)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.kind in (*BARRED, "winograd")],
    ids=lambda row: f"{row.kind}-{row.name}",
)
@pytest.mark.skipif(host().arch != "x86_64", reason="reads assembly of x86")
def test_hot_loops_spill_nothing(row: Row) -> None:
    """No vector goes to the stack or comes from it within the loop that does the work."""
    if not row.is_for(host()):
        pytest.skip("this processor lacks the instructions")
    kernel = single(row.make(host())[0])
    assert kernel is not None
    body = hottest_loop(kernel.assembly())
    assert products(body) >= 8
    spills = [line for line in body if re.search(r"\(%rsp", line) and re.search(r"%[xyz]mm", line)]
    assert spills == []


@pytest.mark.parametrize(
    "row",
    [
        Row("direct", "all taps of all places at once", (128, 7, 192, 3, 1)),
        Row("direct", "a tap at a time", (512, 7, 64, 3, 1)),
        Row("direct", "part of a tap at a time", (1024, 7, 64, 3, 1)),
        Row("direct", "images that are cut", (64, 56, 128, 3, 1)),
        Row("strided", "every other place", (96, 28, 128, 3, 2)),
        Row("1x1", "rows that take the last steps in turn", (64, 14, 128, 1, 1)),
        Row("gemm", "rows", (49, 512, 256)),
        Row("gemm", "rows, in blocks of depth", (100, 128, 2048)),
    ],
    ids=lambda row: f"{row.kind}: {row.name}",
)
def test_weights_are_asked_for_before_their_turn(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefetches, made to leave marks, touch each line of the weights but the first that are read."""
    asked: Array = np.zeros(1 << 18, np.uint8)
    weights: list[Array] = []

    def mark(fn: Function, pointer: str, locality: int) -> None:
        if locality == 2:
            line = fn.value(f"lshr i64 {fn.value(f'ptrtoint ptr {pointer} to i64')}, 6")
            place = fn.add(fn.value(f"and i64 {line}, {asked.size - 1}"), asked.ctypes.data)
            fn.store("1", fn.value(f"inttoptr i64 {place} to ptr"), "i8")

    def kept(array: Array, large: int) -> Array:
        weights.append(copied(array, large))
        return weights[-1]

    monkeypatch.setattr(Function, "prefetch", mark)
    monkeypatch.setattr("bench.single.copied", kept)
    problem, arrays, _ = row.make(host())
    kernel = single(problem)
    assert kernel is not None and any(argument.pack for argument in kernel.emitted.arguments)
    views = [view for view in problem.operands if view is not None]
    memory = [in_memory(array, view.type) for array, view in zip(arrays, views, strict=True)]
    assert kernel.load()([*memory, empty(problem.results[0].type)])() == 0

    (packed,) = weights
    lines = (packed.ctypes.data // 64 + np.arange(packed.nbytes // 64)) % asked.size
    missing = np.flatnonzero(asked[lines] == 0)
    assert len(missing) < len(lines) / 2
    assert missing.tolist() == list(range(len(missing)))


def test_weights_are_asked_for_in_several_places_at_once() -> None:
    """Where each iteration needs more than one line of what follows, they are not neighbours."""
    kernel = single(Row("gemm", "few rows", (49, 512, 2048)).make(AVX512)[0])
    assert kernel is not None
    body = hottest_loop(kernel.assembly())
    places = [int(match[1] or "0") for line in body if (match := re.match(r"prefetcht1\s+(-?\d*)\(", line))]
    assert len(places) > 1
    assert min(abs(a - b) for a, b in combinations(places, 2)) >= 4096


@pytest.mark.parametrize(("depth", "in_turn"), [(64, True), (256, False)])
def test_rows_are_stored_while_others_are_multiplied(depth: int, in_turn: bool) -> None:
    """Between the stores of a tile, where there is no jump, and without room on the stack."""
    kernel = single(Row("1x1", "many rows", (depth, 56, 64, 1, 1)).make(AVX512)[0])
    assert kernel is not None
    lines = [line.strip() for line in kernel.assembly().splitlines()]
    stores = [n for n, line in enumerate(lines) if re.fullmatch(r"vmovups\s+%[xyz]mm\d+, .*\)", line)]
    between = [lines[first + 1 : second] for first, second in pairwise(stores)]
    straight = [part for part in between if not any(re.match(r"j|\.L", line) for line in part)]
    assert any(products(part) for part in straight) == in_turn
    assert not any("rsp" in line and re.search(r"%[xyz]mm", line) for line in lines)


@pytest.mark.parametrize(("depth", "cut"), [(512, False), (516, True)])
def test_a_panel_is_cut_where_it_does_not_stay_close(depth: int, cut: bool) -> None:
    """Sums that are not complete need memory."""
    kernel = single(Row("gemm", "two vectors wide", (104, 32, depth)).make(AVX512)[0])
    assert kernel is not None
    assert choose(AVX512, 104, 2, depth).vectors == 2
    assert any(argument.source == "scratch" for argument in kernel.emitted.arguments) == cut


def test_a_rehearsed_call_computes_nothing() -> None:
    problem, arrays, expected = Row("gemm", "small", (16, 32, 16)).make(host())
    kernel = single(problem)
    assert kernel is not None
    out = empty(problem.results[0].type)
    call = kernel.load()([*arrays[:1], out])
    assert call.rehearse() == 0
    assert np.isnan(out).all()
    assert call() == 0
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
