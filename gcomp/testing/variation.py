"""Changes operators over stand-ins at random: sizes, element types, attributes, constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, cast

import numpy as np

from ..diagnostics import GcompError
from ..dim import Dim, is_symbol, symbol
from ..ir import Op, Value
from ..op import Argument, Constant
from ..types import DTYPES, FLOATS, I64, STRING, TensorType
from .arrays import BUDGET, SYMBOLS, broadcastable, draw_array, draw_size, special_of
from .samples import Change, arguments, cone, put, remade, samples_of

Variation = Callable[[Random, Op], Op]
"""Makes another operator of one; raises `GcompError` where that cannot be."""

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
    """One size of the stand-ins becomes another, wherever it occurs."""
    sizes = sorted({size for leaf in arguments(root) for size in leaf.type.shape if isinstance(size, int)})
    return with_sizes(root, {random.choice(sizes): draw_size(random)}) if sizes else root


def emptied(random: Random, root: Op) -> Op:
    """One size of the stand-ins becomes 0."""
    sizes = sorted({size for leaf in arguments(root) for size in leaf.type.shape if isinstance(size, int)})
    return with_sizes(root, {random.choice(sizes): 0}) if sizes else root


def symbolic(random: Random, root: Op) -> Op:
    """One size of the stand-ins becomes a symbol."""
    sizes = sorted({size for leaf in arguments(root) for size in leaf.type.shape if isinstance(size, int)})
    return with_sizes(root, {random.choice(sizes): symbol(random.choice(SYMBOLS))}) if sizes else root


def with_sizes(root: Op, sizes: Mapping[Dim, Dim]) -> Op:
    """The same over stand-ins and constants of other sizes; constants may list sizes too."""
    change: dict[Op, Op | Change] = {}
    for op in cone(root):
        if isinstance(op, Argument):
            shape = tuple(sizes.get(size, size) for size in op.type.shape)
            if shape != op.type.shape:
                change[op] = Argument(TensorType(op.type.dtype, shape, op.type.layout), op.low, op.high)
        elif isinstance(op, Constant) and all(isinstance(size, int) for size in sizes.values()):
            array = op.value
            if array.dtype == np.int64 and array.ndim == 1:
                listed = [sizes.get(int(size), int(size)) for size in array]
                change[op] = Constant(np.array(listed, np.int64))
            elif array.ndim and array.dtype != object:
                shape = tuple(cast(int, sizes.get(size, size)) for size in array.shape)
                if shape != array.shape and array.size:
                    change[op] = Constant(np.resize(array, shape))
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
    """The same over stand-ins and constants of another element type; shapes and indices stay i64."""
    change: dict[Op, Op | Change] = {}
    for op in cone(root):
        if isinstance(op, Argument) and op.type.dtype.name == old:
            change[op] = Argument(TensorType(DTYPES[new], op.type.shape, op.type.layout), op.low, op.high)
        elif isinstance(op, Constant) and op.result.type.dtype.name == old != I64.name:
            with np.errstate(all="ignore"):
                change[op] = Constant(op.value.astype(DTYPES[new].numpy))
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
    """The elements of one constant become others: special ones, or one of them a little different."""
    constants = [op for op in cone(root) if isinstance(op, Constant)]
    if not constants:
        return root
    op = random.choice(constants)
    array = op.value
    if array.dtype.kind in "iu" and array.size and random.randrange(2):
        array = array.copy()
        step = np.array(random.choice((1, -1))).astype(array.dtype)
        array.flat[random.randrange(array.size)] += step
    else:
        array = special_of(random, op.result.type)
    return put(root, op, Constant(array))


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
            if items:
                place = random.randrange(len(items))
                items[place] = _near(random, items[place])
            return tuple(items)
        case _:
            return old


TYPES: list[Variation] = [resized, resized, retyped, narrowed, deepened, symbolic]
FIELDS: list[Variation] = [with_attribute, with_constant, with_fields_of, frozen, shared]
ALL: list[Variation] = [*TYPES, *FIELDS]
