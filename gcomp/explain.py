"""Tells what became of a model: where each rule fired, or nearly did and why not; and its kernels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from . import watch
from .arguments import checked
from .compiler import Model, as_graph, compile, parse_target, pipeline_of
from .ir import Graph
from .pipeline import Pass, parse_pipeline, run_pipeline
from .precision import DEFAULT
from .rewrite import RewritePass
from .steps import StepFacts
from .target import Target
from .watch import Application, Miss, Record

MOST = 3
"""Misses that are told of each rule, unless asked for more."""


@dataclass(frozen=True)
class RuleStory:
    """What a rule did, and the nearest of its `missed` misses; nameless for steps of a pass without rules."""

    name: str
    summary: str
    applications: list[Application]
    misses: list[Miss]
    missed: int


@dataclass(frozen=True)
class PassStory:
    """What a pass did, by its rules; the text of the graph before and after it, where that was asked for."""

    text: str
    name: str
    changed: bool
    rules: list[RuleStory]
    before: str = ""
    after: str = ""

    @property
    def steps(self) -> int:
        return sum(len(rule.applications) for rule in self.rules)


@dataclass(frozen=True)
class Explanation:
    """The passes in order, the graph they leave, and the steps of the module in order, if it was compiled."""

    passes: list[PassStory]
    graph: Graph
    kernels: list[StepFacts] = field(default_factory=list[StepFacts])


@checked
def explain(
    model: Model,
    target: str | Target = "llvm",
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    dims: Mapping[str, int] | None = None,
    passes: str | Sequence[Pass] | None = None,
    precision: str = DEFAULT,
    show: Collection[str] = (),
    most: int = MOST,
    kernels: bool = True,
) -> Explanation:
    """What the passes, the target's own unless given, and the target make of a model.

    `show` names passes whose graph is kept as text before and after; `most` bounds the misses of each rule,
    the nearest first. Without `kernels`, or where sizes are open, nothing is compiled. Raises `GcompError` as
    `compile` does.
    """
    chosen = parse_target(target) if isinstance(target, str) else target
    listed = pipeline_of(chosen, passes, precision)
    pipeline = list(parse_pipeline(listed) if isinstance(listed, str) else listed)
    graph = as_graph(model, shapes, dims).clone()
    teller = _Teller(pipeline, show, most)
    with watch.watching(teller):
        run_pipeline(graph, pipeline)
    if not kernels or graph.symbols():
        return Explanation(teller.stories, graph)
    return Explanation(teller.stories, graph, compile(graph, chosen, passes=()).steps())


class _Teller(Record):
    """Records each pass on its own."""

    def __init__(self, pipeline: Sequence[Pass], show: Collection[str], most: int) -> None:
        super().__init__()
        self.pipeline, self.show, self.most = pipeline, show, most
        self.stories: list[PassStory] = []
        self.before = ""

    def enters(self, text: str, graph: Graph) -> bool:
        self.applications, self.refusals = [], {}
        self.before = str(graph) if self.current.name in self.show else ""
        return True

    def leaves(self, text: str, graph: Graph, changed: bool) -> None:
        one = self.current
        summaries = {rule.name: rule.summary for rule in one.rules} if isinstance(one, RewritePass) else {}
        by_hand = any(not application.rule for application in self.applications)
        names = [*summaries, *[""] * by_hand]
        stories = [self.story(name, summaries.get(name, "")) for name in names]
        after = str(graph) if one.name in self.show else ""
        self.stories.append(PassStory(text, one.name, changed, stories, self.before, after))

    @property
    def current(self) -> Pass:
        return self.pipeline[len(self.stories)]

    def story(self, name: str, summary: str) -> RuleStory:
        applications = [one for one in self.applications if one.rule == name]
        missed = sum(rule == name and root.parent is not None for rule, root in self.refusals)
        return RuleStory(name, summary, applications, self.misses(name, self.most), missed)
