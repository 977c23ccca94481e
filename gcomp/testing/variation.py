"""Changes operators over stand-ins at random: sizes, element types, attributes, constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from random import Random
from typing import Any, cast

import numpy as np

from ..diagnostics import GcompError, InferenceError
from ..dim import Dim, is_symbol, symbol
from ..ir import Op, Value
from ..op import Argument, Constant
from ..types import DTYPES, FLOATS, I64, STRING, TensorType
from .arrays import BUDGET, SYMBOLS, broadcastable, draw_array, draw_size, special_of
from .samples import Change, arguments, cone, put, remade, samples_of

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
    """What the variation makes of `root`, if operators take it and no tensor grows too large."""
    try:
        changed = variation(random, root)
    except GcompError:
        return None
    return changed if is_fit(changed) else None


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
    return all(plain) and all(_bytes(value) <= BUDGET for op in ops for value in op.results)


def _bytes(value: Value) -> int:
    size = value.type.substitute(dict.fromkeys(SYMBOLS, 4)).bytes
    return size if isinstance(size, int) else 0


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
    """One element type of the stand-ins becomes another, in constants too."""
    found = sorted({leaf.type.dtype.name for leaf in arguments(root)} - {"str"})
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
            change[op] = partial(_with_field, fields=named)
    return remade(root, change)


def narrowed(random: Random, root: Op) -> Op:
    """One stand-in loses leading axes, or some of its axes become of size 1: it broadcasts."""
    leaves = [leaf for leaf in arguments(root) if leaf.type.rank]
    if not leaves:
        return root
    leaf = random.choice(leaves)
    type = TensorType(leaf.type.dtype, broadcastable(random, leaf.type.shape))
    return put(root, leaf, Argument(type, leaf.low, leaf.high))


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


def frozen(random: Random, root: Op) -> Op:
    """One stand-in becomes a constant."""
    leaves = [leaf for leaf in arguments(root) if leaf.type.is_static]
    if not leaves:
        return root
    leaf = random.choice(leaves)
    return put(root, leaf, Constant(draw_array(random, leaf.type, leaf.low, leaf.high)))


def with_constant(random: Random, root: Op) -> Op:
    """The elements of one constant, or of all that are equal, become others.

    Special ones; one of them a little different; some 0; those of another constant; or the sizes of a tensor.
    """
    constants = [op for op in cone(root) if isinstance(op, Constant)]
    if not constants:
        return root
    op = random.choice(constants)
    array, type = op.value, op.result.type
    integers = array.dtype.kind in "iu" and array.size > 0
    match random.randrange(6):
        case 0 | 1 if integers:
            array = array.copy()
            step = np.array(random.choice((1, -1))).astype(array.dtype)
            array.flat[random.randrange(array.size)] += step
        case 2 if integers:
            kept = [random.randrange(2) for _ in range(array.size)]
            array = array * np.array(kept, array.dtype).reshape(array.shape)
        case 3:
            array = random.choice([one.value for one in constants if one.result.type == type])
        case 4 if array.dtype == np.int64 and array.ndim == 1:
            shapes = [value.type.shape for op in cone(root) for value in op.results if value.type.is_static]
            array = np.array(random.choice(shapes), np.int64)
        case _:
            array = special_of(random, type)
    alike = [
        one for one in constants if one.result.type == type and one.value.tobytes() == op.value.tobytes()
    ]
    return remade(root, {one: Constant(array) for one in (alike if random.randrange(2) else [op])})


def with_attribute(random: Random, root: Op) -> Op:
    """One attribute becomes what it is in another sample, or something near."""
    able = [op for op in cone(root) if op.attributes and not isinstance(op, Argument | Constant)]
    if not able:
        return root
    op = random.choice(able)
    name = random.choice(sorted(op.attributes))
    seen = [getattr(other, name) for other in samples_of(type(op)) if type(other) is type(op)]
    old = getattr(op, name)
    new = random.choice(seen) if random.randrange(2) else _near(random, old)
    return put(root, op, lambda op, values: _with_field(op, values, {name: new}))


def with_fields_of(random: Random, root: Op) -> Op:
    """One operator gets the attributes and optional operands of another sample of its class."""
    able = [op for op in cone(root) if not isinstance(op, Argument | Constant) and samples_of(type(op))]
    if not able:
        return root
    op = random.choice(able)
    other = random.choice(samples_of(type(op)))
    if type(other) is not type(op):
        return root
    optional = [field.name for field in op.fields() if field.kind == "optional"]
    given = {name: getattr(other, name) for name in optional}
    made = {
        value: leaf.clone({}).results[0] for value in other.inputs if (leaf := value.producer) is not None
    }
    fields = other.attributes | {n: None if v is None else made[v] for n, v in given.items()}
    return put(root, op, lambda op, values: _with_field(op, values, fields))


def shared(random: Random, root: Op) -> Op:
    """Two stand-ins of the same type become one."""
    leaves = arguments(root)
    if len(leaves) < 2:
        return root
    one, other = random.sample(leaves, 2)
    if one.type != other.type:
        return root
    return put(root, other, lambda op, values: _twin(values, one, op))


def _twin(values: Mapping[Value, Value], one: Op, other: Op) -> Op:
    found = values.get(one.results[0])
    twin = found.producer if found is not None else None
    return twin if twin is not None else other.clone({})


def _with_field(op: Op, values: Mapping[Value, Value], fields: Mapping[str, Any]) -> Op:
    """A copy of `op` with some fields as given; what these hold is not swapped."""
    own: dict[str, Any] = {}
    for field in op.fields():
        held = getattr(op, field.name)
        match field.kind:
            case "variadic":
                own[field.name] = tuple(values.get(value, value) for value in held)
            case "region":
                own[field.name] = held.clone(values)
            case _:
                own[field.name] = values.get(held, held) if isinstance(held, Value) else held
    return type(op)(**(own | dict(fields)))


def _near(random: Random, old: Any) -> Any:
    match old:
        case bool() | int():
            return random.choice((0, 1, -1, 2, old + 1, old - 1))
        case float():
            return random.choice((1.0, 0.0, 0.5, 2.0, -1.0))
        case tuple():
            items = list(cast("tuple[Any, ...]", old))
            match random.randrange(4) if len(items) > 1 else 3:
                case 0:
                    items.sort()
                case 1:
                    random.shuffle(items)
                case _ if items:
                    place = random.randrange(len(items))
                    items[place] = _near(random, items[place])
                case _:
                    pass
            return tuple(items)
        case _:
            return old


TYPES: list[Variation] = [resized, resized, retyped, narrowed, deepened, symbolic]
FIELDS: list[Variation] = [with_attribute, with_constant, with_fields_of, frozen, shared]
ALL: list[Variation] = [*TYPES, *FIELDS]
