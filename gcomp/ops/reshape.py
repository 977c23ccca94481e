"""The same elements under another shape: Reshape, Flatten, Squeeze, Unsqueeze; and Shape and Size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..dim import Dim, floordiv, product
from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, as_index, literal, select
from ..op import Operator, argument, constant, known_content, operator
from ..types import F16, F32, I8, I64, Array, TensorType
from .elementwise import Content
from .index import axes_of, reshaped
from .superseded import Superseded


class SameElements(Operator):
    """What operators share whose result holds the elements of their first operand in order."""

    view_of = 0

    def infer(self) -> TensorType:
        x, *rest = self.inputs
        content = known_content(rest[0]) if rest else None
        if rest and content is None:
            self.fail("a second operand that is known when compiling", x=x, operand=rest[0])
        return TensorType(x.type.dtype, self.new_shape(x.type.shape, content))

    def new_shape(self, old: tuple[Dim, ...], given: Content) -> tuple[Dim, ...]:
        """The shape of the result, from that of the first operand and the elements of the second, if there.

        Raises `InferenceError`.
        """
        raise NotImplementedError

    def reference(self, x: Array, given: Array | None = None) -> Array:
        content = None if given is None else tuple(map(int, given.ravel()))
        return x.reshape([size for size in self.new_shape(x.shape, content) if isinstance(size, int)])

    def lower(self, k: Kernel, x: Tensor, *_: Tensor | None) -> Tensor:
        return reshaped(k, x, self.result.type)

    def content(self, x: Content, *_: Content) -> Content:
        return x

    @property
    def flops(self) -> Dim:
        return 0


@operator(onnx="Reshape", since=5)
class Reshape(SameElements):
    """`data` under `shape`, where one -1 stands for what is left; 0 for the old size unless `allowzero`."""

    data: Value
    shape: Value
    allowzero: int = 0

    def new_shape(self, old: tuple[Dim, ...], given: Content) -> tuple[Dim, ...]:
        wanted = given or ()
        sizes: list[Dim] = []
        for axis, size in enumerate(wanted):
            if size == 0 and not self.allowzero:
                if axis >= len(old):
                    self.fail("0 only where data has an axis", data=self.data, shape=wanted)
                size = old[axis]
            sizes.append(size)
        total, free = product(old), [axis for axis, size in enumerate(sizes) if size == -1]
        if len(free) > 1:
            self.fail("at most one -1", shape=wanted)
        if any(isinstance(size, int) and size < -1 for size in sizes):
            self.fail("sizes of at least -1", shape=wanted)
        for axis in free:
            rest = product(size for size in sizes if size != -1)
            if rest == 0:
                self.fail("no -1 beside a size of 0", data=self.data, shape=wanted)
            sizes[axis] = floordiv(total, rest)
        if product(sizes) != total and (not free or isinstance(total, int)):
            self.fail("a shape of as many elements", data=self.data, shape=wanted)
        return tuple(sizes)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(2, 3, 4), constant([6, 4]))
        yield cls(of(2, 3, 4), constant([-1, 2]))
        yield cls(of(2, 3, 4), constant([0, -1]))
        yield cls(of(2, 3, 4), constant([0, 0, 2, 2]))
        yield cls(of(4, 6), constant([3, 8]))
        yield cls(of(0, 6), constant([3, 0, 2]), allowzero=1)
        yield cls(of(1), constant(np.zeros(0, np.int64)))
        yield cls(of(), constant([1, 1]))
        yield cls(argument(TensorType(I8, (4, 2)), -9, 9), constant([8]))


@operator(onnx="Flatten")
class Flatten(SameElements):
    """`x` as a matrix: the axes before `axis` and the rest."""

    x: Value
    axis: int = 1

    def new_shape(self, old: tuple[Dim, ...], given: Content) -> tuple[Dim, ...]:
        if not -len(old) <= self.axis <= len(old):
            self.fail(f"an axis in [{-len(old)}, {len(old)}]", axis=self.axis)
        at = self.axis if self.axis >= 0 else self.axis + len(old)
        return product(old[:at]), product(old[at:])

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for axis in (-2, 0, 1, 2, 3):
            yield cls(argument(TensorType(F32, (2, 3, 4))), axis)
        yield cls(argument(TensorType(F16, (5,))))


@operator(onnx="Squeeze", since=13)
class Squeeze(SameElements):
    """`data` without the axes of size 1 named in `axes`, or without all such axes."""

    data: Value
    axes: Value | None = None

    def new_shape(self, old: tuple[Dim, ...], given: Content) -> tuple[Dim, ...]:
        if given is None:
            if any(not isinstance(size, int) for size in old):
                self.fail("axes where a size is symbolic", data=self.data)
            return tuple(size for size in old if size != 1)
        axes = axes_of(self, given, len(old))
        if any(old[axis] != 1 for axis in axes):
            self.fail("size 1 along its axes", data=self.data, axes=axes)
        return tuple(size for axis, size in enumerate(old) if axis not in axes)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (1, 3, 1, 4))
        yield cls(argument(x), constant([0]))
        yield cls(argument(x), constant([-2, 0]))
        yield cls(argument(x))
        yield cls(argument(TensorType(F32, (1,))), constant([0]))


@operator(onnx="Squeeze")
class Squeeze_1(Superseded):
    """Squeeze with its axes as an attribute."""

    data: Value
    axes: tuple[int, ...] | None = None

    def upgrade(self) -> Op:
        return Squeeze(self.data, _vector(self.axes) if self.axes is not None else None)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (1, 3, 1, 4))), (0, 2))
        yield cls(argument(TensorType(F32, (1, 3, 1, 4))))


@operator(onnx="Unsqueeze", since=13)
class Unsqueeze(SameElements):
    """`data` with axes of size 1 put in, so that they stand at `axes` of the result."""

    data: Value
    axes: Value

    def new_shape(self, old: tuple[Dim, ...], given: Content) -> tuple[Dim, ...]:
        rank = len(old) + len(given or ())
        axes, rest = axes_of(self, given or (), rank), iter(old)
        return tuple(1 if axis in axes else next(rest) for axis in range(rank))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (3, 4))
        yield cls(argument(x), constant([0]))
        yield cls(argument(x), constant([1, -1]))
        yield cls(argument(x), constant([3, 0]))
        yield cls(argument(TensorType(F32, ())), constant([0]))


@operator(onnx="Unsqueeze")
class Unsqueeze_1(Superseded):
    """Unsqueeze with its axes as an attribute."""

    data: Value
    axes: tuple[int, ...]

    def upgrade(self) -> Op:
        return Unsqueeze(self.data, _vector(self.axes))

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (3, 4))), (0, 3))


@operator(onnx="Shape")
class Shape(Operator):
    """The sizes of `x` from axis `start` up to but without `end`."""

    x: Value
    start: int = 0
    end: int | None = None

    def infer(self) -> TensorType:
        return TensorType(I64, (len(self.sizes),))

    @property
    def sizes(self) -> tuple[Dim, ...]:
        """What the result holds."""
        return self.x.type.shape[self.start : self.end]

    def reference(self, x: Array) -> Array:
        return np.array(x.shape[self.start : self.end], np.int64)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        return listed(k, self.result.type, self.sizes)

    def content(self, x: Content) -> Content:
        return self.sizes

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (2, 3, 4))
        yield cls(argument(x))
        yield cls(argument(x), 1)
        yield cls(argument(x), -2, -1)
        yield cls(argument(x), -9, 9)
        yield cls(argument(TensorType(F32, ())))


@operator(onnx="Size")
class Size(Operator):
    """The number of elements of `x`."""

    x: Value

    def infer(self) -> TensorType:
        return TensorType(I64, ())

    def reference(self, x: Array) -> Array:
        return np.array(x.size, np.int64)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        return k.compute(self.result.type, lambda: as_index(self.x.type.size))

    def content(self, x: Content) -> Content:
        return (self.x.type.size,)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (2, 3, 4))))
        yield cls(argument(TensorType(F32, (2, 0))))


def listed(k: Kernel, type: TensorType, sizes: Sequence[Dim]) -> Tensor:
    """A vector of i64 that holds these sizes."""

    def element(i: Expr) -> Expr:
        value: Expr = as_index(sizes[-1]) if sizes else literal(0)
        for place in reversed(range(len(sizes) - 1)):
            value = select(i.eq(place), as_index(sizes[place]), value)
        return value

    return k.compute(type, element)


def _vector(numbers: Sequence[int]) -> Value:
    return constant(np.array(numbers, np.int64))
