"""Pooling over windows and over whole images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..dim import Dim
from ..dim import product as product_of
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, as_index, binary, cast, literal, maximum, reduce, unary
from ..op import Operator, argument, operator
from ..types import F16, F32, F64, FLOATS, I8, INTEGERS, U8, Array, DType, TensorType
from .elementwise import accumulator, widened
from .window import Geometry, geometry, numbers


def lowest(dtype: DType) -> float:
    """The neutral element of maxima of `dtype`."""
    return float("-inf") if dtype.is_float else int(np.iinfo(dtype.numpy).min)


class Pool(Operator):
    """What the pools over windows share: `x` [n, c, ...] to one element per window and channel."""

    x: Value
    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    tolerance = "close"

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype not in self.dtypes() or x.rank < 3:
            self.fail(f"[n, c, ...] of {', '.join(map(str, self.dtypes()))}", x=self.x)
        return TensorType(x.dtype, (*x.shape[:2], *self.geometry.extents))

    @classmethod
    def dtypes(cls) -> tuple[DType, ...]:
        """The element types that the pool takes."""
        return FLOATS

    @property
    def geometry(self) -> Geometry:
        """Strides, dilations and padding with `auto_pad`, `ceil_mode` and defaults resolved."""
        return self.geometry_over(self.x.type.shape[2:])

    def geometry_over(self, sizes: Sequence[Dim]) -> Geometry:
        """The same over an input of these sizes."""
        return geometry(
            self,
            sizes,
            self.kernel_shape,
            strides=self.strides,
            dilations=self.dilations,
            pads=self.pads,
            auto_pad=self.auto_pad,
            ceil=bool(self.ceil_mode),
        )

    @property
    def flops(self) -> Dim:
        return self.result.type.size * prod(self.kernel_shape)

    @classmethod
    def windows(cls, **given: Any) -> Iterator[Operator]:
        """Samples of any pool."""

        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(1, 3, 8, 8), (2, 2), strides=(2, 2), **given)
        yield cls(of(2, 3, 9, 7), (3, 3), pads=(1, 1, 1, 1), strides=(2, 2), **given)
        yield cls(of(1, 2, 9, 8), (3, 2), pads=(2, 0, 1, 1), **given)
        yield cls(of(1, 2, 8, 8), (3, 3), strides=(2, 2), ceil_mode=1, **given)
        yield cls(of(1, 2, 7, 7), (2, 2), strides=(3, 3), pads=(1, 1, 1, 1), ceil_mode=1, **given)
        yield cls(of(1, 2, 9, 9), (3, 2), dilations=(2, 3), **given)
        yield cls(of(1, 2, 7, 8), (3, 3), strides=(2, 2), auto_pad="SAME_UPPER", **given)
        yield cls(of(1, 2, 7, 8), (3, 3), strides=(2, 2), auto_pad="SAME_LOWER", **given)
        yield cls(of(1, 2, 7, 8), (3, 3), strides=(2, 2), auto_pad="VALID", **given)
        yield cls(of(1, 2, 11), (3,), strides=(2,), pads=(1, 1), **given)
        yield cls(of(1, 2, 5, 6, 4), (2, 3, 2), strides=(1, 2, 1), **given)
        yield cls(argument(TensorType(F64, (1, 2, 6, 6))), (2, 2), **given)
        yield cls(argument(TensorType(F16, (1, 2, 6, 6))), (2, 2), **given)


@operator(onnx="MaxPool")
class MaxPool(Pool):
    """The greatest element of each window; padding is never it. `storage_order` concerns only indices."""

    storage_order: int = 0

    tolerance = "exact"

    @classmethod
    def dtypes(cls) -> tuple[DType, ...]:
        return (*FLOATS, *INTEGERS)

    def reference(self, x: Array) -> Array:
        views = [view for _, view in self.geometry_over(x.shape[2:]).views(x, lowest(self.x.type.dtype))]
        result = views[0].copy()
        for view in views[1:]:
            np.maximum(result, view, out=result)
        return result

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        windows, start = self.geometry, lowest(x.dtype)

        def element(n: Expr, c: Expr, *place: Expr) -> Expr:
            def term(*tap: Expr) -> Expr:
                at = windows.positions(place, tap)
                return x.load((n, c, *at), windows.inside(at), start)

            return reduce("max", windows.kernel, term, start)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from cls.windows()
        for dtype in (I8, U8):
            low = 0.0 if dtype == U8 else -100.0
            image = argument(TensorType(dtype, (1, 2, 6, 6)), low, 100.0)
            yield cls(image, (3, 3), pads=(1, 1, 1, 1), strides=(2, 2))


@operator(onnx="AveragePool", since=7)
class AveragePool(Pool):
    """The mean of each window, over its elements in the input, with `count_include_pad` in padding too."""

    count_include_pad: int = 0

    def reference(self, x: Array) -> Array:
        windows = self.geometry_over(x.shape[2:])
        over, ones = windows, np.ones(x.shape)
        if self.count_include_pad:
            pads = list(zip(numbers(windows.pads_begin), numbers(windows.pads_end), strict=True))
            ones = np.pad(ones, [(0, 0), (0, 0), *pads], constant_values=1.0)
            none = (0,) * len(pads)
            over = replace(windows, sizes=ones.shape[2:], pads_begin=none, pads_end=none)
        total = sum((view for _, view in windows.views(widened(x), 0)), np.zeros(()))
        counts = sum((view for _, view in over.views(ones, 0)), np.zeros(()))
        return (total / counts).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        windows, sums = self.geometry, accumulator(x.dtype)
        partial = windows.ceil or (windows.is_padded and not self.count_include_pad)

        def element(n: Expr, c: Expr, *place: Expr) -> Expr:
            def term(*tap: Expr) -> Expr:
                at = windows.positions(place, tap)
                return cast(x.load((n, c, *at), windows.inside(at)), sums)

            total = reduce("add", windows.kernel, term, 0.0)
            if not partial:
                return cast(total / float(prod(windows.kernel)), x.dtype)
            count: Expr = literal(1)
            for size in windows.counts(place, bool(self.count_include_pad)):
                count = count * size
            return cast(total / cast(count, sums), x.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from cls.windows()
        yield from cls.windows(count_include_pad=1)


@operator(onnx="LpPool", since=2)
class LpPool(Pool):
    """The `p`-norm of each window."""

    p: int = 2

    tolerance = "approximate"

    def infer(self) -> TensorType:
        if self.p < 1:
            self.fail("p of at least 1", p=self.p)
        return super().infer()

    def reference(self, x: Array) -> Array:
        views = self.geometry_over(x.shape[2:]).views(widened(x), 0)
        total = sum((np.abs(view) ** self.p for _, view in views), np.zeros(()))
        return (total ** (1 / self.p)).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        windows, sums = self.geometry, accumulator(x.dtype)

        def element(n: Expr, c: Expr, *place: Expr) -> Expr:
            def term(*tap: Expr) -> Expr:
                at = windows.positions(place, tap)
                return power(cast(x.load((n, c, *at), windows.inside(at)), sums), self.p)

            return cast(root(reduce("add", windows.kernel, term, 0.0), self.p), x.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from cls.windows()
        yield from cls.windows(p=1)
        yield cls(argument(TensorType(F32, (1, 2, 7, 7))), (3, 3), p=3)


class GlobalPool(Operator):
    """What the pools over whole images share: `x` [n, c, ...] to [n, c, 1, ...]."""

    x: Value

    tolerance = "close"

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype not in FLOATS or x.rank < 3:
            self.fail("[n, c, ...] of a float type", x=self.x)
        return TensorType(x.dtype, (*x.shape[:2], *(1,) * (x.rank - 2)))

    @property
    def flops(self) -> Dim:
        return self.x.type.size

    @classmethod
    def images(cls, **given: Any) -> Iterator[Operator]:
        """Samples of any global pool."""
        for dtype, shape in (
            (F32, (1, 3, 7, 7)),
            (F32, (2, 17, 5)),
            (F32, (1, 2, 3, 4, 5)),
            (F64, (1, 3, 4, 4)),
            (F16, (1, 3, 4, 4)),
        ):
            yield cls(argument(TensorType(dtype, shape)), **given)


@operator(onnx="GlobalAveragePool")
class GlobalAveragePool(GlobalPool):
    """The mean of each channel."""

    def reference(self, x: Array) -> Array:
        return widened(x).mean(axis=tuple(range(2, x.ndim)), keepdims=True).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        sums, space = accumulator(x.dtype), x.shape[2:]

        def element(n: Expr, c: Expr, *_: Expr) -> Expr:
            total = reduce("add", space, lambda *at: cast(x[(n, c, *at)], sums), 0.0)
            return cast(total / cast(as_index(product_of(space)), sums), x.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from cls.images()


@operator(onnx="GlobalMaxPool")
class GlobalMaxPool(GlobalPool):
    """The greatest element of each channel."""

    tolerance = "exact"

    def reference(self, x: Array) -> Array:
        least = np.full((*x.shape[:2], *(1,) * (x.ndim - 2)), lowest(self.x.type.dtype), x.dtype)
        return np.maximum(least, x.max(axis=tuple(range(2, x.ndim)), keepdims=True)) if x.size else least

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        def element(n: Expr, c: Expr, *_: Expr) -> Expr:
            return reduce("max", x.shape[2:], lambda *at: x[(n, c, *at)], lowest(x.dtype))

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from cls.images()


@operator(onnx="GlobalLpPool", since=2)
class GlobalLpPool(GlobalPool):
    """The `p`-norm of each channel."""

    p: int = 2

    tolerance = "approximate"

    def infer(self) -> TensorType:
        if self.p < 1:
            self.fail("p of at least 1", p=self.p)
        return super().infer()

    def reference(self, x: Array) -> Array:
        total = (np.abs(widened(x)) ** self.p).sum(axis=tuple(range(2, x.ndim)), keepdims=True)
        return (total ** (1 / self.p)).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        sums = accumulator(x.dtype)

        def element(n: Expr, c: Expr, *_: Expr) -> Expr:
            total = reduce("add", x.shape[2:], lambda *at: power(cast(x[(n, c, *at)], sums), self.p), 0.0)
            return cast(root(total, self.p), x.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield from cls.images()
        yield from cls.images(p=3)


def power(x: Expr, p: int) -> Expr:
    """`|x| ** p`."""
    if p == 2:
        return x * x
    size = unary("abs", x)
    return size if p == 1 else binary("pow", size, float(p))


def root(x: Expr, p: int) -> Expr:
    """The `p`-th root of what is not negative."""
    return x if p == 1 else unary("sqrt", x) if p == 2 else binary("pow", maximum(x, 0.0), 1.0 / p)
