"""The layers of a graph that multiply with constant weights, and those weights as matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ir import Graph, Value
from .op import Constant, Operator
from .ops import Conv, Gemm, MatMul
from .rewrite import is_output, outside_groups
from .types import Array


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul whose weights no input changes.

    `obstacle` says why they must not be replaced; it is empty where they may.
    """

    op: Operator
    weights: Value
    obstacle: str

    @property
    def name(self) -> str:
        """The ONNX node that it came from, else the operator's kind."""
        return self.op.origin[0] if self.op.origin else self.op.kind

    @property
    def array(self) -> Array:
        """The weights as they are stored; only where they are a constant."""
        if not isinstance(self.weights.owner, Constant):
            raise ValueError(f"{self.name}: {self.obstacle}")
        return self.weights.owner.value


def layers(graph: Graph) -> list[Layer]:
    """The layers of a graph and its regions, in order; products of two computed tensors are none."""
    found: list[Layer] = []
    for op in outside_groups(graph):
        weights = _weights(op) if isinstance(op, Operator) else None
        if weights is not None and isinstance(op, Operator) and _is_fixed(weights):
            found.append(Layer(op, weights, _obstacle(op, weights)))
    return found


def matrices(op: Operator, weights: Array) -> Array:
    """The weights of `op` as [group, output, tap, input]: a view, so that what is written to it counts.

    `weights` must be C-contiguous. A Gemm or MatMul has one tap; the leading axes of a MatMul are groups.
    """
    match op:
        case Conv():
            outputs, inputs = weights.shape[:2]
            split = weights.reshape(op.group, outputs // op.group, inputs, -1)
            return split.swapaxes(2, 3)
        case Gemm() if op.trans_b:
            return weights[None, :, None, :]
        case _:
            batches = weights.reshape(-1, *weights.shape[-2:])
            return batches.swapaxes(1, 2)[:, :, None, :]


def zero_share(array: Array) -> float:
    """The share of elements that are zero; 0 for no elements."""
    return 1 - int(np.count_nonzero(array)) / array.size if array.size else 0.0


def _weights(op: Operator) -> Value | None:
    match op:
        case Conv():
            return op.w
        case Gemm() | MatMul() if op.b.type.rank >= 2 and op.b.type.dtype.is_float:
            return op.b
        case _:
            return None


def _is_fixed(value: Value) -> bool:
    """Whether constants alone decide the value."""
    pending, seen = [value], set[Value]()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        producer = one.producer
        if producer is None or producer.regions:
            return False
        if not isinstance(producer, Constant):
            if not producer.inputs:
                return False
            pending += producer.inputs
    return True


def _obstacle(op: Operator, weights: Value) -> str:
    if not isinstance(weights.owner, Constant):
        maker = weights.producer
        return f"its weights are computed by {maker.kind if maker else 'nothing'}"
    if is_output(weights):
        return "its weights are an output of the graph"
    for user in weights.users:
        if _reading(user, weights) != _reading(op, weights):
            return f"its weights are also read by {user.origin[0] if user.origin else user.kind}"
    return ""


def _reading(op: object, weights: Value) -> tuple[object, ...]:
    """Equal for operators that read `weights` as the same matrices, and as nothing else."""
    if not isinstance(op, Operator) or _weights(op) is not weights:
        return (op,)
    if sum(value is weights for value in op.inputs) != 1:
        return (op,)
    return (type(op) is Conv, op.group if isinstance(op, Conv) else 1, isinstance(op, Gemm) and op.trans_b)
