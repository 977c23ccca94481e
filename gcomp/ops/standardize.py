"""Normalisations by the moments of the tensor itself: of a layer, an instance, a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..dim import Dim, product
from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, as_index, cast, reduce, unary
from ..op import Operator, argument, constant, operator, single
from ..types import F16, F32, F64, FLOATS, Array, DType, TensorType
from .arithmetic import Mul
from .elementwise import accumulator, one_dtype, widened
from .normalize import channel_shape, check_channels
from .reduce import as_number, average, normal_axis
from .reshape import Reshape, Unsqueeze
from .superseded import Superseded

Index = tuple[Expr, ...]


def moments(
    k: Kernel,
    dtype: DType,
    outer: Sequence[Dim],
    inner: Sequence[Dim],
    element: Callable[[Index, Index], Expr],
) -> tuple[Tensor, Tensor]:
    """Mean and variance over `inner`, per index of `outer`, of `element(outer index, inner index)`."""
    type, count = TensorType(dtype, tuple(outer)), as_number(product(inner), dtype)
    mean = k.compute(type, lambda *o: reduce("add", inner, lambda *i: element(o, i), 0.0) / count)

    def squared(o: Index, i: Index) -> Expr:
        distance = element(o, i) - mean[o]
        return distance * distance

    variance = k.compute(type, lambda *o: reduce("add", inner, lambda *i: squared(o, i), 0.0) / count)
    return mean, variance


def inverse_root(k: Kernel, variance: Tensor, epsilon: float) -> Tensor:
    """`1 / sqrt(variance + epsilon)`."""
    return k.compute(variance.type, lambda *o: 1.0 / unary("sqrt", variance[o] + single(epsilon)))


@operator(onnx="LayerNormalization", since=17)
class LayerNormalization(Operator):
    """`(x - mean) / sqrt(variance + epsilon) * scale + b`, the moments being over the axes from `axis` on.

    Where `outputs` is 2 or 3, mean and `1 / sqrt(variance + epsilon)` are results too, of type `stash_type`.
    """

    x: Value
    scale: Value
    b: Value | None = None
    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1
    outputs: int = 1

    tolerance = "close"

    def infer(self) -> tuple[TensorType, ...]:
        operands = [value for value in (self.x, self.scale, self.b) if value is not None]
        type = TensorType(one_dtype(self, FLOATS, *operands), self.x.type.shape)
        check_broadcast(self, self.x, *operands[1:])
        row = TensorType(self.stash, (*type.shape[: self.place], *([1] * (type.rank - self.place))))
        return (type, row, row)[: self.outputs]

    @property
    def place(self) -> int:
        """The first axis that is normalised, counted from the front."""
        return normal_axis(self, self.axis, self.x.type.rank)

    @property
    def stash(self) -> DType:
        """The type of the statistics."""
        return self.coded(self.stash_type, FLOATS)

    def reference(self, x: Array, scale: Array, b: Array | None) -> tuple[Array, ...]:
        wide, axes = widened(x), tuple(range(self.place, x.ndim))
        mean = average(wide, axes)
        inverse = 1 / np.sqrt(average((wide - mean) ** 2, axes) + single(self.epsilon))
        value = (wide - mean) * inverse * widened(scale)
        if b is not None:
            value = value + widened(b)
        stash = self.stash.numpy
        return (value.astype(x.dtype), mean.astype(stash), inverse.astype(stash))[: self.outputs]

    def lower(self, k: Kernel, x: Tensor, scale: Tensor, b: Tensor | None) -> tuple[Tensor, ...]:
        dtype, place = accumulator(x.dtype), self.place
        mean, variance = moments(
            k, dtype, x.shape[:place], x.shape[place:], lambda o, i: cast(x[(*o, *i)], dtype)
        )
        inverse = inverse_root(k, variance, self.epsilon)

        def element(*index: Expr) -> Expr:
            row = index[:place]
            value = (cast(x[index], dtype) - mean[row]) * inverse[row] * cast(scale.broadcast(index), dtype)
            return cast(value if b is None else value + cast(b.broadcast(index), dtype), x.dtype)

        results = [k.compute(self.results[0].type, element)]
        for value, statistic in zip(self.results[1:], (mean, inverse), strict=False):
            results.append(self._stashed(k, statistic, value.type))
        return tuple(results)

    def _stashed(self, k: Kernel, statistic: Tensor, type: TensorType) -> Tensor:
        return k.compute(type, lambda *i: cast(statistic[i[: self.place]], type.dtype))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape, axis in (
            (F32, (3, 37), -1),
            (F32, (2, 3, 8), -1),
            (F32, (2, 3, 8), 1),
            (F16, (3, 8), -1),
            (F64, (3, 8), 0),
            (F32, (0, 8), -1),
        ):
            vector = TensorType(dtype, shape[axis % len(shape) :])
            yield cls(argument(TensorType(dtype, shape)), argument(vector), argument(vector), axis)
        x, vector = argument(TensorType(F32, (2, 3, 8))), TensorType(F32, (8,))
        yield cls(x, argument(vector))
        yield cls(x, argument(vector), argument(vector), epsilon=1e-2, outputs=3)

    @property
    def flops(self) -> Dim:
        return self.x.type.size * 8


@operator(onnx="RMSNormalization", since=23)
class RMSNormalization(Operator):
    """`x / sqrt(mean(x ** 2) + epsilon) * scale`, the mean being over the axes from `axis` on."""

    x: Value
    scale: Value
    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1

    tolerance = "close"

    def infer(self) -> TensorType:
        one_dtype(self, FLOATS, self.x)
        check_broadcast(self, self.x, self.scale)
        return TensorType(one_dtype(self, FLOATS, self.scale), self.x.type.shape)

    @property
    def place(self) -> int:
        """The first axis that is normalised, counted from the front."""
        return normal_axis(self, self.axis, self.x.type.rank)

    def reference(self, x: Array, scale: Array) -> Array:
        wide, axes = widened(x), tuple(range(self.place, x.ndim))
        inverse = 1 / np.sqrt(average(wide * wide, axes) + single(self.epsilon))
        return (wide * inverse * widened(scale)).astype(scale.dtype)

    def lower(self, k: Kernel, x: Tensor, scale: Tensor) -> Tensor:
        dtype, place = accumulator(x.dtype), self.place
        inner = x.shape[place:]

        def square(o: Index, i: Index) -> Expr:
            value = cast(x[(*o, *i)], dtype)
            return value * value

        mean = k.compute(
            TensorType(dtype, x.shape[:place]),
            lambda *o: reduce("add", inner, lambda *i: square(o, i), 0.0) / as_number(product(inner), dtype),
        )
        inverse = inverse_root(k, mean, self.epsilon)

        def element(*index: Expr) -> Expr:
            value = cast(x[index], dtype) * inverse[index[:place]] * cast(scale.broadcast(index), dtype)
            return cast(value, scale.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape, axis in (
            (F32, (3, 37), -1),
            (F32, (2, 3, 8), 1),
            (F16, (3, 8), -1),
            (F32, (0, 8), -1),
        ):
            vector = TensorType(dtype, shape[axis % len(shape) :])
            yield cls(argument(TensorType(dtype, shape)), argument(vector), axis)

    @property
    def flops(self) -> Dim:
        return self.x.type.size * 5


@operator(onnx="InstanceNormalization", since=6)
class InstanceNormalization(Operator):
    """`(x - mean) / sqrt(variance + epsilon) * scale + b`, with moments per batch element and channel."""

    input: Value
    scale: Value
    b: Value
    epsilon: float = 1e-5

    tolerance = "close"

    def infer(self) -> TensorType:
        dtype = one_dtype(self, FLOATS, self.input, self.scale, self.b)
        check_channels(self, self.input, self.scale, self.b)
        return TensorType(dtype, self.input.type.shape)

    def reference(self, input: Array, scale: Array, b: Array) -> Array:
        wide, axes = widened(input), tuple(range(2, input.ndim))
        mean = average(wide, axes)
        variance = average((wide - mean) ** 2, axes)
        value = (wide - mean) / np.sqrt(variance + single(self.epsilon)) * channel_shape(scale, input.ndim)
        return (value + channel_shape(b, input.ndim)).astype(input.dtype)

    def lower(self, k: Kernel, input: Tensor, scale: Tensor, b: Tensor) -> Tensor:
        dtype = accumulator(input.dtype)
        mean, variance = moments(
            k, dtype, input.shape[:2], input.shape[2:], lambda o, i: cast(input[(*o, *i)], dtype)
        )
        inverse = inverse_root(k, variance, self.epsilon)

        def element(*index: Expr) -> Expr:
            row, c = index[:2], index[1]
            value = (cast(input[index], dtype) - mean[row]) * inverse[row] * cast(scale[c], dtype)
            return cast(value + cast(b[c], dtype), input.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape in ((F32, (2, 3, 5, 7)), (F32, (2, 3, 9)), (F16, (2, 3, 9)), (F64, (1, 2, 9))):
            vector = TensorType(dtype, shape[1:2])
            yield cls(argument(TensorType(dtype, shape)), argument(vector), argument(vector), 1e-3)

    @property
    def flops(self) -> Dim:
        return self.input.type.size * 8


@operator(onnx="MeanVarianceNormalization", since=9)
class MeanVarianceNormalization(Operator):
    """`(x - mean) / (sqrt(variance) + 1e-9)`, mean and variance being over `axes`."""

    x: Value
    axes: tuple[int, ...] = (0, 2, 3)

    tolerance = "approximate"

    def infer(self) -> TensorType:
        if not self.reduced:
            self.fail("axes", axes=self.axes)
        return TensorType(one_dtype(self, FLOATS, self.x), self.x.type.shape)

    @property
    def reduced(self) -> tuple[int, ...]:
        """The axes, ascending and counted from the front."""
        return tuple(sorted({normal_axis(self, axis, self.x.type.rank) for axis in self.axes}))

    def reference(self, x: Array) -> Array:
        centred = widened(x) - average(widened(x), self.reduced)
        deviation = np.sqrt(average(centred**2, self.reduced))
        return (centred / (deviation + 1e-9)).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        dtype = accumulator(x.dtype)
        kept = [axis for axis in range(x.type.rank) if axis not in self.reduced]

        def element(o: Index, i: Index) -> Expr:
            places = dict(zip((*kept, *self.reduced), (*o, *i), strict=True))
            return cast(x[tuple(places[axis] for axis in range(x.type.rank))], dtype)

        outer, inner = ([x.shape[axis] for axis in axes] for axes in (kept, self.reduced))
        mean, variance = moments(k, dtype, outer, inner, element)
        deviation = k.compute(variance.type, lambda *o: unary("sqrt", variance[o]) + 1e-9)

        def normal(*index: Expr) -> Expr:
            row = tuple(index[axis] for axis in kept)
            return cast((cast(x[index], dtype) - mean[row]) / deviation[row], x.dtype)

        return k.compute(self.result.type, normal)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (2, 3, 5, 7))))
        yield cls(argument(TensorType(F32, (2, 3, 9))), (-1,))

    @property
    def flops(self) -> Dim:
        return self.x.type.size * 7


@operator(onnx="GroupNormalization", since=21)
class GroupNormalization(Operator):
    """Normalised over groups of neighbouring channels, then `scale` and `bias` per channel."""

    x: Value
    scale: Value
    bias: Value
    num_groups: int
    epsilon: float = 1e-5
    stash_type: int = 1

    tolerance = "close"

    def infer(self) -> TensorType:
        dtype = one_dtype(self, FLOATS, self.x, self.scale, self.bias)
        check_channels(self, self.x, self.scale, self.bias)
        channels = self.x.type.shape[1]
        if self.num_groups < 1 or (isinstance(channels, int) and channels % self.num_groups):
            self.fail("num_groups that divides the channels", x=self.x, num_groups=self.num_groups)
        return TensorType(dtype, self.x.type.shape)

    @property
    def group(self) -> Dim:
        """Channels of a group."""
        return self.x.type.shape[1] // self.num_groups

    def reference(self, x: Array, scale: Array, bias: Array) -> Array:
        wide = widened(x).reshape(x.shape[0], self.num_groups, x.shape[1] // self.num_groups, *x.shape[2:])
        axes = tuple(range(2, wide.ndim))
        mean = average(wide, axes)
        variance = average((wide - mean) ** 2, axes)
        value = ((wide - mean) / np.sqrt(variance + single(self.epsilon))).reshape(x.shape)
        return (value * channel_shape(scale, x.ndim) + channel_shape(bias, x.ndim)).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        dtype, group = accumulator(x.dtype), as_index(self.group)
        mean, variance = moments(
            k,
            dtype,
            (x.shape[0], self.num_groups),
            (self.group, *x.shape[2:]),
            lambda o, i: cast(x[(o[0], o[1] * group + i[0], *i[1:])], dtype),
        )
        inverse = inverse_root(k, variance, self.epsilon)

        def element(*index: Expr) -> Expr:
            row, c = (index[0], index[1] // group), index[1]
            value = (cast(x[index], dtype) - mean[row]) * inverse[row] * cast(scale[c], dtype)
            return cast(value + cast(bias[c], dtype), x.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for dtype, shape, groups in ((F32, (2, 6, 5, 7), 3), (F32, (2, 4, 9), 1), (F16, (2, 4, 9), 4)):
            vector = TensorType(dtype, shape[1:2])
            yield cls(argument(TensorType(dtype, shape)), argument(vector), argument(vector), groups)

    @property
    def flops(self) -> Dim:
        return self.x.type.size * 8


@operator(onnx="GroupNormalization", since=18)
class GroupNormalization_18(Superseded):
    """GroupNormalization with scale and bias per group."""

    x: Value
    scale: Value
    bias: Value
    num_groups: int
    epsilon: float = 1e-5

    def upgrade(self) -> Op:
        channels = self.x.type.shape[1] if self.x.type.rank > 1 else None
        if not isinstance(channels, int) or self.num_groups < 1:
            self.fail("a known number of channels, and groups", x=self.x, num_groups=self.num_groups)
        ones = constant(np.ones((1, channels // self.num_groups), self.scale.type.dtype.numpy))

        def per_channel(vector: Value) -> Value:
            column = Unsqueeze(vector, constant([1])).result
            return Reshape(Mul(column, ones).result, constant([-1])).result

        scale, bias = per_channel(self.scale), per_channel(self.bias)
        return GroupNormalization(self.x, scale, bias, self.num_groups, self.epsilon)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        vector = TensorType(F32, (3,))
        yield cls(argument(TensorType(F32, (2, 6, 5))), argument(vector), argument(vector), 3)


def check_broadcast(op: Operator, x: Value, *operands: Value) -> None:
    """Raises `InferenceError` unless each operand broadcasts to the shape of `x`."""
    for operand in operands:
        own = operand.type.shape
        wanted = x.type.shape[max(x.type.rank - len(own), 0) :]
        if len(own) > len(wanted) or any(a != 1 and a != b for a, b in zip(own, wanted, strict=True)):
            op.fail("operands that broadcast to x", x=x, operand=operand)
