"""Trained models with a batch that each call chooses: one artefact against the model at each size."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import gcomp
from gcomp.evaluate import evaluate
from gcomp.tolerance import mismatch
from tests.models.model_rule import trained_model

NAMES = ("mnist_mlp", "mnist_cnn", "kws_fp32")
LARGEST = 130
COUNT = 200


def open_batch(path: Path) -> ModelProto:
    """The model with the size `batch` where it has a batch of 1, in shapes that it reshapes to as well."""
    model = onnx.load(path)
    [given] = [one for one in model.graph.input if one.name not in {w.name for w in model.graph.initializer}]
    given.type.tensor_type.shape.dim[0].dim_param = "batch"
    made = {name for node in model.graph.node for name in node.output}
    data = {given.name}
    for node in model.graph.node:
        if not data & set(node.input):
            continue
        data |= set(node.output)
        for weight in model.graph.initializer:
            if (
                node.op_type == "Reshape"
                and weight.name == node.input[1]
                and node.input[0] in made | {given.name}
            ):
                shape = numpy_helper.to_array(weight).copy()
                shape[0] = -1 if -1 not in shape[1:] else 0
                weight.CopyFrom(numpy_helper.from_array(shape, weight.name))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_one_artefact_serves_two_hundred_batches(models_dir: Path, name: str) -> None:
    model = open_batch(trained_model(models_dir, name).path)
    graph = gcomp.lift(model)
    module = gcomp.compile(model, dims={"batch": (1, LARGEST)}, host_steps=False)
    assert module.inputs[0].shape[0] == "batch"
    rng = np.random.default_rng(17)
    shape = [int(size) for size in module.inputs[0].shape[1:]]
    rows = rng.standard_normal((LARGEST, *shape)).astype(np.float32)
    alone = np.concatenate([module(rows[n : n + 1])[0] for n in range(LARGEST)])
    [expected] = evaluate(graph, [rows[:3]])
    assert not (why := mismatch(alone[:3], expected, "approximate")), why
    sizes = [int(size) for size in rng.integers(1, LARGEST + 1, COUNT)]
    tracemalloc.start()
    for size in sizes:
        assert module(rows[:size])[0].tobytes() == alone[:size].tobytes(), size
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for size in sizes:
        module(rows[:size])
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000, grown
