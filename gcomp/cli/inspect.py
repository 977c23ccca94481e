"""`gcomp inspect`: shows a model as text, before or after passes, with what it costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..precision import DEFAULT
from .options import DEFAULT_TARGET, Recipe, Source, as_json, pass_files, takes_source
from .report import progress, report, size

if TYPE_CHECKING:
    from ..ir import Graph


@click.command()
@takes_source
@click.option("--passes", help="Passes to run first, separated by commas.")
@pass_files("A Python file with a pass to run; first, or where --passes names it; repeatable.")
@click.option("--target", help="Show what this target's own passes make of the model.")
@click.option("--summary", is_flag=True, help="Leave the text of the graph out.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    help="A page to write, about the model before and after it is compiled; it needs no network.",
)
@as_json
def command(
    source: Source,
    passes: str | None,
    files: tuple[Path, ...],
    target: str | None,
    summary: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show MODEL as text, and what it costs.

    What is printed is the text form: the summary is in its comments, and a .gc file of it is a model again.
    """
    from ..compiler import optimize, parse_target
    from ..watch import Decisions, watching

    graph = source.graph()
    pipeline = Recipe(source, target or "", 1, DEFAULT, passes, files).pipeline()
    if html is not None:
        _write_page(html, graph, Recipe(source, target or DEFAULT_TARGET, 1, DEFAULT, passes, files))
    if pipeline is None and target is not None:
        pipeline = parse_target(target).pipeline
    with watching(Decisions()) as told:
        if pipeline:
            graph = optimize(graph, pipeline)
    facts = graph_facts(graph)
    facts["decisions"] = [asdict(decision) for decision in told.found]
    shown = not summary and html is None
    if shown:
        facts["text"] = str(graph)
    if html is not None:
        facts["html"] = str(html)
    kinds = ", ".join(f"{kind} {count}" for kind, count in facts["operators"].items())
    lines = [
        f"# {sum(facts['operators'].values())} operators: {kinds}",
        f"# {facts['parameters']} parameters, {size(facts['parameter_bytes'])}",
        f"# {facts['flops']} floating-point operations",
    ]
    if facts["symbols"]:
        lines.append(f"# symbolic sizes: {', '.join(facts['symbols'])}")
    lines += [f"# {decision}" for decision in told.found]
    if html is not None:
        lines.append(f"# page written to {html}")
    report(as_json, facts, [*lines, str(graph).rstrip("\n")] if shown else lines)


def _write_page(path: Path, graph: Graph, recipe: Recipe) -> None:
    from ..diagnostics import InputError
    from ..files import replacing
    from ..page import page

    if open := set(graph.symbols()) - set(graph.ranges):
        names = ", ".join(sorted(open))
        raise InputError(f"inspect: --html is about a compiled model: bind {names} by --dim or --shape")
    with progress(f"compiling {recipe.source.path}"):
        text = page(graph, recipe.compile(graph))
    with replacing(path) as file:
        file.write(text.encode())


def graph_facts(graph: Graph) -> dict[str, Any]:
    from ..dim import Dim
    from ..op import Constant, Operator
    from ..ops.group import Group

    ops = [op for op in graph.walk() if not isinstance(op, Constant)]
    arrays = {id(op.value): op.value for op in graph.walk() if isinstance(op, Constant)}.values()
    flops: Dim = 0
    for op in ops:
        if isinstance(op, Operator) and not isinstance(op, Group):  # what is in a group is listed itself
            flops = flops + op.flops
    return {
        "name": graph.name,
        "inputs": {value.name: str(value.type) for value in graph.inputs},
        "outputs": {
            name: str(value.type) for name, value in zip(graph.output_names, graph.outputs, strict=True)
        },
        "operators": dict(Counter(op.kind for op in ops).most_common()),
        "parameters": sum(array.size for array in arrays),
        "parameter_bytes": sum(array.nbytes for array in arrays),
        "flops": flops if isinstance(flops, int) else str(flops),
        "symbols": graph.symbols(),
    }
