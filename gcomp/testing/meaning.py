"""Whether two graphs mean the same: by the reference, within a named tolerance, where the answer is stable.

A rewrite may round elsewhere than what it replaces. Where the reference's own answer depends on rounding, as
that of `Floor` beside an integer or of a difference of near numbers, no tolerance could tell right from
wrong. So the reference runs again with what each inexact operator reads and gives moved, at random, by a part
of that operator's tolerance, as in Monte Carlo arithmetic (D. S. Parker, 1997): elements that move by more
than a part of what is allowed do not count, in what is replaced and in what replaces it: `x * a + b` for
`(x - c) * a` is no worse than its roundings. Where a result overflows, the greatest
number is read in half of the runs, as after rounding toward zero. With `exact` every element counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..arguments import checked
from ..data import synthetic
from ..diagnostics import GcompError
from ..evaluate import evaluate, evaluate_op
from ..ir import Graph, Op, Value
from ..literal import literal
from ..op import Operator
from ..ops import Group, Mul
from ..specialise import bind
from ..target import ports
from ..tolerance import LADDER, allowance, allowed, distance, mismatch
from ..types import Array, DType, dtype_of

NUDGE = 1 / 16
"""By which part of an operator's tolerance its results are moved."""

DRAWS = 8
"""How often results are moved at random: of two that cancel, either may move the other way."""

STABLE = 1 / 4
"""Which part of what is allowed an element may move and still count."""


class Disagreement(GcompError, AssertionError):
    """Two graphs, or a graph and what was compiled of it, give different answers."""


@dataclass(frozen=True)
class Truth:
    """What a graph gives for some inputs, per output, and which elements do not depend on rounding."""

    arrays: list[Array]
    tolerances: list[str]
    moved: Callable[[], list[Array]]
    """The outputs where results of inexact operators are moved, one way and the other, time and again."""
    grains: list[DType | None]
    """For a float output the coarsest element type in which what it depends on was rounded, if coarser."""

    @cached_property
    def stable(self) -> list[Array]:
        """Which elements of each output count."""
        stable = [np.ones(array.shape, np.bool_) for array in self.arrays]
        try:
            ways = self.moved() if any(rung != "exact" for rung in self.tolerances) else []
        except GcompError:  # an index depends on rounding, and was in range by chance
            return [np.zeros(array.shape, np.bool_) for array in self.arrays]
        for place, other in enumerate(ways):
            place %= len(stable)
            stable[place] &= _close(self.arrays[place], other, self.tolerances[place])
        return stable

    def complaint(self, actual: Sequence[Array], names: Sequence[str], source: Truth | None = None) -> str:
        """Why `actual` is something else: the first output, its worst element; empty if it is the same.

        Where `source` tells what `actual` depends on, elements that are not stable there do not count either.
        """
        if len(actual) != len(self.arrays):
            return f"{len(actual)} outputs where {len(self.arrays)} are expected"
        told = zip(actual, self.arrays, self.tolerances, names, strict=True)
        for place, (array, wanted, rung, name) in enumerate(told):
            wrong = mismatch(array, wanted, rung)
            if wrong and array.shape == wanted.shape and array.dtype == wanted.dtype:
                counted = self.stable[place]
                if source is not None:
                    counted = counted & source.stable[place]
                if (grain := self.grains[place]) is not None:
                    counted = counted & _is_far(array, wanted, rung, grain)
                wrong = mismatch(np.where(counted, array, wanted), wanted, rung)
            if wrong:
                return f"{name}: {wrong}"
        return ""

    @property
    def share(self) -> float:
        """The share of elements that count."""
        total = sum(array.size for array in self.arrays)
        return sum(int(stable.sum()) for stable in self.stable) / total if total else 1.0


@checked
def same_meaning(
    before: Graph,
    after: Graph,
    inputs: Mapping[str, Array] | None = None,
    tolerance: str | None = None,
    seed: int = 0,
) -> None:
    """Holds if both graphs give the same outputs, by their operators' references.

    `inputs` are arrays by name, else drawn from `seed`; `tolerance` is a rung of `gcomp.tolerance.LADDER`, by
    default the loosest of the operators that are not in both graphs. NaN has to meet NaN, an infinity the
    same infinity. Raises `Disagreement`, with the output and its worst element, and `InputError` for inputs
    that do not fit.
    """
    if inputs is None:
        sizes = dict.fromkeys(before.symbols(), 3)
        inputs = synthetic(list(ports(bind(before, sizes) if sizes else before)[0]), seed, before)
    rung = tolerance or tolerance_between(before, after)
    found = truth(after, inputs, rung)
    if wrong := truth(before, inputs, rung).complaint(found.arrays, before.output_names, found):
        raise Disagreement(wrong)


