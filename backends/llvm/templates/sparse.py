"""Products with sparse weights: rows side by side in vectors, stored weights streamed, zeros skipped.

Rows of the input are transposed in registers, some vectors of them and a section of the inputs at a time, so
that one input of many rows is a few vectors; sums wait in memory between sections and are transposed back
before the epilogue. A zero that is skipped drops 0 * inf and 0 * NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from gcomp.op import Operator
from gcomp.ops.convolution import Conv
from gcomp.ops.linear import Gemm, MatMul
from gcomp.types import Array

from ..cpu import Cpu
from ..emit import Function, Value, lane_mask, vector
from ..problem import Emitted, Epilogue, Problem
from ..transpose import transposed
from .frame import Frame
from .pattern import Pattern, pattern_of
from .rows import Product, product_of
from .schedule import FMA_LATENCY, balanced, lanes_of, pieces
from .unit import multiply_add

ANCHORS: tuple[type[Operator], ...] = (Gemm, MatMul, Conv)
IS_SPECIAL = True

NEAR, CLOSE = 32 << 10, 1 << 20
"""Bytes of inputs in a section where each is read for one output at a time, and for several at once."""
MOST_TOGETHER = 4
WIDEST = 4
"""Vectors of rows where each stored weight stands alone."""


def match(problem: Problem) -> Emitted | None:
    """A kernel for weights that are stored sparse; strict sums skip no zeros."""
    w = problem.view(1)
    block = 0 if w is None or problem.strict else BLOCKS.get(w.storage, 0)
    if not block:
        return None
    product = product_of(problem)
    return None if product is None else Kernel(problem, product, block).emit()


@dataclass(frozen=True)
class Chunks:
    """Vectors of rows that are computed together at most, and sections of inputs: whole taps, or a part.

    `taps` are in each section where `inputs` are all that a tap has, rounded up to whole vectors.
    """

    vectors: int
    taps: int
    inputs: int
    across: int

    def sections(self, product: Product) -> list[tuple[int, int]]:
        """The first input of each section in the matrix, and the one after its last."""
        found: list[tuple[int, int]] = []
        for tap in range(0, product.taps, self.taps):
            end = min(tap + self.taps, product.taps) * product.depth
            for n in range(self.across):
                first = tap * product.depth + n * self.inputs
                found.append((first, min(first + self.inputs, end) if self.across > 1 else end))
        return found


def chunks(cpu: Cpu, product: Product, block: int) -> Chunks:
    """Sections that stay in the cache, and as many rows as registers hold."""
    lanes, bytes = lanes_of(cpu), cpu.vector_bytes
    rows = pieces(product.rows, lanes)
    most = min(rows, WIDEST if block == 1 else max(1, cpu.vector_registers // (block + 2)))
    vectors = balanced(rows, most)[0].size
    room = (NEAR if block == 1 else CLOSE) // (vectors * bytes)
    whole = pieces(product.depth, lanes) * lanes
    if whole <= room:
        taps = pieces(product.taps, pieces(product.taps, room // whole))
        return Chunks(vectors, taps, whole, 1)
    across = pieces(whole, room)
    size = pieces(pieces(whole, across), lanes) * lanes
    return Chunks(vectors, 1, size, pieces(whole, size))


def together(cpu: Cpu, sums: int) -> int:
    """Rows of blocks, of so many vectors of sums each, that keep the units busy until the first is done."""
    return max(
        1,
        min(
            MOST_TOGETHER, pieces(FMA_LATENCY * cpu.fma_units, sums), (cpu.vector_registers - 2) // (sums + 1)
        ),
    )


class Kernel:
    """The kernel of one product."""

    def __init__(self, problem: Problem, product: Product, block: int) -> None:
        self.problem, self.product, self.block = problem, product, block
        self.frame = Frame(problem)
        self.fn: Function = self.frame.fn
        self.lanes = lanes_of(problem.cpu)
        self.type, self.align = vector("float", self.lanes), problem.cpu.vector_bytes
        self.outputs = len(product.matrix)
        self.vectors = pieces(product.rows, self.lanes)
        self.columns = pieces(product.columns, self.lanes)
        self.chunks = chunks(problem.cpu, product, block)
        self.pitch = self.chunks.vectors * self.lanes
        self.together = together(problem.cpu, block * self.chunks.vectors)
        self.pattern: Pattern = pattern_of(
            product.matrix, block, self.chunks.sections(product), self.together
        )

    def emit(self) -> Emitted | None:
        frame, fn, product, pattern = self.frame, self.fn, self.product, self.pattern
        x = frame.operand(0)
        self.bias = None if product.bias is None else frame.operand(product.bias)
        packed = partial(frame.packed, 1)
        self.places = packed(self._places)
        self.zeros = packed(lambda: np.zeros(self.chunks.inputs, np.float32))
        self.starts, self.order = packed(lambda: pattern.starts), packed(lambda: pattern.order)
        self.filled = packed(lambda: pattern.filled)
        self.inputs, self.values = packed(self._lines), packed(lambda: pattern.values)
        self.epilogue: Epilogue = frame.epilogue()
        self.merged = all(self.epilogue.mergeable(*pair) for pair in pairwise(product.row_axes))
        room = self.chunks.taps * self.chunks.inputs * self.pitch
        sums = max(self.columns * self.lanes, self.pattern.rows * self.block) * self.pitch
        scratch = frame.scratch((room + sums + self.lanes * self.pitch) * 4)
        self.crossed = scratch
        self.sums = fn.element(scratch, room, "float")
        self.lines = fn.element(scratch, room + sums, "float")

        def image(n: Value, _: object) -> None:
            source = fn.element(x, fn.mul(n, product.image_step), "float")
            for run in balanced(self.vectors, self.chunks.vectors):
                fn.loop(run.start, run.stop, run.size, lambda v, _, r=run: self._chunk(source, n, v, r.size))

        fn.loop(0, fn.size(product.images), 1, image)
        return frame.finish("sparse")

    def _places(self) -> Array:
        """Where rows start, padded with the last to whole vectors; which taps they have; how far taps lie."""
        starts, inside = self.product.starts(), self.product.inside()
        beyond = self.vectors * self.lanes - self.product.rows
        parts = [np.pad(a, (0, beyond), mode="edge") for a in (starts, inside)]
        return np.concatenate([*parts, self.product.steps()])

    def _lines(self) -> Array:
        """Which line of the transposed section the input of each block is, as u16 to stream few bytes."""
        tap, k = np.divmod(self.pattern.inputs, self.product.depth)
        return (tap * self.chunks.inputs + k).astype(np.uint16)

    def _chunk(self, x: Value, n: Value, v: Value, size: int) -> None:
        """`size` vectors of rows from the v-th on: all columns."""
        fn, lanes = self.fn, self.lanes
        self._section(x, v, "0", size)
        fn.loop(1, self.pattern.sections, 1, lambda s, _: self._section(x, v, s, size))
        first = fn.mul(v, lanes)

        def column(c: Value, _: object) -> None:
            fn.loop(0, size, 1, lambda p, _: self._cross_back(c, p))
            active = None if c.startswith("%") else min(lanes, max(0, self.outputs - int(c) * lanes))
            left = self._least(fn.add(self.product.rows, fn.mul(first, -1)), size * lanes)
            fn.loop(0, left, 1, lambda r, _: self._store(n, fn.add(first, r), r, c, active))

        whole = self.outputs // lanes
        fn.loop(0, whole, 1, column)
        for c in range(whole, self.columns):
            column(str(c), None)

    def _section(self, x: Value, v: Value, s: Value, size: int) -> None:
        """Transposes a section of the inputs, and adds what it contributes to all sums."""
        fn, chunks, product = self.fn, self.chunks, self.product
        tap, part = (s, "0") if chunks.across == 1 else self._divided(s, chunks.across)
        first = fn.mul(tap, chunks.taps)
        taps = self._least(fn.add(product.taps, fn.mul(first, -1)), chunks.taps)
        start = fn.mul(part, chunks.inputs)
        stop = self._least(fn.add(start, chunks.inputs), product.depth)

        def one(t: Value, p: Value) -> None:
            target = fn.element(self.crossed, fn.mul(t, chunks.inputs * self.pitch), "float")
            target = fn.element(target, fn.mul(p, self.lanes), "float")
            self._cross(x, fn.add(v, p), fn.add(first, t), start, stop, target)

        fn.loop(0, size, 1, lambda p, _: fn.loop(0, number(taps), 1, lambda t, _: one(t, p)) and None)
        rows = self.pattern.rows if s == "0" else self._i32(self.filled, s)
        fn.loop(0, rows, self.together, lambda i, _: self._sums(s, i, size))

    def _cross(self, x: Value, v: Value, tap: Value, start: Value, stop: Value, target: Value) -> None:
        """Puts inputs of the v-th vector of rows side by side, input by input, from `start` to `stop`."""
        fn, lanes, product = self.fn, self.lanes, self.product
        room = self.vectors * lanes
        first = fn.mul(v, lanes)
        away = fn.add(start, self._i32(self.places, fn.add(2 * room, tap)) if product.taps > 1 else 0)
        base = fn.element(x, away, "float")
        sources: list[Value] = []
        for r in range(lanes):
            row = fn.add(first, r)
            source = fn.element(base, self._i32(self.places, row), "float")
            if not product.is_inside:
                bits = fn.load(fn.element(self.places, fn.add(row, room), "i32"), "i32", 4)
                bit = fn.value(f"trunc i64 {tap} to i32") if tap.startswith("%") else tap
                is_in = fn.value(f"trunc i32 {fn.value(f'lshr i32 {bits}, {bit}')} to i1")
                source = fn.value(f"select i1 {is_in}, ptr {source}, ptr {self.zeros}")
            sources.append(source)

        def block(k: Value, mask: Value | None) -> None:
            places = [fn.element(source, k, "float") for source in sources]
            lines = [
                fn.load(at, self.type, 4) if mask is None else fn.masked_load(at, mask, "float", lanes)
                for at in places
            ]
            for i, line in enumerate(transposed(fn, lines, "float")):
                at = fn.element(target, fn.mul(fn.add(k, i), self.pitch), "float")
                fn.store(line, at, self.type, self.align)

        whole = product.readable // lanes * lanes
        count = fn.add(self._least(stop, whole), fn.mul(start, -1))
        if whole >= product.depth:
            count = fn.add(stop, fn.mul(start, -1))
        fn.loop(0, number(count), lanes, lambda k, _: block(k, None))
        if whole < product.depth:
            mask = lane_mask(product.depth - whole, lanes)
            rest = fn.add(stop, fn.mul(start, -1))
            at = fn.add(whole, fn.mul(start, -1))
            fn.loop(number(at), number(rest), lanes, lambda k, _: block(k, mask))

    def _sums(self, s: Value, i: Value, size: int) -> None:
        """The sums of some rows of blocks from the i-th on over a section, for `size` vectors of rows.

        The first of these rows have no fewer blocks than those after them: while all have some they are
        added in turn, so that no addition waits for the one before.
        """
        fn, lanes, block, rows = self.fn, self.lanes, self.block, self.pattern.rows
        ends = [
            self._i32(self.starts, fn.add(fn.mul(s, rows + 1), fn.add(i, r)))
            for r in range(self.together + 1)
        ]
        places: list[list[Value]] = []
        sums: list[list[Value]] = []
        for r in range(self.together):
            row = self._i32(self.order, fn.add(fn.mul(s, rows), fn.add(i, r)))
            target = fn.element(self.sums, fn.mul(row, block * self.pitch), "float")
            places.append(
                [
                    fn.element(target, o * self.pitch + v * lanes, "float")
                    for o in range(block)
                    for v in range(size)
                ]
            )
            if s == "0":
                initial = [self._initial(fn.add(fn.mul(row, block), o)) for o in range(block)]
                sums.append([value for value in initial for _ in range(size)])
            else:
                sums.append([fn.load(place, self.type, self.align) for place in places[-1]])
        least = self._difference(ends[-1], ends[-2])

        def all_rows(b: Value, values: list[Value]) -> list[Value]:
            each = len(values) // self.together
            return [
                value
                for r in range(self.together)
                for value in self._added(fn.add(ends[r], b), values[r * each : (r + 1) * each], size)
            ]

        flat = fn.loop(0, least, 1, all_rows, [(self.type, value) for row in sums for value in row])
        each = len(flat) // self.together
        for r in range(self.together):
            values = flat[r * each : (r + 1) * each]
            if r < self.together - 1:
                values = fn.loop(
                    fn.add(ends[r], least),
                    ends[r + 1],
                    1,
                    lambda b, values: self._added(b, values, size),
                    [(self.type, value) for value in values],
                )
            for place, value in zip(places[r], values, strict=True):
                fn.store(value, place, self.type, self.align)

    def _added(self, b: Value, sums: list[Value], size: int) -> list[Value]:
        """The sums of a row of blocks, with the b-th block that is stored."""
        fn, lanes, block = self.fn, self.lanes, self.block
        line = fn.load(fn.element(self.inputs, b, "i16"), "i16", 2)
        line = fn.value(f"zext i16 {line} to i64")
        source = fn.element(self.crossed, fn.mul(line, self.pitch), "float")
        weights = fn.element(self.values, fn.mul(b, block), "float")
        x = [fn.load(fn.element(source, v * lanes, "float"), self.type, self.align) for v in range(size)]
        following: list[Value] = []
        for o in range(block):
            scalar = fn.load(fn.element(weights, o, "float"), "float", 4)
            weight = fn.splat(scalar, "float", lanes)
            following += [multiply_add(fn, weight, x[v], sums[o * size + v], lanes) for v in range(size)]
        return following

    def _difference(self, a: Value, b: Value) -> Value:
        return self.fn.value(f"sub nsw i64 {a}, {b}")

    def _initial(self, output: Value) -> Value:
        """The bias in all lanes; that of the last output stands for those beyond."""
        if self.bias is None:
            return "zeroinitializer"
        at = self._least(output, self.outputs - 1)
        scalar = self.fn.load(self.fn.element(self.bias, at, "float"), "float", 4)
        return self.fn.splat(scalar, "float", self.lanes)

    def _cross_back(self, c: Value, p: Value) -> None:
        """Puts the c-th vector of columns side by side again, row by row."""
        fn, lanes = self.fn, self.lanes
        source = fn.element(self.sums, fn.mul(c, lanes * self.pitch), "float")
        source = fn.element(source, fn.mul(p, lanes), "float")
        places = [fn.element(source, i * self.pitch, "float") for i in range(lanes)]
        lines: Sequence[Value] = transposed(
            fn, [fn.load(at, self.type, self.align) for at in places], "float"
        )
        target = fn.element(self.lines, fn.mul(p, lanes * lanes), "float")
        for i, line in enumerate(lines):
            fn.store(line, fn.element(target, i * lanes, "float"), self.type, self.align)

    def _store(self, n: Value, row: Value, line: Value, c: Value, active: int | None) -> None:
        fn, product = self.fn, self.product
        value = fn.load(fn.element(self.lines, fn.mul(line, self.lanes), "float"), self.type, self.align)
        place = ["0"] * self.problem.results[0].type.rank
        if product.images != 1:
            place[0] = n
        if product.rows > 1 and (self.merged or len(product.row_axes) == 1):
            place[product.row_axes[-1]] = row
        elif product.rows > 1:
            shape = self.problem.results[0].type.static_shape
            for axis in reversed(product.row_axes):
                row, place[axis] = self._divided(row, shape[axis])
        place[product.column_axis] = fn.mul(c, self.lanes)
        self.epilogue.store(value, place, product.column_axis, self.lanes, active)

    def _i32(self, array: Value, at: Value) -> Value:
        """An element of an array of i32, as i64."""
        fn = self.fn
        return fn.value(f"sext i32 {fn.load(fn.element(array, at, 'i32'), 'i32', 4)} to i64")

    def _divided(self, a: Value, b: int) -> tuple[Value, Value]:
        """Quotient and remainder."""
        if not a.startswith("%"):
            return str(int(a) // b), str(int(a) % b)
        quotient = self.fn.value(f"udiv i64 {a}, {b}")
        return quotient, self.fn.add(a, self.fn.mul(quotient, -b))

    def _least(self, a: Value, b: int) -> Value:
        if not a.startswith("%"):
            return str(min(int(a), b))
        return self.fn.call("i64", "llvm.smin.i64", [("i64", a), ("i64", str(b))])


def number(value: Value) -> Value | int:
    """A literal as an integer, so that loops see what they need not do."""
    return value if value.startswith("%") else int(value)


BLOCKS = {"unstructured": 1, "4x1": 4}
