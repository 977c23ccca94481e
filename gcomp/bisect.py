"""Finds what makes a compiled model wrong: the pass and the rule, or the kernel; and a small model."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import watch
from .arguments import checked
from .compiler import Model, as_graph, optimize, parse_target, pipeline_of
from .cut import computed, part, workers
from .data import Sample, synthetic
from .diagnostics import GcompError, InputError
from .dim import Range
from .ir import Graph, Op, Value
from .pipeline import Pass, parse_pipeline
from .precision import DEFAULT
from .printer import format_op
from .reduce import Case, Reducer
from .repro import Repro, stored
from .specialise import bind
from .steps import nodes_of, operators_of
from .target import Target, ports
from .timing import tell
from .trial import ByOnnxRuntime, ByReference, Compiled, Failure, Way, attempt, compared
from .types import Array
from .verify import tolerance_for

Against = Literal["reference", "onnxruntime"]

EFFORT = 400
"""Questions that the reduction may ask."""


@dataclass(frozen=True)
class Culprit:
    """What makes results wrong.

    `kind` is `rule`, `pass` (a step of a pass without rules, or all that it does besides), `kernel` or
    `reference` (of an operator, where ONNX Runtime is right). `step` counts a pass's steps from 1; 0 for
    what it does besides, and outside passes. `line` is the operator's text and `origin` its ONNX nodes.
    """

    kind: Literal["rule", "pass", "kernel", "reference"]
    name: str
    rule: str
    step: int
    line: str
    origin: tuple[str, ...]
    complaint: str

    def __str__(self) -> str:
        nodes = f", from ONNX {', '.join(self.origin)}" if self.origin else ""
        match self.kind:
            case "rule" | "pass":
                what = f"pass {self.name}" + (f", rule {self.rule}" if self.rule else "")
                what += f", at its step {self.step}" if self.step else ", besides its steps"
            case "kernel":
                what = f"the code for {self.name}"
            case "reference":
                what = f"the reference of {self.name}"
        return f"{what}{nodes}"


@dataclass(frozen=True)
class Bisection:
    """What was found out: `failure` of the whole model, None if it is right; who is to blame; a small model.

    `steps` is how many places were searched, in `runs` runs of a whole graph; `verified` says that the last
    good place was right and the next wrong when they were run once more.
    """

    failure: Failure | None
    culprit: Culprit | None = None
    repro: Repro | None = None
    steps: int = 0
    runs: int = 0
    verified: bool = False

    @property
    def agrees(self) -> bool:
        return self.failure is None


@checked
def bisect(
    model: Model,
    target: str | Target = "llvm",
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    dims: Mapping[str, int | Range] | None = None,
    passes: str | Sequence[Pass] | None = None,
    precision: str = DEFAULT,
    data: Mapping[str, Array] | None = None,
    against: Against = "reference",
    tolerance: str | None = None,
    seed: int = 0,
    effort: int = EFFORT,
) -> Bisection:
    """Finds the first step after which a compiled model's results leave the tolerance.

    The steps are what passes replace, in order, and then the kernels of the target. `data` are arrays by
    input name, synthetic from `seed` unless given; `against` says who is right; `tolerance` is a rung of the
    ladder, `effort` bounds the reduction. Raises `GcompError` for arguments that do not fit and for a model
    that the target does not take.
    """
    chosen = parse_target(target) if isinstance(target, str) else target
    listed = pipeline_of(chosen, passes, precision)
    pipeline = tuple(parse_pipeline(listed) if isinstance(listed, str) else listed)
    graph = as_graph(model, shapes, dims)
    sample = dict(data) if data is not None else synthetic(ports(graph)[0], seed, graph)
    graph = _bound(graph, sample)
    rung = tolerance_for(precision, tolerance)
    return _Search(graph, sample, chosen, pipeline, against, rung, effort).found()


class _Search:
    def __init__(
        self,
        graph: Graph,
        sample: Sample,
        target: Target,
        pipeline: tuple[Pass, ...],
        against: Against,
        rung: str,
        effort: int,
    ) -> None:
        self.graph, self.sample, self.pipeline = graph, sample, pipeline
        self.rung, self.effort = rung, effort
        self.truth: Way = ByOnnxRuntime() if against == "onnxruntime" else ByReference()
        self.compiled: Way = Compiled(target, pipeline) if target.is_native else ByReference(pipeline)
        self.expected = self.truth.run(graph, sample)
        self.runs = 0

    def found(self) -> Bisection:
        whole = self.wrong(lambda: self.compiled.run(self.graph, self.sample))
        if whole is None:
            return Bisection(None, runs=self.runs)
        peer = isinstance(self.truth, ByOnnxRuntime)
        if peer and self.wrong(lambda: ByReference().run(self.graph, self.sample)) is not None:
            return self.operator(whole, self.graph, ByReference())
        log = _Log()
        failure = self.wrong(lambda: self.after_passes(log))
        if failure is not None:
            return self.step(whole, log)
        return self.operator(whole, optimize(self.graph, self.pipeline), self.compiled)

    def wrong(self, run: Callable[[], Sequence[Array]]) -> Failure | None:
        self.runs += 1
        return attempt(run, self.expected, self.graph.output_names, self.rung)

    def after_passes(self, watcher: watch.Watcher) -> list[Array]:
        with watch.watching(watcher):
            after = optimize(self.graph, self.pipeline)
        return ByReference().run(after, self.sample)

    # Passes

    def step(self, whole: Failure, log: _Log) -> Bisection:
        """The first step of a pass after which the reference of the graph is wrong."""
        places = [(number, made) for number, count in enumerate(log.counts) for made in range(count + 1)]

        def at(place: int) -> Failure | None:
            stop = _Stop(*places[place - 1]) if place else _Stop(-1, 0)
            return self.wrong(lambda: self.after_passes(stop))

        place = _boundary(len(places), lambda place: at(place) is not None)
        verified = at(place - 1) is None
        stop = _Stop(*places[place - 1])
        failure = self.wrong(lambda: self.after_passes(stop))
        number, made = places[place - 1]
        if stop.failed_in:
            stop.rule, made = stop.failed_in, stop.made + 1
        culprit = Culprit(
            "rule" if made and stop.rule else "pass",
            self.pipeline[number].name,
            stop.rule if made else "",
            made,
            stop.line if made else "",
            stop.origin if made else (),
            failure.complaint if failure else "",
        )
        repro = self.repro_of_step(number, stop, culprit)
        return Bisection(whole, culprit, repro, len(places), self.runs, verified and failure is not None)

    def repro_of_step(self, number: int, stop: _Stop, culprit: Culprit) -> Repro | None:
        """A small case: of the graph before the pass if the pass alone is wrong on it, else of the source."""
        alone, till = self.pipeline[number : number + 1], self.pipeline[: number + 1]
        before = optimize(self.graph, self.pipeline[:number])
        arrays = computed(before, self.sample)
        near = _near(before, [op for op in workers(before) if set(op.origin) & set(stop.origin)])
        tries = [(_case(before, kept, arrays), alone) for kept in near]
        tries += [(Case(before, self.sample), alone), (Case(self.graph, self.sample), alone)]
        tries += [(Case(self.graph, self.sample), till)]
        return self.smallest([(case, ByReference(passes)) for case, passes in tries], ByReference(), culprit)

    # Operators of one graph

    def operator(self, whole: Failure, graph: Graph, suspect: Way) -> Bisection:
        """The first operator after which the values that later ones read are wrong.

        Where `suspect` is the reference, ONNX Runtime is run on the beginnings of the graph instead.
        """
        arrays, ops = computed(graph, self.sample), workers(graph)
        by_reference = isinstance(suspect, ByReference)
        way = self.truth if by_reference else _plain(suspect)

        def failure(kept: Collection[Op]) -> Failure | None:
            self.runs += 1
            piece, sample = part(graph, kept, arrays)
            expected = ByReference().run(piece, sample)
            return attempt(lambda: way.run(piece, sample), expected, piece.output_names, self.rung)

        place = _boundary(len(ops), lambda place: place > 0 and failure(ops[:place]) is not None)
        verified = place == 1 or failure(ops[: place - 1]) is None
        told = failure(ops[:place])
        op = ops[place - 1]
        culprit = Culprit(
            "reference" if by_reference else "kernel",
            "+".join(operators_of(op)),
            "",
            0,
            format_op(op),
            nodes_of(op),
            told.complaint if told else "",
        )
        tries = [_case(graph, kept, arrays) for kept in _near(graph, [op])]
        cases = [*tries, _case(graph, ops[:place], arrays), Case(self.graph, self.sample)]
        truth = self.truth if by_reference else ByReference()
        repro = self.smallest([(case, suspect) for case in cases], truth, culprit)
        return Bisection(whole, culprit, repro, len(ops), self.runs, verified and told is not None)

    # Reduction

    def smallest(
        self, tries: Sequence[tuple[Case | None, Way]], truth: Way, culprit: Culprit
    ) -> Repro | None:
        """The first of the cases on which the fault shows when it comes from a file, reduced."""
        for case, suspect in tries:
            if case is None:
                continue
            judge = compared(truth, suspect, self.rung)
            try:
                case = Case(stored(case.graph), case.sample)
                found = judge(case.graph, case.sample)
            except (GcompError, ArithmeticError, IndexError, ValueError):
                continue  # what was cut out is no model of its own
            if found is None:
                continue
            tell(f"reducing {len(workers(case.graph))} operators")

            def fails(case: Case, kind: str = found.kind, judge: Any = judge) -> bool:
                told = judge(stored(case.graph), case.sample)
                return told is not None and told.kind == kind

            small = Reducer(fails, self.effort).reduced(case)
            told = judge(stored(small.graph), small.sample) or found
            title = f"{culprit} makes results wrong: {told.complaint}"
            return Repro(small, told, truth, suspect, self.rung, title)
        return None


def _boundary(places: int, wrong: Callable[[int], bool]) -> int:
    """A place that is wrong after one that is right, from 1 to `places`; 0 is right, `places` is wrong."""
    right, bad = 0, places
    while bad - right > 1:
        middle = (right + bad) // 2
        tell(f"step {middle} of {places}", 1 - math.log2(bad - right) / math.log2(places + 1))
        if wrong(middle):
            bad = middle
        else:
            right = middle
    return bad


class _Log(watch.Watcher):
    """Counts the steps of each pass, one that ends in an error too."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def enters(self, text: str, graph: Graph) -> bool:
        self.counts.append(0)
        return True

    def allows(self, step: watch.Step) -> bool:
        self.counts[-1] += 1
        return True


