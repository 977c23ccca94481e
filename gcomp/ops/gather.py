"""Elements chosen by a tensor of indices: Gather, GatherElements, GatherND."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..dim import Dim
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor
from ..op import Operator, argument, constant, operator
from ..types import F32, I8, I32, I64, Array, TensorType
from .elementwise import Content
from .index import axis_of, from_end


class Gathering(Operator):
    """What the gathers share: `data`, and `indices` that count from the end where negative."""

    data: Value
    indices: Value

    def check_indices(self) -> None:
        """Raises `InferenceError` for indices that are no integers."""
        if self.indices.type.dtype not in (I32, I64):
            self.fail("indices of i32 or i64", indices=self.indices)

    @property
    def flops(self) -> Dim:
        return 0


@operator(onnx="Gather")
class Gather(Gathering):
    """`data` with the axis `axis` replaced by those of `indices`: the slices that these name."""

    axis: int = 0

    def infer(self) -> TensorType:
        self.check_indices()
        data = self.data.type
        axis = axis_of(self, self.axis, data.rank)
        return TensorType(data.dtype, (*data.shape[:axis], *self.indices.type.shape, *data.shape[axis + 1 :]))

    def reference(self, data: Array, indices: Array) -> Array:
        return np.take(data, indices, self.axis)

    def lower(self, k: Kernel, data: Tensor, indices: Tensor) -> Tensor:
        axis = self.axis % data.type.rank
        end = axis + indices.type.rank

        def element(*index: Expr) -> Expr:
            place = from_end(indices[index[axis:end]], data.shape[axis])
            return data[(*index[:axis], place, *index[end:])]

        return k.compute(self.result.type, element)

    def content(self, data: Content, indices: Content) -> Content:
        if data is None or indices is None or self.data.type.rank != 1:
            return None
        places = [place for place in indices if isinstance(place, int) and -len(data) <= place < len(data)]
        return tuple(data[place] for place in places) if len(places) == len(indices) else None

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (5, 4, 3))
        yield cls(argument(x), constant([[0, 1], [3, -1]]))
        yield cls(argument(x), constant([2, 0, -3]), -2)
        yield cls(argument(x), constant(np.array(1)), 2)
        yield cls(argument(x), argument(TensorType(I64, (2, 3)), -5, 4.99))
        yield cls(argument(x), argument(TensorType(I32, (6,)), 0, 3.99), 1)
        yield cls(argument(x), constant(np.zeros((0,), np.int64)))
        yield cls(argument(TensorType(I8, (9, 2)), -9, 9), argument(TensorType(I64, (4,)), 0, 8.99))


@operator(onnx="GatherElements", since=11)
class GatherElements(Gathering):
    """Per element of `indices` the element of `data` at its place, but for `axis`, where the index says."""

    axis: int = 0

    def infer(self) -> TensorType:
        self.check_indices()
        data, indices = self.data.type, self.indices.type
        axis = axis_of(self, self.axis, data.rank)
        if indices.rank != data.rank or any(
            isinstance(mine, int) and isinstance(its, int) and mine > its
            for place, (mine, its) in enumerate(zip(indices.shape, data.shape, strict=True))
            if place != axis
        ):
            self.fail("indices of data's rank, larger only along the axis", data=self.data, indices=indices)
        return TensorType(data.dtype, indices.shape)

    def reference(self, data: Array, indices: Array) -> Array:
        axis = self.axis % data.ndim
        within = tuple(
            slice(None) if place == axis else slice(size) for place, size in enumerate(indices.shape)
        )
        return np.take_along_axis(data[within], indices.astype(np.int64), axis)

    def lower(self, k: Kernel, data: Tensor, indices: Tensor) -> Tensor:
        axis = self.axis % data.type.rank

        def element(*index: Expr) -> Expr:
            place = from_end(indices[index], data.shape[axis])
            return data[(*index[:axis], place, *index[axis + 1 :])]

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (3, 4))
        yield cls(argument(x), argument(TensorType(I64, (2, 4)), -3, 2.99))
        yield cls(argument(x), argument(TensorType(I64, (3, 6)), -4, 3.99), 1)
        yield cls(argument(x), argument(TensorType(I32, (2, 1)), 0, 3.99), -1)


@operator(onnx="GatherND", since=11)
class GatherND(Gathering):
    """The slices of `data` that the last axis of `indices` names, within each batch of `batch_dims` axes."""

    batch_dims: int = 0

    def infer(self) -> TensorType:
        self.check_indices()
        data, indices = self.data.type, self.indices.type
        depth, batch = self.depth, self.batch_dims
        if not 0 <= batch < min(data.rank, indices.rank) or batch + depth > data.rank:
            self.fail("an index no longer than data's rank", data=self.data, indices=self.indices)
        if data.shape[:batch] != indices.shape[:batch]:
            self.fail(f"{batch} equal leading axes", data=self.data, indices=self.indices)
        return TensorType(data.dtype, (*indices.shape[:-1], *data.shape[batch + depth :]))

    @property
    def depth(self) -> int:
        """The number of axes of `data` that an index names."""
        depth = self.indices.type.shape[-1] if self.indices.type.rank else None
        if not isinstance(depth, int):
            self.fail("a known last axis of indices", indices=self.indices)
        return depth

    def reference(self, data: Array, indices: Array) -> Array:
        batch = indices.shape[: self.batch_dims]
        rest = (1,) * (indices.ndim - 1 - self.batch_dims)
        leading = [
            places.reshape(places.shape[: self.batch_dims] + rest)
            for places in np.indices(batch, sparse=True)
        ]
        return data[(*leading, *np.moveaxis(indices, -1, 0))]

    def lower(self, k: Kernel, data: Tensor, indices: Tensor) -> Tensor:
        batch, depth, outer = self.batch_dims, self.depth, indices.type.rank - 1

        def element(*index: Expr) -> Expr:
            places = [
                from_end(indices[(*index[:outer], place)], data.shape[batch + place])
                for place in range(depth)
            ]
            return data[(*index[:batch], *places, *index[outer:])]

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (3, 4, 5))
        yield cls(argument(x), constant([[0, 1], [2, -1]]))
        yield cls(argument(x), constant([[0, 1, 2], [2, 3, 4]]))
        yield cls(argument(x), constant([[[1]], [[2]]]))
        yield cls(argument(x), argument(TensorType(I64, (3, 2, 1)), -4, 3.99), 1)
        yield cls(argument(x), argument(TensorType(I64, (3, 4, 1)), -5, 4.99), 2)
