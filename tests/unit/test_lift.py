"""Models become graphs; what is no valid model, or out of reach, becomes an error that says so."""

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper, parser

from gcomp import op as registry
from gcomp.diagnostics import InferenceError, InputError, ModelError, UnsupportedError
from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Value
from gcomp.lift import lift, nodes
from gcomp.lift.tensors import array_of
from gcomp.op import Constant, Operator
from gcomp.text import print_graph
from gcomp.types import DTYPES, F32, TensorType
from gcomp.wellformed import check

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model_of(body: str, head: str = HEAD) -> ModelProto:
    return parser.parse_model(f"{head}\n{body}")


def lifted(body: str, head: str = HEAD, **given) -> Graph:
    graph = lift(model_of(body, head), **given)
    check(graph)
    return graph


def refused(error: type[Exception], body: str | ModelProto, match: str, **given):
    with pytest.raises(error, match=match) as caught:
        lift(body if isinstance(body, ModelProto) else model_of(body), **given)
    return caught.value


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


# Names, order and constants


def test_names_origins_and_types_come_from_the_model():
    graph = lifted(
        """g (float[batch, 4] x) => (float[batch, 2] out) <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
            [first] mid_0 = MatMul(x, w)
            out = Relu(mid_0)
        }"""
    )
    assert graph.name == "g"
    assert graph.input_names == ["x"]
    assert graph.output_names == ["out"]
    constant, product, relu = graph.ops
    assert (constant.result.name, product.result.name, relu.result.name) == ("w", "mid_0", "out")
    assert product.origin == ("first",)
    assert relu.origin == ("Relu_1",)
    assert str(relu.result.type) == "f32[batch,2]"
    (y,) = evaluate(graph, [np.ones((1, 4), np.float32)])
    assert y.tolist() == [[16, 20]]


def test_nodes_need_no_order():
    graph = lifted("g (float[2] x) => (float[2] y) { y = Neg(b) b = Relu(a) a = Abs(x) }")
    assert kinds(graph) == ["Abs", "Relu", "Neg"]


def test_initialisers_among_the_inputs_are_constants():
    graph = lifted("g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Add(x, w) }")
    assert graph.input_names == ["x"]
    assert kinds(graph) == ["Constant", "Add"]
    model = model_of("g (float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(np.float32([1, 2]), "w"))
    assert lift(model) == graph


def test_the_standard_domain_has_two_names():
    graph = lifted(
        "g (float[2] x) => (float[2] y) { y = ai.onnx.Relu(x) }",
        '<ir_version: 8, opset_import: ["ai.onnx" : 17]>',
    )
    assert kinds(graph) == ["Relu"]


def test_unused_initialisers_are_left_out_and_outputs_may_be_anything():
    graph = lifted("g (float[2] x) => (float[2] x, float[1] w) <float[1] w = {3}, float[9] unused> { }")
    assert kinds(graph) == ["Constant"]
    assert graph.outputs == [graph.inputs[0], graph.ops[0].result]


def test_metadata_are_kept():
    model = model_of("g (float[n] x) => (float[n] y) { y = Relu(x) }")
    model.producer_name, model.producer_version, model.doc_string = "maker", "2", "what it does"
    model.metadata_props.add(key="k", value="v")
    metadata = lift(model).metadata
    assert metadata["opset"] == {"": 17}
    assert metadata["properties"] == {"k": "v"}
    assert (metadata["producer"], metadata["producer_version"], metadata["doc"]) == (
        "maker",
        "2",
        "what it does",
    )


CONSTANTS = {
    "value": (np.arange(6, dtype=np.int8).reshape(2, 3), numpy_helper.from_array),
    "value_int": (np.int64(7), None),
    "value_ints": (np.array([1, 2]), None),
    "value_float": (np.float32(0.1), None),
    "value_floats": (np.array([0.1, 1 / 3], np.float32), None),
    "value_string": (np.array("é", object), None),
    "value_strings": (np.array(["a", "b"], object), None),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_in_every_form(name):
    array, wrap = CONSTANTS[name]
    node = helper.make_node("Constant", [], ["y"], **{name: wrap(array) if wrap else array.tolist()})
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", [], [info]))
    (value,) = evaluate(lift(model), [])
    assert value.dtype == array.dtype
    assert value.shape == array.shape
    assert np.array_equal(value, array)


def sparse(indices, values=(1.0, 2.0), dims=(3, 4)):
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.float32(values), "s"),
        numpy_helper.from_array(np.int64(indices), "i"),
        dims,
    )


