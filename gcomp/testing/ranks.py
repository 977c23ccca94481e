"""Changes how many axes tensors have, and with them what lists something for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, TypeVar, cast

import numpy as np

from ..dim import Dim
from ..ir import Op
from ..op import Argument, Constant
from ..types import Array, TensorType
from .fields import with_field
from .samples import Change, cone, remade
from .variation import RANKS

Item = TypeVar("Item")


def reranked(random: Random, root: Op) -> Op:
    """An axis of the tensors of one rank occurs twice, or once more with size 1, or is gone.

    With it change the attributes that may list something for each axis. At random, so do tensors of other
    ranks, where axes are counted from the last as broadcasting does, and the constants that may be such
    lists. Raises `InferenceError`.
    """
    values = [value for op in cone(root) if not isinstance(op, Constant) for value in op.results]
    ranks = sorted({value.type.rank for value in values} - {0})
    if not ranks:
        return root
    rank = random.choice(ranks)
    more = rank < RANKS and bool(random.randrange(2))
    one, others, lists = (bool(random.randrange(2)) for _ in range(3))
    axis = _Axis(random, rank, random.randrange(rank), more, one and more, others, lists)
    change: dict[Op, Op | Change] = {}
    for op in cone(root):
        match op:
            case Argument():
                type = op.type
                if type.layout is None and axis.is_in(type.rank):
                    shape = axis.of_shape(type.shape)
                    change[op] = Argument(TensorType(type.dtype, shape), op.low, op.high)
            case Constant():
                array = axis.of_constant(op.value)
                if array.shape != op.value.shape:
                    change[op] = Constant(array)
            case _ if any(value.type.rank == rank for value in (*op.inputs, *op.results)):
                fields = {name: axis.listed(held) for name, held in op.attributes.items() if is_list(held)}
                if fields:
                    change[op] = partial(with_field, fields=fields)
            case _:
                pass
    return remade(root, change)


def is_list(held: object) -> bool:
    """Whether an attribute lists integers."""
    return isinstance(held, tuple) and all(isinstance(item, int) for item in cast("tuple[Any, ...]", held))


@dataclass(frozen=True)
class _Axis:
    """What becomes of the axis at `place` of tensors of `rank`.

    There is one `more` like it, or of size `one`; or one less. So it is with tensors of `others` and with
    what `lists` list.
    """

    random: Random
    rank: int
    place: int
    more: bool
    one: bool
    others: bool
    lists: bool

    def is_in(self, rank: int) -> bool:
        """Whether tensors of this rank change."""
        return rank == self.rank or (self.others and self.rank - self.place <= rank < RANKS)

    def of_shape(self, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
        return self._changed(shape, len(shape) - self.rank + self.place, 1)

    def of_constant(self, array: Array) -> Array:
        """A constant, as a list or as a tensor."""
        if self.lists and array.dtype == np.int64 and array.ndim == 1:
            return np.array(self.listed([int(item) for item in array]), np.int64)
        if array.dtype == object or not array.ndim or not self.is_in(array.ndim):
            return array
        at = array.ndim - self.rank + self.place
        if not self.more:
            return np.take(array, 0, at) if array.shape[at] else array
        return np.repeat(np.expand_dims(array, at), 1 if self.one else array.shape[at], at)

    def listed(self, items: Sequence[int]) -> tuple[int, ...]:
        """What is listed for each axis, once or twice, or for each but the first two; axes or anything."""
        if sorted(items) == [*range(self.rank)] and self.random.randrange(4):
            return self._order(items)
        ways = [
            (count, first)
            for first in (0, 2)
            for count in (1, 2)
            if len(items) == count * (self.rank - first) > 0
        ]
        if not ways:
            return tuple(items)
        count, first = self.random.choice(ways)
        size, at = self.rank - first, max(self.place - first, 0)
        parts = [items[begin : begin + size] for begin in range(0, len(items), size)]
        return tuple(item for part in parts for item in self._changed(part, at, 2 - count))

    def _changed(self, items: Sequence[Item], at: int, neutral: Item) -> tuple[Item, ...]:
        """With the item at `at` twice or a neutral one before it, or without it."""
        if not self.more:
            return (*items[:at], *items[at + 1 :])
        return (*items[:at], neutral if self.one else items[at], *items[at:])

    def _order(self, axes: Sequence[int]) -> tuple[int, ...]:
        """A permutation of the axes, with the new one where it was or without the one at `place`."""
        if not self.more:
            return tuple(axis - (axis > self.place) for axis in axes if axis != self.place)
        moved = [axis + (axis >= self.place) for axis in axes]
        return (*moved[: self.place], self.place, *moved[self.place :])
