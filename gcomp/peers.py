"""Other engines on the same model, where they are installed: to compare numbers and speed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .data import Sample
from .diagnostics import UnsupportedError
from .stopwatch import Timing, interleaved
from .target import Runnable
from .types import Array
from .verify import Runner, compare

ModelFile = str | Path | bytes
Opener = Callable[[ModelFile, int], Runner]


def onnx_runtime(model: ModelFile, threads: int = 1) -> Runner:
    """The model in ONNX Runtime, fully optimised. Raises `UnsupportedError` if it does not take it."""
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common but this
        raise UnsupportedError(f"ONNX Runtime does not take this model: {error}") from error

    def run(sample: Sample) -> list[Array]:
        try:
            return [np.asarray(array) for array in session.run(None, sample)]
        except Exception as error:
            raise UnsupportedError(f"ONNX Runtime fails on this input: {error}") from error

    return run


def openvino(model: ModelFile, threads: int = 1) -> Runner:
    """The model in OpenVINO, tuned for latency in f32. Raises `UnsupportedError` if it does not take it."""
    vino: Any = import_module("openvino")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    try:
        core = vino.Core()
        read = core.read_model(model=model) if isinstance(model, bytes) else core.read_model(str(model))
        compiled = core.compile_model(read, "CPU", settings)
    except RuntimeError as error:
        raise UnsupportedError(f"OpenVINO does not take this model: {error}") from error
    request = compiled.create_infer_request()

    def run(sample: Sample) -> list[Array]:
        try:
            found = request.infer(sample)
        except RuntimeError as error:
            raise UnsupportedError(f"OpenVINO fails on this input: {error}") from error
        return [np.asarray(found[output]) for output in compiled.outputs]

    return run


PEERS: dict[str, tuple[str, Opener]] = {
    "ONNX Runtime": ("onnxruntime", onnx_runtime),
    "OpenVINO": ("openvino", openvino),
}


def installed() -> Iterator[tuple[str, Opener]]:
    """The peers that can be imported here, by the names people know them by."""
    for name, (module, open_model) in PEERS.items():
        if find_spec(module) is not None:
            yield name, open_model


@dataclass
class Race:
    """Times by engine, `gcomp` first; the greatest scaled difference of gcomp's outputs from each peer's."""

    timings: dict[str, Timing] = field(default_factory=dict[str, Timing])
    differences: dict[str, float] = field(default_factory=dict[str, float])
    notes: list[str] = field(default_factory=list[str])

    def ratio(self, name: str) -> float:
        """How many times as long as gcomp the engine `name` takes."""
        return self.timings[name].median / self.timings["gcomp"].median


def race(
    module: Runnable, model: ModelFile | None, sample: Sample, threads: int = 1, seconds: float = 3.0
) -> Race:
    """Times a compiled module in turn with each installed peer that takes `model`; None for no peers."""
    arrays = list(sample.values())
    ours = module(*arrays)
    result = Race()
    calls: dict[str, Callable[[], object]] = {"gcomp": lambda: module(*arrays)}
    for name, open_model in installed():
        if model is None:
            break
        try:
            run = open_model(model, threads)
            found = run(sample)
        except UnsupportedError as error:
            result.notes.append(error.message)
            continue
        result.differences[name] = max(
            (compare(mine, its, "approximate").scaled for mine, its in zip(ours, found, strict=True)),
            default=0.0,
        )
        calls[name] = lambda run=run: run(sample)
    result.timings = interleaved(calls, seconds)
    return result
