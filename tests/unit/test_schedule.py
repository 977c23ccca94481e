"""Schedules: how extents are cut, which tiles fit the registers, and what the loops they lead to hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rows import BARRED, ROWS, Row
from bench.single import single
from gcomp.backends.llvm.cpu import Cpu, from_options, host
from gcomp.backends.llvm.templates.schedule import balanced, choose


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
    rows=st.integers(1, 300), vectors=st.integers(1, 40), depth=st.integers(1, 64), kernel=st.integers(1, 7)
)
def test_tiles_fit_the_registers(cpu: Cpu, rows: int, vectors: int, depth: int, kernel: int) -> None:
    tile = choose(cpu, rows, vectors, depth, kernel=kernel)
    assert tile.rows * tile.vectors + tile.taps * tile.vectors < cpu.vector_registers


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
