"""Runs a graph two ways and says how the results differ: by reference, after passes, compiled, by a peer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from .apart import apart
from .compiler import compile, optimize
from .data import Sample
from .diagnostics import GcompError, InputError, ModelError, UnsupportedError
from .ir import Graph
from .peers import onnx_runtime
from .pipeline import Pass, pipeline_source, print_pipeline
from .registry import loose_file
from .save import save_onnx
from .target import Target
from .tolerance import mismatch
from .types import Array
from .verify import reference

CANNOT = (InputError, ModelError, UnsupportedError)
"""Errors that say what cannot be done: no faults."""


class Way(Protocol):
    """A way to run graphs. `text` is Python for its outputs of the model at the path MODEL on `sample`."""

    @property
    def text(self) -> str: ...

    def run(self, graph: Graph, sample: Sample) -> list[Array]:
        """The outputs. Raises `GcompError`."""
        ...


@dataclass(frozen=True)
class ByReference:
    """By the operators' references, after passes if there are any."""

    passes: tuple[Pass, ...] = ()

    @property
    def text(self) -> str:
        return _call("reference", self.passes)

    def run(self, graph: Graph, sample: Sample) -> list[Array]:
        return reference(optimize(graph, self.passes) if self.passes else graph)(sample)


@dataclass(frozen=True)
class Compiled:
    """By code for a target, after passes, in a process of its own, which the code may end."""

    target: Target
    passes: tuple[Pass, ...]

    @property
    def text(self) -> str:
        return _call(print_pipeline([cast(Any, self.target)]), self.passes)

    def run(self, graph: Graph, sample: Sample) -> list[Array]:
        def run() -> list[Array]:
            module = compile(graph, self.target, passes=self.passes)
            return list(module.run(sample).values())

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that operators run on the host is said when a user compiles
            return apart(run)


@dataclass(frozen=True)
class ByOnnxRuntime:
    """By ONNX Runtime, fully optimised."""

    text: str = "onnx_runtime(MODEL)(sample)"

    def run(self, graph: Graph, sample: Sample) -> list[Array]:
        return onnx_runtime(save_onnx(graph).SerializeToString())(sample)


@dataclass(frozen=True)
class Failure:
    """Results that differ, or an error; `kind` is the error's class, `differs` without one."""

    kind: str
    complaint: str


Judge = Callable[[Graph, Sample], Failure | None]


def differing(actual: Sequence[Array], expected: Sequence[Array], names: Sequence[str], rung: str) -> str:
    """How the first output that differs does, in words; empty if none does."""
    told = (
        f"{name}: {complaint}"
        for name, mine, its in zip(names, actual, expected, strict=True)
        if (complaint := mismatch(mine, its, rung))
    )
    return next(told, "")


def attempt(
    run: Callable[[], Sequence[Array]], expected: Sequence[Array], names: Sequence[str], rung: str
) -> Failure | None:
    """What is wrong with the results of `run`. Raises errors that are no faults."""
    try:
        complaint = differing(run(), expected, names, rung)
    except CANNOT:
        raise
    except GcompError as error:
        return Failure(type(error).__name__, str(error))
    return Failure("differs", complaint) if complaint else None


def compared(truth: Way, suspect: Way, rung: str) -> Judge:
    """What is wrong with `suspect` on a graph, `truth` being right."""

    def judge(graph: Graph, sample: Sample) -> Failure | None:
        expected = truth.run(graph, sample)
        return attempt(lambda: suspect.run(graph, sample), expected, graph.output_names, rung)

    return judge


def _call(target: str, passes: tuple[Pass, ...]) -> str:
    if any(loose_file(one.name) for one in passes):
        text = pipeline_source(passes, lambda file: f"HERE / {file.name!r}")
    else:
        text = repr(print_pipeline(passes))
    return f"list(gcomp.compile(MODEL, target={target!r}, passes={text}).run(sample).values())"
