"""The rules that hold for every graph, checked after every pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

from .diagnostics import IllFormed, InferenceError
from .dim import LARGEST
from .ir import Graph, Op, Value, reads
from .op import Argument
from .printer import format_op
from .types import TensorType


def check(graph: Graph) -> None:
    """Raises `IllFormed`, with the operator's line and origin, at the first rule that `graph` breaks.

    Each value is defined before it is read, in this graph or one around it; users, parents and owners agree
    with the operators; types are what inference gives, layouts aside; inputs and outputs of the graph, not of
    regions, have unique names; ranges are of symbols that inputs have; no operator
    appears twice and none is an `Argument`.
    """
    seen: set[Op] = set()
    readers: dict[Value, set[Op]] = {}
    _check_graph(graph, {}, seen, readers)
    _check_names(graph)
    _check_ranges(graph)
    for value, users in readers.items():
        if set(value.users) != users:
            _refuse_users(value, users)


def _check_graph(
    graph: Graph, outer: dict[Value, None], seen: set[Op], readers: dict[Value, set[Op]]
) -> None:
    defined = dict(outer)
    for index, value in enumerate(graph.inputs):
        if value.owner is not graph or value.index != index:
            raise IllFormed(
                f"input {index} of graph {graph.name!r} says that it belongs elsewhere: {value!r}"
            )
        defined[value] = None
        readers.setdefault(value, set())
    for op in graph.ops:
        _check_op(op, graph, defined, seen)
        for value in reads(op):
            readers.setdefault(value, set()).add(op)
        for region in op.regions:
            _check_graph(region, defined, seen, readers)
        for value in op.results:
            defined[value] = None
            readers.setdefault(value, set())
    for value in graph.outputs:
        if value not in defined:
            raise IllFormed(f"an output of graph {graph.name!r} is not defined in it: {value!r}")


def _check_op(op: Op, graph: Graph, defined: dict[Value, None], seen: set[Op]) -> None:
    if isinstance(op, Argument):
        _refuse(op, "an Argument stands for an operand of a sample and has no place in a graph")
    if op in seen:
        _refuse(op, f"{op.kind} appears twice")
    seen.add(op)
    if op.parent is not graph:
        _refuse(op, f"{op.kind} stands in graph {graph.name!r}, but its parent is another")
    for value in op.inputs:
        if value not in defined:
            _refuse(op, f"{op.kind} reads {value!r}, which is not defined before")
    for index, value in enumerate(op.results):
        if value.owner is not op or value.index != index:
            _refuse(op, f"result {index} of {op.kind} says that it belongs elsewhere: {value!r}")
    try:
        inferred = op.infer()
    except InferenceError as error:
        _refuse(op, error.message)
    inferred = (inferred,) if isinstance(inferred, TensorType) else inferred
    types = tuple(value.type.with_layout(None) for value in op.results)
    if types != tuple(type.with_layout(None) for type in inferred):
        _refuse(op, f"{op.kind} has results {_list(types)}, but its operands give {_list(inferred)}")


def _check_names(graph: Graph) -> None:
    if len(graph.output_names) != len(graph.outputs):
        counts = f"{len(graph.outputs)} outputs and {len(graph.output_names)} names for them"
        raise IllFormed(f"graph {graph.name!r} has {counts}")
    for what, names in (("input", graph.input_names), ("output", graph.output_names)):
        repeated = [name for name, count in Counter(names).items() if count > 1 and name]
        if repeated:
            raise IllFormed(f"graph {graph.name!r} has several {what}s called {repeated[0]!r}")


def _check_ranges(graph: Graph) -> None:
    symbols = graph.symbols()
    for name, (low, high) in graph.ranges.items():
        if name not in symbols:
            raise IllFormed(
                f"graph {graph.name!r} has a range for {name!r}, which no input has: {_list(symbols)}"
            )
        if not 0 <= low <= high < LARGEST:
            raise IllFormed(
                f"graph {graph.name!r}: {name}={low}..{high} is no range of sizes below {LARGEST}"
            )


def _refuse_users(value: Value, users: set[Op]) -> NoReturn:
    missing = [op.kind for op in users if op not in value.users]
    surplus = [op.kind for op in value.users if op not in users]
    told = [f"misses {_list(missing)}"] * bool(missing) + [f"wrongly lists {_list(surplus)}"] * bool(surplus)
    message = f"the table of users of {value!r} {' and '.join(told)}"
    if value.producer is not None:
        _refuse(value.producer, message)
    raise IllFormed(message)


def _refuse(op: Op, message: str) -> NoReturn:
    raise IllFormed(message, line=format_op(op), origin=op.origin)


def _list(items: Sequence[object]) -> str:
    return ", ".join(map(str, items)) or "none"
