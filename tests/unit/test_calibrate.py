"""Static quantization from data to integers: what it promises for the digits, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm import LLVM
from gcomp.calibrate import calibrate
from gcomp.compiler import as_graph, optimize
from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.op import constant_value
from gcomp.text import parse, print_graph
from gcomp.timing import watched
from gcomp.types import Array

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def digits() -> dict[str, Array]:
    with np.load(EXAMPLES / "digits.npz") as stored:
        return {name: stored[name] for name in stored.files}


def f32(numbers: list[object]) -> Array:
    return np.array(numbers, np.float32)


def scaled(images: Array) -> Array:
    return images.astype(np.float32) / 16


@pytest.fixture(
    scope="module",
    params=[(False, "min-max"), (True, "min-max"), (False, "entropy")],
    ids=["u8", "i8", "entropy"],
)
def quantized(request: pytest.FixtureRequest, digits: dict[str, Array]) -> Graph:
    signed, calibration = request.param
    samples = ({"image": batch} for batch in np.split(scaled(digits["calibration"]), 4))
    return gcomp.quantize(EXAMPLES / "digits.onnx", samples, signed=signed, calibration=calibration)


def logits(model: Graph | Path, images: Array) -> Array:
    module = gcomp.compile(model, dims={"batch": len(images)}, host_steps=False)
    (result,) = module.run({"image": images}).values()
    return result


def test_digits_lose_no_accuracy(quantized: Graph, digits: dict[str, Array]) -> None:
    images, labels = scaled(digits["test_images"]), digits["test_labels"]
    floats = logits(EXAMPLES / "digits.onnx", images)
    integers = logits(quantized, images)
    before, after = ((out.argmax(1) == labels).mean() for out in (floats, integers))
    assert after >= before - 0.003
    assert 0 < abs(floats - integers).max() < 1


def test_native_code_equals_the_integer_reference_in_every_bit(
    quantized: Graph, digits: dict[str, Array]
) -> None:
    images = scaled(digits["test_images"])
    lowered = optimize(as_graph(quantized, dims={"batch": len(images)}), LLVM().pipeline)
    kinds = [op.kind for op in lowered.walk()]
    assert (kinds.count("ConvInteger"), kinds.count("MatMulInteger")) == (3, 2)
    (expected,) = evaluate(lowered, [images])
    np.testing.assert_array_equal(logits(quantized, images), expected)


def test_onnx_runtime_agrees(quantized: Graph, digits: dict[str, Array], tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    path, images = tmp_path / "q.onnx", scaled(digits["test_images"])
    gcomp.save_onnx(quantized, path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    (theirs,) = ort.InferenceSession(path, options, ["CPUExecutionProvider"]).run(None, {"image": images})
    ours = logits(path, images)
    typical = logits(EXAMPLES / "digits.onnx", scaled(digits["calibration"]))
    step = (typical.max() - typical.min()) / 255  # what a quantizer of the logits, which stay f32, would use
    assert abs(ours - theirs).max() <= 2 * step
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.997


def test_ranges_cover_all_samples_whether_natively_or_not() -> None:
    graph = parse("""graph "g" (%x: f32[2]) -> (%y "y") {
      %0 = Neg(%x) : f32[2]
      %y = Relu(%0) : f32[2]
    }""")
    for target in ("llvm", "reference"):
        values = [*graph.inputs, *(op.results[0] for op in graph.ops)]
        calibrate(graph, [{"x": f32([1, 2])}, {"x": f32([-3, 1])}], values, target=target)
        ranges = graph.metadata["ranges"]
        assert ranges["x"] == [-3, 2] and ranges["y"] == [0, 3]
        assert sorted(ranges.values()) == [[-3, 2], [-2, 3], [0, 3]]
        assert parse(print_graph(graph)) == graph


PRODUCT = """graph "g" (%x: f32[1,2]) -> (%y "y") {
  %w = Constant {value=f32[2,1] dense<1.0, 2.0>}
  %y = MatMul(%x, %w) : f32[1,1]
}"""


def test_data_from_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=f32([[0, 1], [2, 5.1]]))
    graph = gcomp.quantize(parse(PRODUCT), tmp_path / "c.npz")
    (scale,) = [constant_value(op.inputs[1]) for op in graph.ops if op.kind == "QuantizeLinear"]
    assert scale == np.float32(0.02)
    assert "ranges" not in graph.metadata


@pytest.mark.parametrize(
    ("text", "samples", "message"),
    [
        (PRODUCT, [], "at least one sample"),
        (PRODUCT, [{"x": f32([[1, np.inf]])}], "not finite"),
        (PRODUCT.replace("%w)", "%v)").replace("(%x: f32[1,2])", "(%x: f32[1,2], %v: f32[2,1])"),
         [{"x": np.ones((1, 2), np.float32), "v": np.ones((2, 1), np.float32)}], "no Conv, Gemm or MatMul"),
    ],
)  # fmt: skip
def test_refusals(text: str, samples: list[dict[str, Array]], message: str) -> None:
    with pytest.raises(gcomp.InputError, match=message):
        gcomp.quantize(parse(text), samples)


def test_an_unknown_calibration_is_refused() -> None:
    with pytest.raises(gcomp.InputError, match=r"min-max or entropy, got 'guess'"):
        gcomp.quantize(parse(PRODUCT), [{"x": f32([[1, 2]])}], calibration="guess")


def test_progress_is_told() -> None:
    said: list[tuple[str, float | None]] = []
    with watched(lambda what, done: said.append((what, done))):
        gcomp.quantize(parse(PRODUCT), [{"x": f32([[1, 2]])}] * 4)
    assert [(what, done) for what, done in said if what.startswith("sample")] == [
        (f"sample {n + 1}", n / 4) for n in range(4)
    ]


def test_a_channel_of_zeros_keeps_its_bias() -> None:
    text = PRODUCT.replace("dense<1.0, 2.0>", "dense<0.0, 0.0>").replace("MatMul(%x, %w)", "Gemm(%x, %w, %b)")
    text = text.replace("%y = ", "%b = Constant {value=f32[1] dense<0.7>}\n  %y = ")
    graph = gcomp.quantize(parse(text), [{"x": f32([[-1, 1]])}])
    (result,) = evaluate(graph, [f32([[0.5, 1]])])
    np.testing.assert_allclose(result, 0.7, rtol=1e-6)
