"""Makes a graph on which something fails as small as can be, while it still fails: delta debugging.

After A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on
Software Engineering 28(2), 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np

from .cut import computed, part, workers
from .data import Sample
from .diagnostics import GcompError
from .ir import Graph, Op, Value
from .op import Constant
from .timing import tell
from .types import Array, TensorType
from .wellformed import check

Item = TypeVar("Item")

ELEMENTS = 64
"""Elements of an array up to which they are reduced one by one."""


@dataclass(frozen=True)
class Case:
    """A graph and arrays for its inputs."""

    graph: Graph
    sample: Sample


def ddmin(items: Sequence[Item], fails: Callable[[list[Item]], bool]) -> list[Item]:
    """A part of `items` that still fails, while it does not without any one of them; all of them fail."""
    held: list[Item] = list(items)
    pieces = 2
    while len(held) >= 2:
        bounds = [len(held) * piece // pieces for piece in range(pieces + 1)]
        chunks: list[list[Item]] = [held[low:high] for low, high in pairwise(bounds)]
        rests: list[list[Item]] = [held[:low] + held[high:] for low, high in pairwise(bounds)]
        chunk = next((chunk for chunk in chunks if fails(chunk)), None)
        rest = next((rest for rest in rests if pieces > 2 and fails(rest)), None) if chunk is None else None
        if chunk is not None:
            held, pieces = chunk, 2
        elif rest is not None:
            held, pieces = rest, pieces - 1
        elif pieces < len(held):
            pieces = min(2 * pieces, len(held))
        else:
            break
    return held


class Reducer:
    """Reduces cases on which `fails` holds, with at most `effort` questions. It may raise `GcompError`
    for a case that is no valid one.
    """

    def __init__(self, fails: Callable[[Case], bool], effort: int) -> None:
        self.fails, self.effort, self.asked = fails, effort, 0

    def reduced(self, case: Case) -> Case:
        """`case`, on which `fails` holds, with fewer operators, smaller axes and simpler numbers."""
        while True:
            before = size_of(case)
            for simpler in (self.fewer_operators, self.one_output, self.smaller_axes):
                case = simpler(case)
            if size_of(case) == before or self.asked >= self.effort:
                return self.simpler_numbers(case)

    def holds(self, case: Case | None) -> bool:
        if case is None or self.asked >= self.effort:
            return False
        self.asked += 1
        tell(f"{len(workers(case.graph))} operators, question {self.asked}", self.asked / self.effort)
        try:
            check(case.graph)
            return self.fails(case)
        except (GcompError, ArithmeticError, IndexError, ValueError):
            return False  # numpy refuses what is not a valid case with these

    def fewer_operators(self, case: Case) -> Case:
        """Leaves operators out; what the others read of them become inputs."""
        arrays = computed(case.graph, case.sample)

        def without(kept: Sequence[Op]) -> Case | None:
            try:
                return Case(*part(case.graph, kept, arrays))
            except GcompError:
                return None

        ops = workers(case.graph)
        kept = ddmin(ops, lambda kept: self.holds(without(kept)))
        return case if len(kept) == len(ops) else without(kept) or case

    def one_output(self, case: Case) -> Case:
        for place in range(len(case.graph.outputs)):
            if len(case.graph.outputs) > 1:
                copy = case.graph.clone()
                copy.outputs, copy.output_names = [copy.outputs[place]], [copy.output_names[place]]
                if self.holds(Case(copy, case.sample)):
                    return Case(copy, case.sample)
        return case

    def smaller_axes(self, case: Case) -> Case:
        """Cuts axes of one size, all of them together, else those of one input."""
        for size in sorted(_sizes(case), reverse=True):
            names: list[str | None] = [None, *case.sample]
            tries = [
                (name, new, depth)
                for new in sorted({1, 2, 3, 4, size // 4, size // 2} & set(range(1, size)))
                for name in names
                for depth in (range(3) if name is None else range(1))
            ]
            for name, new, depth in tries:
                smaller = _Resized(case, size, new, name, depth).case()
                if self.holds(smaller):
                    case = smaller or case
                    break
        return case

    def simpler_numbers(self, case: Case) -> Case:
        """Makes constants and inputs zero, one or round, and then as many elements as can be zero."""
        for place in _arrays(case):
            for simpler in _simpler(_arrays(case)[place]):
                changed = _with_array(case, place, simpler)
                if self.holds(changed):
                    case = changed
                    break
            case = self.fewer_nonzero(case, place)
        return case

    def fewer_nonzero(self, case: Case, place: str | int) -> Case:
        array = _arrays(case)[place]
        if array.size > ELEMENTS or array.dtype == object:
            return case

        def only(kept: list[int]) -> Case:
            few = np.zeros_like(array)
            few.flat[kept] = array.flat[kept]
            return _with_array(case, place, few)

        nonzero = [int(index) for index in np.flatnonzero(array)]
        kept = ddmin(nonzero, lambda kept: self.holds(only(kept)))
        return case if len(kept) == len(nonzero) else only(kept)


def size_of(case: Case) -> tuple[int, int]:
    """How many operators, and how many elements in constants and inputs."""
    return len(workers(case.graph)), sum(array.size for array in _arrays(case).values())


def _arrays(case: Case) -> dict[str | int, Array]:
    """The arrays of inputs by name, and of constants by their place."""
    constants: dict[str | int, Array] = {
        place: op.value for place, op in enumerate(case.graph.ops) if isinstance(op, Constant)
    }
    return {**constants, **case.sample}


def _with_array(case: Case, place: str | int, array: Array) -> Case:
    if isinstance(place, str):
        return Case(case.graph, {**case.sample, place: array})
    copy = case.graph.clone()
    cast(Constant, copy.ops[place]).value = array
    return Case(copy, case.sample)


def _simpler(array: Array) -> Iterator[Array]:
    if array.dtype == object:
        return
    candidates = [np.zeros_like(array), np.ones_like(array)]
    if array.dtype.kind not in "iub":
        wide = array.astype(np.float64)
        candidates += [np.rint(wide).astype(array.dtype), np.round(wide, 1).astype(array.dtype)]
    for candidate in candidates:
        if candidate.tobytes() == array.tobytes():
            return
        yield candidate


def _sizes(case: Case) -> set[int]:
    return {size for array in _arrays(case).values() for size in array.shape if size > 1}


class _Resized:
    """A case whose axes of size `old` have the size `new`: all, or those of the input `only`.

    With `depth` 1 elements of integer constants that are `old` become `new` too, as a Reshape needs it; with
    2 also attributes, as a kernel's shape or a number of groups.
    """

    def __init__(self, case: Case, old: int, new: int, only: str | None, depth: int) -> None:
        self.before, self.old, self.new, self.only, self.depth = case, old, new, only, depth

    def case(self) -> Case | None:
        """The case; None if its operators do not take these sizes."""
        graph, copy, sample = self.before.graph, Graph(self.before.graph.name), Sample()
        values: dict[Value, Value] = {}
        try:
            for value in graph.inputs:
                array = self.before.sample[value.name]
                if self.only in (None, value.name):
                    array = self.cut(array)
                values[value] = copy.add_input(TensorType(value.type.dtype, array.shape), value.name)
                sample[value.name] = array
            for op in graph.ops:
                new = copy.add(op.clone(values, self.attribute))
                values.update(zip(op.results, new.results, strict=True))
        except GcompError:
            return None
        copy.outputs, copy.output_names = [values[value] for value in graph.outputs], list(graph.output_names)
        copy.metadata = dict(graph.metadata)
        return Case(copy, sample)

    def attribute(self, held: Any) -> Any:
        if isinstance(held, np.ndarray):
            array = cast(Array, held)
            if self.depth and array.dtype.kind in "iu" and array.ndim <= 1:
                array = np.where(array == self.old, self.new, array).astype(array.dtype)
            return array if self.only else self.cut(array)
        if self.depth < 2 or self.only:
            return held
        if isinstance(held, tuple):
            return tuple(self.attribute(item) for item in cast("tuple[Any, ...]", held))
        return self.new if type(held) is int and held == self.old else held

    def cut(self, array: Array) -> Array:
        places = tuple(slice(self.new if size == self.old else None) for size in array.shape)
        return np.ascontiguousarray(array[places]).reshape(array[places].shape)
