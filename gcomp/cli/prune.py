"""`gcomp prune`: sets the least weights of a model to zero, and says how many of each layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import TEXT_SUFFIX, Source, as_json, output, takes_source
from .report import progress, report, table


@click.command()
@takes_source
@click.option("--sparsity", required=True, help="The share of weights that become zero, as in 0.8.")
@click.option(
    "--structure",
    default="unstructured",
    show_default=True,
    help="What becomes zero together: unstructured, 4x1 for blocks of 4 outputs, or N:M.",
)
@click.option(
    "--scope",
    default="layer",
    show_default=True,
    help="Within what weights compete: layer, global, or balanced for each output.",
)
@output(f"Model to write: ONNX, or text where it ends in {TEXT_SUFFIX}.", required=True)
@as_json
def command(source: Source, sparsity: str, structure: str, scope: str, output: Path, as_json: bool) -> None:
    """Set the weights of least magnitude in MODEL to zero. It needs no data; everything else stays.

    Blocks of 4x1 run faster from few zeros on. Check what the model still knows on data of yours.
    """
    from .. import registry
    from ..compiler import optimize
    from ..pipeline import with_options
    from ..save import save_onnx
    from ..text import save_text
    from ..weights import layers, zero_share

    options = {"sparsity": sparsity, "structure": structure, "scope": scope}
    prune: Any = with_options(registry.find("passes", "prune"), options)
    with progress(f"pruning {source.path}"):
        graph = source.graph()
        pruned = optimize(graph, [prune])
        if output.suffix == TEXT_SUFFIX:
            save_text(pruned, output)
        else:
            save_onnx(pruned, output)
    facts: list[dict[str, Any]] = []
    for before, after in zip(layers(graph), layers(pruned), strict=True):
        shares = [None if layer.obstacle else zero_share(layer.array) for layer in (before, after)]
        facts.append(
            {
                "layer": before.name,
                "operator": before.op.kind,
                "weights": str(before.weights.type),
                "before": shares[0],
                "sparsity": shares[1],
                "left": prune.obstacle(before),
            }
        )
    rows = [
        [
            fact["layer"],
            fact["operator"],
            fact["weights"],
            *("" if share is None else f"{share:.1%}" for share in (fact["before"], fact["sparsity"])),
            f"left: {fact['left']}" if fact["left"] else "",
        ]
        for fact in facts
    ]
    changed = [after for after, fact in zip(layers(pruned), facts, strict=True) if not fact["left"]]
    arrays = {id(layer.array): layer.array for layer in changed}.values()
    total, zeros = sum(a.size for a in arrays), sum(zero_share(a) * a.size for a in arrays)
    overall = zeros / total if total else 0.0
    report(
        as_json,
        {"output": str(output), "sparsity": overall, "layers": facts},
        [
            *table(["layer", "operator", "weights", "before", "zeros", ""], rows),
            f"{output}: {overall:.1%} of {total} weights in {len(changed)} layers are zero",
        ],
    )
