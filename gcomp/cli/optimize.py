"""`gcomp optimize`: runs passes on a model and writes it again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from ..precision import DEFAULT
from .options import TEXT_SUFFIX, Recipe, Source, as_json, output, pass_files, takes_source
from .report import progress, report


@click.command()
@takes_source
@click.option("--passes", default="", help="Passes to run, separated by commas.")
@pass_files("A Python file with a pass to run; first, or where --passes names it; repeatable.")
@output(f"Model to write: ONNX, or text where it ends in {TEXT_SUFFIX}.", required=True)
@as_json
def command(source: Source, passes: str, files: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Run passes on MODEL and write what comes of it."""
    from ..compiler import optimize
    from ..diagnostics import InputError
    from ..save import save_onnx
    from ..text import save_text

    if not passes and not files:
        raise InputError("optimize: say what to run, by --passes or --pass")
    with progress(f"optimizing {source.path}"):
        graph = source.graph()
        before = Counter(op.kind for op in graph.walk())
        graph = optimize(graph, Recipe(source, "", 1, DEFAULT, passes, files).pipeline() or "")
        if output.suffix == TEXT_SUFFIX:
            save_text(graph, output)
        else:
            save_onnx(graph, output)
    after = Counter(op.kind for op in graph.walk())
    changes = {
        kind: [before[kind], after[kind]] for kind in sorted(before | after) if before[kind] != after[kind]
    }
    report(
        as_json,
        {"output": str(output), "operators": {"before": dict(before), "after": dict(after)}},
        [
            f"{output}: {after.total()} operators and constants, {before.total()} before",
            *(f"{kind}: {old} -> {new}" for kind, (old, new) in changes.items()),
        ],
    )
