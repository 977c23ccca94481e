"""The door out: writes a graph as an ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    defs,
    helper,
)

from .diagnostics import UnsupportedError
from .files import replacing
from .ir import Graph, Op, Value
from .literal import array_bytes
from .op import Constant, Operator, operator_for
from .types import STRING, Array, DType, TensorType, dtype_of

EXTERNAL_FROM = 3 << 29
"""Bytes of weights, 1.5 GiB, above which they go to a file beside the model, which could not hold 2 GiB."""

SMALL = 1024
"""Arrays of so many bytes stay within the model all the same."""

DEFAULT_OPSET = 17


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
        self.opsets = self.choose_opsets(opset)
        self.dim_params: Mapping[str, str] = graph.metadata.get("dim_params", {})

    def choose_opsets(self, opset: int | None) -> dict[str, int]:
        source: Mapping[str, int] = self.graph.metadata.get("opset", {})
        ops = [op for op in self.graph.walk() if not _dissolves(op)]
        foreign = [op for op in ops if not (isinstance(op, Operator) and type(op).onnx)]
        if foreign:
            raise UnsupportedError(
                f"{_number(foreign)} no form in ONNX: " + ", ".join(dict.fromkeys(op.kind for op in foreign)),
                origin=dict.fromkeys(name for op in foreign for name in op.origin),
            )
        opsets = {"": source.get("", DEFAULT_OPSET) if opset is None else opset}
        written = [op for op in ops if isinstance(op, Operator)]
        for op in written:
            opsets[op.domain] = max(opsets.get(op.domain, source.get(op.domain, 1)), op.since)
        if opset is not None and opsets[""] > opset:
            late = {f"{op.kind} ({op.since})" for op in written if op.domain == "" and op.since > opset}
            raise UnsupportedError(f"opset {opset} is too old for: {', '.join(sorted(late))}")
        stale = {
            f"{op.kind} ({op.onnx})"
            for op in written
            if operator_for(op.domain, op.onnx, opsets[op.domain]) is not type(op)
        }
        if stale:
            raise UnsupportedError(f"forms of old opsets cannot be written: {', '.join(sorted(stale))}")
        return opsets

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
                wanted = wanted if output_names is not None else self.fresh(name)
                proto.node.append(helper.make_node("Identity", [name], [wanted], self.node_name("Identity")))
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
        node.name = self.node_name(op.origin[0] if op.origin else op.onnx)
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
                node.attribute.append(helper.make_attribute(_onnx_name(op, field.name, schema), graph))
            elif field.kind == "attribute" and value is not None:
                node.attribute.extend(_attribute(op, field.name, value, schema))
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
        self.names[value] = self.fresh(wanted)
        return self.names[value]

    def fresh(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def node_name(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self.node_names:
            number += 1
            name = f"{wanted}_{number}"
        self.node_names.add(name)
        return name

    def info(self, name: str, type: TensorType) -> ValueInfoProto:
        return ValueInfoProto(name=name, type=_type_proto(type, self.dim_params))


def tensor_proto(array: Array, name: str) -> TensorProto:
    """An array as an ONNX tensor."""
    tensor = TensorProto(name=name, dims=array.shape, data_type=dtype_of(array).code)
    if dtype_of(array) is STRING:
        tensor.string_data.extend(str(text).encode() for text in array.ravel())
    else:
        tensor.raw_data = array_bytes(array).tobytes()
    return tensor


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


def _attribute(op: Operator, field: str, value: Any, schema: defs.OpSchema | None) -> list[AttributeProto]:
    """The attribute of a field; none where ONNX has it not, or has it by default."""
    name = _onnx_name(op, field, schema)
    if isinstance(value, DType):
        value = value.code
    elif isinstance(value, TensorType):
        value = _type_proto(value, {})
    elif isinstance(value, np.ndarray):
        value = tensor_proto(cast(Array, value), "")
    elif isinstance(value, bool):
        value = int(value)
    if schema is None:
        return [helper.make_attribute(name, value)]
    if name not in schema.attributes:
        return []
    declared = schema.attributes[name]
    kind = _type_code(declared.type)
    if kind == AttributeProto.FLOAT:
        value = float(value)
    attribute = helper.make_attribute(name, value, attr_type=kind)
    default = declared.default_value
    held, usual = helper.get_attribute_value(attribute), helper.get_attribute_value(default)
    return [] if not declared.required and default.type == kind and held == usual else [attribute]


def _type_code(type: Any) -> Any:
    return type.value


def _onnx_name(op: Operator, field: str, schema: defs.OpSchema | None) -> str:
    if field in op.onnx_names or schema is None or field in schema.attributes:
        return op.onnx_names.get(field, field)
    alike = [name for name in schema.attributes if name.lower() == field.replace("_", "").lower()]
    return alike[0] if alike else field


@cache
def _schema(name: str, opset: int, domain: str) -> defs.OpSchema | None:
    return defs.get_schema(name, opset, domain) if defs.has(name, opset, domain) else None


def _is_optional(output: Any) -> bool:
    return output.option == defs.OpSchema.FormalParameterOption.Optional


def _type_proto(type: TensorType, dim_params: Mapping[str, str]) -> TypeProto:
    shape = [size if isinstance(size, int) else dim_params.get(str(size), str(size)) for size in type.shape]
    return helper.make_tensor_type_proto(type.dtype.code, shape)


def _names(infos: Sequence[ValueInfoProto]) -> set[str]:
    return {info.name for info in infos}


def _number(ops: Sequence[Op]) -> str:
    return f"{len(ops)} operators have" if len(ops) > 1 else "1 operator has"


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
