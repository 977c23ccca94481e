"""Rewrites by rule: how a rule looks at a graph, and the engine that guards what it proposes."""

from __future__ import annotations

import inspect
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, overload

from . import watch
from .arguments import checked
from .diagnostics import GcompError, InferenceError, InputError, RewriteError, raised
from .ir import Graph, Op, Value, reads
from .op import Constant, operators
from .ops.group import Group
from .printer import format_op
from .types import Array
from .watch import Record, Step

AnyOp = TypeVar("AnyOp", bound=Op)
Replacement = Op | Value | Sequence[Op | Value | None]

_seen: ContextVar[list[Op | None]] = ContextVar("seen")


class Refusal(GcompError):
    """Why a rule does not apply. Were `value` made by a `wanted`, it would go on."""

    def __init__(self, reason: str, value: Value | None = None, wanted: type[Op] | None = None) -> None:
        super().__init__(reason)
        self.value, self.wanted = value, wanted


def made_by(value: Value | None, wanted: type[AnyOp]) -> AnyOp:
    """The operator that makes `value`, which has to be a `wanted`."""
    producer = value.producer if value is not None else None
    if producer is None or not is_a(producer, wanted):
        maker = producer.kind if producer is not None else "nothing" if value is None else "an input"
        raise Refusal(f"needs a {wanted.__name__}, finds {maker}", value, wanted)
    _note(producer)
    return cast(AnyOp, producer)


def either_order(pair: Op | tuple[Value, Value], wanted: type[AnyOp]) -> tuple[AnyOp, Value]:
    """Of `lhs` and `rhs`: the operator, a `wanted`, that makes one, and the other value."""
    lhs, rhs = (getattr(pair, "lhs"), getattr(pair, "rhs")) if isinstance(pair, Op) else pair  # noqa: B009
    if is_a(lhs.producer, wanted) or not is_a(rhs.producer, wanted):
        return made_by(lhs, wanted), rhs
    return made_by(rhs, wanted), lhs


def is_a(op: Op | None, wanted: type[Op]) -> bool:
    """Whether `op` is a `wanted`: that very operator, or one derived from it where it is a mere base."""
    if operators().get(wanted.__name__) is wanted:
        return type(op) is wanted
    return isinstance(op, wanted)


def constant(value: Value | None) -> Array:
    """The array of a value known at compile time."""
    return made_by(value, Constant).value


def only_user(value: Value) -> Op:
    """The only operator that reads `value`, which must not be an output of its graph either."""
    if len(value.users) != 1:
        raise Refusal(f"needs one user of {value!r}, finds {len(value.users)}", value)
    if is_output(value):
        raise Refusal(f"{value!r} is an output of the graph too", value)
    _note(None)
    return next(iter(value.users))


def unread(*values: Value) -> None:
    """Goes on only if nobody reads any of `values`."""
    require(not any(value.users or is_output(value) for value in values), "nobody reads the other results")


def require(condition: bool, reason: str) -> None:
    """Goes on only if `condition` holds; `reason` says what the rule needs."""
    if not condition:
        raise Refusal(reason)
    _note(None)


def altered(op: AnyOp, **fields: Any) -> AnyOp:
    """A detached copy of `op` with these operands and attributes for its own. Raises `InferenceError`."""
    own = {field.name: getattr(op, field.name) for field in op.fields()}
    return type(op)(**(own | fields))


