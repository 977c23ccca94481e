"""`gcomp profile`: where a compiled model spends its time, kernel by kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Data, Recipe, as_json, takes_data, takes_recipe
from .report import duration, progress, report, size, table

if TYPE_CHECKING:
    from ..profile import Profile, StepTime

WIDEST = 48
"""Characters of a list of operators or nodes, beyond which the table cuts it; JSON holds all of it."""


@click.command()
@takes_recipe
@takes_data
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Time to spend on runs.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="A .json to write, for ui.perfetto.dev or chrome://tracing.",
)
@as_json
def command(recipe: Recipe, data: Data, seconds: float, trace: Path | None, as_json: bool) -> None:
    """Time each kernel of MODEL, the whole network running in order.

    Every kernel is held against what this processor does at best, measured in the same run: its fused
    multiply-adds a second, and the bytes a second from the caches that the kernel's data fit.
    """
    from ..profile import profile
    from ..target import ports

    graph = recipe.source.graph()
    sample = data.samples(list(ports(graph)[0]), graph)[0]
    with progress(f"compiling {recipe.source.path}"):
        module = recipe.compile(graph)
    with progress(f"profiling {recipe.source.path}"):
        found = profile(module, sample, seconds=seconds)
    if trace is not None:
        found.save_trace(trace)
    facts = {**found.facts(), "trace": None if trace is None else str(trace)}
    report(as_json, facts, [*lines(found), *([f"trace written to {trace}"] if trace else [])])


def lines(found: Profile) -> list[str]:
    """The table of steps, and what it adds up to."""
    told = [
        f"{len(found.steps)} steps take {duration(found.seconds)}; in one go, called from Python, "
        f"{duration(found.undisturbed)}; medians of {found.runs} runs"
    ]
    if found.limits is not None:
        near, far = found.limits.bandwidth[0], found.limits.bandwidth[-1]
        told.append(
            f"at best this core does {found.limits.flops / 1e9:.0f} GFLOP/s and reads "
            f"{near[1] / 1e9:.0f} GB/s from {size(near[0])}, {far[1] / 1e9:.0f} GB/s from {size(far[0])}"
        )
    rows = [_row(number, one) for number, one in enumerate(found.steps)]
    return [*told, *table(HEADER, rows), *map(str, found.decisions)]


HEADER = ("", "median", "share", "rate", "of limit", "bound", "code", "operators", "ONNX nodes")


def _row(number: int, one: StepTime) -> tuple[str, ...]:
    return (
        str(number),
        duration(one.median),
        f"{100 * one.share:.1f} %",
        _rate(one),
        "" if one.of_limit is None else f"{100 * one.of_limit:.0f} %",
        one.bound or "",
        one.step.code,
        _cut("+".join(one.step.operators)),
        _cut(", ".join(one.step.nodes)),
    )


def _rate(one: StepTime) -> str:
    """Operations a second, or bytes a second where memory traffic is the limit."""
    if one.bound != "memory" and one.flop_rate:
        return f"{one.flop_rate / 1e9:.1f} GFLOP/s"
    return f"{one.byte_rate / 1e9:.1f} GB/s" if one.byte_rate else ""


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
