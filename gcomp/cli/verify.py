"""`gcomp verify`: compares the numbers of the compiled model with the reference and with ONNX Runtime."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .grown import OnRandomGraphs
from .options import Data, Recipe, as_json, takes_data, takes_recipe
from .report import progress, report

if TYPE_CHECKING:
    from ..data import Sample
    from ..ir import Graph
    from ..verify import Verification


JUDGE = "ONNX Runtime"

TRIED = ("graphs", "seed", "script", "as_json")
"""Options of all that is tried on random graphs."""


@click.command()
@partial(takes_recipe, required=False)
@takes_data
@click.option(
    "--samples", type=click.IntRange(1), default=3, show_default=True, help="Synthetic samples to compare on."
)
@click.option(
    "--tolerance",
    help="exact, close, approximate, reduced, bfloat, quantized or sampled; by the precision unless given.",
)
@click.option(
    "--graphs",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Random graphs for each rule, pipeline or target.",
)
@click.option("--prove", is_flag=True, help="Also try to prove each rule, by z3, over small shapes.")
@click.option(
    "--script",
    type=click.Path(path_type=Path),
    help="Where the program goes that shows a counterexample.",
)
@as_json
@click.pass_context
def command(
    context: click.Context,
    recipe: Recipe,
    data: Data,
    samples: int,
    tolerance: str | None,
    graphs: int,
    prove: bool,
    script: Path | None,
    as_json: bool,
) -> None:
    """Compare compiled MODEL with the reference, or test passes or a target.

    And with ONNX Runtime, if it is installed. With --pass, compare the model before and after these passes
    instead, both by the reference. Exit status 1 if anything differs by more than the tolerance.

    Without MODEL, try what is given on random graphs, and print the smallest that shows a fault, with a
    program that does: --pass FILE tries each rule by itself, on graphs grown around it, --passes a whole
    pipeline, on graphs in which its rules come together, and --target what it compiles of whole graphs.
    """
    from ..target import ports
    from ..verify import tolerance_for

    if not recipe.source.is_given:
        how = OnRandomGraphs(graphs, data.seed, script, as_json)
        context.exit(_on_random_graphs(context, recipe, how, tolerance, prove))
    others = {option.name or "" for option in context.command.params} - {"graphs", "prove", "script"}
    _take_only(context, "a model", *others)
    rung = tolerance_for(recipe.precision, tolerance)
    graph = recipe.source.graph()
    drawn = dataclasses.replace(data, count=samples).samples(list(ports(graph)[0]), graph)
    with progress(f"verifying {recipe.source.path}"):
        if recipe.files:
            done, notes = _passes(recipe, graph, drawn, rung)
        else:
            done, notes = _target(recipe, graph, drawn, rung)
    if done.disputes:
        notes.append(
            f"{JUDGE} itself differs from the reference: the model amplifies rounding, or one is wrong"
        )
    if data.path is None:
        notes.insert(0, f"inputs are synthetic, of seed {data.seed}")
    facts: dict[str, Any] = {
        "agrees": done.agrees,
        "tolerance": rung,
        "samples": len(drawn),
        "notes": notes,
        "comparisons": [dataclasses.asdict(one) | {"agrees": one.agrees} for one in done.comparisons],
    }
    verdict = f"{len(drawn)} sample{'s' * (len(drawn) != 1)}, tolerance {rung}: " + (
        "all agree" if done.agrees else "DIFFERS"
    )
    report(as_json, facts, [*notes, *map(str, done.worst()), verdict])
    context.exit(0 if done.agrees else 1)


def _on_random_graphs(
    context: click.Context, recipe: Recipe, how: OnRandomGraphs, tolerance: str | None, prove: bool
) -> int:
    """The exit status."""
    if recipe.passes is None and not recipe.files:
        if context.get_parameter_source("target") is not ParameterSource.COMMANDLINE:
            raise click.UsageError("verify takes MODEL, or --pass, --passes or --target to try random graphs")
        _take_only(context, "a target on random graphs", *TRIED, "target")
        return how.target(recipe.target)
    _take_only(context, "passes on random graphs", *TRIED, "files", "passes", "tolerance", "prove")
    if recipe.passes is None:
        return how.pass_files(recipe.files, tolerance, prove)
    return how.passes(recipe.pipeline() or "", tolerance, prove)


def _take_only(context: click.Context, what: str, *names: str) -> None:
    """Refuses options that were given and that are not among those `names`."""
    for option in context.command.params:
        is_given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if is_given and isinstance(option, click.Option) and option.name not in names:
            raise click.UsageError(f"{option.opts[0]} does not go with {what}")


def _target(recipe: Recipe, graph: Graph, samples: list[Sample], rung: str) -> tuple[Verification, list[str]]:
    from ..diagnostics import UnsupportedError
    from ..peers import PEERS, installed
    from ..verify import Runner, reference, verify

    truths: dict[str, Runner] = {"the reference": reference(graph)}
    notes: list[str] = []
    if recipe.source.is_onnx and JUDGE not in dict(installed()):
        notes.append(f"{JUDGE} is not installed: compared with the reference only")
    elif recipe.source.is_onnx:
        try:
            truths[JUDGE] = PEERS[JUDGE][1](recipe.source.path, 1)
            truths[JUDGE](samples[0])
        except UnsupportedError as error:
            truths.pop(JUDGE, None)
            notes.append(error.message)
    module = recipe.compile(graph)
    return verify(
        lambda sample: list(module.run(sample).values()), truths, samples, graph.output_names, rung
    ), notes


def _passes(recipe: Recipe, graph: Graph, samples: list[Sample], rung: str) -> tuple[Verification, list[str]]:
    from ..registry import load_pass_file
    from ..verify import verify_passes

    passes = [load_pass_file(path) for path in recipe.files]
    done, changed = verify_passes(graph, passes, samples, rung)
    names = ", ".join(one.name for one in passes)
    return done, [] if changed else [f"{names} did not change this model"]
