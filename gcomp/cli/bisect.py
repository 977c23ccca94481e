"""`gcomp bisect`: names the pass and the rule, or the kernel, that makes a model's results wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Data, Recipe, as_json, takes_data, takes_recipe
from .report import progress, report

if TYPE_CHECKING:
    from ..bisect import Against, Bisection


@click.command()
@takes_recipe
@takes_data
@click.option(
    "--against",
    type=click.Choice(("reference", "onnxruntime")),
    default="reference",
    show_default=True,
    help="Who is right.",
)
@click.option("--tolerance", help="exact, close, approximate, reduced, quantized or sampled.")
@click.option("--effort", type=click.IntRange(0), help="Runs that making the model small may take.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="repro",
    show_default=True,
    help="Folder for repro.onnx, its inputs and a script.",
)
@as_json
@click.pass_context
def command(
    context: click.Context,
    recipe: Recipe,
    data: Data,
    against: Against,
    tolerance: str | None,
    effort: int | None,
    output: Path,
    as_json: bool,
) -> None:
    """Find what makes compiled MODEL wrong, and write a small model that shows it.

    It names the first step of a pass after which the results leave the tolerance, or else the first kernel.
    Exit status 1 if something is wrong, 0 if the model agrees.
    """
    from ..bisect import EFFORT, bisect
    from ..target import ports

    graph = recipe.source.graph()
    sample = data.samples(list(ports(graph)[0]), graph)[0]
    with progress(f"searching {recipe.source.path}"):
        found = bisect(
            graph,
            target=recipe.target,
            passes=recipe.pipeline(),
            precision=recipe.precision,
            data=sample,
            against=against,
            tolerance=tolerance,
            effort=EFFORT if effort is None else effort,
        )
    files = found.repro.save(output) if found.repro is not None else []
    notes = [f"inputs are synthetic, of seed {data.seed}"] if data.path is None else []
    report(as_json, facts(found, files, notes), [*notes, *lines(found, files)])
    context.exit(0 if found.agrees else 1)


def facts(found: Bisection, files: list[Path], notes: list[str]) -> dict[str, Any]:
    return {
        "agrees": found.agrees,
        "failure": dataclasses.asdict(found.failure) if found.failure else None,
        "culprit": dataclasses.asdict(found.culprit) if found.culprit else None,
        "steps": found.steps,
        "runs": found.runs,
        "verified": found.verified,
        "nodes": found.repro.nodes if found.repro else None,
        "files": list(map(str, files)),
        "notes": notes,
    }


def lines(found: Bisection, files: list[Path]) -> list[str]:
    if found.failure is None:
        return ["all agree: there is nothing to find"]
    told = [f"WRONG: {found.failure.complaint}"]
    if found.culprit is not None:
        told += [
            f"by: {found.culprit}",
            *([f"    {found.culprit.line}"] if found.culprit.line else []),
            f"    {found.culprit.complaint}",
            f"{found.steps} steps searched in {found.runs} runs; run once more, the step before is right and "
            "this one wrong"
            if found.verified
            else f"{found.steps} steps searched in {found.runs} runs, but what was found does not repeat",
        ]
    if found.repro is None:
        return [*told, "no smaller model shows it"]
    count = found.repro.nodes
    return [
        *told,
        f"a model of {count} operator{'s' * (count != 1)} shows it: {found.repro.failure.complaint}",
        f"written: {', '.join(map(str, files))}",
    ]
