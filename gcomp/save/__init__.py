"""The door out: writes a graph as an ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper

from ..arguments import checked
from ..files import replacing
from ..ir import Graph, Op, Value, unused_name
from ..op import Constant, Operator
from ..types import TensorType
from .opsets import choose_opsets
from .protos import attribute_protos, onnx_name, tensor_proto, type_proto

__all__ = ["ModelProto", "save_onnx"]

EXTERNAL_FROM = 3 << 29
"""Bytes of weights, 1.5 GiB, above which they go to a file beside the model, which could not hold 2 GiB."""

SMALL = 1024
"""Arrays of so many bytes stay within the model all the same."""

DEFAULT_OPSET = 17


@checked
def save_onnx(graph: Graph, path: str | Path | None = None, opset: int | None = None) -> ModelProto:
    """The graph as an ONNX model, written to `path` if there is one.

    The opset is that of the model the graph came from, raised where an operator needs it. Fused groups are
    written as what they hold, changes of layout not at all. Weights above `EXTERNAL_FROM` bytes go to
    `<path>.data`. Raises `UnsupportedError` that lists all operators which ONNX does not have, or not in this
    `opset`; `BuildError` where the file cannot be written.
    """
    model = _Writer(graph, opset).model()
    if path is None:
        return model
    path = Path(path)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_FROM:
        _move_out(model, path.with_name(path.name + ".data"))
    with replacing(path) as file:
        file.write(model.SerializeToString())
    return model


class _Writer:
    def __init__(self, graph: Graph, opset: int | None) -> None:
        self.graph = graph
        self.same: dict[Value, Value] = {}
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.node_names: set[str] = set()
        source = {"": DEFAULT_OPSET} | graph.metadata.get("opset", {})
        self.opsets = choose_opsets([op for op in graph.walk() if not _dissolves(op)], source, opset)
        self.dim_params: Mapping[str, str] = graph.metadata.get("dim_params", {})

    def model(self) -> ModelProto:
        metadata = self.graph.metadata
        for value in self.graph.inputs:
            self.name(value, value.name or "input")
        for value, name in zip(self.graph.outputs, self.graph.output_names, strict=True):
            value = self.resolve(value)
            if value not in self.names and name not in self.taken:
                self.name(value, name)
        imports = [helper.make_opsetid(domain, version) for domain, version in sorted(self.opsets.items())]
        needed = helper.find_min_ir_version_for(imports, ignore_unknown=True)
        model = ModelProto(
            ir_version=max(metadata.get("ir_version", 0), needed, 4),  # from 4 on initialisers are no inputs
            producer_name=metadata.get("producer", "gcomp"),
            producer_version=metadata.get("producer_version", ""),
            domain=metadata.get("domain", ""),
            model_version=metadata.get("model_version", 0),
            doc_string=metadata.get("doc", ""),
            opset_import=imports,
            graph=self.graph_proto(self.graph, self.graph.output_names),
        )
        model.graph.doc_string = metadata.get("graph_doc", "")
        if properties := metadata.get("properties"):
            helper.set_model_props(model, properties)
        return model

    def graph_proto(self, graph: Graph, output_names: Sequence[str] | None) -> GraphProto:
        """A graph, or a region: that has no `output_names` of its own, only places."""
        proto = GraphProto(name=graph.name)
        for value in graph.inputs:
            if value not in self.names:
                self.name(value, value.name or "input")
            proto.input.append(self.info(self.names[value], value.type))
        self.ops(graph.ops, proto)
        local = {value for op in _flat(graph.ops) for value in op.results}
        for place, value in enumerate(graph.outputs):
            made = self.resolve(value)
            name = self.names[made]
            wanted = output_names[place] if output_names is not None else name
            if wanted != name or (
                output_names is None and (made not in local or name in _names(proto.output))
            ):
                wanted = wanted if output_names is not None else unused_name(name, self.taken)
                proto.node.append(
                    helper.make_node("Identity", [name], [wanted], unused_name("Identity", self.node_names))
                )
            proto.output.append(self.info(wanted, value.type))
        return proto

    def ops(self, ops: Sequence[Op], proto: GraphProto) -> None:
        for op in ops:
            if isinstance(op, Constant):
                if op.result.users or self.resolve(op.result) in self.names:
                    name = self.names.get(op.result) or self.name(op.result, op.result.name or "constant")
                    proto.initializer.append(tensor_proto(op.value, name))
            elif op.kind == "Relayout":
                self.same[op.results[0]] = op.inputs[0]
            elif _dissolves(op):
                (body,) = op.regions
                self.same.update(zip(body.inputs, op.inputs, strict=True))
                self.ops(body.ops, proto)
                self.same.update(zip(op.results, body.outputs, strict=True))
            elif isinstance(op, Operator):
                proto.node.append(self.node(op))

    def node(self, op: Operator) -> NodeProto:
        schema = _schema(op.onnx, self.opsets[op.domain], op.domain)
        node = NodeProto(op_type=op.onnx, domain=op.domain)
        node.name = unused_name(op.origin[0] if op.origin else op.onnx, self.node_names)
        node.input.extend("" if value is None else self.names[self.resolve(value)] for value in op.operands)
        for place, value in enumerate(op.results):
            spare = schema is not None and place < len(schema.outputs) and _is_optional(schema.outputs[place])
            if value in self.names:
                node.output.append(self.names[value])
            elif spare and not value.users:
                node.output.append("")
            else:
                node.output.append(self.name(value, value.name or f"{node.name}_output"))
        for names in (node.input, node.output):
            while names and not names[-1]:
                del names[-1]
        for field in op.fields():
            value = getattr(op, field.name)
            if field.kind == "region":
                graph = self.graph_proto(value, None)
                node.attribute.append(helper.make_attribute(onnx_name(op, field.name, schema), graph))
            elif field.kind == "attribute" and value is not None:
                node.attribute.extend(attribute_protos(op, field.name, value, schema))
        return node

    # Names

    def resolve(self, value: Value) -> Value:
        """The value that is written where groups and changes of layout have dissolved."""
        while value in self.same:
            value = self.same[value]
        producer = value.producer
        if producer is not None and producer.kind == "Relayout":
            return self.resolve(producer.inputs[0])
        if producer is not None and _dissolves(producer):
            return self.resolve(producer.regions[0].outputs[value.index])
        return value

    def name(self, value: Value, wanted: str) -> str:
        self.names[value] = unused_name(wanted, self.taken)
        return self.names[value]

    def info(self, name: str, type: TensorType) -> ValueInfoProto:
        return ValueInfoProto(name=name, type=type_proto(type, self.dim_params))


def _dissolves(op: Op) -> bool:
    """Whether the operator is written as something else: a change of layout, or a group as what it holds."""
    if isinstance(op, Operator) and op.onnx:
        return False
    if op.kind == "Relayout":
        return True
    regions = op.regions
    return (
        len(regions) == 1
        and len(regions[0].inputs) == len(op.inputs)
        and len(regions[0].outputs) == len(op.results)
    )


def _flat(ops: Sequence[Op]) -> Iterator[Op]:
    """The operators of one graph, groups as what they hold."""
    for op in ops:
        yield op
        if _dissolves(op):
            for region in op.regions:
                yield from _flat(region.ops)


def _is_optional(output: Any) -> bool:
    return output.option == defs.OpSchema.FormalParameterOption.Optional


def _names(infos: Sequence[ValueInfoProto]) -> set[str]:
    return {info.name for info in infos}


def _move_out(model: ModelProto, path: Path) -> None:
    """Moves the large initialisers of a model to `path`, each at a multiple of 4096 bytes."""
    with replacing(path) as file:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) <= SMALL:
                continue
            file.write(bytes(-file.tell() % 4096))
            place = {"location": path.name, "offset": file.tell(), "length": len(tensor.raw_data)}
            file.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, held in place.items():
                tensor.external_data.add(key=key, value=str(held))


@cache
def _schema(name: str, opset: int, domain: str) -> defs.OpSchema | None:
    return defs.get_schema(name, opset, domain) if defs.has(name, opset, domain) else None
