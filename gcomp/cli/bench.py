"""`gcomp bench`: compiles a model and times it beside the other engines that are installed."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .options import Data, Recipe, as_json, takes_data, takes_recipe
from .report import duration, progress, report, table

if TYPE_CHECKING:
    from ..peers import Race


@click.command()
@takes_recipe
@takes_data
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="Time to spend.",
)
@as_json
def command(recipe: Recipe, data: Data, seconds: float, as_json: bool) -> None:
    """Time MODEL beside other engines.

    Calls take turns with ONNX Runtime and OpenVINO, where they are installed.
    """
    from ..peers import race
    from ..target import ports

    graph = recipe.source.graph()
    sample = data.samples(list(ports(graph)[0]), graph)[0]
    with progress(f"compiling {recipe.source.path}"):
        start = time.perf_counter()
        module = recipe.compile(graph)
        module.run(sample)  # code is loaded, and specialised to sizes still open, by the first call
        compile_seconds = time.perf_counter() - start
    with progress(f"timing {recipe.source.path}"):
        done = race(
            module, recipe.source.path if recipe.source.is_onnx else None, sample, recipe.threads, seconds
        )
    facts: dict[str, Any] = {
        "compile_seconds": compile_seconds,
        "threads": recipe.threads,
        "precision": recipe.precision,
        "engines": {
            name: {**asdict(timing), "ratio": done.ratio(name), "difference": done.differences.get(name, 0.0)}
            for name, timing in done.timings.items()
        },
        "notes": done.notes,
    }
    lines = [
        f"compiled in {duration(compile_seconds)}; threads {recipe.threads}, precision {recipe.precision}",
        *table(HEADER, rows(done)),
        *done.notes,
    ]
    report(as_json, facts, lines)


HEADER = ("", "median", "quartiles", "runs", "time / gcomp", "difference")


def rows(done: Race) -> list[tuple[str, ...]]:
    """The table of a race under `HEADER`."""
    return [
        (
            name,
            duration(timing.median),
            f"{duration(timing.low)} .. {duration(timing.high)}",
            str(timing.calls),
            f"{done.ratio(name):.2f}",
            f"{done.differences[name]:.1e}" if name in done.differences else "",
        )
        for name, timing in done.timings.items()
    ]