@pytest.mark.parametrize("indices", [[1, 7], [[0, 1], [1, 3]]])
def test_sparse_constants_are_spelled_out(indices):
    expected = np.zeros((3, 4), np.float32)
    expected[0, 1], expected[1, 3] = 1, 2
    node = helper.make_node("Constant", [], ["y"], sparse_value=sparse(indices))
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])
    model = helper.make_model(helper.make_graph([node], "g", [], [info]))
    assert np.array_equal(evaluate(lift(model), [])[0], expected)
    del model.graph.node[:]
    model.graph.sparse_initializer.append(sparse(indices))
    model.graph.output[0].name = "s"
    assert np.array_equal(evaluate(lift(model), [])[0], expected)


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (sparse([1, 12]), "index outside"),
        (sparse([-1, 2]), "index outside"),
        (sparse([[0, 1], [3, 0]]), "index outside"),
        (sparse([1]), "values .* and indices"),
        (sparse([1, 2], dims=(1 << 40, 4)), "too large"),
    ],
)
def test_damaged_sparse_constants_are_refused(tensor, complaint):
    info = helper.make_tensor_value_info("s", TensorProto.FLOAT, None)
    graph = helper.make_graph([], "g", [], [info], sparse_initializer=[tensor])
    refused(ModelError, helper.make_model(graph), complaint)


def test_absent_inputs_and_unused_outputs():
    graph = lifted(
        "g (float[2] x) => (float[2] y) { low = Constant <value_float = 0.0> () y = Clip(x, , low) }"
    )
    assert graph.ops[-1].operands[1] is None
    graph = lifted(
        "g (float[1,1,4] x) => (float[1,1,2] y) { y = MaxPool <kernel_shape=[2], strides=[2]> (x) }"
    )
    assert graph.output_names == ["y"]
    refused(ModelError, "g (float[2] x) => (float[2] y) { y = Add(x, ) }", "Add needs its input rhs")
    refused(ModelError, "g (float[2] x) => (float[2] y) { y = Relu(x, x) }", "takes 1 inputs, got 2")


def test_floats_are_the_shortest_decimals():
    graph = lifted("g (float[2] x) => (float[2] y) { y = LeakyRelu <alpha = 0.1> (x) }")
    assert graph.ops[0].attributes == {"alpha": 0.1}


def test_old_forms_become_the_newest():
    graph = lifted(
        "g (float[2] x) => (float[2] y) { [clip] y = Clip <min = 0.5, max = 1.5> (x) }",
        '<ir_version: 4, opset_import: ["" : 7]>',
    )
    assert kinds(graph) == ["Constant", "Constant", "Clip"]
    assert all(op.origin == ("clip",) for op in graph.ops)
    assert graph.ops[-1].result.name == "y"
    assert evaluate(graph, [np.float32([0, 9])])[0].tolist() == [0.5, 1.5]


def test_declared_types_of_results_do_not_matter():
    graph = lifted("g (float[2,3] x) => (int64[7] y) <float[9] t> { t = Relu(x) y = Neg(t) }")
    assert graph.outputs[0].type == TensorType(F32, (2, 3))


# Sizes


def test_sizes_get_names():
    graph = lifted("g (float[N, ?, 3] x, float[N] y) => (float[N] y) { }")
    assert [str(value.type) for value in graph.inputs] == ["f32[N,x_1,3]", "f32[N]"]
    model = model_of("g (float[a, b, c] x) => (float[a] x) { }")
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, ("a-b", "a b", "?"), strict=True):
        dim.dim_param = name
    assert str(lift(model).inputs[0].type) == "f32[a_b,a_b_2,x_2]"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert str(lift(model).inputs[0].type) == "f32[x_0,a_b,x_2]"
    assert str(lift(model, dims={"a b": 7}).inputs[0].type) == "f32[x_0,7,x_2]"


SIZED = "g (float[n, 3, m] x, float[n] y) => (float[n, 3, m] x) { }"


