"""Draws models from gcomp's generators, the same one for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

from onnx import ModelProto, checker, shape_inference

from gcomp import save_onnx
from gcomp.diagnostics import GcompError, UnsupportedError
from gcomp.registry import find, is_own, names
from gcomp.repro import stored
from gcomp.rewrite import RewritePass, Rule
from gcomp.specialise import bind
from gcomp.testing.case import Case, sizes_of
from gcomp.testing.emission import single_model, whole_model
from gcomp.testing.patterns import around
from gcomp.testing.trial import has_answer
from gcomp.types import BF16, STRING

Source = Callable[[Random, int], Case]

SAME = 50
"""Seeds in a row for the same rule, whose patterns take a while to be found."""

UNFIT = (GcompError, ArithmeticError, IndexError, ValueError)
"""What the reference raises on inputs that an operator does not take."""


def rule(random: Random, seed: int) -> Case:
    """A graph around the pattern of a rule of gcomp's passes: what optimisers look for."""
    known = rules()
    return around(random, known[seed // SAME % len(known)], extremes=bool(random.randrange(2)))


SOURCES: dict[str, Source] = {
    "operator": lambda random, seed: single_model(random),
    "rule": rule,
    "graph": lambda random, seed: whole_model(random),
}
"""One operator, varied; the pattern of a rule; a dozen operators."""


@cache
def rules() -> list[Rule]:
    """The rules of the shipped passes."""
    passes = [find("passes", name) for name in names("passes") if is_own("passes", name)]
    return [rule for one in passes if isinstance(one, RewritePass) for rule in one.rules]


def drawn(source: str, seed: int) -> Case | None:
    """The case of a seed, all of its sizes known; None if nothing that every engine could run comes of it."""
    try:
        case = SOURCES[source](Random(f"{source} {seed}"), seed)
        sizes = sizes_of(case)
        case = Case(stored(bind(case.graph, sizes) if sizes else case.graph), case.inputs)
        values = [value for op in case.graph.walk() for value in op.results] + case.graph.inputs
        known = all(value.type.dtype not in (BF16, STRING) for value in values)
        return case if known and has_answer(case) else None
    except UNFIT:
        return None


def to_onnx(case: Case) -> ModelProto:
    """The case's graph as a model. Raises `UnsupportedError` for what ONNX, or its checker, does not take."""
    model = save_onnx(case.graph)
    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise UnsupportedError(f"not valid by ONNX's checker: {error}") from error
    return model
