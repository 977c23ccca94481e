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
from gcomp.backends.llvm.module import LLVMModule
from gcomp.evaluate import evaluate
from gcomp.tolerance import mismatch
from gcomp.types import Array
from tests.cross import TRIPLE, cross_program, emulate
from tests.models.model_rule import NAMES, trained_model

PERCEPTRONS = ("mnist_mlp", "mnist_cnn", "kws_fp32")
WHOLE = tuple(name for name in NAMES if name != "basic_pitch")
"""All but the one that takes half a minute to compile, and has no operator that the others have not."""
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


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "fp32") for name in WHOLE), *((name, "strict") for name in PERCEPTRONS)]
)
def test_a_row_is_what_it_is_alone(models_dir: Path, name: str, precision: str) -> None:
    model = trained_model(models_dir, name)
    dims = {"batch": (1, 4)}
    module = gcomp.compile(open_batch(model.path), dims=dims, precision=precision, host_steps=False)
    inputs, outputs = next(model.samples())
    [given] = inputs.values()
    expected = {key: array[: len(array) // len(given)] for key, array in outputs.items()}
    given = given[:1]
    alone = module(given)
    assert model.mismatches(alone, [port.name for port in module.outputs], expected) == []
    three = module(np.concatenate([given, given[..., ::-1], given]))
    for whole, one in zip(three, alone, strict=True):
        rows = np.split(whole, 3)
        assert rows[0].tobytes() == rows[2].tobytes() == one.tobytes()


@pytest.mark.arm
@pytest.mark.parametrize("name", ["mnist_cnn", "kws_qdq"])
def test_arm_code_serves_every_batch_and_strict_code_with_the_same_bits(
    models_dir: Path, tmp_path: Path, name: str
) -> None:
    model = trained_model(models_dir, name)
    inputs, outputs = next(model.samples())
    [given] = inputs.values()
    [(key, whole)] = outputs.items()
    rows = np.concatenate([given[:1], given[:1, ..., ::-1], given[:1]])

    def compiled(target: str, precision: str) -> LLVMModule:
        name, dims = f"batch_{precision}", {"batch": (1, 4)}
        module = gcomp.compile(open_batch(model.path), target, dims=dims, precision=precision, name=name)
        assert isinstance(module, LLVMModule)
        return module

    models: list[tuple[LLVMModule, list[Array]]] = [
        (compiled(f"llvm{{triple={TRIPLE},cpu=cortex-a76}}", precision), [rows])
        for precision in ("fp32", "strict")
    ]
    plain, strict = emulate(cross_program(tmp_path, models, "a"), models, "cortex-a76")
    assert (plain.init, plain.run, strict.init, strict.run) == (0, 0, 0, 0)
    first, _, last = np.split(plain.outputs[0], 3)
    assert first.tobytes() == last.tobytes()
    assert model.mismatches([first], [key], {key: whole[: len(whole) // len(given)]}) == []
    assert strict.outputs[0].tobytes() == compiled("llvm", "strict")(rows)[0].tobytes()


@pytest.mark.parametrize("name", PERCEPTRONS)
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
