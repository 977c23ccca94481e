"""The door for ONNX models: reads a file and makes a graph of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from onnx import ModelProto, defs

from ..arguments import checked
from ..diagnostics import ModelError, UnsupportedError
from ..dim import Range, split_ranges
from ..ir import Graph
from .files import read_model
from .interface import Interface, bound_types, declared_ranges
from .nodes import Builder, Context, Scope, plain_domain
from .tensors import dense_of

__all__ = ["lift"]

OLDEST_OPSET = 7


@checked
def lift(
    model: str | os.PathLike[str] | bytes | ModelProto,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    dims: Mapping[str, int | Range] | None = None,
) -> Graph:
    """The graph of an ONNX model, in the newest form of each operator.

    `shapes` gives sizes by input name (None leaves one open), `dims` by symbol, or the least and the greatest
    that a symbol stands for, which leaves it open. Sizes that the model leaves
    without a name are called `<input>_<axis>`. Weights are shared with the model or mapped from its external
    data, never copied without need. Raises `ModelError` for what is no valid model, `UnsupportedError` naming
    all nodes that gcomp has no operator for, `InputError` for sizes that do not fit, `InferenceError` for
    operands that an operator cannot take.
    """
    proto, folder = read_model(model)
    opsets = _opsets(proto)
    interface = Interface()
    builder = Builder(proto.functions, folder, interface)
    context = Context(opsets)
    builder.check_supported(proto.graph.node, context)

    scope = Scope(Graph(proto.graph.name or "main"))
    constants = {tensor.name for tensor in proto.graph.initializer}
    constants |= {sparse.values.name for sparse in proto.graph.sparse_initializer}
    infos = [info for info in proto.graph.input if info.name not in constants]
    declared = {info.name: interface.declared_type(info, (shapes or {}).get(info.name)) for info in infos}
    if len(declared) != len(infos) or "" in declared:
        raise ModelError("the model has several inputs of one name, or one without a name")
    sizes, ranges = split_ranges(dims or {})
    types = bound_types(declared, interface.dim_params, shapes or {}, sizes)
    for name, type in types.items():
        scope.values[name] = scope.graph.add_input(type, name)
    for sparse in proto.graph.sparse_initializer:
        scope.arrays[sparse.values.name] = dense_of(sparse, folder)
    builder.fill(scope, proto.graph, context, "the model")
    if len(set(scope.graph.output_names)) != len(scope.graph.output_names):
        raise ModelError(f"the model names an output twice: {', '.join(scope.graph.output_names)}")
    scope.graph.metadata = _metadata(proto, opsets, interface.dim_params, scope.graph)
    scope.graph.ranges = declared_ranges(interface.dim_params, ranges, scope.graph.symbols())
    return scope.graph


def _opsets(model: ModelProto) -> dict[str, int]:
    opsets = {plain_domain(entry.domain): entry.version for entry in model.opset_import}
    if not opsets:
        raise ModelError("the model imports no opset")
    newest = defs.onnx_opset_version()
    if not OLDEST_OPSET <= opsets.get("", newest) <= newest:
        raise UnsupportedError(
            f"the model has opset {opsets['']}; gcomp takes {OLDEST_OPSET} to {newest}: "
            "convert it with onnx.version_converter, or export it anew"
        )
    return opsets


def _metadata(
    model: ModelProto, opsets: dict[str, int], dim_params: Mapping[str, str], graph: Graph
) -> dict[str, Any]:
    """What the graph itself has no place for and `save_onnx` writes back."""
    symbols = graph.symbols()
    found: dict[str, Any] = {
        "opset": opsets,
        "ir_version": model.ir_version,
        "producer": model.producer_name,
        "producer_version": model.producer_version,
        "domain": model.domain,
        "model_version": model.model_version,
        "doc": model.doc_string,
        "graph_doc": model.graph.doc_string,
        "properties": {entry.key: entry.value for entry in model.metadata_props},
        "dim_params": {clean: raw for clean, raw in dim_params.items() if clean != raw and clean in symbols},
    }
    return {key: value for key, value in found.items() if value}
