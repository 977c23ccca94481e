"""Static quantization: the ranges of a model's values over given inputs, and the model with Q and DQ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .compiler import Model, as_graph, optimize
from .data import Sample, load_samples
from .diagnostics import InputError
from .evaluate import evaluate
from .ir import Graph, Value
from .op import Constant
from .pipeline import parse_pipeline, run_pipeline
from .target import ports
from .types import F32, Array

PREPARATION = "fold-constants,fold-batchnorm,clean"
"""What precedes calibration: factors and offsets per channel go into the weights that get rounded."""


def quantize(
    model: Model,
    data: str | Path | Iterable[Sample],
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    dims: Mapping[str, int] | None = None,
    signed: bool = False,
) -> Graph:
    """The model with 8 bit products: standard QuantizeLinear and DequantizeLinear around its operators.

    `data` are typical inputs: a `.npz` with an array per input, a folder of such, or samples (dicts of arrays
    by input name), of which one at a time is held. `signed` makes activations i8 instead of u8. Raises
    `InputError` for data that does not fit and for a model without anything to quantize.
    """
    graph = optimize(as_graph(model, shapes, dims), PREPARATION)
    samples = load_samples(data, ports(graph)[0]) if isinstance(data, str | Path) else data
    calibrate(graph, samples)
    before = len(graph.ops)
    run_pipeline(graph, parse_pipeline(f"quantize{{signed={'on' if signed else 'off'}}}"))
    if len(graph.ops) == before:
        raise InputError(f"quantize: graph {graph.name!r} has no Conv, Gemm or MatMul of constant weights")
    return graph


def calibrate(graph: Graph, samples: Iterable[Sample]) -> None:
    """Leaves in `graph.metadata["ranges"]`, by name, the least and the largest element of each f32 value.

    Values are those of the references. Values without a name of their own get one. Raises `InputError` for
    no samples and for values that are not finite.
    """
    _name_all(graph)
    ranges: dict[str, list[float]] = {}

    def look(value: Value, array: Array) -> None:
        if value.type.dtype != F32 or isinstance(value.owner, Constant) or not array.size:
            return
        low, high = float(array.min()), float(array.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(f"calibration: {value!r} is not finite: it lies in [{low}, {high}]")
        known = ranges.setdefault(value.name, [low, high])
        known[:] = [min(known[0], low), max(known[1], high)]

    count = 0
    for sample in samples:
        count += 1
        evaluate(graph, sample, keep=look)
    if not count:
        raise InputError("calibration: needs at least one sample, got none")
    graph.metadata["ranges"] = ranges


def _name_all(graph: Graph) -> None:
    """Gives each value of the graph itself a name of its own."""
    taken = {value.name for value in graph.inputs}
    for op in graph.ops:
        for value in op.results:
            base, number = value.name or "value", 0
            while not value.name or value.name in taken:
                number += 1
                value.name = f"{base}_{number}"
            taken.add(value.name)