@dataclass(frozen=True)
class Rule:
    """A function from an operator of one of the classes `roots` to what replaces it.

    `tolerance` is the rung of the ladder within which results stay; None: that of the operators concerned.
    """

    function: Callable[..., Replacement]
    roots: tuple[type[Op], ...]
    tolerance: str | None = None

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def summary(self) -> str:
        """What the rule does, by the first line of its docstring: `before -> after`."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def fits(self, op: Op) -> bool:
        """Whether `op` is of one of the classes that the rule may replace."""
        return any(is_a(op, root) for root in self.roots)

    def __call__(self, op: Op) -> Replacement:
        """What replaces `op`, not yet part of its graph. Raises `Refusal`."""
        return self.function(op)


@overload
def rewrite(function: Callable[[Any], Replacement]) -> Rule: ...
@overload
def rewrite(*, tolerance: str) -> Callable[[Callable[[Any], Replacement]], Rule]: ...
def rewrite(
    function: Callable[[Any], Replacement] | None = None, *, tolerance: str | None = None
) -> Rule | Callable[[Callable[[Any], Replacement]], Rule]:
    """Makes a rule of a function; its first parameter's annotation says which operators it may replace.

    `tolerance` says how far results may move, where that is more than the operators' own. Raises
    `RewriteError` where the annotation is no class of operators or a union of such.
    """
    if function is None:
        return lambda function: Rule(function, _roots(function), tolerance)
    return Rule(function, _roots(function))


def _roots(function: Callable[[Any], Replacement]) -> tuple[type[Op], ...]:
    parameters = list(inspect.signature(function).parameters.values())
    hint: Any = parameters[0].annotation if parameters else None
    if isinstance(hint, str):
        try:
            hint = eval(hint, inspect.unwrap(function).__globals__)
        except NameError as error:
            raise RewriteError(f"{function.__name__}: {error} in the annotation of its root") from error
    roots = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if len(parameters) != 1 or not all(isinstance(root, type) and issubclass(root, Op) for root in roots):
        raise RewriteError(f"{function.__name__}: a rule takes one operator, annotated with its class")
    return roots


def probe(rule: Rule, root: Op) -> tuple[Refusal | None, int]:
    """Why `rule` refuses `root`, None if it does not, and how many of its looks went well. Nothing is put."""
    token = _seen.set([])
    try:
        rule(root)
        return None, len(_seen.get())
    except Refusal as refusal:
        return refusal, len(_seen.get())
    except Exception:  # the engine says what is wrong once the rule runs there
        return None, len(_seen.get())
    finally:
        _seen.reset(token)


class RewritePass:
    """A pass that applies rules wherever they fit, in graph order, until none does."""

    @checked
    def __init__(self, name: str, rules: Iterable[Rule]) -> None:
        self.name, self.rules = name, tuple(rules)

    def only(self, rule: str) -> RewritePass:
        """The pass of that rule alone. Raises `InputError` where there is none of that name."""
        chosen = [one for one in self.rules if one.name == rule]
        if not chosen:
            known = ", ".join(one.name for one in self.rules)
            raise InputError(f"{self.name} has no rule {rule!r}; its rules: {known}")
        return RewritePass(self.name, chosen)

    def run(self, graph: Graph) -> bool:
        """Rewrites `graph`; says whether it changed. Raises `RewriteError`."""
        pending = dict.fromkeys(outside_groups(graph))
        limit = 64 + 16 * len(pending)
        applied: list[str] = []
        while pending:
            root = next(iter(pending))
            del pending[root]
            for rule in self.rules:
                if root.parent is not None and rule.fits(root):
                    graph_of_root = root.parent
                    touched = self._try(rule, root)
                    if touched is not None:
                        applied.append(rule.name)
                        if graph_of_root is not graph:
                            restore_users(graph)
                        pending.update(dict.fromkeys(op for op in touched if op.parent is not None))
                        break
            if len(applied) > limit:
                raise RewriteError(f"{self.name}: no end after {limit} rewrites{_cycle(applied)}")
        return bool(applied)

    def apply(self, graph: Graph) -> Record:
        """Rewrites `graph` and tells what was done and what refused. Raises `RewriteError`."""
        record = Record()
        with watch.watching(record):
            self.run(graph)
        return record

    def _try(self, rule: Rule, root: Op) -> list[Op] | None:
        """Applies one rule; the operators worth another look, or None if the rule or a watcher refuses."""
        token = _seen.set([])
        try:
            proposed = rule(root)
            matched = [op for op in _seen.get() if op is not None]
        except Refusal as refusal:
            watch.refused(rule.name, root, refusal.message, len(_seen.get()))
            return None
        except InferenceError as error:
            raise self._error(rule, root, f"fails: {error.message}") from error
        except Exception as error:  # whatever a stranger's rule raises is a fault of that rule
            raise self._error(rule, root, f"raises {raised(error)}") from error
        finally:
            _seen.reset(token)
        values = self._checked(rule, root, proposed)
        step = Step(rule.name, root, tuple(values), (*reversed(matched), root))
        return self._put(rule, step) if watch.allows(step) else None

    def _checked(self, rule: Rule, root: Op, proposed: Replacement) -> list[Value | None]:
        """The proposed values, one per result of `root`, each of an equal or refined type.

        A value that is new takes the layout of the one that it replaces.
        """
        values = _values(proposed)
        if values is None:
            kind = type(proposed).__name__
            raise self._error(rule, root, f"gives {kind}, where operators or values are wanted")
        if len(values) != len(root.results):
            raise self._error(rule, root, f"gives {len(values)} values for {len(root.results)} results")
        for old, new in zip(root.results, values, strict=True):
            if new is None and (old.users or is_output(old)):
                raise self._error(rule, root, f"drops {old!r}, which is used")
            if new is old:
                raise self._error(rule, root, "gives back what it was to replace")
            if new is not None and new.producer is not None and new.producer.parent is None:
                new.type = new.type.with_layout(old.type.layout)
            if new is not None and not old.type.accepts(new.type):
                raise self._error(rule, root, f"puts {new.type} in place of {old.type}")
        return values

    def _put(self, rule: Rule, step: Step) -> list[Op]:
        """Makes the step; the operators worth another look."""
        near = [op for value in reads(step.root) for op in (value.producer, *value.users) if op is not None]
        users = [user for value in step.root.results for user in value.users]
        try:
            added = _made(step)
        except InferenceError as error:
            raise self._error(rule, step.root, f"leads to an error: {error.message}") from error
        inner = [op for new in added for region in open_regions(new) for op in outside_groups(region)]
        return [*near, *added, *inner, *users]

    def _error(self, rule: Rule, root: Op, message: str) -> RewriteError:
        watch.failed(rule.name, root)
        return RewriteError(f"{self.name}: {rule.name} {message}", line=format_op(root), origin=root.origin)


def open_regions(op: Op) -> list[Graph]:
    """The regions of `op` that passes may change: not the body of a group, which keeps what was fused."""
    return [] if isinstance(op, Group) else op.regions


def outside_groups(graph: Graph) -> Iterator[Op]:
    """All operators but those inside fused groups, those of regions after the one that holds them."""
    for op in list(graph.ops):
        yield op
        for region in open_regions(op):
            yield from outside_groups(region)


def supersede(op: Op, values: Sequence[Value | None], sources: Iterable[Op]) -> list[Op]:
    """Puts `values` in place of the results of `op`, None for one that nobody reads, and clears what is dead.

    Detached operators that the values come from go before `op` and get the origins of `sources`. Gives back
    those operators; none, and nothing is done, if a watcher forbids it. Raises `InferenceError` where one of
    them reads a result of `op`.
    """
    step = Step("", op, tuple(values), tuple(sources))
    return _made(step) if watch.allows(step) else []


def _made(step: Step) -> list[Op]:
    op, graph = step.root, step.root.parent
    if graph is None:
        raise InferenceError(f"{op.kind} is in no graph", line=format_op(op), origin=op.origin)
    origin = [name for source in step.sources for name in source.origin]
    place = graph.ops.index(op)
    for value in step.values:
        if value is not None and value.producer is not None and value.producer.parent is None:
            graph.add(value.producer, before=op)
    added = graph.ops[place : graph.ops.index(op)]
    for new in added:
        if any(value.owner is op for value in reads(new)):
            raise InferenceError(f"{new.kind} reads what it replaces", line=format_op(op), origin=op.origin)
        new.origin = tuple(dict.fromkeys((*origin, *new.origin)))
    for old, new in zip(op.results, step.values, strict=True):
        if new is not None:
            refined = new.type != old.type
            graph.replace(old, new)
            if refined:
                infer_again(new.users)
    erase(op)
    watch.applied(step, added)
    return added


def erase(op: Op) -> None:
    """Takes `op` out of its graph, and then each producer that only it kept alive."""
    pending = [op]
    while pending:
        dead = pending.pop()
        graph = dead.parent
        if graph is None or any(value.users or is_output(value) for value in dead.results):
            continue
        producers = [value.producer for value in reads(dead)]
        graph.remove(dead)
        pending += [producer for producer in producers if producer is not None]


def infer_again(ops: Iterable[Op]) -> None:
    """Infers the result types of `ops` anew, and on downstream as far as they change; layouts stay."""
    pending = deque(ops)
    while pending:
        op = pending.popleft()
        types = op.infer()
        for value, type in zip(op.results, types if isinstance(types, tuple) else (types,), strict=True):
            type = type.with_layout(value.type.layout)
            if type != value.type:
                value.type = type
                pending.extend(value.users)


def restore_users(graph: Graph) -> None:
    """Brings `users` in line with what operators read, after changes of what regions capture."""
    ops = list(graph.walk())
    if any(op.regions for op in ops):
        for op in ops:
            for value in (*op.results, *reads(op), *(v for region in op.regions for v in region.inputs)):
                value.users.clear()
        for value in graph.inputs:
            value.users.clear()
        for op in ops:
            for value in reads(op):
                value.users[op] = None


def _values(proposed: object) -> list[Value | None] | None:
    """What a rule gave, as values; None if it is something else."""
    if isinstance(proposed, Op):
        return list(proposed.results)
    parts = cast("Sequence[object]", proposed) if isinstance(proposed, tuple | list) else [proposed]
    if proposed is None or not all(isinstance(part, Op | Value | None) for part in parts):
        return None
    return [part.result if isinstance(part, Op) else cast("Value | None", part) for part in parts]


def _note(op: Op | None) -> None:
    """Records a look that found what it wanted; `op` is the operator found, if it is one."""
    seen = _seen.get(None)
    if seen is not None:
        seen.append(op)


def is_output(value: Value) -> bool:
    """Whether `value` is an output of the graph that it belongs to."""
    graph = value.owner if isinstance(value.owner, Graph) else value.owner.parent
    return graph is not None and any(output is value for output in graph.outputs)


def _cycle(names: Sequence[str]) -> str:
    """The rules that undo each other, as far as the tail shows; else the most frequent."""
    for period in range(1, len(names) // 3):
        if names[-period:] == names[-2 * period : -period] == names[-3 * period : -2 * period]:
            return f": {' -> '.join([*names[-period:], names[-period]])}"
    counts = Counter(names).most_common(3)
    return f"; most often {', '.join(f'{name} ({count} times)' for name, count in counts)}"
