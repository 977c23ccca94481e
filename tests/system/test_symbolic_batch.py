"""One artefact for a range of batch sizes: from Python, from a file, from C; what is refused, and how."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gcomp
from examples.networks import RandomNetwork
from examples.resnet50 import bottleneck
from gcomp.backends.llvm.module import LLVMModule
from gcomp.diagnostics import BuildError, InputError
from gcomp.dim import symbol
from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.native import ErrorCode, Frame
from gcomp.op import constant
from gcomp.ops import Gemm, MatMul, Relu, Softmax, Transpose
from gcomp.specialise import bind
from gcomp.tolerance import mismatch
from gcomp.types import F32, Array, TensorType
from tests.programs import build, run

LARGEST = 64


@pytest.fixture(scope="module")
def digits(repository: Path) -> LLVMModule:
    module = gcomp.compile(str(repository / "examples" / "digits.onnx"), dims={"batch": (1, LARGEST)})
    assert isinstance(module, LLVMModule)
    return module


@pytest.fixture(scope="module")
def images(repository: Path) -> Array:
    with np.load(repository / "examples" / "digits.npz") as data:
        return (data["test_images"] / 16).astype(np.float32)


def perceptron() -> Graph:
    """Two layers with an unaligned middle, and a softmax."""
    rng, graph = np.random.default_rng(5), Graph("perceptron")
    x = graph.add_input(TensorType(F32, (symbol("batch"), 20)), "x")
    w, v = (constant(rng.standard_normal(shape).astype(np.float32)) for shape in ((20, 37), (37, 3)))
    hidden = graph.add(Relu(Gemm(x, w, constant(rng.standard_normal(37).astype(np.float32))).result)).result
    graph.outputs, graph.output_names = [graph.add(Softmax(MatMul(hidden, v).result)).result], ["y"]
    return graph


def test_two_hundred_batches_from_one_module_and_no_growth() -> None:
    graph = perceptron()
    module = gcomp.compile(graph, dims={"batch": (1, 500)})
    assert isinstance(module, LLVMModule)
    rng = np.random.default_rng(11)
    arrays = [rng.standard_normal((size, 20)).astype(np.float32) for size in rng.integers(1, 501, 200)]
    for array in arrays:
        [expected] = evaluate(bind(graph, {"batch": len(array)}), [array])
        assert not (why := mismatch(module(array)[0], expected, "approximate")), why
    gc.collect()
    tracemalloc.start()
    for array in arrays:
        module(array)
    gc.collect()
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000  # shapes that are remembered, no arrays
    assert most < 2 * module.arena_bytes + 200_000


def test_a_row_does_not_depend_on_its_batch(digits: LLVMModule, images: Array) -> None:
    alone = np.concatenate([digits(images[row : row + 1])[0] for row in range(LARGEST)])
    for size in (2, 3, 16, 17, LARGEST):
        assert digits(images[:size])[0].tobytes() == alone[:size].tobytes()


def test_a_loaded_library_serves_every_batch(digits: LLVMModule, images: Array, tmp_path: Path) -> None:
    digits.save(tmp_path / "digits.so")
    loaded = gcomp.load(tmp_path / "digits.so")
    assert loaded.inputs == tuple(digits.inputs)
    for size in (1, 5, LARGEST, 2):
        assert loaded(images[:size])[0].tobytes() == digits(images[:size])[0].tobytes()


def test_a_range_gets_the_kernels_of_one_size(digits: LLVMModule, repository: Path) -> None:
    one = gcomp.compile(str(repository / "examples" / "digits.onnx"), dims={"batch": 1})
    codes = [step.code for step in digits.steps()]
    assert codes == [step.code for step in one.steps()] and "conv" in codes and "pool" in codes


def test_the_text_form_keeps_the_range(digits: LLVMModule) -> None:
    text = str(digits.graph)
    assert "where batch=1..64 {" in text.splitlines()[0]
    assert str(gcomp.parse(text)) == text


@pytest.mark.parametrize("size", [0, LARGEST + 1])
def test_a_batch_out_of_range_is_one_error(digits: LLVMModule, size: int) -> None:
    message = rf"digits: input image must be f32\[batch,1,8,8\] with batch from 1 to 64, got batch={size}"
    with pytest.raises(InputError, match=message):
        digits(np.zeros((size, 1, 8, 8), np.float32))


def test_other_shapes_are_refused_as_ever(digits: LLVMModule) -> None:
    with pytest.raises(InputError, match=r"must be f32\[3,1,8,8\], got f32\[3,1,8,7\]"):
        digits(np.zeros((3, 1, 8, 7), np.float32))
    with pytest.raises(InputError, match=r"got shape \(3, 8, 8\)"):
        digits(np.zeros((3, 8, 8), np.float32))


@pytest.fixture(scope="module")
def residual() -> Graph:
    """Two residual blocks of ResNet-50's form over small images, and a classifier; the batch is open."""
    net = RandomNetwork("residual", 0)
    x = net.conv("image", "stem", (3, 32), 3)
    x = bottleneck(net, bottleneck(net, x, "first", 32, 16, 2), "second", 64, 16, 1)
    net.classifier(x, 64, 10)
    return gcomp.lift(net.model("image", ("batch", 3, 16, 16), "logits", ("batch", 10)))


