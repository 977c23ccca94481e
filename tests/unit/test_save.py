"""Graphs written as ONNX models, which ONNX Runtime and gcomp read back."""

from importlib import import_module

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from gcomp.diagnostics import BuildError, UnsupportedError
from gcomp.dim import symbol
from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Value
from gcomp.lift import lift
from gcomp.op import Constant, Operator, constant, operators
from gcomp.ops import Add, Clip, Dropout, Group, MatMul, Relayout, Relu, Split
from gcomp.ops.superseded import Superseded
from gcomp.save import save_onnx
from gcomp.testing.samples import planted
from gcomp.text import parse, print_graph
from gcomp.types import BF16, F32, TensorType, channels_last
from tests.constant_arrays import array_of
from tests.models.model_rule import NAMES, trained_model


def run(model: ModelProto | str, inputs: dict, names: list[str] | None = None) -> list:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    given = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return [*session.run(names, inputs)]


def graph_with() -> Graph:
    """One input, x."""
    graph = Graph("g")
    graph.add_input(TensorType(F32, (symbol("n"), 4)), "x")
    return graph


def finish(graph: Graph, *outputs: Value) -> Graph:
    graph.outputs, graph.output_names = list(outputs), [f"y{place}" for place in range(len(outputs))]
    return graph


X = np.arange(-4, 4, dtype=np.float32).reshape(2, 4)

# ONNX's full check expands it to a body that reads an attribute which may be absent.
CHECKER_FAILS = {"MeanVarianceNormalization"}

NEWEST = onnx.defs.onnx_opset_version()

SAVED = sorted(
    name
    for name, cls in operators().items()
    if cls.onnx and not issubclass(cls, Superseded) and [*cls.samples()]
)


@pytest.mark.parametrize("name", SAVED)
def test_every_operator_is_written_and_read_back(name):
    written = 0
    for sample in operators()[name].samples():
        graph, _ = planted(sample)
        try:
            models = [(save_onnx(graph), False), (save_onnx(graph, opset=NEWEST), True)]
        except UnsupportedError as error:  # gcomp takes more element types than ONNX does
            assert "1 operator has no form in ONNX" in str(error)
            continue
        for model, newest in models:
            onnx.checker.check_model(model, full_check=newest and name not in CHECKER_FAILS)
            assert bare(lift(model)) == bare(graph)
            written += 1
    assert written > 0


def bare(graph: Graph) -> str:
    """The text without names and origins."""
    copy = graph.clone()
    copy.metadata = {}
    for op in copy.walk():
        op.origin = ()
        for value in op.results:
            value.name = ""
    return print_graph(copy)


def test_an_untouched_model_is_hardly_changed(repository):
    path = repository / "examples" / "digits.onnx"
    source = onnx.load(path)
    source.metadata_props.add(key="author", value="somebody")
    source.doc_string, source.model_version = "a model", 3
    saved = save_onnx(lift(source))
    onnx.checker.check_model(saved, full_check=True)
    for field in (
        "ir_version",
        "producer_name",
        "producer_version",
        "doc_string",
        "model_version",
        "opset_import",
    ):
        assert getattr(saved, field) == getattr(source, field), field
    assert saved.metadata_props == source.metadata_props
    assert saved.graph.name == source.graph.name
    assert saved.graph.input == source.graph.input
    assert [(n.name, n.op_type, [*n.input], [*n.output]) for n in saved.graph.node] == [
        (n.name, n.op_type, [*n.input], [*n.output]) for n in source.graph.node
    ]
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in source.graph.initializer}
    assert {tensor.name for tensor in saved.graph.initializer} == set(arrays)
    for tensor in saved.graph.initializer:
        assert numpy_helper.to_array(tensor).tobytes() == arrays[tensor.name].tobytes()
    image = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    assert np.array_equal(run(saved, {"image": image})[0], run(source, {"image": image})[0])
    assert lift(saved) == lift(source)


@pytest.mark.parametrize("name", NAMES)
def test_trained_models_stay_what_they_are(models_dir, name):
    model = trained_model(models_dir, name)
    saved = save_onnx(lift(model.path))
    names = [output.name for output in saved.graph.output]
    for inputs, expected in model.samples():
        assert model.mismatches(run(saved, inputs, names), names, expected) == []


