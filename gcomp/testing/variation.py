"""Changes operators over stand-ins at random: sizes and element types here, what they hold in `fields`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from random import Random

import numpy as np

from ..diagnostics import GcompError, InferenceError
from ..dim import Dim, is_symbol, symbol
from ..ir import Op, Value
from ..op import Argument, Constant
from ..types import DTYPES, FLOATS, I64, STRING, TensorType
from .arrays import BUDGET, SYMBOLS, broadcastable, draw_size
from .fields import (
    frozen,
    shared,
    with_attribute,
    with_constant,
    with_field,
    with_fields_of,
    without_operand,
)
from .samples import Change, arguments, cone, put, remade

Variation = Callable[[Random, Op], Op]
"""Makes another operator of one; raises `GcompError` where that cannot be."""

RANKS = 8
"""The most axes of a tensor."""

TYPE_NAMES = ("to", "dtype", "output_dtype")
"""Attributes that hold ONNX's number of an element type."""

_OTHERS = {t: [u for u in DTYPES.values() if u not in (t, STRING)] for t in DTYPES.values()}


def varied(random: Random, root: Op, variations: list[Variation], times: int) -> Op:
    """`root` after as many of the variations, drawn in turn, as inference accepts."""
    for _ in range(times):
        root = attempted(random, root, random.choice(variations)) or root
    return root


def attempted(random: Random, root: Op, variation: Variation) -> Op | None:
    """What the variation makes of `root`, if operators take it and no tensor grows too large.

    The last stand-in stays: on constants alone there is one case to a graph.
    """
    try:
        changed = variation(random, root)
    except GcompError:
        return None
    return changed if is_fit(changed) and (arguments(changed) or not arguments(root)) else None


def is_fit(root: Op) -> bool:
    """Whether no tensor is larger than the generators' budget, and inputs tell the value of every symbol."""
    ops = cone(root)
    if any(value.type.rank > RANKS for op in ops for value in op.results):
        return False
    plain = (
        isinstance(size, int) or is_symbol(size)
        for op in ops
        if isinstance(op, Argument)
        for size in op.type.shape
    )
    try:
        return all(plain) and all(_bytes(value) <= BUDGET for op in ops for value in op.results)
    except InferenceError:  # some size is that of a part of nothing
        return False


def _bytes(value: Value) -> int:
    """What a tensor takes, or the size of its longest axis, which others may have, where another is empty."""
    type = value.type.substitute(dict.fromkeys(SYMBOLS, 4))
    return max((size for size in (type.bytes, *type.shape) if isinstance(size, int)), default=0)


def resized(random: Random, root: Op) -> Op:
    """A size of the stand-ins becomes another, wherever it occurs or on one axis."""
    return _with_size(random, root, draw_size(random))


def emptied(random: Random, root: Op) -> Op:
    """A size of the stand-ins becomes 0, wherever it occurs or on one axis."""
    return _with_size(random, root, 0)


def symbolic(random: Random, root: Op) -> Op:
    """A size of the stand-ins becomes a symbol, wherever it occurs or on one axis."""
    return _with_size(random, root, symbol(random.choice(SYMBOLS)))


def _with_size(random: Random, root: Op, new: Dim) -> Op:
    places = [
        (leaf, axis)
        for leaf in arguments(root)
        for axis, size in enumerate(leaf.type.shape)
        if isinstance(size, int)
    ]
    if not places:
        return root
    leaf, axis = random.choice(places)
    old = leaf.type.shape[axis]
    if random.randrange(2):
        return with_sizes(root, {old: new})
    shape = (*leaf.type.shape[:axis], new, *leaf.type.shape[axis + 1 :])
    return put(root, leaf, Argument(replace(leaf.type, shape=shape), leaf.low, leaf.high))


def with_sizes(root: Op, sizes: Mapping[Dim, Dim]) -> Op:
    """The same over stand-ins and constants of other sizes; constants may list sizes too, one as -1.

    Raises `InferenceError` where a constant grows too large.
    """
    change: dict[Op, Op | Change] = {}
    for op in cone(root):
        if isinstance(op, Argument):
            shape = tuple(sizes.get(size, size) for size in op.type.shape)
            if shape != op.type.shape:
                change[op] = Argument(TensorType(op.type.dtype, shape, op.type.layout), op.low, op.high)
        elif isinstance(op, Constant):
            array = op.value
            if array.dtype == np.int64 and array.ndim == 1:
                listed = [sizes.get(int(size), int(size)) for size in array]
                numbers = [size if isinstance(size, int) else -1 for size in listed]
                if numbers.count(-1) <= 1:
                    change[op] = Constant(np.array(numbers, np.int64))
            elif array.ndim and array.dtype != object:
                shape = tuple(sizes.get(size, size) for size in array.shape)
                static = tuple(size for size in shape if isinstance(size, int))
                if static != array.shape and len(static) == array.ndim and array.size:
                    if prod(static) * array.itemsize > BUDGET:
                        raise InferenceError(f"a constant of {list(static)} takes more than {BUDGET} bytes")
                    change[op] = Constant(np.resize(array, static))
    return remade(root, change)