class _Stop(watch.Watcher):
    """Lets passes run up to the `made`th step of the pass of this number; remembers that step."""

    def __init__(self, number: int, made: int) -> None:
        self.number, self.limit = number, made
        self.current, self.made = -1, 0
        self.rule, self.line, self.origin = "", "", tuple[str, ...]()
        self.failed_in = ""

    def enters(self, text: str, graph: Graph) -> bool:
        self.current += 1
        return self.current <= self.number

    def allows(self, step: watch.Step) -> bool:
        if self.current < self.number:
            return True
        if self.made < self.limit:
            self.rule, self.line = step.rule, format_op(step.root)
            names = (name for op in (*step.sources, step.root) for name in nodes_of(op))
            self.origin = tuple(dict.fromkeys(names))
        return self.made < self.limit

    def applied(self, step: watch.Step, added: Sequence[Op]) -> None:
        self.made += self.current == self.number

    def failed(self, rule: str, root: Op) -> None:
        self.failed_in, self.line, self.origin = rule, format_op(root), nodes_of(root)


def _bound(graph: Graph, sample: Sample) -> Graph:
    """`graph` with the sizes that the arrays have."""
    sizes: dict[str, int] = {}
    for value in graph.inputs:
        if value.name not in sample:
            raise InputError(f"bisect: no data for input {value.name}: {value.type}")
        for size, known in zip(value.type.shape, sample[value.name].shape, strict=False):
            if not isinstance(size, int) and str(size) in graph.symbols():
                sizes[str(size)] = known
    return bind(graph, sizes) if sizes else graph


def _case(graph: Graph, kept: Collection[Op], arrays: Mapping[Value, Array]) -> Case | None:
    try:
        return Case(*part(graph, kept, arrays)) if kept else None
    except GcompError:
        return None


def _near(graph: Graph, ops: Sequence[Op], hops: int = 2) -> list[list[Op]]:
    """`ops`, then with what reads them and what they read, and once more; each in graph order."""
    found: list[list[Op]] = []
    kept = set(ops)
    for _ in range(hops + 1):
        found.append([op for op in workers(graph) if op in kept])
        around = [user for op in kept for value in op.results for user in value.users]
        makers = [value.producer for op in kept for value in op.inputs if value.producer is not None]
        kept = kept.union(around, makers)
    return found


def _plain(way: Way) -> Way:
    """The same target, which gets the graph as it is."""
    return Compiled(way.target, ()) if isinstance(way, Compiled) else way
