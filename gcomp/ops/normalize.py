"""Normalisations by given statistics, a norm or a window: BatchNormalization, LpNormalization, LRN."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..dim import Dim
from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, as_index, binary, cast, reduce, select, unary
from ..op import Operator, argument, constant, operator, single
from ..types import F16, F32, F64, FLOATS, Array, TensorType
from .elementwise import accumulator, number, one_dtype, widened
from .reduce import normal_axis
from .superseded import Superseded


@operator(onnx="BatchNormalization", since=9)
class BatchNormalization(Operator):
    """`(x - input_mean) / sqrt(input_var + epsilon) * scale + b` per channel; inference only."""

    x: Value
    scale: Value
    b: Value
    input_mean: Value
    input_var: Value
    epsilon: float = 1e-5
    momentum: float = 0.9
    training_mode: int = 0

    tolerance = "close"

    def infer(self) -> TensorType:
        one_dtype(self, FLOATS, self.x)
        one_dtype(self, FLOATS, self.scale, self.b)
        one_dtype(self, FLOATS, self.input_mean, self.input_var)
        if self.training_mode:
            self.fail("training_mode to be 0", training_mode=self.training_mode)
        check_channels(self, self.x, self.scale, self.b, self.input_mean, self.input_var)
        return TensorType(self.x.type.dtype, self.x.type.shape)

    def reference(self, x: Array, scale: Array, b: Array, input_mean: Array, input_var: Array) -> Array:
        scale, b, mean, variance = (
            channel_shape(widened(a), max(x.ndim, 2)) for a in (scale, b, input_mean, input_var)
        )
        factor = scale / np.sqrt(variance + single(self.epsilon))
        return ((widened(x) - mean) * factor + b).astype(x.dtype)

    def lower(
        self, k: Kernel, x: Tensor, scale: Tensor, b: Tensor, input_mean: Tensor, input_var: Tensor
    ) -> Tensor:
        dtype = accumulator(x.dtype)
        vector, epsilon = TensorType(dtype, input_var.shape), single(self.epsilon)
        deviation = k.compute(vector, lambda *c: unary("sqrt", cast(input_var[c], dtype) + epsilon))
        factor = k.compute(vector, lambda *c: cast(scale[c], dtype) / deviation[c])

        def element(*index: Expr) -> Expr:
            c = index[1] if len(index) > 1 else as_index(0)
            centred = cast(x[index], dtype) - cast(input_mean[c], dtype)
            return cast(centred * factor[c] + cast(b[c], dtype), x.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape in (
            (F32, (2, 5, 3, 7)),
            (F32, (3, 17)),
            (F32, (0, 4, 2)),
            (F16, (2, 3, 4)),
            (F64, (2, 3)),
        ):
            x = argument(TensorType(dtype, shape))
            vector = TensorType(dtype, shape[1:2])
            scale, b, mean = (argument(vector) for _ in range(3))
            yield cls(x, scale, b, mean, argument(vector, 0.25, 2.0), epsilon=1e-3)

    @property
    def flops(self) -> Dim:
        return self.x.type.size * 2


@operator(onnx="BatchNormalization", since=7)
class BatchNormalization_7(Superseded):
    """BatchNormalization whose statistics may be per place in a channel, which gcomp does not take."""

    x: Value
    scale: Value
    b: Value
    mean: Value
    var: Value
    epsilon: float = 1e-5
    momentum: float = 0.9
    spatial: int = 1

    def upgrade(self) -> Op:
        if not self.spatial:
            self.fail("spatial to be 1", spatial=self.spatial)
        return BatchNormalization(
            self.x, self.scale, self.b, self.mean, self.var, self.epsilon, self.momentum
        )

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        vector = TensorType(F32, (5,))
        x = argument(TensorType(F32, (2, 5, 3)))
        scale, b, mean = (argument(vector) for _ in range(3))
        yield cls(x, scale, b, mean, argument(vector, 0.25, 2.0))


@operator(onnx="LpNormalization", since=1)
class LpNormalization(Operator):
    """`x` divided by its norm of order `p`, 1 or 2, along `axis`; 0 where the norm is."""

    x: Value
    axis: int = -1
    p: int = 2

    tolerance = "close"

    def infer(self) -> TensorType:
        normal_axis(self, self.axis, self.x.type.rank)
        if self.p not in (1, 2) or self.x.type.rank == 0:
            self.fail("p of 1 or 2 and an axis", x=self.x, p=self.p)
        return TensorType(one_dtype(self, FLOATS, self.x), self.x.type.shape)

    def reference(self, x: Array) -> Array:
        norm = np.linalg.norm(widened(x), self.p, self.axis, keepdims=True)
        return np.where(norm == 0, 0.0, widened(x) / norm).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        dtype, axis = accumulator(x.dtype), normal_axis(self, self.axis, x.type.rank)

        def size(value: Expr) -> Expr:
            return value * value if self.p == 2 else unary("abs", value)

        def total(*row: Expr) -> Expr:
            def term(r: Expr) -> Expr:
                return size(cast(x[(*row[:axis], r, *row[axis:])], dtype))

            value = reduce("add", [x.shape[axis]], term, 0.0)
            return unary("sqrt", value) if self.p == 2 else value

        norm = k.compute(TensorType(dtype, x.shape[:axis] + x.shape[axis + 1 :]), total)

        def element(*index: Expr) -> Expr:
            own = norm[(*index[:axis], *index[axis + 1 :])]
            return cast(select(own.eq(0.0), 0.0, cast(x[index], dtype) / own), x.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for shape, axis in (((3, 37), -1), ((2, 5, 7), 1), ((0, 3), -1)):
            for p in (1, 2):
                yield cls(argument(TensorType(F32, shape)), axis, p)
        yield cls(constant(np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)))
        yield cls(argument(TensorType(F16, (3, 8))))

    @property
    def flops(self) -> Dim:
        return self.x.type.size * 3


@operator(onnx="LRN", since=1)
class LRN(Operator):
    """`x / (bias + alpha / size * s) ** beta`, `s` summing squares over `size` channels around each."""

    x: Value
    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    tolerance = "close"

    def infer(self) -> TensorType:
        if self.size < 1 or self.x.type.rank < 2:
            self.fail("a positive size and channels", x=self.x, size=self.size)
        return TensorType(one_dtype(self, FLOATS, self.x), self.x.type.shape)

    @property
    def before(self) -> int:
        """Channels of the window before its own."""
        return (self.size - 1) // 2

    def reference(self, x: Array) -> Array:
        squares = widened(x) ** 2
        total = np.zeros_like(squares)
        for offset in range(-self.before, self.size - self.before):
            first, end = max(-offset, 0), min(x.shape[1], x.shape[1] - offset)
            if first < end:
                total[:, first:end] += squares[:, first + offset : end + offset]
        base = single(self.bias) + single(self.alpha) / self.size * total
        return (widened(x) / base ** single(self.beta)).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        dtype = accumulator(x.dtype)

        def total(*index: Expr) -> Expr:
            def term(r: Expr) -> Expr:
                c = index[1] + r - self.before
                inside = (c >= 0) & (c < as_index(x.shape[1]))
                value = cast(x.load((index[0], c, *index[2:]), inside, 0.0), dtype)
                return value * value

            return reduce("add", [self.size], term, 0.0)

        def element(*index: Expr) -> Expr:
            base = total(*index) * (single(self.alpha) / self.size) + single(self.bias)
            power = binary("pow", base, number(single(self.beta), dtype))
            return cast(cast(x[index], dtype) / power, x.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for shape, size in (((2, 7, 3, 4), 5), ((1, 3, 9, 2), 3), ((2, 2, 3, 1), 7), ((1, 5, 4, 1), 1)):
            yield cls(argument(TensorType(F32, shape)), size, alpha=0.5, bias=2.0)

    @property
    def flops(self) -> Dim:
        return self.x.type.size * (2 * self.size + 30)


def channel_shape(array: Array, rank: int) -> Array:
    """A vector of channels as it broadcasts to a tensor whose second axis they are; floats come as f64."""
    return widened(array).reshape(-1, *([1] * (rank - 2)))


def check_channels(op: Operator, x: Value, *vectors: Value) -> None:
    """Raises `InferenceError` unless each vector has one element per channel, the second axis of `x`."""
    channels = x.type.shape[1] if x.type.rank > 1 else 1
    for vector in vectors:
        size = vector.type.shape[0] if vector.type.rank == 1 else None
        if size is None or (size != channels and isinstance(size, int) and isinstance(channels, int)):
            op.fail("a vector of one element per channel", x=x, vector=vector)
