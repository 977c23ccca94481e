"""Products of u8 and i8 in registers: an instruction adds four of them to each of a vector's 32 bit sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gcomp.types import I8, Array

from ..cpu import Cpu
from ..emit import Function, Value, vector
from ..problem import Problem, View
from .schedule import Run, Tile, balanced, choose, lanes_of, pieces

GROUP = 4
"""Products that go into one sum at once."""


def has_dots(cpu: Cpu) -> bool:
    """Whether there is an instruction for it, which never saturates."""
    return cpu.arch == "x86_64" and (cpu.has("avx512vnni", "avx512vl") or cpu.has("avxvnni"))


def zero_of(problem: Problem, operand: int) -> int | None:
    """The zero point that the anchor's operand holds, 0 for an absent one; None if it is not one constant."""
    if problem.anchor.operands[operand] is None:
        return 0
    view = problem.view(operand)
    if view is None or view.array is None or view.array.size == 0:
        return None
    first = int(view.array.flat[0])
    return first if (view.array == first).all() else None


def offset_of(x: View) -> int:
    """What turns the stored number into a u8: 128 for i8, whose sign bit is flipped."""
    return 128 if x.type.dtype == I8 else 0


def corrections(w: Array, zero: int) -> Array:
    """For each row of filters i8 [rows, ...]: the i32 that an input of nothing but `zero` brings to 0."""
    sums = w.reshape(len(w), -1).sum(axis=1, dtype=np.int64)
    return (-zero * sums).astype(np.int32)  # modulo 2 ** 32, as all sums are


@dataclass(frozen=True)
class Dots:
    """`sums[row, column] = initial + sum of groups scalar(row) . vector(column)`, for a grid of results.

    The callables give addresses: `scalar(row, r, rows, group)` of four bytes for the r-th row of the tile
    of `rows` at `row`, `vector(column, v, vectors, group)` likewise of a vector of them, where `column`
    counts vectors. `signed` says which of both is i8. `initial(row, column, v)` is a vector of i32, and
    `store(sums, row, column, active)` puts one away, of which the first `active` lanes are there.
    """

    fn: Function
    cpu: Cpu
    rows: int
    columns: int
    groups: int
    tile: Tile
    scalar: Callable[[Value, int, int, Value], Value]
    vector: Callable[[Value, int, int, Value], Value]
    signed: str
    initial: Callable[[Value, Value, int], Value]
    store: Callable[[Value, Value, Value, int], None]

    def emit(self) -> None:
        """All tiles, columns outside."""
        fn = self.fn
        for across in panels(self.columns, lanes_of(self.cpu), self.tile):
            for down in balanced(self.rows, self.tile.rows):

                def one(column: Value, _: object, across: Run = across, down: Run = down) -> None:
                    fn.loop(
                        down.start,
                        down.stop,
                        down.size,
                        lambda row, _: self._tile(row, down.size, column, across.size),
                    )

                fn.loop(across.start, across.stop, across.size, one)

    def _tile(self, row: Value, rows: int, column: Value, vectors: int) -> None:
        fn, lanes = self.fn, lanes_of(self.cpu)
        sums = vector("i32", lanes)
        first = [self.initial(fn.add(row, r), column, v) for r in range(rows) for v in range(vectors)]

        def body(group: Value, values: list[Value]) -> list[Value]:
            wide = [fn.load(self.vector(column, v, vectors, group), sums) for v in range(vectors)]
            results: list[Value] = []
            for r in range(rows):
                spread = fn.splat(fn.load(self.scalar(row, r, rows, group), "i32"), "i32", lanes)
                for v in range(vectors):
                    u, s = (wide[v], spread) if self.signed == "scalar" else (spread, wide[v])
                    results.append(self._dot(values[r * vectors + v], u, s))
            return results

        values = fn.loop(0, self.groups, 1, body, [(sums, value) for value in first])
        for r in range(rows):
            for v in range(vectors):
                place = fn.add(column, v)
                active = lanes if place.startswith("%") else min(lanes, self.columns - int(place) * lanes)
                self.store(values[r * vectors + v], fn.add(row, r), place, active)

    def _dot(self, total: Value, unsigned: Value, signed: Value) -> Value:
        fn, bytes = self.fn, self.cpu.vector_bytes
        sums, parts = vector("i32", bytes // 4), vector("i8", bytes)
        u, s = (fn.value(f"bitcast {sums} {value} to {parts}") for value in (unsigned, signed))
        name = f"llvm.x86.avx512.vpdpbusd.{bytes * 8}"
        return fn.call(sums, name, [(sums, total), (parts, u), (parts, s)])


def panels(columns: int, lanes: int, tile: Tile) -> list[Run]:
    """Runs of panels of vectors; one that lacks lanes stands alone, so that its place is known."""
    runs: list[Run] = []
    for run in balanced(pieces(columns, lanes), tile.vectors):
        full = min(run.count, max(0, (columns // lanes - run.start) // run.size))
        runs.append(Run(run.start, full, run.size))
        runs += [Run(run.start + i * run.size, 1, run.size) for i in range(full, run.count)]
    return [run for run in runs if run.count]


def tile_for(cpu: Cpu, rows: int, columns: int, groups: int) -> Tile:
    """The tile of results in registers."""
    return choose(cpu, rows, pieces(columns, lanes_of(cpu)), groups)


def in_groups(w: Array) -> Array:
    """Filters i8 [rows, depth] as [rows, groups, 4], with zeros to the end."""
    rows, depth = w.shape
    padded = np.zeros((rows, pieces(depth, GROUP) * GROUP), np.int8)
    padded[:, :depth] = w
    return padded.reshape(rows, -1, GROUP)


def copy_bytes(fn: Function, source: Value, target: Value, count: int, flip: int) -> None:
    """Copies `count` bytes, each changed by exclusive or with `flip`."""

    def part(at: Value | int, bytes: int) -> None:
        type = vector("i8", bytes)
        value = fn.load(fn.element(source, at, "i8"), type)
        if flip:
            value = fn.value(f"xor {type} {value}, {fn.splat(str(flip - 256), 'i8', bytes)}")
        fn.store(value, fn.element(target, at, "i8"), type)

    whole = count // 64 * 64
    fn.loop(0, whole, 64, lambda at, _: part(at, 64))
    for bytes in (32, 16, 8, 4, 2, 1):
        if count & bytes:
            part(whole, bytes)
            whole += bytes
