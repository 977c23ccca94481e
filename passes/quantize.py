"""quantize: rounds weights and activations of products to 8 bits, by QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gcomp.ir import Graph, Op, Value
from gcomp.op import Constant, constant_value
from gcomp.ops import Add, Conv, DequantizeLinear, Gemm, MatMul, QuantizeLinear
from gcomp.types import F32, Array

RANGES = "ranges"
"""The metadata that `gcomp.calibrate` leaves: for each value by name, its least and its largest element."""

BIAS_LIMIT = 2.0**30
"""The largest bias in steps; a weight's scale grows until it fits."""


@dataclass(frozen=True)
class Quantize:
    """Puts Q and DQ before the first operand of each Conv, Gemm and MatMul of constant weights, where the
    operand's range is known, and its weights and bias into integers behind DQ. A sum of such an operand, as
    past a residual block, reads it after DQ too.

    Activations are u8 with a zero point, or i8 if `signed`, with one scale for a tensor; weights are i8 with
    a scale per output channel and no zero point; biases are i32 in steps of both scales. The ranges are taken
    out of the graph's metadata.
    """

    name: str = field(default="quantize", init=False)
    signed: bool = False

    def operands(self, graph: Graph) -> list[Value]:
        """The values whose ranges `run` needs."""
        products = (op for op in graph.ops if isinstance(op, Conv | Gemm | MatMul) and is_eligible(op))
        return list(dict.fromkeys(op.inputs[0] for op in products))

    def run(self, graph: Graph) -> bool:
        ranges: Mapping[str, Sequence[float]] | None = graph.metadata.pop(RANGES, None)
        if not ranges:
            return ranges is not None
        done: dict[Value, tuple[Value, np.float32]] = {}
        for op in list(graph.ops):
            if not isinstance(op, Conv | Gemm | MatMul) or not is_eligible(op):
                continue
            x, w = op.operands[:2]
            if x is None or w is None or x.name not in ranges:
                continue
            if x not in done:
                done[x] = self._activation(graph, op, x, ranges[x.name])
            put_weights(graph, op, w, done[x][1])
            op.replace_operand(x, done[x][0])
        self._share(graph, {x: restored for x, (restored, _) in done.items()})
        return True

    def _share(self, graph: Graph, done: Mapping[Value, Value]) -> None:
        """Lets each Add after DQ(Q(x)) read that instead of x, so that only bytes have to be stored."""
        known: dict[Value, Value] = {}
        after = {restored: x for x, restored in done.items()}
        for op in graph.ops:
            for x in op.inputs if isinstance(op, Add) else ():
                if x in known:
                    op.replace_operand(x, known[x])
            known.update((after[value], value) for value in op.results if value in after)

    def _activation(self, graph: Graph, op: Op, x: Value, range: Sequence[float]) -> tuple[Value, np.float32]:
        """`x` after Q and DQ, which stand before `op`, and its scale."""
        limits = np.iinfo(np.int8 if self.signed else np.uint8)
        low, high = min(range[0], 0.0), max(range[1], 0.0)
        scale = np.float32((high - low) / (limits.max - limits.min)) or np.float32(1)
        zero = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max).astype(limits.dtype)
        steps, offset = Constant(np.asarray(scale)).result, Constant(np.asarray(zero)).result
        quantized = QuantizeLinear(x, steps, offset)
        restored = DequantizeLinear(quantized.result, steps, offset)
        name_after(x, quantized.result, "quantized")
        name_after(x, restored.result, "dequantized")
        quantized.origin = restored.origin = x.producer.origin if x.producer is not None else op.origin
        return graph.add(restored, before=op).result, scale


def is_eligible(op: Conv | Gemm | MatMul) -> bool:
    """Whether `op` multiplies f32 activations with constant finite weights as integers can."""
    x, w = op.inputs[:2]
    array = constant_value(w)
    if array is None or isinstance(x.owner, Constant) or x.type.dtype != F32 or array.size == 0:
        return False
    if isinstance(op, Gemm) and (op.alpha != 1 or op.beta != 1 or op.trans_a):
        return False
    return bool(np.isfinite(array).all()) and (array.ndim == 2 or isinstance(op, Conv))


def put_weights(graph: Graph, op: Conv | Gemm | MatMul, w: Value, x_scale: np.float32) -> None:
    """Gives `op` integers behind DQ as weights and, where there is one per channel, as bias."""
    axis = 0 if isinstance(op, Conv) or (isinstance(op, Gemm) and op.trans_b) else 1
    weights = as_array(w)
    bias = op.b if isinstance(op, Conv) else op.c if isinstance(op, Gemm) else None
    offsets = constant_value(bias)
    if offsets is not None and offsets.shape != (weights.shape[axis],):
        offsets = None
    others = tuple(a for a in range(weights.ndim) if a != axis)
    scales = abs(weights).max(axis=others).astype(np.float64) / 127
    if offsets is not None:
        scales = np.maximum(scales, abs(offsets).astype(np.float64) / (BIAS_LIMIT * float(x_scale)))
    scale = np.where(scales > 0, scales, 1).astype(np.float32)
    steps = np.rint(weights / np.expand_dims(scale, others)).clip(-127, 127).astype(np.int8)
    _put(graph, op, w, steps, scale, axis)
    if offsets is not None and bias is not None:
        both = x_scale * scale
        _put(graph, op, bias, np.rint(offsets / both.astype(np.float64)).astype(np.int32), both, 0)


def _put(graph: Graph, op: Op, old: Value, steps: Array, scale: Array, axis: int) -> None:
    stored = Constant(steps)
    zeros = Constant(np.zeros(scale.shape, steps.dtype))
    restored = DequantizeLinear(stored.result, Constant(scale).result, zeros.result, axis=axis)
    name_after(old, stored.result, "quantized")
    name_after(old, restored.result, "dequantized")
    restored.origin = op.origin
    op.replace_operand(old, graph.add(restored, before=op).result)


def as_array(value: Value) -> Array:
    """The array of a constant."""
    array = constant_value(value)
    return np.zeros(value.type.static_shape, np.float32) if array is None else array


def name_after(source: Value, value: Value, what: str) -> None:
    """Names `value` for what it is of `source`, if that has a name."""
    value.name = f"{source.name}_{what}" if source.name else ""


PASS = Quantize()
