"""Elements in an order that data decides: TopK, ReverseSequence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..dim import Dim
from ..ir import Op, Value
from ..kernel import Checked, Expr, Kernel, Tensor, binary, cast, select, unary
from ..op import Operator, argument, constant, known_content, operator
from ..types import BOOL, F32, I32, I64, NUMBERS, Array, TensorType
from .index import axis_of, nest
from .superseded import Superseded


@operator(onnx="TopK", since=10)
class TopK(Operator):
    """The `k` greatest or least elements along `axis` and their indices, best first, of equals the first.

    They come sorted whether `sorted` asks for it or not. NaN counts as greater than all numbers.
    """

    x: Value
    k: Value
    axis: int = -1
    largest: int = 1
    sorted: int = 1

    def infer(self) -> tuple[TensorType, ...]:
        x, known = self.x.type, known_content(self.k)
        if x.dtype not in NUMBERS or known is None or len(known) != 1:
            self.fail("numbers, and a k that is known when compiling", x=self.x, k=self.k)
        axis, count = axis_of(self, self.axis, x.rank), known[0]
        size = x.shape[axis]
        if isinstance(size, int) and isinstance(count, int) and not 0 <= count <= size:
            self.fail("a k of at most the axis", x=self.x, k=count, axis=axis)
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        return TensorType(x.dtype, shape), TensorType(I64, shape)

    def reference(self, x: Array, k: Array) -> tuple[Array, ...]:
        if self.largest:
            backwards = np.argsort(np.flip(x, self.axis), self.axis, kind="stable")
            order = x.shape[self.axis] - 1 - np.flip(backwards, self.axis)
        else:
            order = np.argsort(x, self.axis, kind="stable")
        best = np.take(order, np.arange(int(k.reshape(()))), self.axis)
        return np.take_along_axis(x, best, self.axis), best.astype(np.int64)

    def lower(self, k: Kernel, x: Tensor, count: Tensor) -> tuple[Tensor, ...]:
        values, indices = (k.scratch(value.type) for value in self.results)
        axis = self.axis % x.type.rank
        size = x.shape[axis]
        taken = k.scratch(TensorType(BOOL, (size,)))
        best, found = k.scratch(TensorType(x.dtype, ())), k.scratch(TensorType(I64, ()))
        program = k.program(values, indices)

        def better(candidate: Expr) -> Expr:
            greater, less = (candidate, best[()]) if self.largest else (best[()], candidate)
            beats = greater > less
            if x.type.dtype.is_float:
                beats = beats | (unary("isnan", greater) & ~unary("isnan", less))
            return binary("or", found[()] < 0, beats)

        with nest(program, (*x.shape[:axis], *x.shape[axis + 1 :])) as outer:
            before, after = outer[:axis], outer[axis:]
            with program.loop(size) as j:
                program.store(taken, (j,), False)
            with program.loop(values.shape[axis]) as place:
                program.store(found, (), -1)
                program.store(best, (), 0)
                with program.loop(size) as j:
                    candidate = x[(*before, j, *after)]
                    with program.when(binary("and", ~taken[j], better(candidate))):
                        program.store(best, (), candidate)
                        program.store(found, (), j)
                target = (*before, place, *after)
                program.store(taken, (Checked(found[()], size),), True)
                program.store(values, target, best[()])
                program.store(indices, target, found[()])
        return values, indices

    @property
    def flops(self) -> Dim:
        return self.x.type.size * self.results[0].type.shape[self.axis]

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (3, 7))
        yield cls(argument(x), constant([3]))
        yield cls(argument(x), constant([2]), 0)
        yield cls(argument(x), constant([4]), -1, 0)
        yield cls(argument(x), constant([7]))
        yield cls(argument(TensorType(I64, (2, 9, 3)), -3, 3), constant([5]), 1)
        yield cls(argument(TensorType(I32, (8,)), -3, 3), constant([4]), 0, 0)


@operator(onnx="TopK")
class TopK_1(Superseded):
    """TopK with `k` as an attribute."""

    x: Value
    k: int
    axis: int = -1

    def upgrade(self) -> Op:
        return TopK(self.x, constant([self.k]), self.axis)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (3, 7))), 3)


@operator(onnx="ReverseSequence", since=10)
class ReverseSequence(Operator):
    """`input` with the first `sequence_lens` steps of `time_axis` reversed, per index of `batch_axis`."""

    input: Value
    sequence_lens: Value
    batch_axis: int = 1
    time_axis: int = 0

    def infer(self) -> TensorType:
        x = self.input.type
        if x.rank < 2 or {self.batch_axis, self.time_axis} != {0, 1}:
            self.fail("batch and time as the first two axes", batch=self.batch_axis, time=self.time_axis)
        if self.sequence_lens.type != TensorType(I64, (x.shape[self.batch_axis],)):
            self.fail("one i64 length per sequence", input=self.input, sequence_lens=self.sequence_lens)
        return TensorType(x.dtype, x.shape)

    def reference(self, input: Array, sequence_lens: Array) -> Array:
        x = input if self.time_axis == 0 else input.swapaxes(0, 1)
        steps = np.arange(len(x)).reshape(-1, 1)
        source = np.where(steps < sequence_lens, sequence_lens - 1 - steps, steps)
        result = x[source, np.arange(x.shape[1])]
        return result if self.time_axis == 0 else result.swapaxes(0, 1)

    def lower(self, k: Kernel, input: Tensor, sequence_lens: Tensor) -> Tensor:
        size = input.shape[self.time_axis]

        def element(*index: Expr) -> Expr:
            step, length = index[self.time_axis], cast(sequence_lens[index[self.batch_axis]], I64)
            source = Checked(select(step < length, length - 1 - step, step), size)
            return input[tuple(source if axis == self.time_axis else i for axis, i in enumerate(index))]

        return k.compute(self.result.type, element)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (4, 3))), constant([4, 2, 1]))
        yield cls(argument(TensorType(F32, (3, 4, 2))), constant([1, 3, 4]), batch_axis=0, time_axis=1)
