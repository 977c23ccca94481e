"""Gives a value of operators over stand-ins another producer, and makes what stands beside it fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from ..diagnostics import GcompError
from ..dim import Dim
from ..ir import Op, Value
from ..op import Argument, Constant
from ..types import TensorType
from . import variation
from .arrays import special_of
from .samples import Change, arguments, cone, remade, samples_of
from .variation import is_fit


def with_producer(random: Random, root: Op, value: Value, wanted: type[Op]) -> Op | None:
    """`root` where a `wanted` makes `value`; None where no sample fits."""
    producer = value.producer
    if producer is None:
        return None
    if wanted is Constant:
        if not value.type.is_static:
            return None
        return _accepted(root, producer, Constant(special_of(random, value.type)))
    for sample in _mixed(random, samples_of(wanted), value.type.rank)[:4]:
        for candidate in _fitted(random, sample, value.type):
            changed = _accepted(root, producer, candidate)
            if changed is not None:
                return changed
    return None


def _mixed(random: Random, samples: Sequence[Op], rank: int) -> list[Op]:
    """The samples in random order, those of each rank evenly spread, perhaps those of `rank` first."""
    order = random.sample(samples, len(samples))
    first, seen = random.randrange(2), Counter[int]()
    turns: list[tuple[bool, int]] = []
    for sample in order:
        own = sample.results[0].type.rank
        turns.append((bool(first) and own != rank, seen[own]))
        seen[own] += 1
    return [order[place] for place in sorted(range(len(order)), key=turns.__getitem__)]


def _fitted(random: Random, sample: Op, type: TensorType) -> Iterator[Op]:
    """`sample` made to give `type` or something near."""
    result = sample.results[0].type
    ways: list[Callable[[], Op]] = []
    if result.rank == type.rank:
        ways.append(lambda: variation.with_sizes(sample, dict(zip(result.shape, type.shape, strict=True))))
    leaves = arguments(sample)
    if leaves:
        ways.append(lambda: _taking(sample, leaves[0], type.shape))
    random.shuffle(ways)
    for way in ways:
        try:
            adapted = way()
            if result.dtype != type.dtype:
                adapted = variation.with_dtype(adapted, result.dtype.name, type.dtype.name)
            yield adapted
        except GcompError:
            pass
    yield sample


def _taking(sample: Op, first: Argument, shape: tuple[Dim, ...]) -> Op:
    """`sample` where `first` has this shape, and the stand-ins beside it as far as sizes tell."""
    change: dict[Op, Op | Change] = {}
    sizes = dict(zip(first.type.shape, shape, strict=False))
    for leaf in arguments(sample):
        same = leaf.type.shape == first.type.shape
        own = shape if same else tuple(sizes.get(size, size) for size in leaf.type.shape)
        change[leaf] = Argument(TensorType(leaf.type.dtype, own), leaf.low, leaf.high)
    return remade(sample, change)


def _accepted(root: Op, old: Op, new: Op) -> Op | None:
    """`root` with `new`, and what that is made of, in the place of `old`, if operators take it.

    Where they do not, the stand-ins beside it are made to fit.
    """
    for others in (None, "alike", "sizes"):
        try:
            changed = remade(root, {old: new} | _beside(root, old, new, others))
        except GcompError:
            continue
        if is_fit(changed):
            return changed
    return None


def _beside(root: Op, old: Op, new: Op, how: str | None) -> dict[Op, Any]:
    """New stand-ins beside `old`: of the type of `new`, or with its sizes for those of `old`."""
    if how is None:
        return {}
    before, after = old.results[0].type, new.results[0].type
    readers = [op for op in cone(root) if any(value.owner is old for value in op.inputs)]
    sizes = dict(zip(reversed(before.shape), reversed(after.shape), strict=False))
    found: dict[Op, Any] = {}
    for leaf in arguments(root):
        if leaf is not old and any(value.owner is leaf for op in readers for value in op.inputs):
            mapped = tuple(sizes.get(size, size) for size in leaf.type.shape)
            shape = after.shape if how == "alike" else mapped
            dtype = after.dtype if leaf.type.dtype == before.dtype else leaf.type.dtype
            found[leaf] = Argument(TensorType(dtype, shape), leaf.low, leaf.high)
    return found
