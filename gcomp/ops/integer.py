"""Convolution of 8 bit integers, exact in 32 bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..dim import Dim, floordiv, product
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, as_index, cast, literal, reduce, select
from ..op import Operator, argument, constant, operator
from ..types import I8, I32, U8, Array, DType, TensorType
from .window import Geometry, geometry, numbers


@operator(onnx="ConvInteger", since=10)
class ConvInteger(Operator):
    """Conv of 8 bit tensors less their zero points, in 32 bit; padding counts as zero.

    `x_zero_point` is a scalar, `w_zero_point` a scalar or one per filter.
    """

    x: Value
    w: Value
    x_zero_point: Value | None = None
    w_zero_point: Value | None = None
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(self) -> TensorType:
        x, w = self.x.type, self.w.type
        if x.dtype not in (I8, U8) or w.dtype not in (I8, U8):
            self.fail("8 bit operands", x=self.x, w=self.w)
        if x.rank < 3 or w.rank != x.rank or not all(isinstance(size, int) for size in w.shape):
            self.fail("x and w of one rank, 3 or more, and a filter of known size", x=self.x, w=self.w)
        if self.kernel_shape is not None and tuple(self.kernel_shape) != w.shape[2:]:
            self.fail("kernel_shape to be that of w", kernel_shape=self.kernel_shape, w=self.w)
        filters = w.static_shape[0]
        if self.group < 1 or filters % self.group or x.shape[1] != w.shape[1] * self.group:
            self.fail(f"x[1] == w[1] * {self.group} and w[0] a multiple of {self.group}", x=self.x, w=self.w)
        self._check_zero_point("x", self.x, self.x_zero_point, 1)
        self._check_zero_point("w", self.w, self.w_zero_point, filters)
        return TensorType(I32, (x.shape[0], filters, *self.geometry.extents))

    def _check_zero_point(self, name: str, value: Value, zero: Value | None, most: int) -> None:
        if zero is not None and (
            zero.type.dtype != value.type.dtype or zero.type.shape not in ((), (1,), (most,))
        ):
            self.fail(f"a zero point of {name} that fits", operand=value, zero_point=zero)

    @property
    def geometry(self) -> Geometry:
        """Strides, dilations, padding and group with `auto_pad` and defaults resolved."""
        return self.geometry_over(self.x.type.shape[2:])

    def geometry_over(self, sizes: Sequence[Dim]) -> Geometry:
        """The same over an input of these sizes."""
        return geometry(
            self,
            sizes,
            self.w.type.static_shape[2:],
            strides=self.strides,
            dilations=self.dilations,
            pads=self.pads,
            auto_pad=self.auto_pad,
            group=self.group,
        )

    def reference(self, x: Array, w: Array, x_zero_point: Array | None, w_zero_point: Array | None) -> Array:
        a, b = x.astype(np.float64), w.astype(np.float64)  # sums of products of bytes are exact in f64
        if x_zero_point is not None:
            a = a - float(x_zero_point.reshape(()))
        if w_zero_point is not None:
            b = b - w_zero_point.astype(np.float64).reshape(-1, *(1,) * (w.ndim - 1))
        windows = self.geometry_over(x.shape[2:])
        filters, depth = w.shape[0] // self.group, w.shape[1]
        shape = (x.shape[0], w.shape[0], *numbers(windows.extents))
        total = np.zeros((x.shape[0], self.group, filters, int(np.prod(shape[2:]))))
        for tap, view in windows.views(a, 0):
            weights = b[(..., *tap)].reshape(self.group, filters, depth)
            total += weights @ view.reshape(x.shape[0], self.group, depth, total.shape[-1])
        return total.reshape(shape).astype(np.int64).astype(np.int32)

    def lower(
        self, k: Kernel, x: Tensor, w: Tensor, x_zero_point: Tensor | None, w_zero_point: Tensor | None
    ) -> Tensor:
        windows = self.geometry
        filters, depth = floordiv(w.shape[0], self.group), w.shape[1]

        def zero_of(parameters: Tensor, m: Expr) -> Expr:
            at = () if parameters.type.rank == 0 else (m if parameters.shape[0] != 1 else literal(0),)
            return cast(parameters[at], I32)

        def element(n: Expr, m: Expr, *place: Expr) -> Expr:
            first = (m // as_index(filters)) * as_index(depth) if self.group > 1 else literal(0)

            def term(c: Expr, *tap: Expr) -> Expr:
                at = windows.positions(place, tap)
                inside = windows.inside(at)
                lhs, rhs = cast(x.load((n, first + c, *at), inside), I32), cast(w[(m, c, *tap)], I32)
                if x_zero_point is not None:
                    zero = zero_of(x_zero_point, literal(0))
                    lhs = lhs - (zero if inside is None else select(inside, zero, 0))
                if w_zero_point is not None:
                    rhs = rhs - zero_of(w_zero_point, m)
                return lhs * rhs

            return reduce("add", [depth, *windows.kernel], term, 0)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(dtype: DType, *shape: int) -> Value:
            low = 0 if dtype == U8 else -128
            return argument(TensorType(dtype, shape), low, low + 255)

        x, zero = of(U8, 1, 2, 5, 5), constant(7, np.uint8)
        yield cls(x, of(U8, 3, 2, 3, 3), zero, constant(128, np.uint8), pads=(1, 1, 1, 1))
        yield cls(x, of(I8, 3, 2, 3, 3))
        yield cls(x, of(I8, 4, 1, 3, 3), zero, group=2, pads=(1, 0, 1, 1), strides=(2, 1))
        yield cls(of(I8, 2, 3, 9), of(I8, 5, 3, 2), constant([-5], np.int8), of(I8, 5), dilations=(2,))

    @property
    def flops(self) -> Dim:
        return self.result.type.size * product(self.w.type.shape[1:]) * 2
