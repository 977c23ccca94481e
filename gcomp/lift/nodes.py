"""Builds operators from nodes: functions inlined, subgraphs as regions, old forms brought to the newest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto

from ..diagnostics import GcompError, ModelError, UnsupportedError
from ..ir import Graph, Op, Value
from ..op import Constant, Operator, operator_for
from ..types import Array
from .attributes import (
    GRAPH,
    check_types,
    constant_array,
    field_names,
    field_value,
    resolved,
    snake,
    unknown_attributes,
)
from .interface import Interface
from .order import in_order, title
from .tensors import array_of

NODE_LIMIT = 1_000_000
"""Nodes after all functions are inlined; a model with more is refused."""

OUTPUT_COUNTS = {"num_outputs", "outputs"}
"""Fields that say how many results an operator gives, where ONNX counts the outputs of a node."""

FunctionKey = tuple[str, str, str]


@dataclass
class Scope:
    """The tensors known by name in a graph; arrays become operators when they are first read."""

    graph: Graph
    outer: Scope | None = None
    values: dict[str, Value | None] = field(default_factory=dict[str, "Value | None"])
    arrays: dict[str, TensorProto | Array] = field(default_factory=dict[str, "TensorProto | Array"])
    missing: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Context:
    """Where nodes stand: the opsets they are written in, and the calls around them within functions."""

    opsets: Mapping[str, int]
    prefix: str = ""
    caller: Mapping[str, AttributeProto] = field(default_factory=dict[str, AttributeProto])
    calls: tuple[FunctionKey, ...] = ()

    def opset(self, node: NodeProto) -> int:
        domain = plain_domain(node.domain)
        if domain not in self.opsets:
            raise ModelError(f"node {node.name!r}: the model imports no opset for the domain {domain!r}")
        return self.opsets[domain]


def plain_domain(domain: str) -> str:
    """The domain's name; that of the standard operators is empty."""
    return "" if domain == "ai.onnx" else domain


