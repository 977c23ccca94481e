"""Elements in other places: Transpose, Expand, Tile, DepthToSpace, SpaceToDepth, Trilu."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..dim import Dim, floordiv
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, as_index, cast, literal, select
from ..op import Operator, argument, constant, known_content, operator
from ..types import BOOL, F16, F32, I64, U8, Array, TensorType, broadcast_shapes
from .elementwise import Content
from .index import check_lists


@operator(onnx="Transpose")
class Transpose(Operator):
    """Axis i of the result is axis `perm[i]` of `x`; by default the axes are reversed."""

    x: Value
    perm: tuple[int, ...] | None = None

    def infer(self) -> TensorType:
        x = self.x.type
        if sorted(self.axes) != list(range(x.rank)):
            self.fail(f"a permutation of {x.rank} axes", perm=self.axes)
        return TensorType(x.dtype, tuple(x.shape[axis] for axis in self.axes))

    @property
    def axes(self) -> tuple[int, ...]:
        """`perm`, or what it is by default."""
        return self.perm if self.perm is not None else tuple(reversed(range(self.x.type.rank)))

    def reference(self, x: Array) -> Array:
        return x.transpose(self.axes).copy()

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        places = np.argsort(self.axes)
        return k.compute(self.result.type, lambda *index: x[tuple(index[place] for place in places)])

    def content(self, x: Content) -> Content:
        return x if self.x.type.rank < 2 else None

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (2, 3, 4, 5))
        for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (3, 1, 0, 2), None):
            yield cls(argument(x), perm)
        yield cls(argument(TensorType(F16, (17, 33))))
        yield cls(argument(TensorType(U8, (3, 0, 2)), 0, 9), (1, 0, 2))
        yield cls(argument(TensorType(F32, ())))


@operator(onnx="Expand", since=8)
class Expand(Operator):
    """`input` broadcast with a tensor of `shape`."""

    input: Value
    shape: Value

    def infer(self) -> TensorType:
        check_lists(self, shape=self.shape)
        shape = known_content(self.shape)
        if shape is None:
            self.fail("a shape that is known when compiling", input=self.input, shape=self.shape)
        try:
            return TensorType(self.input.type.dtype, broadcast_shapes(self.input.type.shape, shape))
        except ValueError:
            self.fail("a shape that broadcasts with input", input=self.input, shape=shape)

    def reference(self, input: Array, shape: Array) -> Array:
        return np.broadcast_to(input, np.broadcast_shapes(input.shape, tuple(shape))).copy()

    def lower(self, k: Kernel, input: Tensor, shape: Tensor) -> Tensor:
        return k.compute(self.result.type, lambda *index: input.broadcast(index))

    def content(self, input: Content, shape: Content) -> Content:
        size = self.result.type.size
        if input is None or len(input) != 1 or not isinstance(size, int) or size > 64:
            return None
        return input * size

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (3, 1))), constant([2, 1, 6]))
        yield cls(argument(TensorType(F32, (3, 1))), constant([3, 4]))
        yield cls(argument(TensorType(F32, (2, 3))), constant([1, 1]))
        yield cls(argument(TensorType(F32, ())), constant([2, 2]))
        yield cls(argument(TensorType(BOOL, (1, 3))), constant([0, 3]))


@operator(onnx="Tile", since=6)
class Tile(Operator):
    """`input` repeated `repeats[i]` times along axis i."""

    input: Value
    repeats: Value

    def infer(self) -> TensorType:
        check_lists(self, repeats=self.repeats)
        x, repeats = self.input.type, known_content(self.repeats)
        if repeats is None or len(repeats) != x.rank:
            self.fail(
                "one known number of repeats per axis", input=self.input, repeats=repeats or self.repeats
            )
        return TensorType(x.dtype, tuple(size * times for size, times in zip(x.shape, repeats, strict=True)))

    def reference(self, input: Array, repeats: Array) -> Array:
        return np.tile(input, tuple(repeats))

    def lower(self, k: Kernel, input: Tensor, repeats: Tensor) -> Tensor:
        type = self.result.type

        def element(*index: Expr) -> Expr:
            return input[
                tuple(
                    i if size == wide else i % as_index(size)
                    for i, size, wide in zip(index, input.shape, type.shape, strict=True)
                )
            ]

        return k.compute(type, element)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (2, 3))), constant([2, 3]))
        yield cls(argument(TensorType(F32, (2, 1, 3))), constant([1, 4, 1]))
        yield cls(argument(TensorType(I64, (3,)), -9, 9), constant([0]))


@operator(onnx="DepthToSpace")
class DepthToSpace(Operator):
    """Channels of `x` [n, c, h, w] moved into blocks of space; the block comes first if `mode` is DCR."""

    x: Value
    blocksize: int
    mode: str = "DCR"

    def infer(self) -> TensorType:
        x, block = self.x.type, self.blocksize
        if x.rank != 4 or block < 1 or x.shape[1] % (block * block) != 0:
            self.fail("[n, c, h, w] with c a multiple of blocksize squared", x=self.x, blocksize=block)
        if self.mode not in ("DCR", "CRD"):
            self.fail("mode DCR or CRD", mode=self.mode)
        n, c, h, w = x.shape
        return TensorType(x.dtype, (n, floordiv(c, block * block), h * block, w * block))

    def reference(self, x: Array) -> Array:
        (n, c, h, w), b = x.shape, self.blocksize
        depth = c // (b * b)
        if self.mode == "DCR":
            blocks = x.reshape(n, b, b, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            blocks = x.reshape(n, depth, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return blocks.reshape(n, depth, h * b, w * b)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        type, b = self.result.type, self.blocksize

        def element(n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
            part = (h % b) * b + w % b
            channel = part * as_index(type.shape[1]) + c if self.mode == "DCR" else c * (b * b) + part
            return x[(n, channel, h // b, w // b)]

        return k.compute(type, element)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (2, 12, 3, 4))
        yield cls(argument(x), 2)
        yield cls(argument(x), 2, "CRD")
        yield cls(argument(TensorType(F32, (1, 9, 2, 2))), 3)


@operator(onnx="SpaceToDepth")
class SpaceToDepth(Operator):
    """Blocks of space of `x` [n, c, h, w] moved into channels, the block before the channel."""

    x: Value
    blocksize: int

    def infer(self) -> TensorType:
        x, block = self.x.type, self.blocksize
        if x.rank != 4 or block < 1 or x.shape[2] % block != 0 or x.shape[3] % block != 0:
            self.fail("[n, c, h, w] with h and w multiples of blocksize", x=self.x, blocksize=block)
        n, c, h, w = x.shape
        return TensorType(x.dtype, (n, c * (block * block), floordiv(h, block), floordiv(w, block)))

    def reference(self, x: Array) -> Array:
        (n, c, h, w), b = x.shape, self.blocksize
        blocks = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
        return blocks.reshape(n, c * b * b, h // b, w // b)

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        b, depth = self.blocksize, as_index(x.shape[1])

        def element(n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
            part = c // depth
            return x[(n, c % depth, h * b + part // b, w * b + part % b)]

        return k.compute(self.result.type, element)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (2, 3, 4, 6))), 2)
        yield cls(argument(TensorType(F32, (1, 1, 3, 6))), 3)


@operator(onnx="Trilu", since=14)
class Trilu(Operator):
    """The upper (or lower) triangle of the matrices `input` from the `k`-th diagonal on, zero elsewhere."""

    input: Value
    k: Value | None = None
    upper: int = 1

    def infer(self) -> TensorType:
        if self.input.type.rank < 2:
            self.fail("matrices", input=self.input)
        if self.k is not None and (self.k.type.dtype != I64 or self.k.type.size != 1):
            self.fail("one i64 as k", k=self.k)
        return self.input.type.with_layout(None)

    def reference(self, input: Array, k: Array | None = None) -> Array:
        most = max(input.shape[-2:])
        offset = 0 if k is None else max(-most, min(int(k.reshape(())), most))
        return np.triu(input, offset) if self.upper else np.tril(input, offset)

    def lower(self, k: Kernel, input: Tensor, offset: Tensor | None = None) -> Tensor:
        type = self.result.type

        def element(*index: Expr) -> Expr:
            row, column = index[-2:]
            diagonal = literal(0) if offset is None else cast(offset[(literal(0),) * offset.type.rank], I64)
            keep = diagonal <= column - row if self.upper else column - row <= diagonal
            zero = False if type.dtype == BOOL else 0.0 if type.dtype.is_float else 0
            return select(keep, input[index], zero)

        return k.compute(type, element)

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (2, 4, 5))
        yield cls(argument(x))
        yield cls(argument(x), upper=0)
        yield cls(argument(x), constant(np.array(2)))
        yield cls(argument(x), constant(np.array(-1)), upper=0)
        yield cls(argument(TensorType(I64, (3, 3)), -9, 9), argument(TensorType(I64, ()), -2, 2))
