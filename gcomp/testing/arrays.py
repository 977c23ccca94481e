"""Draws element types, shapes and arrays: ordinary numbers, and the ones that code gets wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any, cast

import ml_dtypes
import numpy as np

from ..dim import Dim, symbol
from ..types import BOOL, DTYPES, STRING, Array, DType, TensorType, dtype_of

SIZES = (2, 3, 1, 4, 5, 7, 8, 9, 16, 17, 0)
"""Sizes of axes, simplest first: one vector or less, one more, one less, one and none."""

BUDGET = 1 << 14
"""The bytes that a tensor may take unless told otherwise."""

SYMBOLS = ("n", "m", "k")

WIDE = (-10, 11)
"""Powers of 2 between which floats of no range lie, now and then: sums of them round, and `exp` overflows."""

EXTREMES = 10
"""How many numbers of a type code gets wrong, at most."""

NOT_FINITE = (0, 1, 3)
"""Where in `extremes_of` floats are NaN and the infinities."""

Extremes = Sequence[int]
"""Which of the numbers that code gets wrong are drawn: places in `extremes_of`, counted round."""

_WORDS = ("", "a", "gcomp", "Füße", "a b")


def draw_dtype(random: Random, among: tuple[DType, ...] = tuple(DTYPES.values())) -> DType:
    """One of the element types."""
    return random.choice(among)


def draw_size(random: Random) -> int:
    """A size of an axis; ordinary ones more often than 0."""
    return SIZES[min(random.randrange(len(SIZES)), random.randrange(len(SIZES)))]


def draw_shape(
    random: Random, rank: int | None = None, symbolic: bool = False, budget: int = BUDGET
) -> tuple[Dim, ...]:
    """A shape of at most `budget` elements; with `symbolic`, some of its sizes are symbols."""
    count = random.randrange(5) if rank is None else rank
    sizes: list[int] = []
    for _ in range(count):
        size = draw_size(random)
        sizes.append(size if math.prod(sizes) * size <= budget else 1)
    if not symbolic:
        return tuple(sizes)
    return tuple(symbol(random.choice(SYMBOLS)) if random.randrange(2) else size for size in sizes)


def broadcastable(random: Random, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """A shape that broadcasts to `shape`: leading axes are gone, others of size 1, perhaps all but one."""
    kept = shape[random.randrange(len(shape) + 1) :]
    if kept and not random.randrange(3):
        place = random.randrange(len(kept))
        return tuple(size if axis == place else 1 for axis, size in enumerate(kept))
    return tuple(1 if random.randrange(2) else size for size in kept)


def draw_extremes(random: Random) -> Extremes:
    """For the arrays of one case: all extremes or, so that equal ones meet, few; the first more often."""
    if not random.randrange(3):
        return range(EXTREMES)
    places = range(random.randrange(1, 4))
    return [min(random.randrange(EXTREMES), random.randrange(EXTREMES)) for _ in places]


def draw_array(
    random: Random,
    type: TensorType,
    low: float = -2.0,
    high: float = 2.0,
    extremes: Extremes = (),
) -> Array:
    """An array of a static `type` with elements in [low, high].

    With `extremes`, some arrays spread wider and some elements are infinite, NaN, signed zeros, subnormal or
    the greatest and least there are; but integers of a range that is not about 0 keep it. The simplest array
    counts upwards.
    """
    shape, dtype = type.static_shape, type.dtype
    about = low == -high  # else it is no mere scale: that of indices, say
    kinds = ["count", "spread", "spread", "whole"]
    if extremes and (about or dtype.is_float):
        kinds = ["spread", "whole", "whole", *["wide"] * about, *["extreme"] * 4]
    kind = random.choice(kinds)
    rng = np.random.default_rng(random.randrange(1 << 16))
    if dtype == STRING:
        return np.asarray(rng.choice(np.array(_WORDS, object), shape), object)
    if dtype == BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if kind == "wide":
        return _spread_wide(rng, shape, dtype)
    if kind == "count":
        numbers = _counted(math.prod(shape), low, high).reshape(shape)
    else:
        numbers = np.asarray(rng.uniform(low, high, shape))
    if dtype.is_integer or kind == "whole":
        numbers = np.trunc(numbers) if extremes else np.floor(numbers)  # the one makes -0.0 too
        numbers = np.clip(numbers, math.ceil(low), max(math.floor(high), math.ceil(low)))
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        array = np.clip(numbers, max(float(info.min), -(2.0**62)), min(float(info.max), 2.0**62))
    else:
        array = numbers
    with np.errstate(over="ignore"):
        found = np.asarray(array.astype(dtype.numpy))
    return sprinkled(rng, found, dtype, extremes) if kind == "extreme" and found.size else found


def _spread_wide(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """Numbers of all magnitudes: floats as `WIDE` says, integers as far as the type goes."""
    if dtype.is_integer and dtype.bytes == 1:
        info = np.iinfo(dtype.numpy)
        return np.asarray(rng.integers(info.min, info.max + 1, shape)).astype(dtype.numpy)
    low, high = WIDE if dtype.is_float else (0, 8 * dtype.bytes - 1)
    signs = rng.choice((1, -1) if dtype.is_float or dtype.is_signed else (1,), shape)
    return np.asarray(signs * 2 ** rng.uniform(low, high, shape)).astype(dtype.numpy)


def sprinkled(rng: np.random.Generator, array: Array, dtype: DType, extremes: Extremes) -> Array:
    """The array with a third of its elements, one at least, as code gets wrong, as far as `extremes` says."""
    known = extremes_of(dtype)
    chosen = rng.choice(known[[place % len(known) for place in extremes]], array.shape)
    replaced = rng.uniform(size=array.shape) < 1 / 3
    replaced.flat[rng.integers(array.size)] = True
    return np.where(replaced, chosen, array).astype(dtype.numpy)


def extremes_of(dtype: DType) -> Array:
    """The numbers of a type that code gets wrong."""
    if not dtype.is_float:
        info = np.iinfo(dtype.numpy)
        return np.array([info.min, info.max, info.max - 1, 0, 1], dtype.numpy)
    info = cast("Any", ml_dtypes).finfo(dtype.numpy)  # numpy's own does not know bfloat16
    least, tiny, most = float(info.smallest_subnormal), float(info.smallest_normal), float(info.max)
    found = [math.nan, math.inf, -0.0, -math.inf, 0.0, least, -least, tiny / 2, most, -most]
    return np.array(found).astype(dtype.numpy)


def tamed(array: Array) -> Array:
    """The array with 1.5 in the place of floats infinite, beyond 2**12 or nearer to 0 than 2**-12."""
    if not dtype_of(array).is_float:
        return array
    with np.errstate(invalid="ignore"):
        sizes = abs(array.astype(np.float64))
        fine = np.isnan(sizes) | (sizes == 0) | ((sizes < 2.0**12) & (sizes > 2.0**-12))
    return np.where(fine, array, 1.5).astype(array.dtype)


def special_of(random: Random, type: TensorType) -> Array:
    """A constant array that rules look for: all 0, -0, 1, -1 or infinite, or nearly, or any other."""
    if type.dtype in (STRING, BOOL):
        return draw_array(random, type)
    choices = [0.0, 1.0, -1.0, 2.0, -0.0, math.inf] if type.dtype.is_float else [0, 1, -1, 2, 3]
    fill = random.choice([None, *choices])
    if fill is None or (fill == -1 and not (type.dtype.is_float or type.dtype.is_signed)):
        return draw_array(random, type)
    array = np.full(type.static_shape, fill).astype(type.dtype.numpy)
    how = random.choice(("same", "same", "balanced", "one"))
    if array.size > 1 and how != "same":
        flat = array.reshape(-1)  # one that differs, or two that cancel: rules may look at less than all
        flat[-1] = 1
        if how == "balanced" and (type.dtype.is_float or type.dtype.is_signed):
            flat[0] = -1
    return array


def _counted(count: int, low: float, high: float) -> Array:
    """1, 2, 3 and so on as far as `high`, then from `low` again."""
    if not low <= 1 <= high:
        return low + np.arange(count) % 4 * (high - low) / 4
    span = math.floor(high) - math.ceil(low) + 1
    return (np.arange(count) + 1 - math.ceil(low)) % span + math.ceil(low)
