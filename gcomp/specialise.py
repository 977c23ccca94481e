"""Gives symbolic sizes their values, throughout a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from . import dim as dims
from .diagnostics import InferenceError, InputError, OpenSizeError
from .dim import Dim, Poly, Range
from .ir import Graph, Op, Value
from .op import Operator
from .printer import format_op
from .types import TensorType


def bind(graph: Graph, values: Mapping[str, Dim]) -> Graph:
    """A copy of `graph` with each symbol in `values` replaced and all types inferred anew.

    Raises `InputError` for a symbol that no input has, `InferenceError` where operators do not take the new
    sizes.
    """
    _check_known(graph, values)
    for name, size in values.items():
        if isinstance(size, int) and not 0 <= size < dims.LARGEST:
            raise InputError(f"{name}={size}: a size is at least 0 and below {dims.LARGEST}")
        low, high = graph.ranges.get(name, (0, dims.LARGEST))
        if isinstance(size, int) and not low <= size <= high:
            raise InputError(f"{name}={size}: declared as {low}..{high}")
    return _bind_graph(graph, values, {})


def declare(graph: Graph, ranges: Mapping[str, Range]) -> Graph:
    """A copy of `graph` that holds for symbols in these ranges only. Raises `InputError` as `bind` does."""
    _check_known(graph, ranges)
    copy = graph.clone()
    copy.ranges.update(ranges)
    return copy


def check_ranges(graph: Graph) -> None:
    """Raises `OpenSizeError` if at an end of its ranges the graph is none, or of other types than it says.

    What inference cannot decide of a symbol it lets pass; that is taken to hold throughout a range if it
    holds at the ends. Only a number of elements must be the same as another for all values.
    """
    for op in graph.walk():
        source = op.operands[op.view_of] if isinstance(op, Operator) and op.view_of is not None else None
        if source is not None and source.type.size != op.results[0].type.size:
            told = f"{source.type} and {op.results[0].type} do not have the same elements for all sizes"
            raise OpenSizeError(told, line=format_op(op), origin=op.origin)
    for end, which in enumerate(("smallest", "largest")):
        values = {name: ends[end] for name, ends in graph.ranges.items()}
        told = ", ".join(f"{name}={size}" for name, size in values.items())
        try:
            bound = bind(graph, values)
        except InferenceError as error:
            raise OpenSizeError(f"{told}: {error.message}", line=error.line, origin=error.origin) from error
        for symbolic, op in zip(graph.ops, bound.ops, strict=True):
            for mine, its in zip(symbolic.results, op.results, strict=True):
                if mine.type.substitute(values) != its.type:
                    raise OpenSizeError(
                        f"{told}, the {which}: the result is {its.type}, not {mine.type}",
                        line=format_op(symbolic),
                        origin=op.origin,
                    )


def _check_known(graph: Graph, names: Collection[str]) -> None:
    unknown = sorted(set(names) - set(graph.symbols()))
    if unknown:
        known = ", ".join(graph.symbols()) or "none"
        raise InputError(
            f"no input of graph {graph.name!r} has the size {unknown[0]!r}; symbolic sizes: {known}"
        )


def _bind_graph(graph: Graph, sizes: Mapping[str, Dim], outer: Mapping[Value, Value]) -> Graph:
    copy, values = Graph(graph.name), dict(outer)
    for value in graph.inputs:
        values[value] = copy.add_input(value.type.substitute(sizes), value.name)
    for op in graph.ops:
        new = copy.add(_bind_op(op, sizes, values))
        values.update(zip(op.results, new.results, strict=True))
    copy.outputs = [values[value] for value in graph.outputs]
    copy.output_names, copy.metadata = list(graph.output_names), dict(graph.metadata)
    copy.ranges = {name: range for name, range in graph.ranges.items() if name not in sizes}
    return copy


def _bind_op(op: Op, sizes: Mapping[str, Dim], values: Mapping[Value, Value]) -> Op:
    try:
        return op.clone(
            values,
            attribute=lambda held: _bound(held, sizes),
            region=lambda held: _bind_graph(held, sizes, values),
        )
    except InferenceError as error:
        raise InferenceError(error.message, line=format_op(op), origin=op.origin) from error


def _bound(attribute: Any, sizes: Mapping[str, Dim]) -> Any:
    match attribute:
        case Poly():
            return dims.substitute(attribute, sizes)
        case TensorType():
            return attribute.substitute(sizes)
        case tuple():
            return tuple(_bound(item, sizes) for item in cast("tuple[Any, ...]", attribute))
        case _:
            return attribute
