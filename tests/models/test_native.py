"""Trained models as native code: in this process, from a library, from C; their text after every pass."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm import LLVM
from gcomp.compiler import optimize
from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.pipeline import PassRun, parse_pipeline, run_pipeline
from gcomp.target import Runnable
from gcomp.text import parse
from tests.models.model_rule import NAMES, TrainedModel, trained_model


def shapes_of(model: TrainedModel) -> dict[str, tuple[int, ...]]:
    inputs, _ = next(model.samples())
    return {name: array.shape for name, array in inputs.items()}


def complaints(model: TrainedModel, module: Runnable) -> list[str]:
    """What breaks the model rule, over all samples."""
    found: list[str] = []
    for inputs, expected in model.samples():
        results = module.run(inputs)
        found += model.mismatches(list(results.values()), list(results), expected)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_native_code_keeps_the_model_rule(models_dir: Path, tmp_path: Path, name: str) -> None:
    model = trained_model(models_dir, name)
    module = gcomp.compile(model.path, shapes=shapes_of(model), host_steps=False)
    assert complaints(model, module) == []
    if shutil.which("ld") is None and shutil.which("gcc") is None:
        pytest.skip("there is no linker; the module was right in this process")
    module.save(tmp_path / f"{name}.so")
    assert complaints(model, gcomp.load(tmp_path / f"{name}.so")) == []


@pytest.mark.parametrize("name", NAMES)
def test_text_is_exact_after_every_pass(models_dir: Path, name: str) -> None:
    model = trained_model(models_dir, name)
    graph = gcomp.lift(model.path, shapes=shapes_of(model))

    def compare(done: PassRun, graph: Graph) -> None:
        text = str(graph)
        again = parse(text)
        assert str(again) == text, f"after {done.text}"
        assert again == graph

    run_pipeline(graph, parse_pipeline(LLVM().pipeline), observer=compare, check="text")


def test_passes_keep_what_the_references_say(models_dir: Path) -> None:
    model = trained_model(models_dir, "ultraface_rfb320")
    graph = optimize(gcomp.lift(model.path), LLVM().pipeline)
    inputs, expected = next(model.samples())
    assert model.mismatches(evaluate(graph, inputs), graph.output_names, expected) == []


def test_quantized_products_are_computed_in_integers(models_dir: Path) -> None:
    model = trained_model(models_dir, "kws_qdq")
    graph = optimize(gcomp.lift(model.path, shapes=shapes_of(model)), LLVM().pipeline)
    kinds = [op.kind for op in graph.walk()]
    assert (kinds.count("ConvInteger"), kinds.count("MatMulInteger")) == (3, 3)
    assert not {"Conv", "Gemm", "MatMul"} & set(kinds)


PROGRAM = """
#include <stdio.h>
#include "mnist_cnn.h"
static float image[MNIST_CNN_INPUT_0_SIZE], scores[MNIST_CNN_OUTPUT_0_SIZE];
static _Alignas(64) unsigned char arena[MNIST_CNN_ARENA_BYTES];
int main(void) {
    mnist_cnn_ctx ctx;
    int code = mnist_cnn_init(&ctx);
    ctx.arena = arena;
    while (!code && fread(image, sizeof image, 1, stdin) == 1) {
        code = mnist_cnn(&ctx, image, scores);
        fwrite(scores, sizeof scores, 1, stdout);
    }
    return code;
}
"""


def test_a_c_program_keeps_the_model_rule(models_dir: Path, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    model = trained_model(models_dir, "mnist_cnn")
    gcomp.compile(model.path, host_steps=False).save(tmp_path / "mnist_cnn.a")
    (tmp_path / "main.c").write_text(PROGRAM)
    subprocess.run([compiler, "-O1", "-o", "main", "main.c", "mnist_cnn.a"], cwd=tmp_path, check=True)
    samples = list(model.samples())
    stdin = b"".join(array.tobytes() for inputs, _ in samples for array in inputs.values())
    done = subprocess.run([tmp_path / "main"], input=stdin, capture_output=True, check=True)
    results = np.frombuffer(done.stdout, np.float32).reshape(len(samples), 1, 10)
    for (_, expected), result in zip(samples, results, strict=True):
        ((output, wanted),) = expected.items()
        assert model.mismatch(output, result, wanted) == ""
