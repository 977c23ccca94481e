"""Asks z3 whether a rule may change any element of a result, over small shapes of each of its patterns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any, Literal

import numpy as np
import z3

from ...diagnostics import GcompError
from ...ir import Graph, Op
from ...op import Argument
from ...pipeline import run_pipeline
from ...rewrite import RewritePass, Rule
from ...types import TensorType
from ..patterns import patterns
from ..samples import arguments, planted, remade
from ..variation import with_sizes
from .symbolic import TooLarge, outputs
from .terms import NotReal, Reading, Terms

SIZES = (1, 2)
"""Sizes that each axis of the inputs takes."""
WIDE = (1, 2, 3)
"""Sizes that stand for each size of a pattern, wherever it occurs."""
SHAPES = 16
"""Graphs, at most, made of a pattern in either way; of the more that many axes allow a part is drawn."""
SECONDS = 5
"""For each query."""
PLAIN = Fraction(1, 1000)
"""A difference beyond rounding, of results of elements between -1 and 1 and constants up to 1."""

Verdict = Literal["exact", "real", "open", "wrong"]


@dataclass(frozen=True)
class Proof:
    """What is known of a rule. `graphs` of `patterns` were asked about.

    `exact`: equal to the bit, whatever float arithmetic does. `real`: equal over the real numbers, rounding,
    infinities and NaN aside; integers wrap as they do. `open`: not shown, for a `reason`. `wrong`: a `reason`
    shows elements for which the results differ.
    """

    rule: str
    verdict: Verdict
    graphs: int
    patterns: int
    reason: str = ""

    def __str__(self) -> str:
        scope = f"{self.graphs} graphs of {self.patterns} patterns, axes of up to {max(SIZES)} or {max(WIDE)}"
        match self.verdict:
            case "exact":
                return f"proved to the bit ({scope})"
            case "real":
                return f"proved over the reals ({scope})"
            case "open":
                return f"not proved: {self.reason}"
            case "wrong":
                return f"wrong: {self.reason}"


def prove(rule: Rule) -> Proof:
    """Tries to prove `rule`. Takes seconds to a minute."""
    pass_, graphs, used, verdict = RewritePass(rule.name, [rule]), 0, 0, "exact"
    for pattern in patterns(rule):
        fired = False
        for root in small(pattern):
            before, _ = planted(root)
            after = before.clone()
            try:
                (run,) = run_pipeline(after, [pass_])
                if not run.changed:
                    continue
                found, reason = compare(before, after)
            except TooLarge:
                continue
            except NotReal:  # unequal to the bit, and outside of what the reals say
                verdict = "real"
                continue
            except GcompError as error:
                found, reason = "open", error.message
            if found in ("open", "wrong"):
                return Proof(rule.name, found, graphs, used, reason)
            verdict = "real" if "real" in (found, verdict) else verdict
            graphs, fired = graphs + 1, True
        used += fired
    if not graphs:
        return Proof(rule.name, "open", 0, 0, "it fires on no small graph")
    return Proof(rule.name, verdict, graphs, used)


def small(pattern: Op) -> Iterator[Op]:
    """The pattern over inputs of small shapes of the same ranks, and with its sizes replaced throughout."""
    leaves, seen = arguments(pattern), set[str]()
    places = [(leaf, axis) for leaf in leaves for axis in range(leaf.type.rank)]
    sizes = sorted({size for leaf in leaves for size in leaf.type.shape}, key=str)

    def replaced(chosen: tuple[int, ...]) -> Op:
        return with_sizes(pattern, dict(zip(sizes, chosen, strict=True)))

    def independent(chosen: tuple[int, ...]) -> Op:
        by_place = dict(zip(places, chosen, strict=True))
        return remade(pattern, {leaf: _resized(leaf, by_place) for leaf in leaves})

    choices = [
        *((replaced, chosen) for chosen in _drawn(WIDE, len(sizes))),
        *((independent, chosen) for chosen in _drawn(SIZES, len(places))),
    ]
    for make, chosen in choices:
        try:
            root = make(chosen)
        except GcompError:  # the operators do not take such shapes
            continue
        text = str(planted(root)[0])
        if text not in seen:
            seen.add(text)
            yield root


def _drawn(sizes: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """All choices of `count` sizes, or a seeded part of them."""
    total = len(sizes) ** count
    numbers = range(total) if total <= SHAPES else sorted(Random(count).sample(range(total), SHAPES))
    return [
        tuple(sizes[number // len(sizes) ** place % len(sizes)] for place in range(count))
        for number in numbers
    ]


def _resized(leaf: Argument, sizes: dict[tuple[Argument, int], int]) -> Argument:
    shape = tuple(sizes[leaf, axis] for axis in range(leaf.type.rank))
    return Argument(TensorType(leaf.type.dtype, shape, leaf.type.layout), leaf.low, leaf.high)


def compare(before: Graph, after: Graph) -> tuple[Verdict, str]:
    """Whether the graphs give the same, of the same inputs, under which reading; else why that is not known.

    Raises `UnsupportedError` where a graph has no closed form.
    """
    if _first_difference(before, after, "bits") is None:
        return "exact", ""
    return _first_difference(before, after, "reals") or ("real", "")


def _first_difference(before: Graph, after: Graph, reading: Reading) -> tuple[Verdict, str] | None:
    """What is not shown to be equal under a reading, or shown to differ."""
    terms = Terms(reading)
    pairs = zip(before.outputs, outputs(before, reading), outputs(after, reading), strict=True)
    for name, (value, old, new) in zip(before.output_names, pairs, strict=True):
        for index in np.ndindex(old.shape):
            one, other = (terms.term(array[index], value.type.dtype) for array in (old, new))
            if one.eq(other):
                continue
            verdict, why = _refuted(one, other)
            if verdict is not None:
                return verdict, f"{name}{list(index)} {why}"
    return None


def _refuted(one: Any, other: Any) -> tuple[Verdict | None, str]:
    """Why the terms may differ, and for which elements; None if they cannot.

    A model that had to invent a function, as for exp, shows nothing; nor does a difference that is no larger
    than what rounding makes of constants that a rule computes.
    """
    solver = z3.Solver()
    solver.set("timeout", SECONDS * 1000)
    solver.add(z3.simplify(one != other, som=True))
    match solver.check():
        case z3.unsat:
            return None, ""
        case z3.unknown:
            return "open", f"is too hard for {SECONDS} seconds"
        case _:
            found: Any = solver.model()
    if any(symbol.arity() for symbol in found):
        return "open", "rests on a function of which nothing is known here"
    reals = [x for x in parts(one) | parts(other) if is_unknown(x) and z3.is_real(x)]
    if not z3.is_real(one) and reals:
        return "open", "may differ by a step, as rounding makes of constants that the rule computes"
    if z3.is_real(one):
        distance: Any = one - other
        numbers = (x.as_fraction() for x in parts(one) | parts(other) if z3.is_rational_value(x))
        plain = z3.RealVal(str(PLAIN * max([Fraction(1), *map(abs, numbers)])))
        solver.add(z3.Or(distance > plain, -distance > plain))
        solver.add(*(z3.And(x <= 1, x >= -1) for x in reals))
        if solver.check() != z3.sat:
            return "open", "may differ by as little as rounding makes of constants that the rule computes"
        found = solver.model()
    return "wrong", "differs for " + ", ".join(sorted(f"{symbol} = {found[symbol]}" for symbol in found))


def parts(term: Any) -> set[Any]:
    """The unknown elements and the numbers in a term."""
    found, seen, waiting = set[Any](), set[int](), [term]
    while waiting:
        x = waiting.pop()
        if x.get_id() not in seen:
            seen.add(x.get_id())
            waiting += x.children()
            if is_unknown(x) or z3.is_rational_value(x):
                found.add(x)
    return found


def is_unknown(term: Any) -> bool:
    """Whether a term is an unknown element."""
    return z3.is_const(term) and term.decl().kind() == z3.Z3_OP_UNINTERPRETED
