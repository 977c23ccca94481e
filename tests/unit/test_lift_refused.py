"""What is no valid model, or out of reach, becomes an error that says so."""

import numpy as np
import onnx
import pytest

from gcomp import op as registry
from gcomp.diagnostics import GcompError, InferenceError, ModelError, UnsupportedError
from gcomp.ir import Value
from gcomp.lift import lift
from gcomp.op import Operator
from gcomp.text import parse, print_graph
from gcomp.wellformed import check
from tests.onnx_text import kinds, lifted, model_of, refused


def test_all_unknown_operators_are_listed():
    body = """g (float[3] x) => (float[3] y) {
        [one] t = local.f (x)
        [two] u = com.microsoft.Strange (t)
        y = Unheard (u)
    }
    <domain: "local", opset_import: ["" : 17, "ai.onnx.ml" : 2]>
    f (a) => (b) { [inner] b = ai.onnx.ml.Odd (a) }"""
    head = '<ir_version: 8, opset_import: ["" : 17, "local" : 1, "com.microsoft" : 1]>'
    error = refused(UnsupportedError, model_of(body, head), "3 nodes of the model cannot be lifted")
    lines = str(error).splitlines()
    assert lines[1].strip().startswith('"one/inner": Odd of ai.onnx.ml, opset 2: no such operator')
    assert lines[2].strip().startswith('"two": Strange of com.microsoft, opset 1:')
    assert "fusions" in lines[2]
    assert lines[3].strip().startswith('"Unheard_2": Unheard of ai.onnx, opset 17:')


def test_operators_of_later_opsets_say_so():
    model = model_of("g (float[2] x) => (float[2] y) { y = Mish(x) }")
    refused(UnsupportedError, model, "knows it from opset 18 on; convert")


def test_attributes_that_count_are_not_ignored(monkeypatch):
    class Plain(Operator):
        x: Value

        def infer(self):
            return self.x.type

    registry.operators()
    Plain.onnx, Plain.since = "LeakyRelu", 6
    monkeypatch.setitem(registry._BY_ONNX, ("", "LeakyRelu"), [Plain])
    body = "g (float[2] x) => (float[2] y) { y = LeakyRelu <alpha = 0.01> (x) }"
    assert kinds(lifted(body)) == ["Plain"]
    refused(UnsupportedError, body.replace("0.01", "0.02"), "its attribute alpha is not known")


def test_attributes_have_the_types_of_onnx():
    refused(
        ModelError,
        "g (float[2] x) => (float[2] y) { y = LeakyRelu <alpha = 1> (x) }",
        "alpha is FLOAT, got INT",
    )


def test_a_wrong_operand_is_an_error_with_the_node_name():
    error = refused(
        InferenceError, "g (float[2,3] x) => (float y) { [product] y = MatMul(x, x) }", "MatMul needs"
    )
    assert error.origin == ("product",)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("g (float[2] x) => (float[2] y) { [n] y = Relu(z) }", "Relu reads 'z', which nothing makes"),
        ("g (float[2] x) => (float[2] y) { [a] y = Add(x, b) [b] b = Relu(y) }", "in a cycle: a, b"),
        (
            "g (float[2] x) => (float[2] y) { [a] y = Relu(x) [b] y = Neg(x) }",
            "'y' is made twice, by a and b",
        ),
        ("g (float[2] x) => (float[2] x) { [a] x = Relu(x) }", "cycle"),
        ("g (float[2] x) => (float[2] y) { [a] t = Relu(x) }", "no node makes the output 'y'"),
        ("g (float[2] x) => (float[2] y, float[2] y) { y = Relu(x) }", "names an output twice"),
        (
            "g (float[2] x) => (float[2] y) <float[2] y = {1, 2}> { y = Relu(x) }",
            "more than one tensor called 'y'",
        ),
        ("g (float[2] x) => (float[2] x) <float[2] w = {1, 2}, float[2] w = {1, 2}> { }", "called 'w'"),
        ("g (float[2] x) => (float[2] y) { y = other.Relu(x) }", "imports no opset for the domain 'other'"),
    ],
)
def test_broken_graphs_are_refused(body, complaint):
    refused(ModelError, body, complaint)


def test_an_output_that_gcomp_lacks_is_refused_where_it_is_read():
    body = "g (float[2] x) => (float[2] y) { t, more = Relu(x) y = Neg(%s) }"
    assert kinds(lifted(body % "t")) == ["Relu", "Neg"]
    refused(UnsupportedError, body % "more", "Relu gives no output 1 in gcomp")


@pytest.mark.parametrize("opset", [1, 6, onnx.defs.onnx_opset_version() + 1])
def test_opsets_out_of_range_are_refused(opset):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    model = model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }", head)
    refused(UnsupportedError, model, f"has opset {opset}; gcomp takes 7 to")
    del model.opset_import[:]
    refused(ModelError, model, "imports no opset")


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage " * 100, b"\x08\x08", b"PK\x03\x04" + bytes(100)],
    ids=["empty", "text", "no graph", "zip"],
)
def test_files_that_are_no_models_are_refused(data, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is not an ONNX model"):
        lift(path)
    with pytest.raises(ModelError, match="the model is not an ONNX model"):
        lift(data)


def test_truncated_files_are_refused(repository, tmp_path):
    data = (repository / "examples" / "digits.onnx").read_bytes()
    path = tmp_path / "m.onnx"
    for length in range(1, len(data), len(data) // 50):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            lift(path)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx cannot be read"):
        lift(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        lift(str(tmp_path))


def test_paths_bytes_and_models_are_the_same(repository):
    path = repository / "examples" / "digits.onnx"
    graph = lift(path)
    assert lift(str(path)) == graph
    assert lift(path.read_bytes()) == graph
    assert lift(onnx.load(path)) == graph


def test_names_that_are_no_text_are_refused(repository):
    data = (repository / "examples" / "digits.onnx").read_bytes()
    assert data.count(b"conv1") > 3
    with pytest.raises(ModelError, match=r"is damaged: a .* is not UTF-8"):
        lift(data.replace(b"conv1", b"conv\xff"))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_refused_or_lifted(repository, seed):
    data = bytearray((repository / "examples" / "digits.onnx").read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 4):
        data[place] ^= rng.integers(1, 256)
    for place in rng.integers(0, 400, 2):  # where the nodes are
        data[place] ^= rng.integers(1, 256)
    try:
        graph = lift(bytes(data))
    except GcompError:
        return
    check(graph)
    assert parse(print_graph(graph)) == graph
