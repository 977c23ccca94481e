"""Grows graphs around a rule's pattern, by running the rule on half a graph and giving what it asks for.

A rule looks at the graph only through functions that raise a `Refusal`, which says what was wanted and how
many looks went well before. So a climb finds the pattern: an operator that is asked for is put there, and a
random change stays if the rule gets as far as before. Walks from there, on which the rule has to fire at
every step, find more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np

from ..diagnostics import InputError
from ..dim import Dim, symbol
from ..ir import Op, Value
from ..op import Argument, Constant
from ..rewrite import Refusal, Rule, probe
from .arrays import SYMBOLS
from .case import Case, case_of, traits
from .fields import with_constant, with_literals
from .producers import with_producer
from .samples import arguments, cone, planted, put, samples_of
from .sources import grafts, literals
from .surroundings import surrounded
from .variation import (
    FIELDS,
    TYPES,
    Variation,
    attempted,
    deepened,
    emptied,
    narrowed,
    retyped,
    symbolic,
    varied,
    with_sizes,
)

STEPS = 80
"""Probes of a rule before a new start."""

STARTS = 32
"""New starts before a rule counts as one that never fires."""

PATIENCE = 6
"""How many times as many probes a rule gets that no graph was found for."""

PATTERNS, OF_A_RANK = 12, 6
"""Patterns of a rule that climbs look for, and how many of them whose results have the same rank."""

WALK, POOL, LARGEST = 900, 16, 16
"""Steps of a walk from those patterns, how many of a rank and the same traits it keeps, and of what size."""

WISHES: dict[str, tuple[int, list[Variation]]] = {
    "empty": (6, [emptied]),
    "broadcasting": (2, [narrowed, deepened]),
    "symbolic": (2, [symbolic]),
}
"""In one of how many cases a trait is wished for, and what may bring it."""

TRIES = 6
"""Attempts to bring a trait that is wished for."""


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


@dataclass(frozen=True)
class Hints:
    """What the code of a rule names: operators that may be there, and variations with its literals too."""

    grafts: list[type[Op]]
    fields: list[Variation]

    @property
    def all(self) -> list[Variation]:
        return [*TYPES, *self.fields]


@cache
def hints(rule: Rule) -> Hints:
    """What the code of `rule` tells about the graphs on which it fires."""
    known = literals(rule)
    return Hints(grafts(rule), [*FIELDS, with_literals(known)] if known else FIELDS)


def grown(random: Random, rule: Rule, steps: int = STEPS) -> Op | None:
    """The root, over stand-ins, of a graph on which `rule` fires; None if none is found in as many steps."""
    root, found = climbed(random, rule, steps)
    return root if found.fires else None


def climbed(random: Random, rule: Rule, steps: int = STEPS) -> tuple[Op | None, Look]:
    """The root, over stand-ins, of a graph on which `rule` comes far, in as many steps, and how far."""
    hinted = hints(rule)
    root = _start(random, rule, hinted)
    if root is None:
        return None, Look(Refusal("no sample of its root"), -1, None)
    found = look(rule, root)
    for _ in range(steps):
        if found.fires:
            break
        changed = _step(random, root, found, hinted)
        if changed is None:
            continue
        after = look(rule, changed)
        if after.fires or after.looks >= found.looks:
            root, found = changed, after
    return root, found


@cache
def patterns(rule: Rule) -> tuple[Op, ...]:
    """Roots, over stand-ins, of graphs on which `rule` fires, simplest first; the same ones every time."""
    found, ranks = dict[str, Op](), Counter[int]()
    for steps in (STEPS, PATIENCE * STEPS):
        for seed in range(STARTS):
            root = grown(Random(seed), rule, steps)
            if root is not None and ranks[rank := root.results[0].type.rank] < OF_A_RANK:
                ranks[rank] += found.setdefault(str(planted(root)[0]), root) is root
            if len(found) == PATTERNS:
                break
        if found:
            break
    return tuple(sorted(found.values(), key=_complexity))


@dataclass(frozen=True)
class Pattern:
    """A root, over stand-ins, of a graph on which a rule fires, and what that is like."""

    root: Op
    traits: frozenset[str]

    @property
    def rank(self) -> int:
        return self.root.results[0].type.rank

    @property
    def kind(self) -> object:
        """Equal for patterns that are much alike."""
        ops = cone(self.root)
        types = frozenset((leaf.type.dtype, leaf.type.rank) for leaf in arguments(self.root))
        return tuple((op.kind, *_settings(op)) for op in ops), types, self.traits


def _settings(op: Op) -> list[str]:
    """The attributes of `op` that are not as declared, and the optional operands that it has."""
    if isinstance(op, Argument | Constant):
        return []
    absent = {field.name: getattr(type(op), field.name, None) for field in op.fields()}
    kinds = "optional", "attribute"
    return [f.name for f in op.fields() if f.kind in kinds and getattr(op, f.name) != absent[f.name]]


@cache
def pool(rule: Rule) -> tuple[Pattern, ...]:
    """Patterns of many kinds, simplest first: those that climbs find, and more by a walk from them."""
    random, found, counts = Random(0), dict[object, Pattern](), Counter[object]()

    def keep(root: Op) -> None:
        pattern = Pattern(root, frozenset(traits_of(root)))
        group = pattern.traits, pattern.rank
        if pattern.kind not in found and counts[group] < POOL:
            found[pattern.kind] = pattern
            counts[group] += 1

    for root in patterns(rule):
        keep(root)
    hinted = hints(rule)
    for _ in range(WALK if found else 0):
        changed = _moved(random, random.choice(list(found.values())).root, hinted)
        if changed is not None and len(cone(changed)) <= LARGEST and look(rule, changed).fires:
            keep(changed)
    return tuple(sorted(found.values(), key=lambda pattern: _complexity(pattern.root)))


def _complexity(root: Op) -> tuple[int, int]:
    return len(cone(root)), len(str(planted(root)[0]))


def _moved(random: Random, root: Op, hinted: Hints) -> Op | None:
    """A step of a walk: a variation, an operator more, or one less."""
    match random.randrange(6):
        case 0 if hinted.grafts:
            leaves = [leaf.result for leaf in arguments(root)]
            if not leaves:
                return None
            return with_producer(random, root, random.choice(leaves), random.choice(hinted.grafts))
        case 1:
            return attempted(random, root, pruned)
        case 2:
            _, bringing = random.choice(list(WISHES.values()))
            return attempted(random, root, random.choice(bringing))
        case _:
            return attempted(random, root, random.choice(hinted.all))


def pruned(random: Random, root: Op) -> Op:
    """What one operator gives comes from outside."""
    inner = [op for op in cone(root) if op is not root and not isinstance(op, Argument)]
    if not inner:
        return root
    op = random.choice(inner)
    return put(root, op, Argument(op.results[0].type)) if len(op.results) == 1 else root


def traits_of(root: Op) -> list[str]:
    """What the graph of `root` will be like, as `Case.traits`."""
    ops = [op for op in cone(root) if not isinstance(op, Argument)]
    return traits(ops, [leaf.result for leaf in arguments(root)])


def draw_wishes(random: Random) -> list[str]:
    """Traits that a graph should have, if the rule admits them."""
    return [name for name, (chance, _) in WISHES.items() if random.randrange(chance) == chance - 1]


def example(random: Random, rule: Rule, wishes: Collection[str] = ()) -> Op:
    """The root, over stand-ins, of a graph on which `rule` fires, with these traits if that can be.

    Raises `InputError` if no graph is found.
    """
    known = pool(rule)
    if not known:
        raise InputError(f"{rule.name}: found no graph on which it fires: {nearest_miss(rule)}")
    misses = [len(pattern.traits.symmetric_difference(wishes)) for pattern in known]
    near = [pattern for pattern, missed in zip(known, misses, strict=True) if missed == min(misses)]
    rank = random.choice(sorted({pattern.rank for pattern in near}))
    root = random.choice([pattern.root for pattern in near if pattern.rank == rank])
    root = kept(random, rule, root, hints(rule).all, random.randrange(5))
    root = kept(random, rule, root, [retyped, *hints(rule).fields], random.randrange(3))
    root = kept(random, rule, root, [with_constant], random.randrange(4))
    for wish in wishes:
        for _ in range(TRIES):
            if wish in traits_of(root):
                break
            root = kept(random, rule, root, WISHES[wish][1], 1)
    return _renamed(root)


def _renamed(root: Op) -> Op:
    """The same with symbols named in the order in which they occur."""
    sizes = [size for leaf in arguments(root) for size in leaf.type.shape if not isinstance(size, int)]
    names: dict[Dim, Dim] = {
        size: symbol(name) for size, name in zip(dict.fromkeys(sizes), SYMBOLS, strict=False)
    }
    return with_sizes(root, names) if any(old != new for old, new in names.items()) else root


def around(random: Random, rule: Rule, extremes: bool = True) -> Case:
    """A case whose graph holds the pattern of `rule`. Raises `InputError` if no pattern is found."""
    return within(random, example(random, rule, draw_wishes(random)), extremes)


def within(random: Random, root: Op, extremes: bool = True) -> Case:
    """A case whose graph holds the operators of `root`, perhaps among others that read them or are read."""
    return surrounded(random, case_of(random, root, extremes), arguments(root))


def nearest_miss(rule: Rule) -> str:
    """Why `rule` did not apply where it came furthest."""
    looks = [climbed(Random(seed), rule)[1] for seed in range(STARTS)]
    furthest = max(looks, key=lambda one: one.looks)
    return furthest.refusal.message if furthest.refusal is not None else ""


def kept(random: Random, rule: Rule, root: Op, variations: list[Variation], times: int) -> Op:
    """`root` after variations, each kept if the rule still fires."""
    for _ in range(times):
        changed = attempted(random, root, random.choice(variations))
        if changed is not None and changed is not root and look(rule, changed).fires:
            root = changed
    return root


def _start(random: Random, rule: Rule, hinted: Hints) -> Op | None:
    samples = [sample for cls in rule.roots for sample in samples_of(cls) if rule.fits(sample)]
    if not samples:
        return None
    rank = random.choice(sorted({sample.results[0].type.rank for sample in samples}))
    sample = random.choice([sample for sample in samples if sample.results[0].type.rank == rank])
    return varied(random, sample, hinted.all, random.randrange(3))


def _step(random: Random, root: Op, found: Look, hinted: Hints) -> Op | None:
    """Gives the rule what it asks for, or else anything."""
    refusal, value = found.refusal, found.blamed
    if refusal is not None and refusal.wanted is not None and value is not None and random.randrange(8):
        return with_producer(random, root, value, refusal.wanted)
    match random.randrange(12):
        case 0 | 1 | 2:
            return attempted(random, root, with_constant)
        case 3 | 4 | 5:
            return attempted(random, root, random.choice([retyped, *hinted.fields]))
        case 6 | 7 if hinted.grafts and len(cone(root)) < LARGEST:
            values = [
                value for op in cone(root) for value in op.inputs if not isinstance(value.owner, Constant)
            ]
            if not values:
                return None
            return with_producer(random, root, random.choice(values), random.choice(hinted.grafts))
        case 8 if inner := _inner(root):  # the same operator once more, from another sample
            op = random.choice(inner)
            return with_producer(random, root, op.results[0], type(op))
        case _:
            return attempted(random, root, random.choice(hinted.all))


def _inner(root: Op) -> list[Op]:
    return [op for op in cone(root) if op is not root and not isinstance(op, Argument | Constant)]
