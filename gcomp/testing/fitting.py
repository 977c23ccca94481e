"""Makes samples fit values that are there: by sizes, by element types, by what stands between."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import numpy as np

from ..diagnostics import GcompError
from ..dim import Dim
from ..ir import Op, Value
from ..op import Argument, Constant
from ..ops import Cast, Clip, Expand, Reshape
from ..types import NUMBERS, STRING, Array, TensorType, dtype_of
from .samples import Change, arguments, remade
from .variation import with_dtype, with_sizes


def fitted(random: Random, root: Op, place: int, type: TensorType) -> Op:
    """`root` with sizes and element types such that the stand-in at `place` is of `type`, or nearly.

    What operators refuse stays as it was.
    """
    for changed in _fitted(random, root, place, type):
        return changed
    return root


def _fitted(random: Random, root: Op, place: int, type: TensorType) -> Iterator[Op]:
    leaf = arguments(root)[place].type
    retype = leaf.dtype != type.dtype and STRING not in (leaf.dtype, type.dtype)
    for dtype in [type.dtype, leaf.dtype] if retype and random.randrange(4) else [leaf.dtype]:
        for resize in (True, False):
            try:
                changed = root
                if resize:
                    changed = _resized(changed, place, type.shape)
                if dtype != leaf.dtype:
                    changed = with_dtype(changed, leaf.dtype.name, dtype.name)
                yield changed
            except GcompError:
                continue


def _resized(root: Op, place: int, shape: tuple[Dim, ...]) -> Op:
    """`root` with the stand-in at `place` of this shape, and others by its sizes or alike."""
    leaves = arguments(root)
    leaf = leaves[place]
    sizes = dict(zip(leaf.type.shape, shape, strict=False))
    if leaf.type.rank == len(shape):
        try:
            changed = with_sizes(root, sizes)
            if arguments(changed)[place].type.shape == shape:
                return changed
        except GcompError:
            pass
    change: dict[Op, Op | Change] = {}
    for other in leaves:
        same = other.type.shape == leaf.type.shape
        own = shape if same else tuple(sizes.get(size, size) for size in other.type.shape)
        change[other] = Argument(TensorType(other.type.dtype, own, other.type.layout), other.low, other.high)
    return remade(root, change)


def reshaped(random: Random, shape: tuple[Dim, ...], rank: int) -> tuple[Dim, ...] | None:
    """A shape of `rank` with the same elements: axes are merged, split or put in; None if there is none."""
    sizes = list(shape)
    while len(sizes) > max(rank, 1):
        at = random.randrange(len(sizes) - 1)
        sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
    if rank == 0:
        return () if not sizes or sizes == [1] else None
    while len(sizes) < rank:
        at = random.randrange(len(sizes) + 1)
        divisor = _divisor(random, sizes[at]) if at < len(sizes) else 1
        if divisor > 1:
            sizes[at : at + 1] = [divisor, sizes[at] // divisor]
        else:
            sizes.insert(at, 1)
    return tuple(sizes)


def _divisor(random: Random, size: Dim) -> int:
    divisors = [d for d in (2, 3, 4) if isinstance(size, int) and size > d and size % d == 0]
    return random.choice(divisors) if divisors else 1


def reshape(value: Value, shape: tuple[Dim, ...]) -> Op | None:
    """A Reshape to `shape`; None where the sizes of a constant could not tell it."""
    listed = [size if isinstance(size, int) else -1 for size in shape]
    if listed.count(-1) > 1 or (-1 in listed and 0 in listed):
        return None
    return Reshape(value, Constant(np.array(listed, np.int64)).result, allowzero=int(0 in listed))


def converted(value: Value, type: TensorType) -> Op | None:
    """The value as another type of as many elements, or spread over more; None where that cannot be."""
    try:
        op: Op | None = None
        if value.type.dtype != type.dtype:
            if STRING in (value.type.dtype, type.dtype):
                return None
            op = Cast(value, type.dtype.code)
            value = op.result
        if value.type.shape != type.shape:
            op = reshape(value, type.shape) if value.type.size == type.size else _spread(value, type)
        return op if op is not None and op.results[0].type == type else None
    except GcompError:
        return None


def _spread(value: Value, type: TensorType) -> Op | None:
    if not type.is_static:
        return None
    return Expand(value, Constant(np.array(type.static_shape, np.int64)).result)


def limited(value: Value, low: float, high: float) -> Op | None:
    """The value clipped to [low, high]; None for a type that cannot hold the bounds."""
    dtype = value.type.dtype
    if dtype not in NUMBERS:
        return None
    bounds = (math.ceil(low), math.floor(high)) if dtype.is_integer else (low, high)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        bounds = (max(bounds[0], int(info.min)), min(bounds[1], int(info.max)))
    least, most = (Constant(np.array(bound).astype(dtype.numpy)).result for bound in bounds)
    return Clip(value, least, most)


def is_within(array: Array, low: float, high: float) -> bool:
    """Whether all elements are numbers in [low, high], as a stand-in of that range asks for."""
    if array.dtype.kind in "Ob" or not array.size:
        return True
    wide = array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return bool(np.all((wide >= low) & (wide <= high)))


def is_usual(array: Array) -> bool:
    """Whether there are elements, most of them of moderate size, so that what is made of them still tells."""
    if not array.size or not dtype_of(array).is_float:
        return bool(array.size)
    sizes = np.abs(array.astype(np.float64))
    with np.errstate(invalid="ignore"):
        return bool(np.mean(sizes < 2.0**16) > 1 / 2)


def is_extreme(array: Array) -> bool:
    """Whether there are finite floats so large or small that products of few of them leave the range."""
    if not dtype_of(array).is_float:
        return False
    sizes = np.abs(array.astype(np.float64))
    with np.errstate(invalid="ignore"):
        large, small = (sizes > 2.0**20) & np.isfinite(sizes), (sizes < 2.0**-20) & (sizes > 0)
    return bool(large.any() or small.any())


def is_finite(array: Array) -> bool:
    """Whether no element is infinite or NaN."""
    return not dtype_of(array).is_float or bool(np.isfinite(array.astype(np.float64)).all())
