"""Climbs to a rule's pattern: runs the rule on half a graph, and gives what it asks for.

A rule looks at the graph only through functions that raise a `Refusal`, which says what was wanted and how
many looks went well before. So an operator that is asked for is put there, and a random change stays if the
rule gets as far as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np

from ..ir import Op, Value
from ..op import Argument, Constant
from ..rewrite import Refusal, Rule, probe
from .fields import bounded, with_constant, with_literals
from .producers import with_producer
from .ranks import reranked
from .samples import cone, planted, samples_of
from .sources import grafts, literals
from .variation import FIELDS, TYPES, Variation, attempted, retyped, varied

STEPS = 80
"""Probes of a rule before a new start."""

LARGEST = 16
"""Operators of the largest pattern."""


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
    types: list[Variation]

    @property
    def all(self) -> list[Variation]:
        return [*self.types, *self.fields]

    @property
    def wider(self) -> Hints:
        """For patterns of all ranks and types, where the plain ones are simple, as proofs need them."""
        return Hints(self.grafts, [*self.fields, bounded, bounded], [*self.types, reranked, reranked])


@cache
def hints(rule: Rule) -> Hints:
    """What the code of `rule` tells about the graphs on which it fires."""
    known = literals(rule)
    return Hints(grafts(rule), [*FIELDS, with_literals(known)] if known else FIELDS, TYPES)


def grown(random: Random, rule: Rule, steps: int = STEPS) -> Op | None:
    """The root, over stand-ins, of a graph on which `rule` fires; None if none is found in as many steps."""
    root, found = started(random, rule, steps)
    return root if found.fires else None


def started(random: Random, rule: Rule, steps: int = STEPS) -> tuple[Op | None, Look]:
    """The root, over stand-ins, of a graph on which `rule` comes far, in as many steps, and how far."""
    hinted = hints(rule)
    root = _start(random, rule, hinted)
    if root is None:
        return None, Look(Refusal("no sample of its root"), -1, None)
    return climbed(random, rule, root, steps, hinted)


def climbed(random: Random, rule: Rule, root: Op, steps: int, hinted: Hints) -> tuple[Op, Look]:
    """`root` after as many changes, none of which takes `rule` a step back, and how far it comes."""
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
