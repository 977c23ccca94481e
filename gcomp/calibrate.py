"""Static quantization: the ranges of a model's values over given inputs, and the model with Q and DQ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from .arguments import checked
from .compiler import Model, as_graph, compile, optimize
from .data import Sample, Samples
from .diagnostics import InputError
from .ir import Graph, Value, unused_name
from .pipeline import Pass, parse_pipeline, run_pipeline
from .ranges import CALIBRATIONS, Extremes
from .target import ports
from .timing import tell
from .types import Array

PREPARATION = "fold-constants,fold-batchnorm,clean"
"""What precedes calibration: factors and offsets per channel go into the weights that get rounded."""


class Quantizer(Pass, Protocol):
    """A pass that rounds values."""

    def operands(self, graph: Graph) -> Sequence[Value]:
        """The values whose ranges it needs."""
        ...


@checked
def quantize(
    model: Model,
    data: str | Path | Iterable[Sample],
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    dims: Mapping[str, int] | None = None,
    signed: bool = False,
    calibration: str = "min-max",
    target: str = "llvm",
) -> Graph:
    """The model with 8 bit products: standard QuantizeLinear and DequantizeLinear around its operators.

    `data` are typical inputs: a `.npz` with an array per input, a folder of such, or samples (dicts of arrays
    by input name), of which one at a time is held. `signed` makes activations i8 instead of u8.
    `calibration` and `target` are as for `calibrate`. Raises `InputError` for data that does not fit and for
    a model without anything to quantize.
    """
    graph = optimize(as_graph(model, shapes, dims), PREPARATION)
    passes = parse_pipeline(f"quantize{{signed={'on' if signed else 'off'}}}")
    values = cast(Quantizer, passes[0]).operands(graph)
    if not values:
        raise InputError(f"quantize: graph {graph.name!r} has no Conv, Gemm or MatMul of constant weights")
    samples = Samples(data, ports(graph)[0]) if isinstance(data, str | Path) else data
    calibrate(graph, samples, values, calibration, target)
    run_pipeline(graph, passes)
    return graph


def calibrate(
    graph: Graph,
    samples: Iterable[Sample],
    values: Sequence[Value],
    calibration: str = "min-max",
    target: str = "llvm",
) -> None:
    """Leaves in `graph.metadata["ranges"]`, by name, the least and the greatest number to cover of values.

    The graph is run on `target` with the values for outputs. `calibration` is `min-max`, for all that a value
    takes on, or `entropy`, which may leave out rare large elements (`gcomp.ranges`); one sample's elements
    are held at a time. Values without a name of their own get one. Raises `InputError` for no samples, for
    values that are not finite and for an unknown calibration.
    """
    if calibration not in CALIBRATIONS:
        raise InputError(f"calibration is {' or '.join(CALIBRATIONS)}, got {calibration!r}")
    _name_all(graph)
    observed = {value.name: CALIBRATIONS[calibration]() for value in values}
    given = set(graph.input_names) & set(observed)
    shown = graph.clone()
    made = {value.name: value for op in shown.ops for value in op.results if value.name in observed}
    shown.outputs, shown.output_names = list(made.values()), list(made)
    module = compile(shown, target) if made else None
    count, total = 0, len(samples) if isinstance(samples, Sized) else None
    for sample in samples:
        tell(f"sample {count + 1}", min(1.0, count / total) if total else None)
        count += 1
        results = module.run(sample) if module is not None else {}
        for name, array in (results | {name: np.asarray(sample[name]) for name in given}).items():
            _observe(observed[name], name, array)
    if not count:
        raise InputError("calibration: needs at least one sample, got none")
    graph.metadata["ranges"] = {name: list(seen.range()) for name, seen in observed.items()}


def _observe(seen: Extremes, name: str, array: Array) -> None:
    try:
        if array.size:
            seen.add(array)
    except InputError as error:
        raise InputError(f"calibration: {name}: {error.message}") from error


def _name_all(graph: Graph) -> None:
    """Gives each value of the graph itself a name of its own."""
    taken = {value.name for value in graph.inputs}
    for op in graph.ops:
        for value in op.results:
            value.name = unused_name(value.name or "value", taken)