def truth(graph: Graph, inputs: Mapping[str, Array], tolerance: str | None = None) -> Truth:
    """The outputs of `graph` by the reference, and what of them is stable.

    Without a `tolerance`, an output's is the loosest of the operators that it depends on.
    """
    arrays, outputs = evaluate(graph, inputs), list(graph.outputs)
    rungs = [tolerance or loosest(_above(value)) for value in outputs]

    def moved() -> list[Array]:
        ways = [
            _nudged(graph, inputs, np.random.default_rng(seed), direction)
            for seed in range(DRAWS)
            for direction in (1, -1)
        ]
        return [values[value] for values in ways for value in outputs]

    return Truth(arrays, rungs, moved, [_grain(value) for value in outputs])


def tolerance_between(before: Graph, after: Graph) -> str:
    """The loosest rung of the operators that compute something that the other graph does not."""
    ids: dict[Any, int] = {}
    mine, its = _expressions(before, ids), _expressions(after, ids)
    return loosest(op for key, op in (mine | its).items() if (key in mine) != (key in its))


def _expressions(graph: Graph, ids: dict[Any, int]) -> dict[int, Op]:
    """The operators by numbers that are equal where they compute the same from the same inputs."""
    found: dict[int, Op] = {}
    known: dict[Value, tuple[int, int]] = {value: (-1, value.index) for value in graph.inputs}
    for op in graph.ops:
        attributes = tuple(sorted((name, literal(value)) for name, value in op.attributes.items()))
        regions = tuple(str(region) for region in op.regions)
        operands = tuple(None if value is None else known.get(value) for value in op.operands)
        number = ids.setdefault((op.kind, attributes, regions, operands), len(ids))
        found[number] = op
        known |= {value: (number, value.index) for value in op.results}
    return found


def loosest(ops: Iterable[Op]) -> str:
    """The tightest rung that allows as much, of floats and of integers, as all operators' tolerances."""
    return covering(op.tolerance for op in _flat(ops))


def covering(names: Iterable[str]) -> str:
    """The tightest rung that allows as much, of floats and of integers, as each of those named."""
    bounds = [LADDER[name] for name in names]
    relative = max((bound.relative for bound in bounds), default=0.0)
    steps = max((bound.steps for bound in bounds), default=0)
    enough = [name for name, bound in LADDER.items() if bound.relative >= relative and bound.steps >= steps]
    rungs = enough or [name for name, bound in LADDER.items() if bound.relative >= relative]
    return min(rungs, key=lambda name: (LADDER[name].relative, LADDER[name].steps))


def _flat(ops: Iterable[Op]) -> Iterable[Operator]:
    """The operators, those of groups instead of these."""
    for op in ops:
        if isinstance(op, Group):
            yield from _flat(op.body.ops)
        elif isinstance(op, Operator):
            yield op


def _is_far(array: Array, wanted: Array, rung: str, grain: DType) -> Array:
    """Which elements are off by more than is allowed in the coarser type `grain`."""
    with np.errstate(over="ignore"):
        return np.asarray(distance(array, wanted) > allowed(wanted.astype(grain.numpy), rung))


def _grain(value: Value) -> DType | None:
    """The coarsest float type of inexact results that `value` depends on, if coarser than its own."""
    own = value.type.dtype
    if not own.is_float:
        return None
    dtypes = {
        dtype
        for op in _flat(_above(value))
        if op.tolerance != "exact"
        for dtype in (op.inner, *(result.type.dtype for result in op.results))
        if dtype is not None and dtype.is_float
    }
    found = max(dtypes, key=_epsilon, default=own)
    return found if _epsilon(found) > _epsilon(own) else None


def _epsilon(dtype: DType) -> float:
    """The relative distance of neighbouring numbers, up to a factor that is the same for all types."""
    return allowance("close", dtype)["relative"]


def _above(value: Value) -> list[Op]:
    """The operators that `value` depends on."""
    found: dict[Op, None] = {}
    pending = [value]
    while pending:
        op = pending.pop().producer
        if op is not None and op not in found:
            found[op] = None
            pending += op.inputs
    return list(found)


def _close(array: Array, other: Array, rung: str) -> Array:
    if array.shape != other.shape:
        return np.zeros(array.shape, np.bool_)
    if not dtype_of(array).is_float:
        steps = LADDER[rung].steps
        if not steps:
            return np.asarray(array == other)
        return np.asarray(abs(array.astype(np.float64) - other.astype(np.float64)) <= steps)
    return np.asarray(distance(other, array) <= STABLE * allowed(array, rung))