def test_the_opset_is_raised_only_where_an_operator_needs_it():
    def model(operator: str, **attributes) -> ModelProto:
        node = helper.make_node(operator, ["x"], ["y"], **attributes)
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy"]
        graph = helper.make_graph([node], "g", infos[:1], infos[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)

    untouched = save_onnx(lift(model("Relu")))
    assert untouched.opset_import[0].version == 9
    assert untouched.ir_version == 4
    raised = save_onnx(lift(model("Clip", min=0.0, max=2.0)))
    assert raised.opset_import[0].version == 11
    assert raised.ir_version == 6
    assert np.array_equal(run(raised, {"x": X})[0], np.clip(X, 0, 2))
    assert save_onnx(lift(model("Relu")), opset=15).opset_import[0].version == 15
    with pytest.raises(UnsupportedError, match=r"opset 10 is too old for: Clip \(11\)"):
        save_onnx(lift(model("Clip", min=0.0)), opset=10)


def test_only_operators_that_are_too_new_are_named():
    graph = graph_with()
    clipped = graph.add(Clip(graph.add(Relu(graph.inputs[0])).result, constant(np.float32(0.0))))
    with pytest.raises(UnsupportedError, match=r"opset 10 is too old for: Clip \(11\)$"):
        save_onnx(finish(graph, clipped.result), opset=10)


def test_optional_outputs_that_nobody_reads_are_left_out():
    graph = graph_with()
    dropout = graph.add(Dropout(graph.inputs[0], outputs=2))
    saved = save_onnx(finish(graph, dropout.results[0]))
    assert len(saved.graph.node[0].output) == 1


def test_forms_of_old_opsets_are_refused():
    sample = next(operators()["Clip_6"].samples())
    with pytest.raises(UnsupportedError, match="no form in ONNX: Clip_6 of f32"):
        save_onnx(planted(sample)[0])


def test_groups_dissolve_and_layouts_vanish():
    graph = graph_with()
    weights = constant(np.eye(4, dtype=np.float32) * 2)
    blocked = graph.add(Relayout(graph.inputs[0], channels_last(2, 16)))
    body = Graph("body")
    a, b = body.add_input(blocked.result.type, "a"), body.add_input(weights.type, "b")
    product = body.add(MatMul(a, b))
    body.outputs = [body.add(Relu(product.result)).result, product.result, a]
    group = graph.add(Group((blocked.result, weights), body))
    back = graph.add(Relayout(group.results[0]))
    inner = graph.add(Add(back.result, group.results[1]))
    finish(graph, inner.result, group.results[2], group.results[0])
    saved = save_onnx(graph)
    onnx.checker.check_model(saved, full_check=True)
    assert [node.op_type for node in saved.graph.node] == ["MatMul", "Relu", "Add", "Identity"]
    for actual, expected in zip(run(saved, {"x": X}), evaluate(graph, [X]), strict=True):
        assert np.array_equal(actual, expected)


def test_an_output_in_a_layout_is_written_as_what_it_is_of():
    graph = graph_with()
    relu = graph.add(Relu(graph.inputs[0]))
    blocked = graph.add(Relayout(relu.result, channels_last(2, 16)))
    saved = save_onnx(finish(graph, graph.add(Relayout(blocked.result)).result))
    assert [node.op_type for node in saved.graph.node][:1] == ["Relu"]
    assert np.array_equal(run(saved, {"x": X})[0], np.maximum(X, 0))


class Private(Operator):
    """An operator of gcomp's own."""

    x: Value

    def infer(self) -> TensorType:
        return self.x.type


def test_operators_without_onnx_form_are_refused_at_once():
    graph = graph_with()
    first, second = graph.add(Private(graph.inputs[0])), graph.add(Private(graph.inputs[0]))
    first.origin, second.origin = ("n1",), ("n2",)
    with pytest.raises(UnsupportedError, match="2 operators have no form in ONNX: Private") as caught:
        save_onnx(finish(graph, first.result, second.result))
    assert caught.value.origin == ("n1", "n2")


def test_outputs_may_be_inputs_constants_and_each_other():
    graph = graph_with()
    relu, held = graph.add(Relu(graph.inputs[0])), graph.add(Constant(np.array([1, 2], np.float32)))
    finish(graph, relu.result, relu.result, graph.inputs[0], held.result)
    saved = save_onnx(graph)
    onnx.checker.check_model(saved, full_check=True)
    assert [output.name for output in saved.graph.output] == ["y0", "y1", "y2", "y3"]
    for actual, expected in zip(run(saved, {"x": X}), evaluate(graph, [X]), strict=True):
        assert np.array_equal(actual, expected)


def test_names_are_made_unique():
    graph = graph_with()
    value = graph.inputs[0]
    for name in ("t", "t", "x", "y0", "", ""):
        op = graph.add(Relu(value))
        op.result.name, op.origin, value = name, ("node",), op.result
    saved = save_onnx(finish(graph, value))
    onnx.checker.check_model(saved, full_check=True)
    made = [node.output[0] for node in saved.graph.node]
    assert len({*made, "x"}) == 7
    assert made[0] == "t"
    assert made[-1] == "y0"
    assert len({node.name for node in saved.graph.node}) == 6
    assert saved.graph.node[0].name == "node"
    assert np.array_equal(run(saved, {"x": X})[0], np.maximum(X, 0))


def test_an_output_nobody_reads_is_still_named_where_it_must_be():
    graph = graph_with()
    split = graph.add(Split(graph.inputs[0], constant([1, 3]), axis=1, num_outputs=2))
    saved = save_onnx(finish(graph, split.results[0]))
    onnx.checker.check_model(saved, full_check=True)
    assert len(saved.graph.node[0].output) == 2
    assert np.array_equal(run(saved, {"x": X})[0], X[:, :1])


def test_sizes_keep_the_names_of_the_model():
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch size", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    lifted = lift(model)
    assert str(lifted.inputs[0].type) == "f32[batch_size,4]"
    saved = save_onnx(lifted)
    assert saved.graph.input == model.graph.input
    assert saved.graph.output == model.graph.output


def test_a_graph_written_by_hand_has_a_recent_opset():
    graph = parse('graph "g" (%x: f32[2]) -> (%y "y") {\n  %y = Relu(%x)\n}')
    saved = save_onnx(graph)
    assert saved.opset_import[0].version == 17
    assert saved.producer_name == "gcomp"
    assert np.array_equal(run(saved, {"x": np.array([-1, 1], np.float32)})[0], [0, 1])


@pytest.mark.parametrize("array", [np.array(["a", "ü\0"], object), np.ones(3, BF16.numpy), np.array(True)])
def test_constants_of_all_kinds_are_written(array):
    graph = graph_with()
    held = graph.add(Constant(array))
    again = lift(save_onnx(finish(graph, held.result, graph.inputs[0])))
    value = array_of(again.outputs[0])
    assert value.dtype == array.dtype
    assert value.tolist() == array.tolist()


def weighty() -> Graph:
    graph = graph_with()
    weights = constant(np.random.default_rng(0).standard_normal((4, 300), np.float32))
    weights.name = "w"
    hidden = graph.add(MatMul(graph.inputs[0], weights))
    return finish(graph, graph.add(Add(hidden.result, constant(np.ones(300, np.float32)))).result)


def test_large_weights_lie_beside_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("gcomp.save"), "EXTERNAL_FROM", 4000)
    graph, path = weighty(), tmp_path / "m.onnx"
    expected = evaluate(graph, [X])[0]
    save_onnx(graph, path)
    assert {file.name for file in tmp_path.iterdir()} == {"m.onnx", "m.onnx.data"}
    assert path.stat().st_size < 2000
    np.testing.assert_allclose(run(str(path), {"x": X})[0], expected, rtol=1e-5)
    again = lift(path)
    assert bare(again) == bare(graph)
    assert np.array_equal(evaluate(again, [X])[0], expected)


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    save_onnx(weighty(), path)
    before = path.read_bytes()
    with pytest.raises(UnsupportedError):
        save_onnx(weighty(), path, opset=0)

    def broken(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ModelProto, "SerializeToString", broken)
    with pytest.raises(BuildError, match=r"m.onnx cannot be written: No space"):
        save_onnx(weighty(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(BuildError, match="cannot be written"):
        save_onnx(weighty(), tmp_path / "none" / "m.onnx")
