"""`gcomp quantize`: rounds a model's products to 8 bits, by the ranges that given inputs show."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from .options import TEXT_SUFFIX, Source, as_json, output, takes_source
from .report import progress, report


@click.command()
@takes_source
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Typical inputs: a .npz with an array per input, or a folder of such files.",
)
@click.option(
    "--calibration",
    type=click.Choice(["min-max", "entropy"]),
    default="min-max",
    show_default=True,
    help="Ranges that cover all elements, or those that keep most information.",
)
@click.option("--signed", is_flag=True, help="Make activations i8 instead of u8.")
@output(f"Model to write: ONNX, or text where it ends in {TEXT_SUFFIX}.", required=True)
@as_json
def command(source: Source, data: Path, calibration: str, signed: bool, output: Path, as_json: bool) -> None:
    """Quantize MODEL statically and write it with QuantizeLinear and DequantizeLinear."""
    from ..calibrate import quantize
    from ..save import save_onnx
    from ..text import save_text

    with progress(f"quantizing {source.path}"):
        graph = quantize(source.graph(), data, signed=signed, calibration=calibration)
        if output.suffix == TEXT_SUFFIX:
            save_text(graph, output)
        else:
            save_onnx(graph, output)
    kinds = Counter(op.kind for op in graph.walk())
    activations = kinds["QuantizeLinear"]
    tensors = kinds["DequantizeLinear"] - activations
    report(
        as_json,
        {"output": str(output), "activations": activations, "constants": tensors},
        [f"{output}: {activations} activations and {tensors} weights and biases in integers"],
    )
