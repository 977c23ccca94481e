"""Graphs and single operators as text; knows no operator by name, so that every floor may use it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .diagnostics import GcompError
from .literal import array_type, literal, quoted

if TYPE_CHECKING:
    from .ir import Graph, Op, Value
    from .types import Array

BARE = re.compile(r"[A-Za-z_/][\w./]*", re.ASCII)
"""Names that need no quotes after the `%`."""


def print_graph(graph: Graph) -> str:
    """The text form, which `gcomp.text.parse` reads back.

    A value is called by its name, made unique with a number where it repeats; a nameless one is a number.
    Raises `GcompError` for attributes without a text form.
    """
    printer = _Printer()
    printer.name_all(graph)
    return "\n".join(printer.graph(graph, "")) + "\n"


def format_op(op: Op) -> str:
    """One line for one operator, the content of its regions left out; attached or not, well-formed or not."""
    printer = _Printer()
    if op.parent is not None:
        printer.name_all(op.parent)
    try:
        return printer.op_line(op, None, "")[0]
    except GcompError:
        return repr(op)


class _Printer:
    def __init__(self) -> None:
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.repeats: dict[str, int] = {}
        self.unnamed = 0

    def name_all(self, graph: Graph) -> None:
        for value in graph.inputs:
            self.assign(value)
        for op in graph.ops:
            for value in op.results:
                self.assign(value)
            for region in op.regions:
                self.name_all(region)

    def assign(self, value: Value) -> None:
        if not value.name:
            self.names[value] = f"%{self.unnamed}"
            self.unnamed += 1
            return
        name = value.name
        while name in self.taken:
            self.repeats[value.name] = self.repeats.get(value.name, 0) + 1
            name = f"{value.name}.{self.repeats[value.name]}"
        self.taken.add(name)
        self.names[value] = f"%{name if BARE.fullmatch(name) else quoted(name)}"

    def use(self, value: Value | None) -> str:
        if value is None:
            return "_"
        if value not in self.names:  # a stranger: only ill-formed graphs and detached operators have them
            self.assign(value)
        return self.names[value]

    def graph(self, graph: Graph, indent: str) -> Iterator[str]:
        inputs = ", ".join(f"{self.use(value)}: {value.type}" for value in graph.inputs)
        names = [*graph.output_names, *[""] * (len(graph.outputs) - len(graph.output_names))]
        outputs = ", ".join(
            f"{self.use(value)} {quoted(name)}" for value, name in zip(graph.outputs, names, strict=False)
        )
        ranges = ", ".join(f"{name}={low}..{high}" for name, (low, high) in sorted(graph.ranges.items()))
        where = f"where {ranges} " if ranges else ""
        yield f"graph {quoted(graph.name)} ({inputs}) -> ({outputs}) {where}{{"
        if graph.metadata:
            yield f"{indent}  metadata {_json(graph.metadata)}"
        for op in graph.ops:
            lines = self.op_line(op, self, indent + "  ")
            lines[0] = f"{indent}  {lines[0]}"
            yield from lines
        yield indent + "}"

    def op_line(self, op: Op, regions: _Printer | None, indent: str) -> list[str]:
        """The lines of an operator; `regions` prints its regions, or they are left out."""
        lines = [f"{results} = " if (results := ", ".join(map(self.use, op.results))) else ""]
        lines[0] += op.kind + self.operands(op)
        separator = " {"
        for field in op.fields():
            if field.kind == "attribute":
                text = literal(getattr(op, field.name))
                if hasattr(type(op), field.name) and text == literal(_default(op, field.name)):
                    continue
                lines[-1] += f"{separator}{field.name}={text}"
            elif field.kind == "region":
                lines[-1] += f"{separator}{field.name}="
                if regions is None:
                    lines[-1] += "..."
                else:
                    first, *rest = regions.graph(getattr(op, field.name), indent)
                    lines[-1] += first
                    lines += rest
            else:
                continue
            separator = ", "
        if separator == ", ":
            lines[-1] += "}"
        if op.results and not _says_its_type(op):
            lines[-1] += " : " + ", ".join(str(value.type) for value in op.results)
        if op.origin:
            lines[-1] += " from " + ", ".join(map(quoted, op.origin))
        return lines

    def operands(self, op: Op) -> str:
        parts: list[str] = []
        fields = [field for field in op.fields() if field.kind in ("operand", "optional", "variadic")]
        if not fields:
            return ""
        for field in fields:
            held = getattr(op, field.name)
            if field.kind != "variadic":
                parts.append(self.use(held))
            elif field is fields[-1]:
                parts += [self.use(value) for value in held]
            else:
                parts.append(f"[{', '.join(self.use(value) for value in held)}]")
        while parts and parts[-1] == "_":
            parts.pop()
        return f"({', '.join(parts)})"


def _default(op: Op, name: str) -> Any:
    default: Any = getattr(type(op), name)
    if isinstance(default, list):  # an operator's constructor makes tuples of lists
        return tuple(cast("list[Any]", default))
    return default


def _says_its_type(op: Op) -> bool:
    """Whether the operator is nothing but an array of the type of its result."""
    arrays: list[Array] = [value for value in op.attributes.values() if isinstance(value, np.ndarray)]
    return (
        len(op.attributes) == len(op.fields())
        and len(op.results) == len(arrays) == 1
        and op.results[0].type == array_type(arrays[0])
    )


def _json(metadata: dict[str, Any]) -> str:
    try:
        return json.dumps(metadata, sort_keys=True, ensure_ascii=True)
    except TypeError as error:
        raise GcompError(f"metadata of a graph must be JSON: {error}") from error
