"""Elements put where a tensor of indices says: ScatterElements, ScatterND."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..dim import Dim
from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, maximum, minimum
from ..op import Operator, argument, constant, operator
from ..types import F32, I32, I64, NUMBERS, Array, TensorType
from .index import axis_of, from_end, nest
from .superseded import Superseded

UFUNCS: dict[str, Any] = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}
COMBINE: dict[str, Callable[[Expr, Expr], Expr]] = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "min": minimum,
    "max": maximum,
}


class Scattering(Operator):
    """What the scatters share: a copy of `data`, into which `updates` go one after the other."""

    data: Value
    indices: Value
    updates: Value

    def check_operands(self, reduction: str) -> None:
        """Raises `InferenceError` for operands that fit neither operator."""
        if self.indices.type.dtype not in (I32, I64) or self.updates.type.dtype != self.data.type.dtype:
            self.fail(
                "indices of i32 or i64, updates of data's type",
                data=self.data,
                indices=self.indices,
                updates=self.updates,
            )
        if reduction not in COMBINE:
            self.fail(f"a reduction of {', '.join(COMBINE)}", reduction=reduction)
        if reduction != "none" and self.data.type.dtype not in NUMBERS:
            self.fail("numbers where there is a reduction", data=self.data, reduction=reduction)

    @property
    def flops(self) -> Dim:
        return self.updates.type.size


@operator(onnx="ScatterElements", since=11)
class ScatterElements(Scattering):
    """Each element of `updates` put at its own place, but for `axis`, where `indices` says."""

    axis: int = 0
    reduction: str = "none"

    tolerance = "close"

    def infer(self) -> TensorType:
        self.check_operands(self.reduction)
        data, indices = self.data.type, self.indices.type
        axis = axis_of(self, self.axis, data.rank)
        if (
            indices.rank != data.rank
            or indices.shape != self.updates.type.shape
            or any(
                isinstance(mine, int) and isinstance(its, int) and mine > its
                for place, (mine, its) in enumerate(zip(indices.shape, data.shape, strict=True))
                if place != axis
            )
        ):
            self.fail(
                "indices and updates of one shape, no larger than data but along the axis",
                data=self.data,
                indices=self.indices,
                updates=self.updates,
            )
        return data.with_layout(None)

    def reference(self, data: Array, indices: Array, updates: Array) -> Array:
        result = data.copy()
        places = [np.asarray(own) for own in np.indices(indices.shape)]
        axis = self.axis % data.ndim
        places[axis] = indices + data.shape[axis] * (indices < 0)
        _scatter(result, tuple(places), updates, self.reduction)
        return result

    def lower(self, k: Kernel, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        result = k.scratch(self.result.type)
        program = k.program(result)
        axis = self.axis % data.type.rank
        with nest(program, data.shape) as index:
            program.store(result, index, data[index])
        with nest(program, indices.shape) as index:
            place = from_end(indices[index], data.shape[axis])
            target = (*index[:axis], place, *index[axis + 1 :])
            program.store(result, target, COMBINE[self.reduction](result[target], updates[index]))
        return result

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(4, 5), constant([[1, 0, 2, 3, -1]]), of(1, 5))
        yield cls(of(4, 5), constant([[1, 3], [0, -2]]), of(2, 2), 1)
        for reduction in ("add", "mul", "min", "max"):
            yield cls(of(4, 5), argument(TensorType(I64, (6, 5)), -4, 3.99), of(6, 5), 0, reduction)


@operator(onnx="Scatter", since=9)
class Scatter_9(Superseded):
    """The old name of ScatterElements."""

    data: Value
    indices: Value
    updates: Value
    axis: int = 0

    def upgrade(self) -> Op:
        return ScatterElements(self.data, self.indices, self.updates, self.axis)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (4, 5))), constant([[1, 3]]), argument(TensorType(F32, (1, 2))), 1)


@operator(onnx="ScatterND", since=11)
class ScatterND(Scattering):
    """Slices of `updates` put where the last axis of `indices` says."""

    reduction: str = "none"

    tolerance = "close"

    def infer(self) -> TensorType:
        self.check_operands(self.reduction)
        data, indices = self.data.type, self.indices.type
        if self.depth > data.rank:
            self.fail("an index no longer than data's rank", data=self.data, indices=self.indices)
        if self.updates.type.shape != (*indices.shape[:-1], *data.shape[self.depth :]):
            self.fail(
                "one slice of data per index", data=self.data, indices=self.indices, updates=self.updates
            )
        return data.with_layout(None)

    @property
    def depth(self) -> int:
        """The number of axes of `data` that an index names."""
        depth = self.indices.type.shape[-1] if self.indices.type.rank else None
        if not isinstance(depth, int):
            self.fail("a known last axis of indices", indices=self.indices)
        return depth

    def reference(self, data: Array, indices: Array, updates: Array) -> Array:
        result = data.copy()
        sizes = np.array(data.shape[: indices.shape[-1]], np.int64)
        places = indices + sizes * (indices < 0)
        _scatter(result, tuple(np.moveaxis(places, -1, 0)), updates, self.reduction)
        return result

    def lower(self, k: Kernel, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        result = k.scratch(self.result.type)
        program = k.program(result)
        outer = indices.type.rank - 1
        with nest(program, data.shape) as index:
            program.store(result, index, data[index])
        with nest(program, updates.shape) as index:
            places = [
                from_end(indices[(*index[:outer], place)], data.shape[place]) for place in range(self.depth)
            ]
            target = (*places, *index[outer:])
            program.store(result, target, COMBINE[self.reduction](result[target], updates[index]))
        return result

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(4, 5, 3), constant([[0], [2]]), of(2, 5, 3))
        yield cls(of(4, 5), constant([[0, 1], [3, -1], [2, 2]]), of(3))
        for reduction in ("add", "mul", "min", "max"):
            yield cls(of(4, 5), constant([[[1], [1]], [[0], [-1]]]), of(2, 2, 5), reduction)


def _scatter(result: Array, places: tuple[Array, ...], updates: Array, reduction: str) -> None:
    if any((own < 0).any() for own in places):
        raise IndexError("an index is below minus the size of its axis")
    if reduction == "none":
        result[places] = updates
    else:
        UFUNCS[reduction].at(result, places, updates)
