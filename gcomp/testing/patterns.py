"""Grows graphs around a rule's pattern.

Climbs find the pattern. From there a walk, on which the rule has to fire at every step, finds more of its
kinds: other operators around it, other traits, ranks and element types. What is drawn starts from those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from random import Random

from ..diagnostics import InputError
from ..dim import Dim, symbol
from ..ir import Op
from ..op import Argument, Constant
from ..rewrite import Rule
from ..types import DTYPES, STRING
from .arrays import SYMBOLS
from .case import Case, case_of, traits
from .climb import LARGEST, STEPS, grown, hints, look, started
from .fields import with_constant
from .producers import with_producer
from .ranks import reranked
from .samples import arguments, cone, planted, put
from .surroundings import surrounded
from .turns import dtypes_of, of_rank, rank_of, turned, with_type
from .variation import (
    RANKS,
    Variation,
    attempted,
    deepened,
    emptied,
    narrowed,
    retyped,
    symbolic,
    with_sizes,
)

STARTS = 32
"""New starts before a rule counts as one that never fires."""

PATIENCE = 6
"""How many times as many probes a rule gets that no graph was found for."""

PATTERNS, OF_A_RANK = 12, 6
"""Patterns of a rule that climbs look for, and how many of them whose results have the same rank."""

WALK, POOL = 2000, 8
"""Steps of a walk from those patterns, and how many of the same traits and rank or element type it keeps."""

WISHES: dict[str, tuple[int, list[Variation]]] = {
    "empty": (6, [emptied]),
    "broadcasting": (2, [narrowed, deepened]),
    "symbolic": (2, [symbolic]),
}
"""In one of how many cases a trait is wished for, and what may bring it."""

TURNED = 4
"""Patterns that are turned to each rank and element type that is lacking."""

TRIES = 6
"""Attempts to bring a trait that is wished for."""


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

    @cached_property
    def traits(self) -> frozenset[str]:
        return frozenset(traits_of(self.root))

    @property
    def rank(self) -> int:
        return rank_of(self.root)

    @cached_property
    def dtypes(self) -> frozenset[str]:
        return dtypes_of(self.root)

    @property
    def kind(self) -> object:
        """Equal for patterns that are much alike."""
        ops = cone(self.root)
        leaves = frozenset((leaf.type.dtype, leaf.type.rank) for leaf in arguments(self.root))
        kinds = tuple((op.kind, *_settings(op)) for op in ops)
        return kinds, leaves, self.rank, self.dtypes, self.traits


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
        pattern = Pattern(root)
        groups = [(pattern.traits, own) for own in (pattern.rank, *sorted(pattern.dtypes))]
        if pattern.kind not in found and min(counts[group] for group in groups) < POOL:
            found[pattern.kind] = pattern
            counts.update(groups)

    for root in patterns(rule):
        keep(root)
    for _ in range(2 if found else 0):
        for root in _turned(random, rule, list(found.values())):
            keep(root)
        for _ in range(WALK // 2):
            changed = _moved(random, rule, evenly(random, list(found.values())).root)
            if changed is not None and len(cone(changed)) <= LARGEST and look(rule, changed).fires:
                keep(changed)
    return tuple(sorted(found.values(), key=lambda pattern: _complexity(pattern.root)))


def _turned(random: Random, rule: Rule, known: Sequence[Pattern]) -> Iterator[Op]:
    """Patterns of the ranks and element types that none of the known ones has."""
    for rank in sorted({*range(RANKS + 1)} - {pattern.rank for pattern in known}):
        for _ in range(TURNED):
            root = of_rank(random, rule, evenly(random, known).root, rank)
            if root is not None:
                yield root
    for name in sorted({*DTYPES} - {STRING.name}.union(*(pattern.dtypes for pattern in known))):
        for _ in range(TURNED):
            root = with_type(random, rule, evenly(random, known).root, name)
            if root is not None:
                yield root


def evenly(random: Random, known: Sequence[Pattern]) -> Pattern:
    """One of the patterns: each rank is as likely as another, or each element type."""
    if random.randrange(2):
        rank = random.choice(sorted({pattern.rank for pattern in known}))
        return random.choice([pattern for pattern in known if pattern.rank == rank])
    dtype = random.choice(sorted(frozenset[str]().union(*(pattern.dtypes for pattern in known))))
    return random.choice([pattern for pattern in known if dtype in pattern.dtypes])


def _complexity(root: Op) -> tuple[int, int]:
    return len(cone(root)), len(str(planted(root)[0]))


def _moved(random: Random, rule: Rule, root: Op) -> Op | None:
    """A step of a walk: a variation, an operator more or one less, or a climb from what `rule` may refuse."""
    hinted = hints(rule).wider
    match random.randrange(8):
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
        case 3:
            return attempted(random, root, reranked)
        case 4:
            return turned(random, rule, root, random.choice((retyped, reranked)))
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
    wished, hinted = frozenset(wishes), hints(rule).wider
    misses = [(len(wished - pattern.traits), len(pattern.traits - wished)) for pattern in known]
    near = [pattern for pattern, missed in zip(known, misses, strict=True) if missed == min(misses)]
    root = evenly(random, near).root
    root = kept(random, rule, root, hinted.all, random.randrange(5), wishes)
    root = kept(random, rule, root, [retyped, *hinted.fields], random.randrange(3), wishes)
    root = kept(random, rule, root, [with_constant], random.randrange(4), wishes)
    for wish in wishes:
        for _ in range(TRIES):
            if wish in traits_of(root):
                break
            root = kept(random, rule, root, WISHES[wish][1], 1, wishes)
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
    looks = [started(Random(seed), rule)[1] for seed in range(STARTS)]
    furthest = max(looks, key=lambda one: one.looks)
    return furthest.refusal.message if furthest.refusal is not None else ""


def kept(
    random: Random, rule: Rule, root: Op, variations: list[Variation], times: int, wishes: Collection[str]
) -> Op:
    """`root` after variations, each kept if the rule still fires and no trait that is wished for is lost."""
    for _ in range(times):
        changed = attempted(random, root, random.choice(variations))
        if changed is None or changed is root or not look(rule, changed).fires:
            continue
        if not set(wishes).intersection(traits_of(root)).difference(traits_of(changed)):
            root = changed
    return root
