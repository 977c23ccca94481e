"""Convolution and its transpose, over one, two, three or more spatial axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..dim import Dim, floordiv, maximum, product
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, as_index, cast, literal, reduce
from ..op import Operator, argument, operator
from ..types import F16, F32, F64, FLOATS, Array, TensorType
from .elementwise import accumulator, widened
from .index import all_of
from .linear import zero
from .window import Geometry, geometry, numbers


class Convolution(Operator):
    """What Conv and ConvTranspose share."""

    x: Value
    w: Value
    b: Value | None = None
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    tolerance = "close"

    @property
    def kernel(self) -> tuple[int, ...]:
        """The extents of the filter, from the type of `w`."""
        kernel = tuple(size for size in self.w.type.shape[2:] if isinstance(size, int))
        if len(kernel) != self.w.type.rank - 2:
            self.fail("a filter of known size", w=self.w)
        return kernel

    def check_types(self) -> None:
        """Raises `InferenceError` for element types that do not go together."""
        dtype = self.x.type.dtype
        if dtype not in FLOATS or {value.type.dtype for value in self.inputs} != {dtype}:
            self.fail("operands of one float type", x=self.x, w=self.w, b=self.b)

    def check_operands(self) -> None:
        """Raises `InferenceError` for types that fit neither operator."""
        x, w = self.x.type, self.w.type
        self.check_types()
        if x.rank < 3 or w.rank != x.rank:
            self.fail("x and w of one rank, 3 or more", x=self.x, w=self.w)
        if self.kernel_shape is not None and tuple(self.kernel_shape) != self.kernel:
            self.fail("kernel_shape to be that of w", kernel_shape=self.kernel_shape, w=self.w)
        if not isinstance(w.shape[0], int) or not isinstance(w.shape[1], int) or self.group < 1:
            self.fail("known channels and a positive group", w=self.w, group=self.group)

    def check_bias(self, channels: Dim) -> None:
        if self.b is not None and self.b.type.shape != (channels,):
            self.fail(f"a bias of {channels}", b=self.b)


@operator(onnx="Conv")
class Conv(Convolution):
    """The cross-correlation of `x` [n, c, ...] with filters `w` [m, c / group, ...], plus a bias each."""

    def infer(self) -> TensorType:
        self.check_operands()
        x, w = self.x.type, self.w.type
        filters = w.shape[0]
        if x.shape[1] != w.shape[1] * self.group or not isinstance(filters, int) or filters % self.group:
            self.fail(
                f"x[1] == w[1] * {self.group} and w[0] a multiple of {self.group}",
                x=self.x,
                w=self.w,
                group=self.group,
            )
        self.check_bias(filters)
        return TensorType(x.dtype, (x.shape[0], filters, *self.geometry.extents))

    @property
    def geometry(self) -> Geometry:
        """Strides, dilations, padding and group with `auto_pad` and defaults resolved."""
        return self.geometry_over(self.x.type.shape[2:])

    def geometry_over(self, sizes: Sequence[Dim]) -> Geometry:
        """The same over an input of these sizes."""
        return geometry(
            self,
            sizes,
            self.kernel,
            strides=self.strides,
            dilations=self.dilations,
            pads=self.pads,
            auto_pad=self.auto_pad,
            group=self.group,
        )

    def reference(self, x: Array, w: Array, b: Array | None) -> Array:
        windows = self.geometry_over(x.shape[2:])
        filters, depth = w.shape[0] // self.group, w.shape[1]
        shape = (x.shape[0], w.shape[0], *numbers(windows.extents))
        columns = int(np.prod(shape[2:]))
        total = np.zeros((x.shape[0], self.group, filters, columns))
        for tap, view in windows.views(widened(x), 0):
            weights = widened(w[(..., *tap)]).reshape(self.group, filters, depth)
            total += weights @ view.reshape(x.shape[0], self.group, depth, columns)
        result = total.reshape(shape)
        if b is not None:
            result += widened(b).reshape(-1, *(1,) * (x.ndim - 2))
        return result.astype(x.dtype, copy=False)

    def lower(self, k: Kernel, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        type, windows = self.result.type, self.geometry
        sums = accumulator(type.dtype)
        filters, depth = floordiv(w.shape[0], self.group), w.shape[1]

        def element(n: Expr, m: Expr, *place: Expr) -> Expr:
            first = (m // as_index(filters)) * as_index(depth) if self.group > 1 else literal(0)

            def term(c: Expr, *tap: Expr) -> Expr:
                at = windows.positions(place, tap)
                read = x.load((n, first + c, *at), windows.inside(at))
                return cast(read, sums) * cast(w[(m, c, *tap)], sums)

            total = reduce("add", [depth, *windows.kernel], term, zero(sums))
            return cast(total if b is None else total + cast(b[m], sums), type.dtype)

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(1, 3, 8, 8), of(4, 3, 3, 3), of(4))
        yield cls(of(2, 3, 9, 7), of(5, 3, 3, 3), of(5), pads=(1, 1, 1, 1), strides=(2, 2))
        yield cls(of(1, 4, 10, 10), of(4, 1, 3, 3), of(4), group=4, pads=(1, 1, 1, 1))
        yield cls(of(1, 8, 7, 7), of(8, 1, 5, 5), group=8, pads=(2, 2, 2, 2), strides=(2, 2))
        yield cls(of(1, 6, 8, 8), of(4, 3, 3, 3), of(4), group=2)
        yield cls(of(1, 16, 5, 5), of(17, 16, 1, 1), of(17))
        yield cls(of(1, 2, 9, 11), of(3, 2, 3, 2), dilations=(2, 3), pads=(2, 0, 1, 3))
        yield cls(of(1, 2, 7, 8), of(3, 2, 3, 3), auto_pad="SAME_UPPER", strides=(2, 2))
        yield cls(of(1, 2, 7, 8), of(3, 2, 3, 3), auto_pad="SAME_LOWER", strides=(2, 2))
        yield cls(of(1, 2, 7, 8), of(3, 2, 3, 3), auto_pad="VALID", kernel_shape=(3, 3))
        yield cls(of(1, 3, 17), of(4, 3, 5), of(4), pads=(2, 2), strides=(3,))
        yield cls(of(1, 2, 5, 6, 4), of(3, 2, 3, 2, 3), of(3), pads=(1, 0, 1, 1, 1, 1))
        yield cls(of(1, 3, 32, 32), of(8, 3, 7, 7), of(8), strides=(2, 2), pads=(3, 3, 3, 3))
        for dtype in (F16, F64):
            x, w = TensorType(dtype, (1, 3, 6, 6)), TensorType(dtype, (4, 3, 3, 3))
            yield cls(argument(x), argument(w), argument(TensorType(dtype, (4,))), pads=(1, 1, 1, 1))

    @property
    def flops(self) -> Dim:
        taps = product(self.w.type.shape[1:])
        return self.result.type.size * (taps * 2 + (1 if self.b is not None else 0))


@operator(onnx="ConvTranspose")
class ConvTranspose(Convolution):
    """The transpose of Conv: each element of `x` [n, c, ...] adds `w` [c, m / group, ...] scaled by it."""

    output_padding: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None

    def infer(self) -> TensorType:
        self.check_operands()
        x, w = self.x.type, self.w.type
        channels = w.shape[0]
        if x.shape[1] != channels or not isinstance(channels, int) or channels % self.group:
            self.fail("x[1] == w[0], a multiple of group", x=self.x, w=self.w, group=self.group)
        filters = w.shape[1] * self.group
        self.check_bias(filters)
        return TensorType(x.dtype, (x.shape[0], filters, *self.geometry.sizes))

    @property
    def geometry(self) -> Geometry:
        """The windows of the convolution whose transpose this is: `sizes` are the extents of the result."""
        return self.geometry_over(self.x.type.shape[2:])

    def geometry_over(self, inputs: Sequence[Dim]) -> Geometry:
        """The same for an operand of these sizes."""
        kernel = self.kernel
        rank = len(kernel)
        strides, dilations = self.strides or (1,) * rank, self.dilations or (1,) * rank
        extra, pads = self.output_padding or (0,) * rank, self.pads or (0,) * (2 * rank)
        if not len(strides) == len(dilations) == len(extra) == len(pads) // 2 == rank or (
            self.output_shape is not None and len(self.output_shape) != rank
        ):
            self.fail(f"attributes for {rank} spatial axes", strides=strides, dilations=dilations, pads=pads)
        if min((*strides, *dilations), default=1) < 1 or min((*pads, *extra), default=0) < 0:
            self.fail(
                "positive strides and dilations, and no negative padding",
                strides=strides,
                dilations=dilations,
                pads=pads,
                output_padding=extra,
            )
        begin: list[Dim] = []
        end: list[Dim] = []
        sizes: list[Dim] = []
        for axis, size in enumerate(inputs):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            full = (size - 1) * strides[axis] + reach + extra[axis]
            first: Dim = pads[axis]
            last: Dim = pads[axis + rank]
            wanted: Dim | None = self.output_shape[axis] if self.output_shape is not None else None
            if wanted is None and self.auto_pad.startswith("SAME"):
                wanted = size * strides[axis]
            if self.auto_pad == "VALID":
                first, last = 0, 0
            if wanted is not None:
                total = maximum(full - wanted, 0)
                first = floordiv(total + (self.auto_pad != "SAME_UPPER"), 2)
                last = total - first
            sizes.append(wanted if wanted is not None else full - first - last)
            begin.append(first)
            end.append(last)
        return Geometry(
            tuple(sizes), kernel, strides, dilations, tuple(begin), tuple(end), tuple(inputs), self.group
        )

    def reference(self, x: Array, w: Array, b: Array | None) -> Array:
        windows = self.geometry_over(x.shape[2:])
        depth, filters = w.shape[0] // self.group, w.shape[1]
        sizes, begin = numbers(windows.sizes), numbers(windows.pads_begin)
        buffer = [
            max((size - 1) * s + (taps - 1) * d + 1, first + wanted)
            for size, s, d, taps, first, wanted in zip(
                x.shape[2:], windows.strides, windows.dilations, windows.kernel, begin, sizes, strict=True
            )
        ]
        full = np.zeros((x.shape[0], self.group, filters, *buffer))
        columns = widened(x).reshape(x.shape[0], self.group, depth, math.prod(x.shape[2:]))
        for tap in itertools.product(*map(range, windows.kernel)):
            weights = widened(w[(..., *tap)]).reshape(self.group, depth, filters)
            spread = (weights.swapaxes(1, 2) @ columns).reshape(*full.shape[:3], *x.shape[2:])
            places = [
                slice(t * d, t * d + (size - 1) * s + 1 if size else t * d, s)
                for t, d, s, size in zip(tap, windows.dilations, windows.strides, x.shape[2:], strict=True)
            ]
            full[(..., *places)] += spread
        crop = [slice(first, first + wanted) for first, wanted in zip(begin, sizes, strict=True)]
        result = full[(..., *crop)].reshape(x.shape[0], self.group * filters, *sizes)
        if b is not None:
            result = result + widened(b).reshape(-1, *(1,) * (x.ndim - 2))
        return result.astype(x.dtype, copy=False)

    def lower(self, k: Kernel, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        type, windows = self.result.type, self.geometry
        sums = accumulator(type.dtype)
        depth, filters = floordiv(w.shape[0], self.group), w.shape[1]

        def element(n: Expr, m: Expr, *place: Expr) -> Expr:
            first = (m // as_index(filters)) * as_index(depth) if self.group > 1 else literal(0)
            own = m % as_index(filters) if self.group > 1 else m

            def term(c: Expr, *tap: Expr) -> Expr:
                at: list[Expr] = []
                conditions: list[Expr] = []
                for axis, (o, t) in enumerate(zip(place, tap, strict=True)):
                    offset = o + as_index(windows.pads_begin[axis]) - t * windows.dilations[axis]
                    source = offset // windows.strides[axis]
                    at.append(source)
                    conditions += [offset >= 0, source < as_index(windows.extents[axis])]
                    if windows.strides[axis] > 1:
                        conditions.append((offset % windows.strides[axis]).eq(0))
                inside = all_of(conditions)  # a weight that is not used may be NaN
                read = x.load((n, first + c, *at), inside)
                return cast(read, sums) * cast(w.load((first + c, own, *tap), inside), sums)

            total = reduce("add", [depth, *windows.kernel], term, zero(sums))
            return cast(total if b is None else total + cast(b[m], sums), type.dtype)

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(1, 3, 5, 5), of(3, 4, 3, 3), of(4))
        yield cls(of(2, 3, 5, 4), of(3, 2, 3, 3), of(2), strides=(2, 2), pads=(1, 1, 1, 1))
        yield cls(of(1, 3, 5, 4), of(3, 2, 2, 2), strides=(2, 2))
        yield cls(of(1, 4, 5, 4), of(4, 3, 3, 3), of(6), strides=(2, 3), output_padding=(1, 1), group=2)
        yield cls(of(1, 2, 4, 4), of(2, 3, 3, 3), dilations=(2, 2), pads=(1, 0, 2, 1))
        yield cls(of(1, 2, 4, 4), of(2, 3, 3, 3), auto_pad="SAME_UPPER", strides=(2, 2))
        yield cls(of(1, 2, 4, 4), of(2, 3, 3, 3), auto_pad="VALID", strides=(2, 2))
        yield cls(of(1, 2, 4, 4), of(2, 3, 4, 4), output_shape=(8, 8), strides=(2, 2))
        yield cls(of(1, 2, 4, 4), of(2, 3, 3, 3), output_shape=(8, 8), strides=(2, 2))
        yield cls(of(1, 2, 9), of(2, 3, 4), of(3), strides=(3,), pads=(1, 2))
        yield cls(of(1, 2, 3, 4, 3), of(2, 2, 2, 3, 2), of(2), strides=(2, 1, 2))
        half = TensorType(F64, (1, 2, 4, 4))
        yield cls(argument(half), argument(TensorType(F64, (2, 3, 3, 3))))

    @property
    def flops(self) -> Dim:
        return self.x.type.size * product(self.w.type.shape[1:]) * 2
