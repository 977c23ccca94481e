"""Changes at random what operators over stand-ins hold: attributes, constants, operands left out, shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, cast

import numpy as np

from ..ir import Op, Value
from ..op import Argument, Constant
from ..types import Array, DType
from .arrays import draw_array, special_of
from .samples import arguments, cone, put, remade, samples_of

Literal = int | float | str | tuple[int, ...]
"""What the code of a rule may compare constants and attributes with."""


def frozen(random: Random, root: Op) -> Op:
    """One stand-in becomes a constant."""
    leaves = [leaf for leaf in arguments(root) if leaf.type.is_static]
    if not leaves:
        return root
    leaf = random.choice(leaves)
    return put(root, leaf, Constant(draw_array(random, leaf.type, leaf.low, leaf.high)))


def with_constant(random: Random, root: Op) -> Op:
    """The elements of one constant, or of all that are equal, become others.

    Special ones; any; one of them, or all, a little different; some 0; in another order; those of another
    constant; or the sizes of a tensor.
    """
    constants = [op for op in cone(root) if isinstance(op, Constant)]
    if not constants:
        return root
    op = random.choice(constants)
    array, type = op.value, op.result.type
    integers = array.dtype.kind in "iu" and array.size > 0
    match random.randrange(7):
        case 0 | 1 if integers:
            array = array.copy()
            step = np.array(random.choice((1, -1))).astype(array.dtype)
            array.flat[random.randrange(array.size)] += step
        case 0 | 1 if type.dtype.is_float and array.size:
            array = _nudged(random, array)
        case 2 if integers:
            kept = [random.randrange(2) for _ in range(array.size)]
            array = array * np.array(kept, array.dtype).reshape(array.shape)
        case 3 if array.size and random.randrange(2):
            array = np.roll(array, random.randrange(array.size))
        case 3:
            array = random.choice([one.value for one in constants if one.result.type == type])
        case 4 if array.dtype == np.int64 and array.ndim == 1:
            shapes = [value.type.shape for op in cone(root) for value in op.results if value.type.is_static]
            array = np.array(random.choice(shapes), np.int64)
        case 5:
            array = draw_array(random, type)
        case _:
            array = special_of(random, type)
    alike = [
        one for one in constants if one.result.type == type and one.value.tobytes() == op.value.tobytes()
    ]
    return remade(root, {one: Constant(array) for one in (alike if random.randrange(2) else [op])})


def bounded(random: Random, root: Op) -> Op:
    """The elements of one constant of integers become the least or the greatest of their type."""
    constants = [op for op in cone(root) if isinstance(op, Constant) and op.result.type.dtype.is_integer]
    if not constants:
        return root
    op = random.choice(constants)
    return put(root, op, Constant(np.full_like(op.value, random.choice(op.result.type.dtype.extremes))))


def _nudged(random: Random, array: Array) -> Array:
    """The floats, all or one of them, larger or smaller by a part."""
    factor = np.array(random.choice((1.25, 0.75, 1.0625, 0.9375, -1.0))).astype(array.dtype)
    with np.errstate(all="ignore"):
        changed = np.asarray(array * factor, array.dtype)
    if random.randrange(2):
        return changed
    one = array.copy()
    place = random.randrange(array.size)
    one.flat[place] = changed.flat[place]
    return one


def with_literals(literals: Sequence[Literal]) -> Callable[[Random, Op], Op]:
    """A variation: one constant is full of one of these, or one attribute is one of them."""
    return partial(_with_literal, literals=literals)


def _with_literal(random: Random, root: Op, literals: Sequence[Literal]) -> Op:
    literal = random.choice(literals)
    places: list[tuple[Op, str]] = []
    for op in cone(root):
        if isinstance(op, Constant):
            places += [(op, "")] if _holds(op.result.type.dtype, literal) else []
        elif not isinstance(op, Argument):
            places += [(op, name) for name, old in op.attributes.items() if _is_alike(old, literal)]
    if not places:
        return root
    op, name = random.choice(places)
    if isinstance(op, Constant):
        with np.errstate(over="ignore"):
            return put(root, op, Constant(np.full(op.value.shape, literal, op.value.dtype)))
    return put(root, op, lambda op, values: with_field(op, values, {name: literal}))


def _holds(dtype: DType, literal: Literal) -> bool:
    """Whether it can be a number of that type, but for rounding."""
    if isinstance(literal, str | tuple):
        return False
    if dtype.is_float:
        return True
    if not dtype.is_integer or literal != int(literal):
        return False
    info = np.iinfo(dtype.numpy)
    return info.min <= literal <= info.max


def _is_alike(old: Any, literal: Literal) -> bool:
    """Whether an attribute that is `old` may be `literal`, by its type; one that is absent may be a tuple."""
    match literal:
        case bool() | int():
            return isinstance(old, int | float)
        case float():
            return isinstance(old, float)
        case tuple():
            return old is None or isinstance(old, tuple)
        case str():
            return isinstance(old, str)


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
    return put(root, op, lambda op, values: with_field(op, values, {name: new}))


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
    return put(root, op, lambda op, values: with_field(op, values, fields))


def without_operand(random: Random, root: Op) -> Op:
    """One operator does without one of its optional operands."""
    given = [
        (op, field.name)
        for op in cone(root)
        for field in op.fields()
        if field.kind == "optional" and getattr(op, field.name) is not None
    ]
    if not given:
        return root
    op, name = random.choice(given)
    return put(root, op, lambda op, values: with_field(op, values, {name: None}))


def shared(random: Random, root: Op) -> Op:
    """What a stand-in stands for is another value of its element type that is there."""
    leaves = arguments(root)
    if not leaves:
        return root
    leaf = random.choice(leaves)
    dtype = leaf.type.dtype
    others = [op for op in cone(root) if not isinstance(op, Constant) and op.results[0].type.dtype == dtype]
    others = [op for op in others if leaf not in cone(op)]
    return put(root, leaf, random.choice(others)) if others else root


def with_field(op: Op, values: Mapping[Value, Value], fields: Mapping[str, Any]) -> Op:
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