class Builder:
    """Turns the nodes of one model into operators."""

    def __init__(self, functions: Sequence[FunctionProto], folder: Path | None, interface: Interface) -> None:
        self.functions = {(plain_domain(f.domain), f.name, f.overload): f for f in functions}
        self.folder, self.interface = folder, interface
        self.count = 0

    def function(self, node: NodeProto) -> tuple[FunctionKey, FunctionProto | None]:
        """The function of the model that a node calls, if it does."""
        key = (plain_domain(node.domain), node.op_type, node.overload)
        return key, self.functions.get(key)

    def called(self, function: FunctionProto, key: FunctionKey, name: str, context: Context) -> Context:
        """The context of a function's body, the attributes aside. Raises `ModelError` for recursion."""
        if key in context.calls:
            raise ModelError(f"function {key[1]!r} calls itself")
        opsets = {plain_domain(o.domain): o.version for o in function.opset_import}
        return Context(opsets, f"{context.prefix}{name}/", {}, (*context.calls, key))

    # What cannot be lifted

    def check_supported(self, nodes: Sequence[NodeProto], context: Context) -> None:
        """Raises `UnsupportedError` that names every node for which there is no operator."""
        found = list(dict.fromkeys(self._unsupported(nodes, context, set())))
        if found:
            raise UnsupportedError(
                f"{len(found)} node{'s' if len(found) > 1 else ''} of the model cannot be lifted:\n  "
                + "\n  ".join(found)
            )

    def _unsupported(
        self, nodes: Sequence[NodeProto], context: Context, seen: set[FunctionKey]
    ) -> Iterator[str]:
        for place, node in enumerate(nodes):
            name = context.prefix + title(node, place)
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    yield from self._unsupported(graph.node, context, seen)
            key, function = self.function(node)
            if function is not None:
                inner = self.called(function, key, title(node, place), context)
                if key not in seen:
                    yield from self._unsupported(function.node, inner, seen)
                seen.add(key)
                continue
            opset = context.opset(node)
            what = f'"{name}": {node.op_type} of {key[0] or "ai.onnx"}, opset {opset}'
            cls = operator_for(key[0], node.op_type, opset)
            if cls is None:
                yield f"{what}: {_remedy(key[0], node.op_type)}"
            elif cls is not Constant:
                for attribute in unknown_attributes(cls, resolved(node, {}), opset):
                    yield f"{what}: its attribute {attribute.name} is not known; leave it at its default"

    # Graphs

    def fill(self, scope: Scope, graph: GraphProto, context: Context, where: str) -> None:
        """Adds the nodes of `graph` and its outputs to the graph of `scope`, which has its inputs already."""
        for tensor in graph.initializer:
            _claim(scope, tensor.name, where)
            scope.arrays[tensor.name] = tensor
        self.add_nodes(graph.node, scope, context, where)
        for info in graph.output:
            value = self.look_up(scope, info.name)
            if value is None:
                raise ModelError(f"{where}: no node makes the output {info.name!r}")
            scope.graph.outputs.append(value)
            scope.graph.output_names.append(info.name)

    def add_nodes(self, nodes: Sequence[NodeProto], scope: Scope, context: Context, where: str) -> None:
        for place in in_order(nodes, where):
            self.count += 1
            if self.count > NODE_LIMIT:
                raise ModelError(f"the model has more than {NODE_LIMIT} nodes when its functions are inlined")
            self.add_node(nodes[place], title(nodes[place], place), scope, context)

    def add_node(self, node: NodeProto, name: str, scope: Scope, context: Context) -> None:
        origin = context.prefix + name
        operands = [self.operand(tensor, node, origin, scope) for tensor in node.input]
        given = resolved(node, context.caller)
        key, function = self.function(node)
        if function is not None:
            results = self.inline(function, key, name, operands, given, scope, context)
        else:
            try:
                results = self.operator(node, operands, given, scope, context)
            except GcompError as error:
                raise type(error)(error.message, line=error.line, origin=error.origin or (origin,)) from error
        self.take_in(results, scope, origin)
        for index, tensor in enumerate(node.output):
            if not tensor:
                continue
            _claim(scope, tensor, f"node {origin!r}")
            if index >= len(results):
                scope.missing[tensor] = f"{node.op_type} gives no output {index} in gcomp: node {origin!r}"
                continue
            value = scope.values[tensor] = results[index]
            if not value.name:
                value.name = context.prefix + tensor

    def operand(self, tensor: str, node: NodeProto, origin: str, scope: Scope) -> Value | None:
        if not tensor:
            return None
        value = self.look_up(scope, tensor)
        if value is None and not _known(scope, tensor):
            raise ModelError(f"{node.op_type} reads {tensor!r}, which nothing makes", origin=(origin,))
        return value

    def look_up(self, scope: Scope | None, name: str) -> Value | None:
        """The value called `name` here or in a graph around; None where it is absent or unknown."""
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            if name in scope.missing:
                raise UnsupportedError(scope.missing[name])
            if name in scope.arrays:
                held = scope.arrays.pop(name)
                array = array_of(held, self.folder) if isinstance(held, TensorProto) else held
                value = scope.graph.add(Constant(array)).result
                value.name = name
                scope.values[name] = value
                return value
            scope = scope.outer
        return None

    def take_in(self, results: Sequence[Value], scope: Scope, origin: str) -> None:
        """Adds the operators that make `results`, all as coming from node `origin`."""
        before = len(scope.graph.ops)
        for value in results:
            if value.producer is not None and value.producer.parent is None:
                scope.graph.add(value.producer)
        for op in scope.graph.ops[before:]:
            op.origin = op.origin or (origin,)

    # Nodes

    def operator(
        self,
        node: NodeProto,
        operands: Sequence[Value | None],
        attributes: Mapping[str, AttributeProto],
        scope: Scope,
        context: Context,
    ) -> tuple[Value, ...]:
        """The results of a node, made by detached operators in their newest form."""
        opset = context.opset(node)
        cls = operator_for(plain_domain(node.domain), node.op_type, opset)
        if cls is None:
            raise UnsupportedError(f"there is no operator for {node.op_type}")
        if cls is Constant:
            return (Constant(constant_array(attributes, self.folder)).result,)
        check_types(cls, attributes, opset)
        given = _by_field(cls, node, operands)
        known = field_names(cls)
        for name, attribute in attributes.items():
            target = known.get(snake(name))
            if target is None:
                continue  # at its default: check_supported has refused all others
            if attribute.type == GRAPH:
                given[target] = self.region(attribute.g, scope, context)
            else:
                given[target] = field_value(cls, target, attribute, self.folder)
        for count in OUTPUT_COUNTS & set(known):
            given.setdefault(count, len(node.output))
        return newest(cls(**given))

    def region(self, graph: GraphProto, scope: Scope, context: Context) -> Graph:
        """A subgraph, which may read what the graphs around it have."""
        inner = Scope(Graph(graph.name), scope)
        for info in graph.input:
            _claim(inner, info.name, f"subgraph {graph.name!r}")
            type = self.interface.declared_type(info)
            inner.values[info.name] = inner.graph.add_input(type, info.name)
        self.fill(inner, graph, context, f"subgraph {graph.name!r}")
        return inner.graph

    def inline(
        self,
        function: FunctionProto,
        key: FunctionKey,
        name: str,
        operands: Sequence[Value | None],
        attributes: Mapping[str, AttributeProto],
        scope: Scope,
        context: Context,
    ) -> tuple[Value, ...]:
        """The results of a call, its body put in place of it."""
        if len(operands) > len(function.input):
            raise ModelError(
                f"function {function.name!r} takes {len(function.input)} inputs, "
                f"node {name!r} gives {len(operands)}"
            )
        body = Scope(scope.graph)
        absent = [None] * (len(function.input) - len(operands))
        body.values = dict(zip(function.input, [*operands, *absent], strict=True))
        defaults = {attribute.name: attribute for attribute in function.attribute_proto}
        inner = replace(self.called(function, key, name, context), caller={**defaults, **attributes})
        self.add_nodes(function.node, body, inner, f"function {function.name!r}")
        results: list[Value] = []
        for output in function.output:
            value = self.look_up(body, output)
            if value is None:
                raise ModelError(f"function {function.name!r}: no node makes its output {output!r}")
            if value.name == inner.prefix + output:
                value.name = ""  # it takes the caller's name
            results.append(value)
        return tuple(results)


