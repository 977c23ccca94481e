"""What passes do to a graph, step by step, told to whoever watches, who may also forbid a step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from .ir import Graph, Op, Value
from .printer import format_op


@dataclass(frozen=True)
class Step:
    """A replacement that is about to be made: `values`, one per result of `root`, None for one not read.

    `rule` is empty for a pass without rules. `values` is empty where `root` is changed in place. What they
    come from may not be in the graph yet. `sources` are the operators whose origins that takes, those that
    the rule found and `root`.
    """

    rule: str
    root: Op
    values: tuple[Value | None, ...]
    sources: tuple[Op, ...]


class Watcher:
    """Is told of all that passes do; this one lets everything happen. An error that it raises stops them."""

    def enters(self, text: str, graph: Graph) -> bool:
        """Before a pass, whose text this is: whether it runs."""
        return True

    def leaves(self, text: str, graph: Graph, changed: bool) -> None:
        """After a pass, and after the checks of its graph."""

    def allows(self, step: Step) -> bool:
        """Before a step: whether it is made. The graph is still as it was."""
        return True

    def applied(self, step: Step, added: Sequence[Op]) -> None:
        """After a step: the operators that are new in the graph; `root` is gone if there are `values`."""

    def refused(self, rule: str, root: Op, reason: str, looks: int) -> None:
        """A rule was tried on `root` and does not apply. `looks` counts what it had found in order before."""

    def failed(self, rule: str, root: Op) -> None:
        """A rule broke its contract on `root`: its error ends the pass."""

    def decided(self, by: str, op: Op, decision: str) -> None:
        """The pass `by` chose how `op` is done, in words for people."""


SomeWatcher = TypeVar("SomeWatcher", bound=Watcher)

_watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("watchers", default=())


@contextmanager
def watching(watcher: SomeWatcher) -> Generator[SomeWatcher]:
    """Within the block `watcher` is told what passes do in this thread, after those that watch already."""
    token = _watchers.set((*_watchers.get(), watcher))
    try:
        yield watcher
    finally:
        _watchers.reset(token)


@contextmanager
def unwatched() -> Generator[None]:
    """Within the block nobody is told anything: it only tries something out."""
    token = _watchers.set(())
    try:
        yield
    finally:
        _watchers.reset(token)


def enters(text: str, graph: Graph) -> bool:
    """Whether all watchers let the pass run."""
    return all([watcher.enters(text, graph) for watcher in _watchers.get()])


def leaves(text: str, graph: Graph, changed: bool) -> None:
    for watcher in _watchers.get():
        watcher.leaves(text, graph, changed)


def allows(step: Step) -> bool:
    """Whether all watchers let the step be made."""
    return all([watcher.allows(step) for watcher in _watchers.get()])


def applied(step: Step, added: Sequence[Op]) -> None:
    for watcher in _watchers.get():
        watcher.applied(step, added)


def decided(by: str, op: Op, decision: str) -> None:
    for watcher in _watchers.get():
        watcher.decided(by, op, decision)


def failed(rule: str, root: Op) -> None:
    for watcher in _watchers.get():
        watcher.failed(rule, root)


def refused(rule: str, root: Op, reason: str, looks: int) -> None:
    for watcher in _watchers.get():
        watcher.refused(rule, root, reason, looks)


@dataclass(frozen=True)
class Application:
    """A step that was made: the text of the operator that went, its ONNX nodes, and the text of what came."""

    rule: str
    line: str
    origin: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Miss:
    """A rule was tried on an operator and refused. `looks` counts what it had found in order before."""

    rule: str
    line: str
    origin: tuple[str, ...]
    reason: str
    looks: int


@dataclass(frozen=True)
class Decision:
    """What a pass chose for a layer, which is named by its ONNX node, and why, in words for people."""

    by: str
    layer: str
    decision: str

    def __str__(self) -> str:
        return f"{self.by}: {self.layer}: {self.decision}"


@dataclass
class Decisions(Watcher):
    """Writes down what passes decided."""

    found: list[Decision] = field(default_factory=list[Decision])

    def decided(self, by: str, op: Op, decision: str) -> None:
        self.found.append(Decision(by, op.origin[0] if op.origin else op.kind, decision))


@dataclass
class Record(Watcher):
    """Writes down what passes did to a graph, and what their rules did not do."""

    applications: list[Application] = field(default_factory=list[Application])
    refusals: dict[tuple[str, Op], tuple[str, int]] = field(
        default_factory=dict[tuple[str, Op], tuple[str, int]]
    )
    _line: str = ""

    def allows(self, step: Step) -> bool:
        self._line = format_op(step.root)
        return True

    def applied(self, step: Step, added: Sequence[Op]) -> None:
        after = tuple(format_op(op) for op in added)
        self.applications.append(Application(step.rule, self._line, step.root.origin, after))

    def refused(self, rule: str, root: Op, reason: str, looks: int) -> None:
        self.refusals[rule, root] = reason, looks

    def misses(self, rule: str | None = None, most: int | None = None) -> list[Miss]:
        """The last refusal of each rule, or of `rule`, on each operator that remained.

        Those nearest to success come first, `most` of them.
        """
        remaining = [
            (name, root, reason, looks)
            for (name, root), (reason, looks) in self.refusals.items()
            if root.parent is not None and rule in (None, name)
        ]
        nearest = sorted(remaining, key=lambda miss: -miss[3])[:most]
        return [
            Miss(name, format_op(root), root.origin, reason, looks) for name, root, reason, looks in nearest
        ]
