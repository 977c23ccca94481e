"""`gcomp compile`: a model becomes a library, an archive, an object or its code as text."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .options import Recipe, as_json, output, takes_recipe
from .report import duration, progress, report, size


@click.command()
@takes_recipe
@output("File to write; its suffix says what: .so .a .o .h .ll .s", required=True)
@click.option("--name", help="Prefix of the symbols; from the name of the output unless given.")
@as_json
def command(recipe: Recipe, output: Path, name: str | None, as_json: bool) -> None:
    """Compile MODEL to native code with a C header.

    MODEL is .onnx, or .gc as `gcomp optimize` writes it. What sizes it leaves open is bound by --shape or
    --dim; a range, as in --dim batch=1..64, stays the choice of each call.
    """
    start = time.perf_counter()
    with progress(f"compiling {recipe.source.path}"):
        module = recipe.compile(name=name or output.stem)
        written = module.save(output)
    facts: dict[str, Any] = {
        "files": {str(path): path.stat().st_size for path in written},
        "seconds": time.perf_counter() - start,
        "timings": module.timings,
        "arena_bytes": module.manifest["arena_bytes"],
        "weights_bytes": module.manifest["weights_bytes"],
        "inputs": {port.name: str(port) for port in module.inputs},
        "outputs": {port.name: str(port) for port in module.outputs},
        "host_steps": module.host_steps,
        "decisions": [asdict(decision) for decision in module.decisions],
    }
    phases = ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in module.timings.items())
    report(
        as_json,
        facts,
        [
            *(f"{path}  {size(count)}" for path, count in facts["files"].items()),
            f"compiled in {duration(facts['seconds'])} ({phases or 'from the cache'})",
            *(f"input {name}: {type}" for name, type in facts["inputs"].items()),
            *(f"output {name}: {type}" for name, type in facts["outputs"].items()),
            f"weights {size(facts['weights_bytes'])}, working memory {size(facts['arena_bytes'])}",
            *map(str, module.decisions),
        ],
    )
