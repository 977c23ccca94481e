"""Matrix products on a GPU: tiles of both sides in shared memory, a rectangle of results in each thread.

A block of 16 x 16 threads makes a tile of results. Step by step along the sum, all its threads together load
the next 16 terms of the tile's rows and columns into shared memory, then each thread multiplies its own rows
by its own columns in registers: what is loaded once is used by 16 threads (the scheme of V. Volkov and J. W.
Demmel, Benchmarking GPUs to Tune Dense Linear Algebra, 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from gcomp.expr import Expr, Var
from gcomp.kernel import Compute, walk
from gcomp.types import DType

from ..access import Access, Element, addressed, coefficient
from ..arithmetic import combine
from ..emit import Value, number, scalar, vector
from ..vectorize import Evaluator
from .contraction import Contraction, count, extents, last_of
from .thread import SIDE, THREADS, Thread

DEPTH = SIDE
"""Terms of the sum that are in shared memory at a time."""
PADDING = 4
"""Elements between two lines of a tile in shared memory, so that writes go to different banks."""
WIDEST = 4
"""Neighbouring results of a thread, which read shared memory as one vector."""
BUSY = 128
"""Blocks from which on larger tiles are worth more than further blocks: about the cores of a large GPU."""
UNROLLED = 4


@dataclass(frozen=True)
class Side:
    """The rows or the columns: `axes` of the result, `each` of them in every thread, `factor` of the product.

    `line` is the number of the thread's first row or column in units of its vector, `tile` that of the
    block's tile; `memory` is where shared memory holds `DEPTH` lines of the tile.
    """

    axes: list[Var]
    each: int
    factor: Expr
    line: Value
    tile: Value
    memory: Value

    @property
    def size(self) -> int:
        """Rows or columns in a tile."""
        return self.each * SIDE

    @property
    def pitch(self) -> int:
        """Elements from one line in shared memory to the next."""
        return self.size + PADDING

    @property
    def is_whole(self) -> bool:
        """Whether no tile sticks out."""
        return count(self.axes) % self.size == 0

    @property
    def lanes(self) -> int:
        return min(self.each, WIDEST)


def emit(fn: Thread, product: Contraction, stage: Compute, accesses: Mapping[int, Access]) -> int:
    """Emits the product into `fn`; gives the number of threads, a multiple of those of a block."""
    return _Product(fn, product, stage, accesses).emit()


def tile(product: Contraction) -> tuple[int, int]:
    """Rows and columns of results for each thread: as many as there is use for, 8 at most, but few where
    there would be less blocks than can run at once."""
    widest = 8 if product.total.dtype.bytes <= 4 else 4
    needed = [count(axes) for axes in (product.rows, product.columns)]
    each = [next((p for p in (1, 2, 4) if p * SIDE >= size), 8) for size in needed]
    each = [min(one, widest) for one in each]
    while max(each) > 1 and _blocks(product, *each) < BUSY:
        each[each.index(max(each))] //= 2
    return each[0], each[1]


def _blocks(product: Contraction, rows: int, columns: int) -> int:
    tiles = [-(-count(axes) // (each * SIDE)) for axes, each in _sides(product, rows, columns)]
    return count(product.batch) * tiles[0] * tiles[1]


def _sides(product: Contraction, rows: int, columns: int) -> list[tuple[list[Var], int]]:
    return [(product.rows, rows), (product.columns, columns)]


class _Product:
    """One kernel under construction."""

    def __init__(
        self, fn: Thread, product: Contraction, stage: Compute, accesses: Mapping[int, Access]
    ) -> None:
        self.fn, self.product, self.stage, self.accesses = fn, product, stage, accesses
        self.dtype: DType = product.total.dtype
        self.element = scalar(self.dtype)

    def emit(self) -> int:
        fn, product = self.fn, self.product
        each = tile(product)
        tiles = [-(-count(axes) // (n * SIDE)) for axes, n in _sides(product, *each)]
        block = fn.register("ctaid")
        *batch, down, across = fn.split(block, [*extents(product.batch), *tiles], "i32")
        self.batch = self._variables(product.batch, batch)
        self.lane = fn.register("tid")
        above, beside = fn.split(self.lane, [SIDE, SIDE], "i32")
        self.rows, self.columns = (
            Side(axes, n, addressed(factor, self.accesses), line, place, self._shared(name, n * SIDE))
            for axes, n, factor, line, place, name in (
                (product.rows, each[0], product.left, above, down, "rows"),
                (product.columns, each[1], product.right, beside, across, "columns"),
            )
        )
        sums = self._summed()
        self._store(sums)
        return _blocks(product, *each) * THREADS

    def _variables(self, axes: Sequence[Var], places: Sequence[Value]) -> dict[Var, Value]:
        """Places along axes (i32) as loop variables (i64)."""
        return {axis: self.fn.widened(place) for axis, place in zip(axes, places, strict=True)}

    def _digits(self, axes: Sequence[Var], place: Value) -> dict[Var, Value]:
        """The variables of merged axes, of which `place` (i32) counts the elements."""
        return self._variables(axes, self.fn.split(place, extents(axes), "i32"))

    def _shared(self, name: str, size: int) -> Value:
        return self.fn.shared(name, self.element, DEPTH * (size + PADDING))

    def _summed(self) -> list[Value]:
        """The sums of this thread, row by row."""
        fn, depth = self.fn, count(self.product.depth)
        loaders = [self._loader(side) for side in (self.rows, self.columns)]
        results = self.rows.each * self.columns.each
        start = [(self.element, number(self.product.start, self.dtype))] * results

        def step(first: Value, sums: list[Value]) -> list[Value]:
            base = fn.value(f"trunc i64 {first} to i32")
            for load in loaders:
                load(base)
            fn.barrier()
            types = [(self.element, value) for value in sums]
            sums = fn.loop(0, DEPTH, UNROLLED, self._multiplied, types)
            fn.barrier()
            return sums

        return fn.loop(0, depth, DEPTH, step, start)

    def _loader(self, side: Side) -> Callable[[Value], None]:
        """What loads this thread's share of a tile, given the number (i32) of the first term of the sum.

        Neighbouring threads take neighbouring terms, or rows, whichever lie side by side in memory.
        """
        fn, lines = self.fn, side.each
        if self._contiguous(side, self.product.depth) or not self._contiguous(side, side.axes):
            first, term = fn.split(self.lane, [THREADS // DEPTH, DEPTH], "i32")
            places = [fn.plus(first, n * SIDE) for n in range(lines)]
            terms = [term] * lines
        else:
            term, first = fn.split(self.lane, [THREADS // side.size, side.size], "i32")
            places = [first] * lines
            terms = [fn.plus(term, n * (THREADS // side.size)) for n in range(lines)]
        known = {place: self._line(side, place)[0] for place in places}

        def load(base: Value) -> None:
            digits = {term: self._term(fn.plus(base, term)) for term in terms}
            for place, term in zip(places, terms, strict=True):
                depth, present = digits[term]
                value = Evaluator(fn, {**self.batch, **known[place], **depth})(side.factor)
                if present is not None:
                    zero = number(0, self.dtype)
                    value = fn.value(f"select i1 {present}, {self.element} {value}, {self.element} {zero}")
                at = fn.widened(fn.plus(fn.value(f"mul i32 {term}, {side.pitch}"), place))
                fn.store(value, fn.element(side.memory, at, self.element), self.element)

        return load

    def _contiguous(self, side: Side, axes: Sequence[Var]) -> bool:
        """Whether what the factor reads lies side by side along the innermost of the axes."""
        axis = last_of(axes)
        loads = [part for part in walk(side.factor) if isinstance(part, Element)]
        return axis is not None and any(coefficient(load.index[0], axis) == 1 for load in loads)

    def _line(self, side: Side, place: Value) -> tuple[dict[Var, Value], Value | None]:
        """The variables of a row or column of the tile, and whether it is there.

        One that is not is taken for the first of all: it may be computed, for nothing is stored.
        """
        at = self.fn.plus(self.fn.value(f"mul i32 {side.tile}, {side.size}"), place)
        inside = None
        if not side.is_whole:
            at, inside = self._clamped(at, count(side.axes))
        return self._digits(side.axes, at), inside

    def _term(self, place: Value) -> tuple[dict[Var, Value], Value | None]:
        """The variables of a term of the sum, 0 for one that is not there; whether it is."""
        depth, present = count(self.product.depth), None
        if depth % DEPTH:
            place, present = self._clamped(place, depth)
        return self._digits(self.product.depth, place), present

    def _clamped(self, place: Value, size: int) -> tuple[Value, Value]:
        inside = self.fn.value(f"icmp ult i32 {place}, {size}")
        return self.fn.value(f"select i1 {inside}, i32 {place}, i32 0"), inside

    def _multiplied(self, first: Value, sums: list[Value]) -> list[Value]:
        """The sums with some further terms, in their order."""
        for n in range(UNROLLED):
            term = self.fn.add(first, n)
            left, right = (self._own(side, term) for side in (self.rows, self.columns))
            pairs = [(a, b) for a in left for b in right]
            sums = [self._multiply_add(a, b, c) for (a, b), c in zip(pairs, sums, strict=True)]
        return sums

    def _own(self, side: Side, term: Value) -> list[Value]:
        """This thread's elements of one line of a tile."""
        fn, lanes = self.fn, side.lanes
        type, own = vector(self.element, lanes), fn.widened(fn.value(f"mul i32 {side.line}, {lanes}"))
        found: list[Value] = []
        for first in self._groups(side):
            at = fn.add(fn.add(fn.mul(term, side.pitch), own), first)
            align = min(16, lanes * self.dtype.bytes)
            loaded = fn.load(fn.element(side.memory, at, self.element), type, align)
            if lanes == 1:
                found.append(loaded)
            else:
                found += [fn.value(f"extractelement {type} {loaded}, i64 {lane}") for lane in range(lanes)]
        return found

    def _groups(self, side: Side) -> range:
        """Where the thread's vectors begin, counted from its first: neighbours' vectors lie between."""
        return range(0, side.size, SIDE * side.lanes)

    def _multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        if self.dtype.is_float:
            return self.fn.fma(a, b, c, self.element, 1)
        return combine(self.fn, "add", c, self.fn.value(f"mul {self.element} {a}, {b}"), self.dtype, 1)

    def _store(self, sums: Sequence[Value]) -> None:
        """Applies what follows the sums, and stores the results that are there."""
        fn = self.fn
        columns = self._results(self.columns)
        for row, (index, inside) in enumerate(self._results(self.rows)):
            with fn.where(inside):
                for column, (other, there) in enumerate(columns):
                    with fn.where(there):
                        self._element({**self.batch, **index, **other}, sums[row * len(columns) + column])

    def _results(self, side: Side) -> list[tuple[dict[Var, Value], Value | None]]:
        """The rows or columns of this thread's results, and whether they are there."""
        fn = self.fn
        own = fn.value(f"mul i32 {side.line}, {side.lanes}")
        places = [fn.plus(own, first + lane) for first in self._groups(side) for lane in range(side.lanes)]
        return [self._line(side, place) for place in places]

    def _element(self, variables: Mapping[Var, Value], total: Value) -> None:
        fn, axes = self.fn, self.stage.axes
        access = self.accesses[id(self.stage.result)]
        evaluate = Evaluator(fn, variables, anchors={id(self.product.total): total})
        offsets = [fn.mul(variables[axis], step) for axis, step in zip(axes, access.strides, strict=True)]
        fn.write(evaluate(addressed(self.product.value, self.accesses)), access, reduce(fn.add, offsets, "0"))
