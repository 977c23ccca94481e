"""Tensors put together and taken apart along an axis: Concat, Split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..dim import Dim, ceildiv
from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, as_index, literal, select
from ..op import Operator, argument, constant, known_content, operator
from ..types import F32, I64, Array, TensorType
from .elementwise import Content
from .index import axis_of, integer
from .superseded import Superseded


@operator(onnx="Concat", since=4)
class Concat(Operator):
    """The operands one after the other along `axis`."""

    inputs_: tuple[Value, ...]
    axis: int

    def infer(self) -> TensorType:
        named = {f"x{place}": value for place, value in enumerate(self.inputs_)}
        if not self.inputs_:
            self.fail("one operand or more")
        first = self.inputs_[0].type
        axis = axis_of(self, self.axis, first.rank)
        rest = [shape[:axis] + shape[axis + 1 :] for shape in (value.type.shape for value in self.inputs_)]
        if any(
            value.type.dtype != first.dtype or value.type.rank != first.rank for value in self.inputs_
        ) or any(other != rest[0] for other in rest):
            self.fail(f"operands of one type but for the size along axis {axis}", **named)
        total: Dim = 0
        for value in self.inputs_:
            total = total + value.type.shape[axis]
        return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))

    def reference(self, *inputs_: Array) -> Array:
        return np.concatenate(inputs_, self.axis)

    def lower(self, k: Kernel, *inputs_: Tensor) -> Tensor:
        type = self.result.type
        axis = self.axis % type.rank

        def element(*index: Expr) -> Expr:
            start: Dim = 0
            value: Expr | None = None
            for x in inputs_:
                place = index[axis] - as_index(start)
                end = start + x.shape[axis]
                within = index[axis] < as_index(end)
                if value is not None:
                    within = within & (index[axis] >= as_index(start))
                is_only = len(inputs_) == 1
                read = x.load((*index[:axis], place, *index[axis + 1 :]), None if is_only else within)
                value = read if value is None else select(index[axis] < as_index(start), value, read)
                start = end
            return value if value is not None else literal(0, type.dtype)

        return k.compute(type, element)

    def content(self, *inputs_: Content) -> Content:
        found: tuple[Dim, ...] = ()
        for part in inputs_:
            if part is None or self.result.type.rank != 1:
                return None
            found += part
        return found

    def parts(self) -> tuple[tuple[int, ...], ...] | None:
        rank, start, found = self.result.type.rank, 0, list[tuple[int, ...]]()
        axis = self.axis % rank
        for value in self.inputs_:
            found.append(tuple(start if place == axis else 0 for place in range(rank)))
            size = value.type.shape[axis]
            if not isinstance(size, int):
                return None
            start += size
        return tuple(found)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls((of(2, 3, 4), of(2, 5, 4)), 1)
        yield cls((of(2, 3), of(1, 3), of(4, 3)), 0)
        yield cls((of(2, 3, 4), of(2, 3, 1)), -1)
        yield cls((of(2, 3),), 1)
        yield cls((of(2, 0), of(2, 3), of(2, 0)), 1)
        longs = TensorType(I64, (3,))
        yield cls((argument(longs, -9, 9), constant([7])), 0)


@operator(onnx="Split", since=13)
class Split(Operator):
    """`input` cut along `axis` into parts of sizes `split`, or `num_outputs` equal ones, the last smaller.

    Up to opset 17 `num_outputs` is the number of the node's outputs.
    """

    input: Value
    split: Value | None = None
    axis: int = 0
    num_outputs: int | None = None

    def infer(self) -> tuple[TensorType, ...]:
        x = self.input.type
        if self.split is not None:
            self.num_outputs = None  # told by the sizes
        axis = axis_of(self, self.axis, x.rank)
        return tuple(
            TensorType(x.dtype, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in self.sizes(x.shape)
        )

    def sizes(self, shape: Sequence[Dim]) -> tuple[Dim, ...]:
        """The parts' sizes along the axis for an `input` of this shape. Raises `InferenceError`."""
        total = shape[self.axis]
        if self.split is None:
            if self.num_outputs is None or self.num_outputs < 1:
                self.fail("either split or num_outputs", num_outputs=self.num_outputs)
            size = ceildiv(total, self.num_outputs)
            last = total - size * (self.num_outputs - 1)
            if isinstance(last, int) and last < 0:
                self.fail(f"an axis that lasts for {self.num_outputs} outputs", input=self.input)
            return (*(size,) * (self.num_outputs - 1), last)
        sizes = known_content(self.split)
        if sizes is None:
            self.fail("sizes that are known when compiling", split=self.split)
        found: Dim = 0
        for size in sizes:
            found = found + size
        if found != total:
            self.fail("sizes that sum to the axis", input=self.input, sizes=sizes, axis=self.axis)
        return sizes

    def reference(self, input: Array, split: Array | None = None) -> tuple[Array, ...]:
        sizes = [integer(self, size) for size in self.sizes(input.shape)]
        return tuple(np.split(input, np.cumsum(sizes)[:-1], self.axis))

    def lower(self, k: Kernel, input: Tensor, split: Tensor | None = None) -> tuple[Tensor, ...]:
        axis = self.axis % input.type.rank

        def part(type: TensorType, start: Dim) -> Tensor:
            offset = as_index(start)
            return k.compute(
                type, lambda *index: input[(*index[:axis], index[axis] + offset, *index[axis + 1 :])]
            )

        start: Dim = 0
        found: list[Tensor] = []
        for value in self.results:
            found.append(part(value.type, start))
            start = start + value.type.shape[axis]
        return tuple(found)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (6, 7))
        yield cls(argument(x), num_outputs=2)
        yield cls(argument(x), axis=1, num_outputs=3)
        yield cls(argument(x), constant([1, 2, 4]), axis=-1)
        yield cls(argument(x), constant([0, 6]))


@operator(onnx="Split", since=2)
class Split_2(Superseded):
    """Split with its sizes as an attribute."""

    input: Value
    axis: int = 0
    split: tuple[int, ...] | None = None
    num_outputs: int | None = None

    def upgrade(self) -> Op:
        if self.split is None:
            return Split(self.input, axis=self.axis, num_outputs=self.num_outputs)
        return Split(self.input, constant(np.array(self.split, np.int64)), axis=self.axis)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (6, 7))), 1, (3, 4))