def retyped(random: Random, root: Op) -> Op:
    """One element type becomes another, of stand-ins and in constants, and where attributes name it."""
    found = sorted({value.type.dtype.name for op in cone(root) for value in op.results} - {"str"})
    if not found:
        return root
    old = DTYPES[random.choice(found)]
    wanted = FLOATS if old in FLOATS and random.randrange(2) else _OTHERS[old]
    return with_dtype(root, old.name, random.choice(wanted).name)


def with_dtype(root: Op, old: str, new: str) -> Op:
    """The same over stand-ins and constants of another element type; shapes and indices stay i64.

    Attributes that name the old type name the new one.
    """
    codes = DTYPES[old].code, DTYPES[new].code
    change: dict[Op, Op | Change] = {}
    for op in cone(root):
        if isinstance(op, Argument) and op.type.dtype.name == old:
            change[op] = Argument(TensorType(DTYPES[new], op.type.shape, op.type.layout), op.low, op.high)
        elif isinstance(op, Constant) and op.result.type.dtype.name == old != I64.name:
            with np.errstate(all="ignore"):
                change[op] = Constant(op.value.astype(DTYPES[new].numpy))
        elif named := {name: codes[1] for name in TYPE_NAMES if getattr(op, name, None) == codes[0]}:
            change[op] = partial(with_field, fields=named)
    return remade(root, change)


def narrowed(random: Random, root: Op) -> Op:
    """One stand-in or constant loses leading axes, or some of its axes become of size 1: it broadcasts."""
    given = [op for op in cone(root) if isinstance(op, Argument | Constant) and op.result.type.rank]
    if not given:
        return root
    op = random.choice(given)
    shape = broadcastable(random, op.result.type.shape)
    if isinstance(op, Argument):
        return put(root, op, Argument(TensorType(op.type.dtype, shape), op.low, op.high))
    static = tuple(size for size in shape if isinstance(size, int))
    return put(root, op, Constant(np.resize(op.value, static))) if op.value.size else root


def widened(random: Random, root: Op) -> Op:
    """One stand-in or constant takes the shape of another value beside it, or of what is made of both."""
    given = [op for op in cone(root) if isinstance(op, Argument | Constant)]
    if not given:
        return root
    op = random.choice(given)
    readers = [reader for reader in cone(root) if op.result in reader.inputs]
    shapes = [value.type.shape for reader in readers for value in (*reader.inputs, *reader.results)]
    shape = random.choice(shapes) if shapes else op.result.type.shape
    if isinstance(op, Argument):
        return put(root, op, Argument(TensorType(op.type.dtype, shape), op.low, op.high))
    static = tuple(size for size in shape if isinstance(size, int))
    fits = len(static) == len(shape) and op.value.size
    return put(root, op, Constant(np.resize(op.value, static))) if fits else root


def deepened(random: Random, root: Op) -> Op:
    """One stand-in, or all of them, get another leading axis."""
    leaves = arguments(root)
    if not leaves:
        return root
    size = draw_size(random)
    chosen = leaves if random.randrange(2) else [random.choice(leaves)]
    change: dict[Op, Op | Change] = {
        leaf: Argument(TensorType(leaf.type.dtype, (size, *leaf.type.shape)), leaf.low, leaf.high)
        for leaf in chosen
    }
    return remade(root, change)


def leveled(random: Random, root: Op) -> Op:
    """All axes of a stand-in, or of all of them, get one size: no type tells one axis from another."""
    leaves = [leaf for leaf in arguments(root) if leaf.type.rank > 1]
    if not leaves:
        return root
    leaf, size = random.choice(leaves), draw_size(random)
    if random.randrange(2):
        return with_sizes(root, {old: size for one in leaves for old in one.type.shape})
    return put(root, leaf, Argument(replace(leaf.type, shape=(size,) * leaf.type.rank), leaf.low, leaf.high))


TYPES: list[Variation] = [resized, resized, leveled, retyped, narrowed, widened, deepened, symbolic]
FIELDS: list[Variation] = [
    with_attribute,
    with_constant,
    with_fields_of,
    without_operand,
    frozen,
    shared,
]
ALL: list[Variation] = [*TYPES, *FIELDS]
