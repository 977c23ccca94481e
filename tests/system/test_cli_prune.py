"""`gcomp prune` as its users have it: the report, the model that it writes, and how it fails."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.system.test_cli import fail, succeed


@pytest.fixture
def digits(repository: Path) -> str:
    return str(repository / "examples" / "digits.onnx")


def test_prune_writes_a_model_with_zeros_and_nothing_else_changed(digits: str, tmp_path: Path) -> None:
    out = tmp_path / "p.onnx"
    words = ("prune", digits, "--sparsity", "0.8", "--structure", "4x1", "-o", out)
    text = succeed(*words)
    assert re.search(r"^fc1 +Gemm +f32\[48,160\] +0.0% +80.0%$", text, re.MULTILINE)
    facts = json.loads(succeed(*words, "--json"))
    assert [layer["layer"] for layer in facts["layers"]] == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert abs(facts["sparsity"] - 0.8) < 0.01
    before, after = onnx.load(digits), onnx.load(out)
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in before.graph.initializer}
    changed = 0
    for tensor in after.graph.initializer:
        found, wanted = onnx.numpy_helper.to_array(tensor), arrays.pop(tensor.name)
        np.testing.assert_array_equal(found[found != 0], wanted[found != 0])
        changed += bool((found != wanted).any())
    assert changed == 5 and not arrays


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sparsity", "1"), "sparsity lies in [0, 1), got 1.0"),
        (("--sparsity", "half"), "sparsity takes a number, got 'half'"),
        (("--sparsity", "0.8", "--structure", "2:4"), "2:4 is a sparsity of 0.5, got 0.8"),
        (("--sparsity", "0.8", "--structure", "5:4"), "0 < N <= M, got 5:4"),
        (("--sparsity", "0.8", "--structure", "0x1"), "4x1 or N:M as in 2:4, got '0x1'"),
        (("--sparsity", "0.8", "--scope", "model"), "scope is one of layer, global, balanced, got 'model'"),
    ],
)
def test_prune_says_what_it_cannot_do(
    digits: str, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "p.onnx"
    assert message in fail("prune", digits, *words, "-o", out)
    assert not out.exists()


def test_what_weights_are_stored_as_is_told(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "fc")
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [128, 256]) for n in ("x", "y"))
    graph = onnx.helper.make_graph([node], "g", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    dense, pruned = tmp_path / "dense.onnx", tmp_path / "pruned.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)]), dense)
    succeed("prune", dense, "--sparsity", "0.9", "-o", pruned)
    line = re.compile(
        r"sparsify: fc: unstructured, as unstructured takes 0\.\d\d and 4x1 .* \(90.0% zeros\)$"
    )
    for words in (
        ("compile", "-o", tmp_path / "m.so"),
        ("inspect", "--target", "llvm"),
        ("profile", "--seconds", "0.1"),
    ):
        verb, *options = words
        assert any(line.search(told) for told in succeed(verb, pruned, *options).splitlines())
        (told,) = json.loads(succeed(verb, pruned, *options, "--json"))["decisions"]
        assert (told["by"], told["layer"]) == ("sparsify", "fc") and told["decision"].startswith(
            "unstructured"
        )
        assert "sparsify" not in succeed(verb, dense, *options)