def integers(graph: Graph) -> Graph:
    rng = np.random.default_rng(1)
    return gcomp.quantize(graph, [{"image": rng.standard_normal((4, 3, 16, 16)).astype(np.float32)}])


def sparse(graph: Graph) -> Graph:
    passes = "fold-constants,simplify,fold-batchnorm,prune{sparsity=0.97}"
    return gcomp.optimize(graph, passes)


@pytest.mark.parametrize(
    ("change", "precision", "templates"),
    [
        (None, "fp32", {"conv", "gemm"}),
        (None, "strict", {"conv", "gemm"}),
        (integers, "fp32", {"integer_conv", "integer_gemm"}),
        (sparse, "fp32", {"sparse"}),
    ],
)
def test_a_residual_network_is_compiled_once_and_each_row_alone_is_the_same(
    residual: Graph, change: Callable[[Graph], Graph] | None, precision: str, templates: set[str]
) -> None:
    graph = residual if change is None else change(residual)
    module = gcomp.compile(graph, dims={"batch": (1, 9)}, precision=precision, host_steps=False)
    assert isinstance(module, LLVMModule)
    assert templates <= {unit.template for unit in module.program.units.values()}
    rows = np.random.default_rng(2).standard_normal((9, 3, 16, 16)).astype(np.float32)
    alone = np.concatenate([module(rows[n : n + 1])[0] for n in range(9)])
    [expected] = evaluate(module.graph, [rows])
    assert not (why := mismatch(alone, expected, "approximate")), why
    for size in (2, 5, 9):
        assert module(rows[:size])[0].tobytes() == alone[:size].tobytes()


PROGRAM = """#include <stdio.h>
#include <stdlib.h>
#include "digits.h"

static float image[DIGITS_INPUT_0_SIZE(DIGITS_SIZE_BATCH_MAX)];
static float logits[DIGITS_OUTPUT_0_SIZE(DIGITS_SIZE_BATCH_MAX)];

int main(void) {
    digits_ctx ctx;
    int64_t largest, needed, batch, shape[] = DIGITS_INPUT_0_SHAPE(5), result[2];
    gcomp_tensor in = {image, GCOMP_F32, DIGITS_INPUT_0_RANK, shape}, out = {NULL, 0, 0, result};
    if (digits_init(&ctx)) return 2;
    if (digits_sizes(NULL, &out, &largest)) return 3;
    printf("%d %d %d\\n", (int)result[0], (int)result[1], largest == DIGITS_ARENA_BYTES);
    if (digits_sizes(&in, &out, &needed)) return 4;
    printf("%d %d %d\\n", (int)result[0], (int)result[1], needed < largest);
    ctx.arena = aligned_alloc(GCOMP_ALIGNMENT, (size_t)largest);
    if (fread(image, sizeof(float), DIGITS_INPUT_0_SIZE(64), stdin) != DIGITS_INPUT_0_SIZE(64)) return 5;
    for (batch = 0; batch <= 65; batch += 13) {
        int code = digits(&ctx, batch, image, logits);
        printf("%d:", code);
        for (int64_t i = 0; code == GCOMP_OK && i < batch; i++) {
            int best = 0;
            for (int k = 1; k < 10; k++) if (logits[10 * i + k] > logits[10 * i + best]) best = k;
            printf(" %d", best);
        }
        printf("\\n");
    }
    free(ctx.arena);
    return 0;
}
"""


