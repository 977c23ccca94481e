"""`gcomp verify`: compares the numbers of the compiled model with the reference and with ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Data, Recipe, as_json, takes_data, takes_recipe
from .report import progress, report

if TYPE_CHECKING:
    from ..data import Sample
    from ..ir import Graph
    from ..pipeline import Pass
    from ..testing.proof import Proof
    from ..verify import Verification


JUDGE = "ONNX Runtime"


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
    "--graphs", type=click.IntRange(1), default=200, show_default=True, help="Random graphs for each rule."
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
    """Compare compiled MODEL with the reference, or test a pass.

    And with ONNX Runtime, if it is installed. With --pass, compare the model before and after these passes
    instead, both by the reference. With --pass and no MODEL, run each rule on random graphs grown around it,
    and print the smallest on which it changes the answer, with a program that shows it. Exit status 1 if
    anything differs by more than the tolerance.
    """
    from ..target import ports
    from ..verify import tolerance_for

    if not recipe.source.is_given:
        if not recipe.files:
            raise click.UsageError("verify takes MODEL, or --pass FILE to test that pass on random graphs")
        context.exit(_on_random_graphs(recipe.files, graphs, data.seed, tolerance, prove, script, as_json))
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
    files: Sequence[Path],
    graphs: int,
    seed: int,
    tolerance: str | None,
    prove: bool,
    script: Path | None,
    as_json: bool,
) -> int:
    """Tests each pass on random graphs; the exit status."""
    from ..files import replacing
    from ..registry import load_pass_file
    from ..testing import Counterexample, check_pass

    for file in files:
        one = load_pass_file(file)
        facts: dict[str, Any] = {"pass": one.name, "holds": True}
        try:
            with progress(f"testing {one.name}"):
                found = check_pass(one, graphs, tolerance, seed)
        except Counterexample as wrong:
            program = wrong.script(file)
            facts |= {"holds": False, "rule": wrong.rule, "complaint": wrong.complaint}
            facts |= {"graph": str(wrong.case.graph), "script": program}
            if script is not None:
                with replacing(script) as new:
                    new.write(program.encode())
            shown = f"written to {script}" if script is not None else f"\n\n{program}"
            report(as_json, facts, [str(wrong), "", f"A program that shows it: {shown}"])
            return 1
        facts["rules"] = [tally.facts() for tally in found.tallies]
        lines = [str(found)]
        if prove:
            with progress(f"proving {one.name}"):
                proofs = _proofs(one)
            facts["proofs"] = [dataclasses.asdict(proof) for proof in proofs]
            lines += [f"{proof.rule}: {proof}" for proof in proofs]
            if any(proof.verdict == "wrong" for proof in proofs):
                report(as_json, facts | {"holds": False}, lines)
                return 1
        report(as_json, facts, lines)
    return 0


def _proofs(one: Pass) -> list[Proof]:
    from ..rewrite import RewritePass
    from ..testing.proof import prove

    return [prove(rule) for rule in one.rules] if isinstance(one, RewritePass) else []


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
