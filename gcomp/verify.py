"""Compares the numbers of a compiled model, or of a graph after a pass, with what they should be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from .data import Sample
from .diagnostics import InputError
from .evaluate import evaluate
from .ir import Graph
from .pipeline import Pass, run_pipeline
from .timing import tell
from .tolerance import LADDER, distance, mismatch
from .types import Array

Runner = Callable[[Sample], list[Array]]

TOLERANCES = {"strict": "approximate", "fp32": "approximate", "bf16": "bfloat"}
"""The rung of the tolerance ladder for a whole network, by precision."""


@dataclass(frozen=True)
class Comparison:
    """One output on one sample against one source of truth.

    `absolute` is the greatest difference; `scaled` that over the greatest magnitude expected; `index` says
    where, `actual` and `expected` what is there. `complaint` is empty if all of it is within the tolerance.
    """

    against: str
    sample: int
    output: str
    absolute: float
    scaled: float
    index: tuple[int, ...]
    actual: object
    expected: object
    tolerance: str
    complaint: str

    @property
    def agrees(self) -> bool:
        return not self.complaint

    def __str__(self) -> str:
        place = f"{self.output}[{', '.join(map(str, self.index))}]" if self.index else self.output
        if self.agrees:
            return (
                f"{self.output}: agrees with {self.against}, at most {self.absolute:.3g} off "
                f"({self.scaled:.3g} of the largest), at {place}: {_short(self.actual)} "
                f"for {_short(self.expected)}"
            )
        return f"{self.output}, sample {self.sample}: differs from {self.against}: {self.complaint}"


@dataclass
class Verification:
    """All comparisons of one `verify`, and those in which the sources of truth differ from each other."""

    comparisons: list[Comparison] = field(default_factory=list[Comparison])
    disputes: list[Comparison] = field(default_factory=list[Comparison])

    @property
    def agrees(self) -> bool:
        return bool(self.comparisons) and all(one.agrees for one in self.comparisons)

    def worst(self) -> list[Comparison]:
        """For each source of truth and output the worst sample: a disagreement, else the largest error."""
        found: dict[tuple[str, str], Comparison] = {}
        for one in self.comparisons:
            held = found.get((one.against, one.output))
            if held is None or (not one.agrees, one.scaled) > (not held.agrees, held.scaled):
                found[one.against, one.output] = one
        return list(found.values())


def verify(
    run: Runner,
    truths: dict[str, Runner],
    samples: Iterable[Sample],
    outputs: Sequence[str],
    tolerance: str,
) -> Verification:
    """Runs the samples through `run` and each of `truths` and compares the outputs, named in graph order."""
    result = Verification()
    for number, sample in enumerate(samples):
        share = number / len(samples) if isinstance(samples, Sized) else None
        tell(f"sample {number + 1}", share)
        actual = run(sample)
        found = {against: truth(sample) for against, truth in truths.items()}
        first = next(iter(found), "")
        for against, expected in found.items():
            for name, mine, its, firsts in zip(outputs, actual, expected, found[first], strict=True):
                result.comparisons.append(compare(mine, its, tolerance, name, against, number))
                dispute = compare(its, firsts, tolerance, name, first, number)
                if not dispute.agrees:
                    result.disputes.append(dispute)
    return result


def verify_passes(
    graph: Graph, passes: Sequence[Pass], samples: Iterable[Sample], tolerance: str
) -> tuple[Verification, bool]:
    """Compares `graph` before and after the passes, by the reference; says too whether they changed it."""
    after = graph.clone()
    runs = run_pipeline(after, passes, check="text")
    done = verify(
        reference(after), {"the graph before": reference(graph)}, samples, graph.output_names, tolerance
    )
    return done, any(run.changed for run in runs)


def reference(graph: Graph) -> Runner:
    """Runs `graph` by its operators' references."""
    return lambda sample: evaluate(graph, sample)


def tolerance_for(precision: str, chosen: str | None = None) -> str:
    """The rung for a precision, or the one asked for. Raises `InputError` for one that is not there."""
    name = chosen or TOLERANCES.get(precision, "approximate")
    if name not in LADDER:
        raise InputError(f"no tolerance is called {name!r}; there are {', '.join(LADDER)}")
    return name


def compare(
    actual: Array, expected: Array, tolerance: str, output: str = "", against: str = "", sample: int = 0
) -> Comparison:
    """One array against another; their greatest difference, and whether the tolerance allows all of them."""
    complaint = mismatch(actual, expected, tolerance)
    if actual.shape != expected.shape or actual.dtype != expected.dtype or expected.size == 0:
        error = np.inf if complaint else 0.0
        return Comparison(against, sample, output, error, error, (), "", "", tolerance, complaint)
    errors = _errors(actual, expected)
    place = np.unravel_index(int(np.argmax(errors)), errors.shape)
    index = tuple(int(axis) for axis in place)
    absolute = float(errors[index])
    largest = _largest(expected)
    scaled = absolute / largest if largest else absolute
    return Comparison(
        against,
        sample,
        output,
        absolute,
        scaled,
        index,
        _plain(actual[index]),
        _plain(expected[index]),
        tolerance,
        complaint,
    )


def _errors(actual: Array, expected: Array) -> Array:
    """The distance of each pair, infinite where words differ."""
    if actual.dtype == object:
        return np.where(actual == expected, 0.0, np.inf)
    return distance(actual, expected)


def _largest(expected: Array) -> float:
    if expected.dtype == object:
        return 1.0
    sizes = abs(expected.astype(np.float64))
    return float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))


def _short(element: object) -> str:
    return f"{element:.9g}" if isinstance(element, float) else str(element)


def _plain(element: object) -> object:
    """A numpy scalar as the Python number or word that prints without its type."""
    return cast("object", element.item()) if isinstance(element, np.generic) else element
