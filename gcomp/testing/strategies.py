"""Hypothesis strategies for element types, shapes, arrays, operators, graphs, models, and cases around rules.

The generators draw from a `random.Random`; Hypothesis hands them one whose every choice it can shrink.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..dim import Dim
from ..rewrite import Rule
from ..types import DTYPES, Array, DType, TensorType
from . import emission, growth, patterns
from .arrays import BUDGET, draw_array, draw_dtype, draw_extremes, draw_shape
from .case import Case

if TYPE_CHECKING:
    from ..save import ModelProto

Drawn = TypeVar("Drawn")


def drawn(generator: Callable[[Random], Drawn]) -> SearchStrategy[Drawn]:
    """A strategy of what a generator makes of a source of random choices."""
    return st.randoms(use_true_random=False).map(generator)


def dtypes(among: tuple[DType, ...] = tuple(DTYPES.values())) -> SearchStrategy[DType]:
    """Element types."""
    return drawn(lambda random: draw_dtype(random, among))


def shapes(
    rank: int | None = None, symbolic: bool = False, budget: int = BUDGET
) -> SearchStrategy[tuple[Dim, ...]]:
    """Shapes of at most `budget` elements, sizes 0 and 1 among them; with `symbolic`, symbols too."""
    return drawn(lambda random: draw_shape(random, rank, symbolic, budget))


def tensors(
    type: TensorType, low: float = -2.0, high: float = 2.0, extremes: bool = True
) -> SearchStrategy[Array]:
    """Arrays of a static type in [low, high]; with `extremes`, with the numbers that code gets wrong."""
    return drawn(
        lambda random: draw_array(random, type, low, high, draw_extremes(random) if extremes else ())
    )


def around(rule: Rule, extremes: bool = True) -> SearchStrategy[Case]:
    """Cases grown around the pattern of a rule, so that it nearly always fires."""
    return drawn(lambda random: patterns.around(random, rule, extremes))


def operators(onnx: bool = False) -> SearchStrategy[Case]:
    """Cases of one operator, any that has native code: a sample of it, varied.

    With `onnx`, of those that ONNX has for the types drawn.
    """
    return drawn(emission.single_model if onnx else growth.single)


def graphs(onnx: bool = False) -> SearchStrategy[Case]:
    """Cases of whole graphs: a dozen operators or so, drawn equally often, several outputs, shared values,
    dead ends, constants, regions, symbolic sizes, sizes 0 and 1.

    With `onnx`, of operators that ONNX has for the types drawn.
    """
    return drawn(emission.whole_model if onnx else growth.whole)


def models() -> SearchStrategy[tuple[ModelProto, dict[str, Array]]]:
    """Whole graphs as ONNX models, with arrays by input name, for any tool that reads ONNX."""
    return graphs(onnx=True).map(lambda case: (case.model(), dict(case.inputs)))