@pytest.mark.parametrize(
    ("given", "types"),
    [
        ({}, ["f32[n,3,m]", "f32[n]"]),
        ({"shapes": {"x": (2, 3, 4)}}, ["f32[2,3,4]", "f32[2]"]),
        ({"shapes": {"x": (None, 3, 4)}}, ["f32[n,3,4]", "f32[n]"]),
        ({"shapes": {"y": [5]}, "dims": {"m": 1}}, ["f32[5,3,1]", "f32[5]"]),
        ({"shapes": {"x": (2, 3, 4), "y": (2,)}, "dims": {"n": 2}}, ["f32[2,3,4]", "f32[2]"]),
    ],
)
def test_sizes_are_bound(given, types):
    assert [str(value.type) for value in lifted(SIZED, **given).inputs] == types


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"shapes": {"z": (1,)}}, "no input 'z'; it has: x, y"),
        ({"shapes": {"x": (1, 3)}}, r"shapes\['x'\]: \(1, 3\) has 2 sizes for f32\[n,3,m\]"),
        ({"shapes": {"x": (1, 4, 2)}}, r"axis 1 is 3 in the model, f32\[n,3,m\], not 4"),
        ({"shapes": {"x": (1, 3, 2), "y": (2,)}}, r"'n' is 1 by shapes\['x'\], but 2 by shapes\['y'\]"),
        ({"shapes": {"y": (2,)}, "dims": {"n": 3}}, r"'n' is 3 by dims\['n'\], but 2 by shapes\['y'\]"),
        ({"dims": {"k": 3}}, "no symbolic size 'k'; it has: n, m"),
        ({"dims": {"n": -3}}, "whole number, not -3"),
        ({"dims": {"n": 2.0}}, "whole number, not 2.0"),
        ({"shapes": {"y": ("n",)}}, "whole number, not 'n'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(given, complaint):
    refused(InputError, SIZED, complaint, **given)


def test_inputs_that_are_no_tensors_are_refused():
    refused(UnsupportedError, "g (seq(float[2]) x) => (float[2] y) { }", "'x' is a sequence")
    model = model_of(SIZED)
    model.graph.input[1].type.tensor_type.ClearField("shape")
    refused(UnsupportedError, model, "'y' has no shape; give one")
    assert str(lift(model, shapes={"y": (2, 5)}).inputs[1].type) == "f32[2,5]"
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.COMPLEX64
    refused(UnsupportedError, model, "'y' has element type COMPLEX64")
    model.graph.input[1].type.tensor_type.elem_type = 0
    refused(ModelError, model, "'y' has no element type")
    model.graph.input[1].ClearField("type")
    refused(ModelError, model, "'y' has no type")
    model = model_of(SIZED)
    model.graph.input[1].name = "x"
    refused(ModelError, model, "several inputs of one name")


# Functions and subgraphs

FUNCTIONS = """
g (float[3] x) => (float[3] y) {
    [outer] t = local.twice <slope = 0.5> (x)
    [again] u = local.twice (t)
    y = local.maybe (u)
}
<domain: "local", opset_import: ["" : 17, "local" : 1]>
twice <slope: float = 0.25> (a) => (c) {
    [first] b = local.once <slope: float = @slope> (a)
    [second] c = local.once <slope: float = @slope> (b)
}
<domain: "local", opset_import: ["" : 17]>
once <slope> (a) => (b) { [leak] b = LeakyRelu <alpha: float = @slope> (a) }
<domain: "local", opset_import: ["" : 17]>
maybe (a, bound) => (b) { b = Clip(a, bound) }
"""
FUNCTION_HEAD = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>'


def test_functions_are_inlined():
    graph = lifted(FUNCTIONS, FUNCTION_HEAD)
    assert kinds(graph) == ["LeakyRelu"] * 4 + ["Clip"]
    assert [op.attributes["alpha"] for op in graph.ops[:4]] == [0.5, 0.5, 0.25, 0.25]
    assert graph.ops[0].origin == ("outer/first/leak",)
    assert [op.result.name for op in graph.ops] == ["outer/b", "t", "again/b", "u", "y"]
    x = np.float32([-8, 0, 3])
    assert evaluate(graph, [x])[0].tolist() == [-0.125, 0, 3]


def test_functions_have_opsets_of_their_own():
    graph = lifted(
        """g (float[3] x) => (float[3] y) { y = local.clip (x) }
        <domain: "local", opset_import: ["" : 9]>
        clip (a) => (b) { b = Clip <min = 0.5> (a) }""",
        FUNCTION_HEAD,
    )
    assert kinds(graph) == ["Constant", "Clip"]


def test_functions_may_return_what_they_are_given():
    graph = lifted(
        """g (float[3] x) => (float[3] y) { t = local.same (x) y = Relu(t) }
        <domain: "local", opset_import: ["" : 17]>
        same (a) => (a) { }""",
        FUNCTION_HEAD,
    )
    assert kinds(graph) == ["Relu"]
    assert graph.inputs[0].name == "x"


def test_functions_that_call_themselves_are_refused():
    body = """g (float[3] x) => (float[3] y) { y = local.f (x) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        f (a) => (b) { b = local.h (a) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        h (a) => (b) { b = local.f (a) }"""
    refused(ModelError, model_of(body, FUNCTION_HEAD), "function 'f' calls itself")


def test_functions_that_multiply_without_end_are_refused(monkeypatch):
    calls = "{ b = local.f%d (a) c = local.f%d (b) d = local.f%d (c) }"
    body = "g (float[3] x) => (float[3] y) { y = local.f0 (x) }"
    for level in range(30):
        body += '\n<domain: "local", opset_import: ["" : 17, "local" : 1]>'
        body += f"\nf{level} (a) => (d) " + calls % ((level + 1,) * 3)
    body += '\n<domain: "local", opset_import: ["" : 17]>\nf30 (a) => (b) { b = Relu(a) }'
    monkeypatch.setattr(nodes, "NODE_LIMIT", 1000)
    refused(ModelError, model_of(body, FUNCTION_HEAD), "more than 1000 nodes")


def test_functions_take_so_many_inputs():
    body = FUNCTIONS.replace("local.maybe (u)", "local.maybe (u, u, u)")
    refused(ModelError, model_of(body, FUNCTION_HEAD), "'maybe' takes 2 inputs, node 'maybe_2' gives 3")


class Choice(Operator):
    """If, as far as lifting is concerned."""

    condition: Value
    then_branch: Graph
    else_branch: Graph

    def infer(self):
        return tuple(value.type for value in self.then_branch.outputs)


@pytest.fixture
def choice(monkeypatch):
    """If is the operator above, for one test."""
    registry.operators()
    Choice.onnx, Choice.since = "If", 1
    monkeypatch.setitem(registry._BY_ONNX, ("", "If"), [Choice])
    monkeypatch.setitem(registry._OPERATORS, "Choice", Choice)


BRANCHES = """g (bool b, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
    t = Relu(x)
    y = If (b) <
        then_branch = g1 () => (float[2] r) <float[2] v = {3, 4}> { s = Add(t, w) r = Mul(s, v) },
        else_branch = g2 () => (float[2] r) { r = Add(x, w) }
    >
}"""


def test_subgraphs_become_regions(choice):
    graph = lifted(BRANCHES)
    assert kinds(graph) == ["Relu", "Constant", "Choice"]
    op = graph.ops[-1]
    assert op.result.name == "y"
    assert kinds(op.then_branch) == ["Add", "Constant", "Mul"]
    assert op.then_branch.captured() == [graph.ops[0].result, graph.ops[1].result]
    assert op.else_branch.captured() == [graph.inputs[1], graph.ops[1].result]
    assert 'then_branch=graph "g1" () -> (%r "r") {' in print_graph(graph)


def test_subgraphs_wait_for_what_they_capture(choice):
    model = model_of(BRANCHES)
    model.graph.node.reverse()
    assert kinds(lift(model)) == ["Relu", "Constant", "Choice"]


# What cannot be lifted


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


def test_unknown_operators_of_subgraphs_are_listed_too(choice):
    refused(UnsupportedError, BRANCHES.replace("Mul(s, v)", "Mull(s, v)"), '"Mull_1": Mull of ai.onnx')


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


# Files


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


# Tensors


@pytest.mark.parametrize("name", [name for name in DTYPES if name != "str"])
@pytest.mark.parametrize("raw", [True, False])
def test_tensors_of_every_type(name, raw):
    dtype = DTYPES[name]
    array = np.array([0, 1, 3, 7, 100, 1]).astype(dtype.numpy).reshape(2, 3)
    if dtype.is_float:
        array[1, 1] = -0.5
    if raw:
        tensor = TensorProto(data_type=dtype.code, dims=array.shape, raw_data=array.tobytes())
    else:
        values = array.view(f"u{dtype.bytes}") if name in ("f16", "bf16", "bool") else array
        tensor = TensorProto(data_type=dtype.code, dims=array.shape)
        field = {"f32": "float_data", "f64": "double_data", "i64": "int64_data"}.get(name, "int32_data")
        field = "uint64_data" if name in ("u32", "u64") else field
        getattr(tensor, field).extend(values.ravel().tolist())
    read = array_of(tensor, None)
    assert read.dtype == array.dtype
    assert read.tobytes() == array.tobytes()
    assert read.shape == array.shape
    assert not read.flags.writeable


def test_strings_are_utf8():
    tensor = TensorProto(data_type=TensorProto.STRING, dims=[2], string_data=["é".encode(), b""])
    assert array_of(tensor, None).tolist() == ["é", ""]
    tensor.string_data[0] = b"\xff"
    with pytest.raises(ModelError, match="UTF-8"):
        array_of(tensor, None)


@pytest.mark.parametrize(
    ("tensor", "error", "complaint"),
    [
        (TensorProto(name="w", data_type=1, dims=[2], raw_data=b"1234"), ModelError, "needs 8 bytes, got 4"),
        (TensorProto(name="w", data_type=1, dims=[2], float_data=[1]), ModelError, "needs 2 elements, got 1"),
        (
            TensorProto(name="w", data_type=1, dims=[-2], float_data=[1]),
            ModelError,
            r"no valid shape: \[-2\]",
        ),
        (TensorProto(name="w", data_type=1, dims=[1 << 40, 1 << 40]), ModelError, "needs 12089258196146291"),
        (TensorProto(name="w", data_type=0, dims=[1]), ModelError, "no element type"),
        (
            TensorProto(name="w", data_type=8, dims=[2], string_data=[b""]),
            ModelError,
            "needs 2 strings, got 1",
        ),
        (TensorProto(name="w", data_type=14, dims=[1]), UnsupportedError, "element type COMPLEX64"),
        (TensorProto(name="w", data_type=22, dims=[2], raw_data=b"1"), UnsupportedError, "element type INT4"),
    ],
)
def test_damaged_tensors_are_refused(tensor, error, complaint):
    with pytest.raises(error, match=complaint):
        array_of(tensor, None)


def external(location: str, shape=(2, 3), **entries) -> TensorProto:
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.fixture
def folder(tmp_path):
    """A folder for a model, with a file of the numbers 0 to 9 beside it and within."""
    inside = tmp_path / "inside"
    inside.mkdir()
    for path in (tmp_path / "out.bin", inside / "w.bin"):
        path.write_bytes(np.arange(10, dtype=np.float32).tobytes())
    return inside


@pytest.mark.parametrize("offset", [0, 8, 16])
def test_external_data_are_mapped(folder, offset):
    array = array_of(external("w.bin", offset=offset, length=24), folder)
    assert array.tolist() == (np.arange(6).reshape(2, 3) + offset // 4).tolist()
    assert not array.flags.writeable
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)


def test_external_data_at_odd_places_are_copied(folder):
    (folder / "w.bin").write_bytes(b"x" + np.arange(6, dtype=np.float32).tobytes())
    array = array_of(external("w.bin", offset=1), folder)
    assert array.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert array.flags.aligned


def test_external_data_of_no_bytes_need_no_file(folder):
    assert array_of(external("none.bin", (0, 3)), folder).shape == (0, 3)


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (external("../out.bin"), "outside the model's folder"),
        (external("sub/../../out.bin"), "outside the model's folder"),
        (external("/etc/passwd"), "outside the model's folder"),
        (external("link.bin"), "outside the model's folder"),
        (external(""), "outside the model's folder"),
        (external("none.bin"), "'none.bin', does not exist"),
        (external("."), "does not exist"),
        (external("w.bin", offset=20), "needs bytes 20 to 44 of 'w.bin', which has 40"),
        (external("w.bin", offset=-4), "offset -4"),
        (external("w.bin", offset="x"), "whole numbers"),
        (external("w.bin", length=20), "needs 24 bytes in 'w.bin', got 20"),
        (external("w.bin", (1 << 40, 1 << 20)), "needs bytes 0 to"),
    ],
)
def test_external_data_that_are_not_there_are_refused(folder, tensor, complaint):
    (folder / "link.bin").symlink_to(folder.parent / "out.bin")
    with pytest.raises(ModelError, match=complaint):
        array_of(tensor, folder)


def test_external_data_need_a_path(folder):
    model = model_of("g (float[2,3] x) => (float[2,3] y) { y = Add(x, w) }")
    model.graph.initializer.append(external("w.bin"))
    refused(ModelError, model, "the model was given without a path")
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    graph = lift(folder / "m.onnx")
    assert isinstance(graph.ops[0], Constant)
    assert evaluate(graph, [np.zeros((2, 3), np.float32)])[0].ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_a_huge_declared_shape_costs_nothing():
    graph = lifted("g (float[1099511627776, 1099511627776] x) => (float y) { y = Relu(x) }")
    assert graph.outputs[0].type.size == 1 << 80


def test_attribute_references_outside_functions_are_no_values():
    model = model_of("g (float[2] x) => (float[2] y) { y = LeakyRelu (x) }")
    model.graph.node[0].attribute.append(
        AttributeProto(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    )
    assert lift(model).ops[0].attributes == {"alpha": 0.01}