def test_a_program_chooses_its_batch(digits: LLVMModule, images: Array, tmp_path: Path) -> None:
    digits.save(tmp_path / "digits.a")
    program = build(tmp_path, PROGRAM, tmp_path / "digits.a")
    done = subprocess.run([program], input=images[:LARGEST].tobytes(), capture_output=True, check=True)
    classes = [str(best) for best in digits(images[:LARGEST])[0].argmax(1)]
    expected = [
        "64 10 1",
        "5 10 1",
        f"{ErrorCode.SIZE:d}:",
        *(" ".join(["0:", *classes[:size]]) for size in (13, 26, 39, 52)),
        f"{ErrorCode.SIZE:d}:",
    ]
    assert done.stdout.decode().splitlines() == expected


def test_the_command_line_takes_a_range(repository: Path, tmp_path: Path) -> None:
    model, library = repository / "examples" / "digits.onnx", tmp_path / "digits.so"
    run(sys.executable, "-m", "gcomp", "compile", model, "--dim", "batch=1..8", "-o", library)
    assert gcomp.load(library)(np.zeros((8, 1, 8, 8), np.float32))[0].shape == (8, 10)
    assert "all agree" in run(sys.executable, "-m", "gcomp", "verify", model, "--dim", "batch=1..8")


def turned() -> Graph:
    """The batch becomes the inner axis."""
    graph = Graph("turned")
    x = graph.add_input(TensorType(F32, (symbol("batch"), 3)), "x")
    graph.outputs, graph.output_names = [graph.add(Transpose(x, (1, 0))).result], ["y"]
    return graph


def test_what_cannot_be_one_code_is_compiled_for_each_size_and_not_saved(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"one code for all values of batch is not possible.*outermost axis"):
        module = gcomp.compile(turned(), dims={"batch": (2, 9)})
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert np.array_equal(module(x)[0], x.T)
    with pytest.raises(InputError, match=r"batch=1: declared as 2\.\.9"):
        module(x[:1])
    with pytest.raises(BuildError, match="one code for all values of batch is not possible"):
        module.save(tmp_path / "turned.so")
    assert not list(tmp_path.iterdir())


def test_a_size_that_may_be_repeated_is_left_to_each_size() -> None:
    """Passes that would look at the code of such an operator leave it to what comes then."""
    graph = gcomp.parse("""
graph "g" (%x: f32[1,4,n,2], %w: f32[4,4,1,1], %m: f32[4,3,2]) -> (%1 "y") {
  %0 = Conv(%x, %w) {strides=(2, 1)} : f32[1,4,((n-1)//2)+1,2]
  %1 = Mul(%0, %m) : f32[1,4,3,2]
}
""")
    with pytest.warns(UserWarning, match="one code for all values of n is not possible"):
        module = gcomp.compile(graph, dims={"n": (5, 6)})
    rng = np.random.default_rng(2)
    given = [rng.random(shape, np.float32) for shape in ((1, 4, 5, 2), (4, 4, 1, 1), (4, 3, 2))]
    assert not mismatch(module(*given)[0], evaluate(graph, given)[0], "close")


def test_a_size_without_a_range_is_specialised_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gcomp.compile(perceptron())(np.zeros((2, 20), np.float32))[0].shape == (2, 3)


def test_a_range_of_one_size_is_that_size() -> None:
    module = gcomp.compile(perceptron(), dims={"batch": (4, 4)})
    assert module.inputs[0].shape == (4, 20)


@pytest.mark.parametrize("given", [(0.5, 2), (3, 2), (-1, 2), (1, 2, 3), (1, 10**9)], ids=str)
def test_a_range_that_is_none_is_refused(given: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"range|must be an int, got float 0.5"):
        gcomp.compile(perceptron(), dims={"batch": given})


def test_sizes_are_read_from_well_formed_tensors_only(digits: LLVMModule) -> None:
    digits(np.zeros((1, 1, 8, 8), np.float32))
    native = digits._native
    frame = Frame(native._context, native.shapes([np.zeros((2, 1, 8, 8), np.float32)]))
    image = frame.tensors[0]
    shape, image.shape = image.shape, None
    assert native._run(*frame.arguments) == ErrorCode.INPUT
    image.shape, image.rank = shape, 0
    assert native._run(*frame.arguments) == ErrorCode.INPUT
    assert native._run(frame.arguments[0], None, frame.arguments[2]) == ErrorCode.INPUT
