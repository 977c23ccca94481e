"""Check mode: each replacement that a pass makes runs through the reference as it is made."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from ..data import Sample, synthetic
from ..diagnostics import GcompError, InferenceError
from ..ir import Graph, Op, Value, reads
from ..op import Constant
from ..ops import Relayout
from ..printer import format_op
from ..specialise import bind
from ..target import ports
from ..types import dtype_of
from ..watch import Step, Watcher, watching
from .arrays import EXTREMES, NOT_FINITE, Extremes, sprinkled
from .counterexample import shown
from .meaning import Disagreement, loosest, truth

SIZES = (3, 1, 4)
"""What symbols stand for, the first that operators take."""


@dataclass
class Checked(Watcher):
    """Stops passes at the first replacement that gives other values.

    `held` counts the replacements that were checked; `unchecked` tells of those that could not be, and why.
    Operators on other numbers than were there may be refused, as an index out of range.
    """

    tolerance: str = "approximate"
    samples: int = 2
    held: int = 0
    unchecked: list[str] = field(default_factory=list[str])

    def allows(self, step: Step) -> bool:
        if step.values:
            try:
                self._compare(step)
            except Disagreement:
                raise
            except GcompError as error:
                self.unchecked.append(f"{step.rule or 'a pass'} on {format_op(step.root)}: {error.message}")
            else:
                self.held += 1
        return True

    def _compare(self, step: Step) -> None:
        graph = _bound(both_sides(step))
        count, rung = len(graph.outputs) // 2, loosest(graph.ops)
        pairs = list(zip(graph.outputs[:count], graph.outputs[count:], strict=True))
        samples = [synthetic(list(ports(graph)[0]), seed, graph) for seed in range(self.samples)]
        for inputs in samples:
            self._agree(step, graph, pairs, rung, inputs)
        for extremes in (NOT_FINITE, range(EXTREMES)) if rung == "exact" else ():
            try:
                self._agree(step, graph, pairs, rung, _extreme(samples[0], extremes))
            except Disagreement:
                raise
            except GcompError:  # operators may refuse infinities
                pass

    def _agree(
        self, step: Step, graph: Graph, pairs: Sequence[tuple[Value, Value]], rung: str, inputs: Sample
    ) -> None:
        for before, after in pairs:
            own = self.tolerance if before.type.dtype.is_float and rung != "exact" else rung
            graph.outputs, graph.output_names = [before], [format_op(step.root)]
            wanted = truth(graph, inputs, own)
            graph.outputs = [after]
            found = truth(graph, inputs, own)
            if wrong := wanted.complaint(found.arrays, graph.output_names, found):
                self._refuse(step, wrong, inputs)

    def _refuse(self, step: Step, wrong: str, inputs: Sample) -> NoReturn:
        values = "".join(f"\n  {name} = {shown(array)}" for name, array in inputs.items())
        message = f"{step.rule or 'a pass'} changes the answer: {wrong}\non inputs{values}"
        raise Disagreement(message, line=format_op(step.root), origin=step.root.origin)


@contextmanager
def checked(tolerance: str = "approximate", samples: int = 2) -> Generator[Checked]:
    """Within the block, whatever passes replace in this thread has to give the same values.

    What inexact operators are replaced by may differ by `tolerance`, a rung of the ladder. Inputs of the part
    that is replaced are drawn, `samples` times; exact operators get infinities, NaN and the like as well. The
    first disagreement stops the pipeline with a `RewriteError` that has the rule, the node and the values.
    """
    checker = Checked(tolerance, samples)
    with watching(checker):
        yield checker


def both_sides(step: Step) -> Graph:
    """A graph of what a step replaces and of what it puts there, over the same inputs.

    Its outputs are the results that are read, before, and then those after. Inputs stand for what neither
    side looked at; none of them is made of another.
    """
    pairs = [(old, new) for old, new in zip(step.root.results, step.values, strict=True) if new is not None]
    detached = _detached(new for _, new in pairs)
    leaves = [*(value for op in detached for value in reads(op)), *(new for _, new in pairs)]
    inner: dict[Op, None] = dict.fromkeys([step.root, *step.sources])
    upstream = _above([step.root], set())
    beside = (op for value in leaves if is_placed(value) and (op := value.producer) is not None)
    inner.update(dict.fromkeys(op for op in beside if op not in upstream))
    while True:
        made = {value for op in inner for value in op.results}
        read = dict.fromkeys([*(value for op in inner for value in reads(op)), *leaves])
        edge = [value for value in read if value not in made and is_placed(value)]
        more = [op for value in edge if (op := value.producer) is not None and _joins(op, {*edge, *made})]
        if not more:
            break
        inner.update(dict.fromkeys(more))
    graph, values = Graph("step"), dict[Value, Value]()
    for number, value in enumerate(edge):
        given = graph.add_input(value.type.with_layout(None), f"v{number}")
        layout = value.type.layout
        values[value] = graph.add(Relayout(given, layout)).result if layout else given
    for op in _ordered([*inner, *detached]):
        copy = graph.add(op.clone(values))
        values.update(zip(op.results, copy.results, strict=True))
    graph.outputs = [values[old] for old, _ in pairs] + [values[new] for _, new in pairs]
    graph.output_names = [f"y{place}" for place in range(len(graph.outputs))]
    return graph


def is_placed(value: Value) -> bool:
    """Whether a value belongs to a graph already."""
    return value.producer is None or value.producer.parent is not None


def _joins(op: Op, known: set[Value]) -> bool:
    """Whether an operator has to be there too: a constant, or one that depends on a known value."""
    return isinstance(op, Constant) or any(v in known for up in _above([op], set()) for v in reads(up))


def _detached(values: Iterable[Value]) -> list[Op]:
    """The operators that are in no graph yet and that make these values."""
    makers = [op for value in values if (op := value.producer) is not None and op.parent is None]
    return [op for op in _above(makers, set()) if op.parent is None]


def _above(ops: Iterable[Op], found: set[Op]) -> set[Op]:
    """The operators, and all that they depend on."""
    pending = list(ops)
    while pending:
        op = pending.pop()
        if op not in found:
            found.add(op)
            pending += [producer for value in reads(op) if (producer := value.producer) is not None]
    return found


def _ordered(ops: Iterable[Op]) -> list[Op]:
    """The operators, each after those that it depends on."""
    wanted, order = dict.fromkeys(ops), dict[Op, None]()

    def visit(op: Op) -> None:
        if op not in order and op in wanted:
            for value in reads(op):
                if value.producer is not None:
                    visit(value.producer)
            order[op] = None

    for op in list(wanted):
        visit(op)
    return list(order)


def _extreme(sample: Sample, extremes: Extremes) -> Sample:
    """The arrays with a third of their floats, one at least, as code gets wrong."""
    rng = np.random.default_rng(0)
    return {
        name: sprinkled(rng, array, dtype_of(array), extremes)
        if array.size and dtype_of(array).is_float
        else array
        for name, array in sample.items()
    }


def _bound(graph: Graph) -> Graph:
    """The graph with numbers in the place of symbols. Raises `InferenceError` where none of those fit."""
    symbols = graph.symbols()
    for size in SIZES[:-1] if symbols else ():
        try:
            return bind(graph, dict.fromkeys(symbols, size))
        except InferenceError:
            continue
    return bind(graph, dict.fromkeys(symbols, SIZES[-1])) if symbols else graph
