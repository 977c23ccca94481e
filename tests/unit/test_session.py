"""InferenceSession against ONNX Runtime's own class on the same models and the same mistakes."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from gcomp import InputError, ModelError
from gcomp.session import InferenceSession

SIZES = (1, 4, 1)


def model(batch: int | str = "batch") -> bytes:
    """`total = x + y` and `twice = x + x`, with i64 `y` cast to float."""
    nodes = [
        helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "z"], ["total"]),
        helper.make_node("Add", ["x", "x"], ["twice"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("y", TensorProto.INT64, [batch, 3]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in ("total", "twice")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


def feed(batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "x": random.standard_normal((batch, 3), np.float32),
        "y": random.integers(-9, 9, (batch, 3)),
    }


@pytest.fixture(scope="module")
def session() -> InferenceSession:
    return InferenceSession(model(), target="reference")


@pytest.fixture(scope="module")
def theirs() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model(), providers=["CPUExecutionProvider"])


def test_it_describes_its_ports_as_onnx_runtime_does(session, theirs) -> None:
    for mine, its in (
        (session.get_inputs(), theirs.get_inputs()),
        (session.get_outputs(), theirs.get_outputs()),
    ):
        assert [(a.name, a.type, a.shape) for a in mine] == [(a.name, a.type, a.shape) for a in its]
    assert session.get_providers() == theirs.get_providers()


def test_every_element_type_has_onnx_runtimes_name(tmp_path: Path) -> None:
    types = ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "STRING"]
    types += [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    inputs = [
        helper.make_tensor_value_info(name.lower(), TensorProto.DataType.Value(name), [2]) for name in types
    ]
    outputs = [
        helper.make_tensor_value_info(f"{name.lower()}_out", TensorProto.DataType.Value(name), [2])
        for name in types
    ]
    nodes = [helper.make_node("Identity", [i.name], [o.name]) for i, o in zip(inputs, outputs, strict=True)]
    graph = helper.make_graph(nodes, "types", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    mine = InferenceSession(made.SerializeToString(), target="reference")
    its = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [a.type for a in mine.get_inputs()] == [a.type for a in its.get_inputs()]


@pytest.mark.parametrize("target", ["reference", "llvm"])
def test_it_runs_at_every_size(target: str, theirs) -> None:
    mine = InferenceSession(model(), target=target)
    for batch in SIZES:
        given = feed(batch, batch)
        for wanted in (None, [], ["twice"], ["twice", "total"], ["total", "total"]):
            for a, b in zip(mine.run(wanted, given), theirs.run(wanted, given), strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)


def test_it_reads_a_path(tmp_path: Path) -> None:
    path = tmp_path / "sums.onnx"
    path.write_bytes(model(2))
    for spelling in (path, str(path)):
        opened = InferenceSession(spelling, target="reference")
        assert opened.run(["twice"], feed(2))[0].shape == (2, 3)
        assert opened.get_inputs()[0].shape == [2, 3]


def test_external_data_is_found_beside_the_model(tmp_path: Path) -> None:
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "big.onnx"
    onnx.save(made, path, save_as_external_data=True, location="big.data", size_threshold=0)
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(InferenceSession(path, target="reference").run(None, {"x": x})[0], x + weights)
    (tmp_path / "big.data").unlink()
    with pytest.raises(ModelError, match=r"big\.data"):
        InferenceSession(path, target="reference")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda given: given.pop("y"), r"Required inputs \(\['y'\]\) are missing from input feed"),
        (lambda given: given.update(other=given["x"]), "Invalid input name: other"),
        (
            lambda given: given.update(x=given["x"].astype(np.float64)),
            r"Actual: \(tensor\(double\)\) ?, expected: \(tensor\(float\)\)",
        ),
        (lambda given: given.update(x=given["x"][0]), "Invalid rank for input: x Got: 1 Expected: 2"),
        (lambda given: given.update(y=np.zeros((2, 4), np.int64)), "index: 1 Got: 4 Expected: 3"),
    ],
)
def test_mistakes_are_told_in_onnx_runtimes_words(session, theirs, change, complaint: str) -> None:
    given = feed(2)
    change(given)
    with pytest.raises(InputError, match=complaint):
        session.run(None, given)
    with pytest.raises(Exception, match=complaint):
        theirs.run(None, given)


def test_an_unknown_output_is_refused(session) -> None:
    with pytest.raises(InputError, match="Invalid output name: mean; the model has total, twice"):
        session.run(["mean"], feed(2))


def test_inputs_must_agree_on_a_size_they_share(session) -> None:
    with pytest.raises(InputError, match="batch"):
        session.run(None, {"x": feed(2)["x"], "y": feed(3)["y"]})


def test_lists_take_the_type_of_the_input(session) -> None:
    (twice,) = session.run(["twice"], {"x": [[1, 2, 3]], "y": [[0, 0, 0]]})
    np.testing.assert_array_equal(twice, np.array([[2, 4, 6]], np.float32))
    with pytest.raises(InputError, match="input x: list cannot be read"):
        session.run(["twice"], {"x": [["one", "two", "three"]], "y": [[0, 0, 0]]})


def test_only_the_cpu_is_offered() -> None:
    with pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not available"):
        InferenceSession(
            model(), providers=[("CUDAExecutionProvider", {}), "CPUExecutionProvider"], target="reference"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InferenceSession(model(), providers=["CPUExecutionProvider"], target="reference")


def test_session_options_set_the_threads() -> None:
    options = onnxruntime.SessionOptions()
    InferenceSession(model(), options, target="reference")
    options.intra_op_num_threads = 2
    with pytest.raises(Exception, match="threads=2"):
        InferenceSession(model(), options, target="reference")


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(InputError, match="disabled_optimizers"):
        InferenceSession(model(), disabled_optimizers=["x"])


@pytest.mark.parametrize("damage", [b"", b"hello world", model()[:40]])
def test_what_is_no_model_is_refused(damage: bytes) -> None:
    with pytest.raises(ModelError):
        InferenceSession(damage)
