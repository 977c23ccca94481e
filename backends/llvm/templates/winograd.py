"""Winograd convolution F(4x4, 3x3): 36 multiplications where 144 would be, between two linear transforms.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016. The points of interpolation, 0,
+-7/10, +-3/2 and infinity, keep the error near twice that of the direct sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from math import prod

import numpy as np

from gcomp.ops.convolution import Conv
from gcomp.ops.window import numbers
from gcomp.types import F32, Array

from ..emit import Function, Value, number, vector
from ..problem import Emitted, Epilogue, Problem, View
from .axis import Axis
from .frame import Frame
from .schedule import Run, balanced, choose, lanes_of, pieces
from .tile import Contraction, Weights
from .unit import multiply_add
from .windows import channels_in_memory, is_channels_last

TILE, TAPS = 4, 3
SIDE = TILE + TAPS - 1
POINTS = (Fraction(0), Fraction(7, 10), Fraction(-7, 10), Fraction(3, 2), Fraction(-3, 2))
LEAST_CHANNELS = 32
"""Below it the transforms cost more than the products save."""
LEAST_TILES, MOST_TILES = 8, 12
"""Tiles that make a product worth its weights; tiles beyond which another row of them is of no use."""

Matrix = tuple[tuple[float, ...], ...]


def match(problem: Problem, op: Conv, x: View, w: Array) -> Emitted | None:
    """A kernel for a 3x3 convolution of stride 1 between channels-last tensors large enough to gain by it."""
    height, width = problem.results[0].type.inner_shape[1:]
    rows, columns = pieces(height, TILE), pieces(width, TILE)
    plain = op.geometry.kernel == (TAPS, TAPS) and all(
        step == 1 for step in (*op.geometry.strides, *op.geometry.dilations, op.group)
    )
    enough = min(w.shape[:2]) >= LEAST_CHANNELS and rows * columns >= LEAST_TILES
    if problem.strict or not problem.winograd or not plain or not enough:
        return None
    if not is_channels_last(x, lanes_of(problem.cpu)):
        return None
    return _Winograd(problem, op, x, w, rows, columns).emit()


@cache
def matrices() -> tuple[Matrix, Matrix, Matrix]:
    """The transforms of outputs, filters and inputs, exact until they are rounded to doubles."""

    def product(roots: Sequence[Fraction]) -> list[Fraction]:
        coefficients = [Fraction(1)]
        for root in roots:
            shifted = [Fraction(0), *coefficients]
            coefficients = [a - root * b for a, b in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
        return coefficients

    def others(point: Fraction) -> list[Fraction]:
        return [other for other in POINTS if other != point]

    infinity = [Fraction(0)] * (TILE - 1) + [Fraction(1)]
    output = [[point**power for point in POINTS] + [infinity[power]] for power in range(TILE)]
    filters: list[list[Fraction]] = [
        [point**power / prod(point - other for other in others(point)) for power in range(TAPS)]
        for point in POINTS
    ] + [[Fraction(0), Fraction(0), Fraction(1)]]
    inputs = [[*product(others(point)), Fraction(0)] for point in POINTS] + [product(POINTS)]

    def rounded(matrix: Sequence[Sequence[Fraction]]) -> Matrix:
        return tuple(tuple(map(float, row)) for row in matrix)

    return rounded(output), rounded(filters), rounded(inputs)


class _Winograd:
    """The convolution of one problem, in blocks of rows of tiles."""

    def __init__(self, problem: Problem, op: Conv, x: View, w: Array, rows: int, columns: int) -> None:
        self.problem, self.op, self.x, self.w = problem, op, x, w
        self.rows, self.columns = rows, columns
        self.frame = Frame(problem)
        self.fn = self.frame.fn
        self.lanes = lanes_of(problem.cpu)
        self.depth = pieces(w.shape[1], self.lanes) * self.lanes
        self.filters = w.shape[0]
        self.vectors = channels_in_memory(problem.results[0]) // self.lanes
        self.block = min(rows, pieces(MOST_TILES, columns))
        self.tile = choose(problem.cpu, self.block * columns, self.vectors, self.depth)
        self.across = TILE * columns + TAPS - 1
        line = 64 // 4
        tiles = self.block * columns
        # An odd number of lines from one plane to the next: they must not all fall into one set of the cache.
        self.input_plane = tiles * self.depth + line
        self.output_plane = tiles * self.tile.vectors * self.lanes + line

    def emit(self) -> Emitted:
        frame, fn = self.frame, self.fn
        x, w = frame.operand(0), frame.packed(1, self._pack)
        bias = frame.operand(2) if self.op.b is not None else None
        epilogue = frame.epilogue()
        padded = (TILE * self.block + TAPS - 1) * self.across * self.depth
        zeros = self.x.type.inner_shape[2] * self.depth
        planes = SIDE * SIDE * (self.input_plane + self.output_plane)
        scratch = frame.scratch(4 * (padded + zeros + planes + SIDE * SIDE * self.lanes))
        self.padded = scratch
        self.zeros = fn.element(scratch, padded, "float")
        self.inputs = fn.element(self.zeros, zeros, "float")
        self.outputs = fn.element(self.inputs, SIDE * SIDE * self.input_plane, "float")
        self.half_done = fn.element(self.outputs, SIDE * SIDE * self.output_plane, "float")
        fn.loop(0, padded + zeros, self.lanes, lambda i, _: self._put("zeroinitializer", scratch, i))
        batch = fn.size(self.problem.results[0].type.shape[0])

        def image(n: Value, _: object) -> None:
            source = fn.element(x, fn.mul(n, self.x.strides[0]), "float")
            whole = self.rows // self.block * self.block
            fn.loop(
                0,
                whole,
                self.block,
                lambda y, _: self._block(source, w, bias, n, y, self.block, epilogue),
            )
            if whole < self.rows:
                self._block(source, w, bias, n, str(whole), self.rows - whole, epilogue)

        fn.loop(0, batch, 1, image)
        return frame.finish("winograd")

    def _pack(self) -> Array:
        """Filters as [panel][point][depth][column], transformed in f64."""
        _, transform, _ = (np.array(matrix) for matrix in matrices())
        spread = np.einsum("ai,ocij,bj->abco", transform, self.w.astype(np.float64), transform)
        padded = np.zeros((SIDE * SIDE, self.depth, self.vectors * self.lanes), np.float32)
        padded[:, : self.w.shape[1], : self.filters] = spread.reshape(SIDE * SIDE, *spread.shape[2:])
        parts: list[Array] = []
        for run in balanced(self.vectors, self.tile.vectors):
            for start in range(run.start, run.stop, run.size):
                columns = slice(start * self.lanes, (start + run.size) * self.lanes)
                parts.append(padded[:, :, columns].ravel())
        return np.concatenate(parts)

    def _block(
        self, x: Value, w: Value, bias: Value | None, n: Value, first: Value, rows: int, epilogue: Epilogue
    ) -> None:
        """Some rows of tiles of one image, from row `first` on."""
        fn = self.fn
        self._copy_input(x, fn.mul(first, TILE), TILE * rows + TAPS - 1)
        for_tiles(fn, rows, self.columns, self._transform_input)
        panel = SIDE * SIDE * self.depth * self.lanes

        def columns(column: Value, run: Run) -> None:
            weights = fn.element(w, fn.mul(column, panel), "float")
            fn.loop(0, SIDE * SIDE, 1, lambda point, _: self._product(point, weights, rows, run.size))
            self._finish(n, first, rows, column, run.size, bias, epilogue)

        for run in self._panels():
            fn.loop(run.start, run.stop, run.size, lambda column, _, run=run: columns(column, run))

    def _panels(self) -> list[Run]:
        """Runs of panels; the one whose last vector is not full stands alone, so that its place is known."""
        runs: list[Run] = []
        for run in balanced(self.vectors, self.tile.vectors):
            full = min(run.count, max(0, (self.filters // self.lanes - run.start) // run.size))
            runs.append(Run(run.start, full, run.size))
            runs += [Run(run.start + i * run.size, 1, run.size) for i in range(full, run.count)]
        return [run for run in runs if run.count]

    def _copy_input(self, x: Value, first: Value, rows: int) -> None:
        """The rows that a block reads, after the left padding; zeros where the input ends."""
        fn, lanes = self.fn, self.lanes
        height, width = self.x.type.inner_shape[1:]
        top, left = numbers(self.op.geometry.pads_begin)
        _, row_step, pixel_step, _ = self.x.strides

        def row(r: Value, _: object) -> None:
            y = fn.add(fn.add(first, r), -top)
            inside = fn.value(f"icmp ult i64 {y}, {height}")
            lies = fn.element(x, fn.mul(y, row_step), "float")
            source = fn.value(f"select i1 {inside}, ptr {lies}, ptr {self.zeros}")
            step = fn.value(f"select i1 {inside}, i64 {pixel_step}, i64 {self.depth}")
            target = fn.element(
                self.padded, fn.add(fn.mul(r, self.across * self.depth), left * self.depth), "float"
            )

            def pixel(i: Value, _: object) -> None:
                origin = fn.element(source, fn.mul(i, step), "float")
                copy = fn.element(target, fn.mul(i, self.depth), "float")
                fn.loop(0, self.depth, lanes, lambda c, _: self._put(self._get(origin, c), copy, c) and None)

            fn.loop(0, width, 1, pixel)

        fn.loop(0, rows, 1, row)

    def _transform_input(self, y: Value, x: Value) -> None:
        """One tile, all channels: from the padded rows to the planes of the points."""
        fn = self.fn
        _, _, matrix = matrices()
        corner = fn.add(fn.mul(y, TILE * self.across * self.depth), fn.mul(x, TILE * self.depth))
        tile = fn.mul(fn.add(fn.mul(y, self.columns), x), self.depth)

        def channels(c: Value, _: object) -> None:
            source = fn.element(self.padded, fn.add(corner, c), "float")
            target = fn.element(self.inputs, fn.add(tile, c), "float")
            values = self._both_ways(matrix, source, self.across * self.depth, self.depth)
            for place, value in enumerate(values):
                self._put(value, target, place * self.input_plane)

        fn.loop(0, self.depth, self.lanes, channels)

    def _product(self, point: Value, weights: Value, rows: int, vectors: int) -> None:
        """All tiles of one point by one panel of its filters."""
        fn, lanes = self.fn, self.lanes
        tiles = rows * self.columns
        out = fn.element(self.outputs, fn.mul(point, self.output_plane), "float")
        filters = fn.element(weights, fn.mul(point, self.depth * vectors * lanes), "float")

        def zero(_outer: Value, _row: Value, count: int, _column: Value, vectors: int) -> list[Value]:
            return ["zeroinitializer"] * (count * vectors)

        def store(value: Value, _: Value, row: Value, v: Value) -> None:
            self._put(value, out, fn.add(fn.mul(row, vectors * lanes), fn.mul(v, lanes)))

        Contraction(
            fn,
            lanes,
            Axis(1, 1, 0),
            Axis(tiles, tiles, self.depth),
            self.depth,
            1,
            vectors,
            vectors,
            self.tile,
            fn.element(self.inputs, fn.mul(point, self.input_plane), "float"),
            Weights(filters, None, self.depth * lanes, self.problem.cpu.vector_bytes, vectors * lanes),
            zero,
            store,
        ).emit()

    def _finish(
        self,
        n: Value,
        first: Value,
        rows: int,
        column: Value,
        vectors: int,
        bias: Value | None,
        epilogue: Epilogue,
    ) -> None:
        """Transforms the outputs of one panel back and stores those that lie in the result."""
        fn, lanes = self.fn, self.lanes
        height, width = self.problem.results[0].type.inner_shape[1:]
        known = not first.startswith("%")
        bottom = height - TILE * int(first) if known else None

        def tile(y: Value, x: Value, down: int, right: int) -> None:
            at = fn.mul(fn.add(fn.mul(y, self.columns), x), vectors * lanes)
            for v in range(vectors):
                channel = fn.mul(fn.add(column, v), lanes)
                active = lanes if column.startswith("%") else min(lanes, max(0, self.filters - int(channel)))
                values = self._transform_output(fn.element(self.outputs, fn.add(at, v * lanes), "float"))
                added = None if bias is None else self.frame.lanes_at(bias, channel, active, lanes)
                for i in range(down):
                    row = fn.add(fn.mul(fn.add(first, y), TILE), i)
                    for j in range(right):
                        value = values[i * TILE + j]
                        if added is not None:
                            value = fn.value(f"fadd contract {vector('float', lanes)} {value}, {added}")
                        place = [n, channel, row, fn.add(fn.mul(x, TILE), j)]
                        epilogue.store(value, place, 1, lanes, active)

        def row(y: Value, down: int) -> None:
            whole = width // TILE
            fn.loop(0, whole, 1, lambda x, _: tile(y, x, down, TILE))
            if whole < self.columns:
                tile(y, str(whole), down, width - TILE * whole)

        cut = height % TILE
        last_may_lie_here = cut > 0 and (bottom is None or bottom < TILE * rows)
        if not last_may_lie_here:
            fn.loop(0, rows, 1, lambda y, _: row(y, TILE))
        elif known:
            fn.loop(0, rows - 1, 1, lambda y, _: row(y, TILE))
            row(str(rows - 1), cut)
        else:
            fn.loop(0, rows - 1, 1, lambda y, _: row(y, TILE))
            self._either(first, rows, lambda: row(str(rows - 1), TILE), lambda: row(str(rows - 1), cut))

    def _either(self, first: Value, rows: int, inside: Callable[[], None], last: Callable[[], None]) -> None:
        """`last` where the block from row `first` on ends with the last row of tiles, else `inside`."""
        fn = self.fn
        yes, no, end = fn.label("last"), fn.label("inside"), fn.label("end")
        fn.branch(fn.value(f"icmp eq i64 {fn.add(first, rows)}, {self.rows}"), yes, no)
        for label, body in ((yes, last), (no, inside)):
            fn.block(label)
            body()
            fn.jump(end)
        fn.block(end)

    def _transform_output(self, source: Value) -> list[Value]:
        """The results of one tile, row by row, for a vector of filters."""
        matrix, _, _ = matrices()
        return self._both_ways(matrix, source, SIDE * self.output_plane, self.output_plane)

    def _both_ways(self, matrix: Matrix, source: Value, row_step: int, column_step: int) -> list[Value]:
        """The matrix applied to columns and then to rows of vectors in memory.

        What is half done goes through memory too: it is more than registers hold.
        """
        lanes, results = self.lanes, list[Value]()
        for j in range(SIDE):
            column = [self._get(source, i * row_step + j * column_step) for i in range(SIDE)]
            for i, value in enumerate(self._apply(matrix, column)):
                self._put(value, self.half_done, (i * SIDE + j) * lanes)
        for i in range(len(matrix)):
            row = [self._get(self.half_done, (i * SIDE + j) * lanes) for j in range(SIDE)]
            results += self._apply(matrix, row)
        return results

    def _apply(self, matrix: Matrix, values: list[Value]) -> list[Value]:
        """The matrix times the values; points of opposite sign share the sums of even and of odd terms."""
        fn, lanes = self.fn, self.lanes
        sums: dict[tuple[float, ...], Value] = {}

        def sum_of(row: tuple[float, ...]) -> Value:
            if row not in sums:
                sums[row] = combination(fn, row, values, lanes)
            return sums[row]

        results: list[Value] = []
        for row in matrix:
            even = tuple(c if k % 2 == 0 else 0.0 for k, c in enumerate(row))
            odd = tuple(c if k % 2 else 0.0 for k, c in enumerate(row))
            opposite = tuple(c if k % 2 == 0 else -c for k, c in enumerate(row))
            if opposite in matrix and any(even) and any(odd):
                larger = max(odd, tuple(-c for c in odd))
                operation = "fadd" if larger == odd else "fsub"
                type = vector("float", lanes)
                results.append(fn.value(f"{operation} contract {type} {sum_of(even)}, {sum_of(larger)}"))
            else:
                results.append(sum_of(row))
        return results

    def _get(self, pointer: Value, offset: Value | int) -> Value:
        return self.fn.load(self.fn.element(pointer, offset, "float"), vector("float", self.lanes), 4)

    def _put(self, value: Value, pointer: Value, offset: Value | int) -> None:
        self.fn.store(value, self.fn.element(pointer, offset, "float"), vector("float", self.lanes), 4)


def for_tiles(fn: Function, rows: int, columns: int, body: Callable[[Value, Value], None]) -> None:
    """`body(y, x)` for all tiles."""
    fn.loop(0, rows, 1, lambda y, _: fn.loop(0, columns, 1, lambda x, _: body(y, x)) and None)


def combination(fn: Function, row: Sequence[float], values: Sequence[Value], lanes: int) -> Value:
    """The sum of the values times the constants of a row."""
    type, total = vector("float", lanes), ""
    for factor, value in sorted(zip(row, values, strict=True), key=lambda term: abs(term[0]) != 1):
        scale = fn.splat(number(factor, F32), "float", lanes)
        if factor == 0:
            continue
        if not total:
            total = value if factor == 1 else fn.value(f"fmul contract {type} {scale}, {value}")
        elif abs(factor) == 1:
            total = fn.value(f"{'fadd' if factor > 0 else 'fsub'} contract {type} {total}, {value}")
        else:
            total = multiply_add(fn, scale, value, total, lanes)
    return total or "zeroinitializer"
