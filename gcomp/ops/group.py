"""Group: operators that run as one kernel."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import UnsupportedError
from ..dim import Dim
from ..ir import Graph, Op, Value
from ..kernel import Kernel, Tensor
from ..lowering import SMALL, known_tensor, lowered
from ..op import Constant, Operator, argument, constant, operator
from ..types import F32, Array, TensorType
from .convolution import Conv
from .elementwise import Content
from .linear import MatMul
from .pool import MaxPool
from .reshape import Reshape


@operator()
class Group(Operator):
    """The operators of `body` as one: its inputs are `inputs_`, its outputs the results.

    The body keeps what was fused, and captures nothing. `anchor` is the place in `body.ops` of the operator
    that a backend's template computes, or -1. A large constant is an input, never in the body.
    """

    inputs_: tuple[Value, ...]
    body: Graph
    anchor: int = -1

    tolerance = "approximate"

    def infer(self) -> tuple[TensorType, ...]:
        given = [value.type for value in self.inputs_]
        wanted = [value.type for value in self.body.inputs]
        if len(given) != len(wanted) or any(not a.accepts(b) for a, b in zip(wanted, given, strict=True)):
            self.fail("inputs of the body's types", inputs=given, body=wanted)
        if not -1 <= self.anchor < len(self.body.ops):
            self.fail(f"an anchor in [-1, {len(self.body.ops) - 1}]", anchor=self.anchor)
        return tuple(value.type for value in self.body.outputs)

    @property
    def anchor_op(self) -> Op | None:
        """The operator that a template computes, if any."""
        return self.body.ops[self.anchor] if self.anchor >= 0 else None

    @property
    def operators(self) -> list[Operator]:
        """The operators of the body in order. Raises `UnsupportedError` for control flow."""
        found: list[Operator] = []
        for op in self.body.ops:
            if not isinstance(op, Operator):
                raise UnsupportedError(f"{op.kind} cannot be part of a Group", origin=op.origin)
            found.append(op)
        return found

    def reference(self, *inputs_: Array) -> tuple[Array, ...]:
        known = dict(zip(self.body.inputs, inputs_, strict=True))
        for op in self.operators:
            arrays = op.reference(*(None if value is None else known[value] for value in op.operands))
            known.update(zip(op.results, arrays if isinstance(arrays, tuple) else (arrays,), strict=True))
        return tuple(known[value] for value in self.body.outputs)

    def lower(self, k: Kernel, *inputs_: Tensor) -> tuple[Tensor, ...]:
        known = dict(zip(self.body.inputs, inputs_, strict=True))
        for op in self.operators:
            if isinstance(op, Constant):
                known_value = known_tensor(k, op.result)
                if known_value is None:
                    self.fail(f"constants of more than {SMALL} elements as inputs", constant=op.result)
                known[op.result] = known_value
            else:
                operands = [None if value is None else known[value] for value in op.operands]
                known.update(zip(op.results, lowered(op, k, operands), strict=True))
        return tuple(known[value] for value in self.body.outputs)

    def content(self, *inputs_: Content) -> Content:
        known: dict[Value, Content] = dict(zip(self.body.inputs, inputs_, strict=True))
        for op in self.operators:
            if len(op.results) == 1:
                known[op.result] = op.content(
                    *(None if value is None else known.get(value) for value in op.operands)
                )
        return known.get(self.body.outputs[0]) if len(self.body.outputs) == 1 else None

    @property
    def flops(self) -> Dim:
        total: Dim = 0
        for op in self.operators:
            if not isinstance(op, Constant):
                total = total + op.flops
        return total

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        image, filters = TensorType(F32, (1, 3, 8, 8)), TensorType(F32, (5, 3, 3, 3))
        body = Graph("conv_pool")
        x, w, b = body.add_input(image), body.add_input(filters), body.add_input(TensorType(F32, (5,)))
        conv = Conv(x, w, b, pads=(1, 1, 1, 1))
        pool = body.add(MaxPool(conv.result, (2, 2), strides=(2, 2)))
        body.outputs = [pool.result, conv.result]
        yield cls((argument(image), argument(filters), argument(TensorType(F32, (5,)))), body, 0)

        body = Graph("matmul_reshape")
        a, c = body.add_input(TensorType(F32, (4, 6))), body.add_input(TensorType(F32, (6, 6)))
        matmul = body.add(MatMul(a, c))
        shaped = body.add(Reshape(matmul.result, constant([2, 2, 6])))
        body.outputs = [shaped.result]
        yield cls((argument(a.type), argument(c.type)), body, 0)
