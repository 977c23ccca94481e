"""From a graph to a Relax module: one call for each operator, and a function that says what the module is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from gcomp.diagnostics import UnsupportedError
from gcomp.expand import expanded
from gcomp.ir import Graph, Op, Value
from gcomp.lowering import lower_op
from gcomp.op import Constant, Operator
from gcomp.types import BF16, Array, DType, TensorType, dtype_of

from .function import prim_func
from .scalar import memory_name

ENTRY, MANIFEST = "main", "gcomp_manifest"
"""The functions of the module: the graph, and one that gives the bytes of the manifest."""


def ir_module(graph: Graph, manifest: str) -> Any:
    """The module of a graph of static shapes. Raises `UnsupportedError`, which names the operator."""
    return _Builder().module(graph, manifest)


class _Builder:
    def __init__(self) -> None:
        self.builder = relax.BlockBuilder()
        self.values: dict[Value, Any] = {}

    def module(self, graph: Graph, manifest: str) -> Any:
        parameters = [relax.Var(f"x{i}", _type(v.type)) for i, v in enumerate(graph.inputs)]
        self.values.update(zip(graph.inputs, parameters, strict=True))
        calls = [self._prepared(op) for op in graph.ops]
        with self.builder.function(ENTRY, parameters):
            with self.builder.dataflow():
                for op, function in zip(graph.ops, calls, strict=True):
                    self._emit(op, function)
                outputs = self.builder.emit_output(relax.Tuple([self.values[v] for v in graph.outputs]))
            self.builder.emit_func_output(outputs)
        with self.builder.function(MANIFEST, []):
            self.builder.emit_func_output(relax.const(np.frombuffer(manifest.encode(), np.uint8)))
        return self.builder.get()

    def _prepared(self, op: Op) -> Any:
        """The TIR function of an operator, with the places of the operands that it takes; None without one.

        All are made before the first call is emitted: an error must not leave a half-made Relax function.
        """
        if not isinstance(op, Operator):
            raise UnsupportedError(f"tvm: {op.kind} is not an operator", origin=op.origin)
        if isinstance(op, Constant) or (op.view_of is not None and op.results[0].type.size != 0):
            return None
        kernel = expanded(lower_op(op))
        places = [place for place, tensor in enumerate(kernel.operands) if tensor is not None]
        try:
            function = prim_func(kernel)
        except UnsupportedError as error:
            raise UnsupportedError(f"{op.kind}: {error.message}", origin=op.origin) from error
        return self.builder.add_func(function, op.kind.lower()), places

    def _emit(self, op: Op, prepared: tuple[Any, list[int]] | None) -> None:
        operands = [] if not isinstance(op, Operator) else op.operands
        given = [None if value is None else self.values[value] for value in operands]
        if isinstance(op, Constant):
            self.values[op.result] = relax.const(to_tensor(op.value))
        elif prepared is not None:
            function, places = prepared
            types = [_type(value.type) for value in op.results]
            call = relax.call_tir(function, [given[place] for place in places], types)
            self._bind(op.results, self.builder.emit(call))
        elif isinstance(op, Operator) and op.view_of is not None:
            shape = op.results[0].type.static_shape
            self.values[op.results[0]] = self.builder.emit(relax.op.reshape(given[op.view_of], shape))

    def _bind(self, results: Sequence[Value], made: Any) -> None:
        if len(results) == 1:
            self.values[results[0]] = made
            return
        for index, value in enumerate(results):
            self.values[value] = self.builder.emit(relax.TupleGetItem(made, index))


def to_tensor(array: Array) -> Any:
    """A copy of an array as TVM holds it: aligned, bf16 as bits."""
    plain = np.array(array, order="C")
    return tvm.runtime.tensor(plain.view(np.uint16) if dtype_of(plain) == BF16 else plain)


def from_tensor(tensor: Any, dtype: DType) -> Array:
    """A copy of what TVM holds as an array."""
    array: Array = tensor.numpy()
    return array.view(dtype.numpy) if dtype == BF16 else array


def _type(type: TensorType) -> Any:
    return relax.TensorType(type.static_shape, memory_name(type.dtype))