def _nudged(
    graph: Graph, inputs: Mapping[str, Array], rng: np.random.Generator, direction: int
) -> dict[Value, Array]:
    """The values of `graph` with results of inexact operators moved at random; `direction` turns all."""
    values = {value: np.asarray(inputs[value.name]) for value in graph.inputs}
    return values | dict(zip(graph.outputs, _run(graph, values, rng, direction), strict=True))


def _run(graph: Graph, values: dict[Value, Array], rng: np.random.Generator, direction: int) -> list[Array]:
    """The outputs. `values` become those that operators read."""
    results: dict[Value, Array] = dict(values)
    for op in graph.ops:
        if isinstance(op, Group):
            inner = {mine: values[its] for mine, its in zip(op.body.inputs, op.inputs_, strict=True)}
            arrays = tuple(_run(op.body, inner, rng, direction))
            read = tuple(inner[value] for value in op.body.outputs)
        else:
            operands = [None if value is None else values[value] for value in op.operands]
            arrays = evaluate_op(op, [None if a is None else _read(op, a, rng, direction) for a in operands])
            if any(_is_lost(array) for array in arrays):  # an operand may lie at the edge of what is defined
                arrays = tuple(map(_restored, arrays, evaluate_op(op, operands)))
            arrays = tuple(
                _moved(op, array, direction * rng.choice((1, -1), array.shape)) for array in arrays
            )
            overflows = (
                direction > 0 and _rounds(op) and not any(a is not None and _is_lost(a) for a in operands)
            )
            read = tuple(map(_landed, arrays)) if overflows else arrays
        results |= zip(op.results, arrays, strict=True)
        values |= zip(op.results, read, strict=True)
    return [results[value] for value in graph.outputs]


def _rounds(op: Op) -> bool:
    """Whether the results of an operator are rounded: infinite ones may come of finite operands, then."""
    return isinstance(op, Mul) or (isinstance(op, Operator) and op.tolerance != "exact")


def _landed(array: Array) -> Array:
    """The greatest and the least number of the type in the place of infinities."""
    if not _is_lost(array):
        return array
    most = np.asarray(dtype_of(array).extremes[1], array.dtype)
    return np.where(np.isinf(array), np.where(array > 0, most, -most), array)


def _is_lost(array: Array) -> bool:
    return array.dtype != object and dtype_of(array).is_float and not np.isfinite(array).all()


def _restored(moved: Array, plain: Array) -> Array:
    """The moved result, but the plain one where it is no number: a power of an odd -1 has a sign, say."""
    if moved.shape != plain.shape or not _is_lost(moved):
        return moved
    return np.where(np.isfinite(moved), moved, plain)


def _read(op: Op, array: Array, rng: np.random.Generator, direction: int) -> Array:
    """An operand as an inexact operator may take it: near to what it is, by a part of the tolerance."""
    relative = LADDER[op.tolerance].relative if isinstance(op, Operator) else 0.0
    if not relative or array.dtype == object or not dtype_of(array).is_float:
        return array
    part = relative * NUDGE * _epsilon(dtype_of(array)) / LADDER["close"].relative
    signs = direction * rng.choice((1, -1), array.shape)
    with np.errstate(all="ignore"):
        return np.asarray(array + signs * part * array).astype(array.dtype)


def _moved(op: Op, array: Array, signs: Array) -> Array:
    if not isinstance(op, Operator) or not array.size or array.dtype == object:
        return array
    bound, is_float = LADDER[op.tolerance], dtype_of(array).is_float
    if not is_float:
        if not bound.steps or array.dtype == np.bool_:
            return array
        limits = np.iinfo(array.dtype)
        return np.clip(array + signs * bound.steps, limits.min, limits.max).astype(array.dtype)
    # Which zero is the greater of both, or a sum less itself, is nobody's promise.
    array = np.where(array == 0, (signs * 0.0).astype(array.dtype), array)
    if isinstance(op, Mul):  # whose rounding a compiler may skip where a sum follows
        toward = np.where(signs < 0, -np.inf, np.inf).astype(array.dtype)
        with np.errstate(all="ignore"):
            return np.asarray(np.nextafter(array, toward)).astype(array.dtype)
    if not bound.relative:
        return array
    with np.errstate(all="ignore"):
        return np.asarray(array + signs * allowed(array, op.tolerance) * NUDGE).astype(array.dtype)
