"""Grows graphs around a rule's pattern, by running the rule on half a graph and giving what it asks for.

A rule looks at the graph only through functions that raise a `Refusal`, which says what was wanted and how
many looks went well before. So a climb finds the pattern: an operator that is asked for is put there, and a
random change stays if the rule gets as far as before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

import numpy as np

from ..diagnostics import GcompError, InputError
from ..dim import Dim
from ..ir import Op, Value
from ..op import Argument, Constant, operators
from ..rewrite import Refusal, Rule, probe
from ..types import TensorType
from . import variation
from .arrays import special_of
from .case import Case, case_of
from .samples import Change, arguments, cone, planted, remade, samples_of
from .variation import (
    ALL,
    TYPES,
    Variation,
    attempted,
    emptied,
    is_fit,
    narrowed,
    symbolic,
    varied,
    with_constant,
)

STEPS = 80
"""Probes of a rule before a new start."""

STARTS = 64
"""New starts before a rule counts as one that never fires."""

PATIENCE = 6
"""How many times as many probes a rule gets that no graph was found for."""

PATTERNS = 12
"""Patterns of a rule from which cases are varied."""


@dataclass(frozen=True)
class Look:
    """How far a rule came on a graph: all the way if `refusal` is None."""

    refusal: Refusal | None
    looks: int
    blamed: Value | None
    """The value of the detached operators that the refusal is about."""

    @property
    def fires(self) -> bool:
        return self.refusal is None


def look(rule: Rule, root: Op) -> Look:
    """Runs `rule` on the graph of `root`, which stays as it is."""
    _, values = planted(root)
    attached = values[root.results[0]].producer
    if attached is None or not rule.fits(attached):
        return Look(Refusal("needs its root"), -1, None)
    with np.errstate(all="ignore"):
        refusal, looks = probe(rule, attached)
    blamed = refusal.value if refusal is not None else None
    back = {id(new): old for old, new in values.items()}
    return Look(refusal, looks, back.get(id(blamed)))


def grown(random: Random, rule: Rule, steps: int = STEPS) -> Op | None:
    """The root, over stand-ins, of a graph on which `rule` fires; None if none is found in as many steps."""
    root = _start(random, rule)
    if root is None:
        return None
    found = look(rule, root)
    extra = grafts(rule)
    for _ in range(steps):
        if found.fires:
            return root
        changed = _step(random, root, found, extra)
        if changed is None:
            continue
        after = look(rule, changed)
        if after.fires or after.looks >= found.looks:
            root, found = changed, after
    return root if found.fires else None


@cache
def patterns(rule: Rule) -> tuple[Op, ...]:
    """Roots, over stand-ins, of graphs on which `rule` fires, simplest first; the same ones every time."""
    found: dict[str, Op] = {}
    for steps in (STEPS, PATIENCE * STEPS):
        for seed in range(STARTS):
            root = grown(Random(seed), rule, steps)
            if root is not None:
                found.setdefault(str(planted(root)[0]), root)
            if len(found) == PATTERNS:
                break
        if found:
            break
    return tuple(sorted(found.values(), key=lambda root: (len(cone(root)), len(str(planted(root)[0])))))


def around(random: Random, rule: Rule, extremes: bool = True) -> Case:
    """A case whose graph holds the pattern of `rule`. Raises `InputError` if no pattern is found."""
    known = patterns(rule)
    if not known:
        raise InputError(f"{rule.name}: found no graph on which it fires: {nearest_miss(rule)}")
    root = kept(random, rule, random.choice(known), ALL, random.randrange(5))
    for variations, chance in (
        (TYPES, 2),
        ([with_constant], 2),
        ([symbolic], 3),
        ([narrowed], 4),
        ([emptied], 8),
    ):
        if not random.randrange(chance):
            root = kept(random, rule, root, variations, 2)
    return case_of(random, root, extremes)


def nearest_miss(rule: Rule) -> str:
    """Why `rule` did not apply where it came furthest."""
    looks = [look(rule, sample) for cls in rule.roots for sample in samples_of(cls)]
    furthest = max(looks, key=lambda one: one.looks, default=None)
    if furthest is None or furthest.refusal is None:
        return "no sample of its root"
    return furthest.refusal.message


def kept(random: Random, rule: Rule, root: Op, variations: list[Variation], times: int) -> Op:
    """`root` after variations, each kept if the rule still fires."""
    for _ in range(times):
        changed = attempted(random, root, random.choice(variations))
        if changed is not None and changed is not root and look(rule, changed).fires:
            root = changed
    return root


def _start(random: Random, rule: Rule) -> Op | None:
    samples = [sample for cls in rule.roots for sample in samples_of(cls) if rule.fits(sample)]
    return varied(random, random.choice(samples), ALL, random.randrange(3)) if samples else None


def _step(random: Random, root: Op, found: Look, extra: list[type[Op]]) -> Op | None:
    """Gives the rule what it asks for, or else anything."""
    refusal, value = found.refusal, found.blamed
    if refusal is not None and refusal.wanted is not None and value is not None and random.randrange(8):
        return with_producer(random, root, value, refusal.wanted)
    if extra and not random.randrange(3):
        leaves = [value for op in cone(root) for value in op.inputs if not isinstance(value.owner, Constant)]
        return with_producer(random, root, random.choice(leaves), random.choice(extra)) if leaves else None
    inner = [op for op in cone(root) if op is not root and not isinstance(op, Argument | Constant)]
    if inner and not random.randrange(3):  # the same operator once more, from another sample
        op = random.choice(inner)
        return with_producer(random, root, op.results[0], type(op))
    return attempted(random, root, random.choice(ALL))


def with_producer(random: Random, root: Op, value: Value, wanted: type[Op]) -> Op | None:
    """`root` where a `wanted` makes `value`; None where no sample fits."""
    producer = value.producer
    if producer is None:
        return None
    if wanted is Constant:
        if not value.type.is_static:
            return None
        return _accepted(root, producer, Constant(special_of(random, value.type)))
    samples = list(samples_of(wanted))
    random.shuffle(samples)
    if random.randrange(2):
        samples.sort(key=lambda sample: sample.results[0].type.rank != value.type.rank)
    for sample in samples[:4]:
        for candidate in _fitted(random, sample, value.type):
            changed = _accepted(root, producer, candidate)
            if changed is not None:
                return changed
    return None


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


@cache
def grafts(rule: Rule) -> list[type[Op]]:
    """The operator classes that the code of a rule names: what it may look for without asking."""
    found: dict[type[Op], None] = {}
    known = operators()
    for function in functions_of(rule):
        for name in _names(function.__code__):
            value = function.__globals__.get(name)
            if isinstance(value, type) and known.get(value.__name__) is value and value is not Constant:
                found[cast("type[Op]", value)] = None
    return list(found)


def functions_of(rule: Rule) -> list[FunctionType]:
    """The function of a rule and those of the same module that it calls."""
    found: dict[FunctionType, None] = {}

    def visit(function: Any) -> None:
        function = inspect.unwrap(function)
        if not isinstance(function, FunctionType) or function in found:
            return
        found[function] = None
        for name in _names(function.__code__):
            value = function.__globals__.get(name)
            if getattr(value, "__module__", None) == function.__module__ and not isinstance(
                value, ModuleType
            ):
                visit(value)

    visit(rule.function)
    return list(found)


def _names(code: CodeType) -> list[str]:
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return [*code.co_names, *(name for one in inner for name in _names(one))]