def newest(op: Op) -> tuple[Value, ...]:
    """The results of a detached operator, or what the newest operators, detached too, have for them."""
    done: dict[Op, tuple[Value, ...]] = {}

    def upgraded(op: Op) -> tuple[Value, ...]:
        if op not in done:
            replaced = op.upgrade() if isinstance(op, Operator) else None
            if replaced is None:
                done[op] = op.results
            else:
                values = (replaced,) if isinstance(replaced, Value) else replaced
                values = values.results if isinstance(values, Op) else values
                done[op] = tuple(map(modern, values))
        return done[op]

    def modern(value: Value) -> Value:
        op = value.producer
        if op is None or op.parent is not None:
            return value
        changed = {old: new for old in op.inputs if (new := modern(old)) is not old}
        if changed and op not in done:
            done[op] = upgraded(op.clone(changed))
        return upgraded(op)[value.index]

    return upgraded(op)


def _by_field(cls: type[Operator], node: NodeProto, operands: Sequence[Value | None]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    rest = list(operands)
    for declared in cls.fields():
        if declared.kind == "variadic":
            given[declared.name], rest = tuple(rest), []
        elif declared.kind in ("operand", "optional"):
            value = rest.pop(0) if rest else None
            if value is None and declared.kind == "operand":
                raise ModelError(f"{node.op_type} needs its input {declared.name}, which is absent")
            given[declared.name] = value
    if any(value is not None for value in rest):
        raise ModelError(f"{node.op_type} takes {len(operands) - len(rest)} inputs, got {len(operands)}")
    return given


def _claim(scope: Scope, name: str, where: str) -> None:
    if name in scope.values or name in scope.arrays or name in scope.missing:
        raise ModelError(f"{where}: there is more than one tensor called {name!r}")


def _known(scope: Scope | None, name: str) -> bool:
    while scope is not None:
        if name in scope.values:
            return True
        scope = scope.outer
    return False


def _remedy(domain: str, name: str) -> str:
    newer = operator_for(domain, name, 1 << 30)
    if newer is not None:
        return f"gcomp knows it from opset {newer.since} on; convert the model with onnx.version_converter"
    if domain == "com.microsoft":
        return "no such operator in gcomp; export the model without ONNX Runtime's own fusions"
    return "no such operator in gcomp; express it with others, or register an operator class for it"
