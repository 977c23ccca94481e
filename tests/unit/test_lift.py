"""Models become graphs: names, order, constants, old forms, sizes."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gcomp.diagnostics import InputError, ModelError, UnsupportedError
from gcomp.evaluate import evaluate
from gcomp.lift import lift
from gcomp.types import F32, TensorType
from tests.onnx_text import kinds, lifted, model_of, refused


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
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2], np.float32), "w"))
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
    "value_int": (np.array(7), None),
    "value_ints": (np.array([1, 2]), None),
    "value_float": (np.array(0.1, np.float32), None),
    "value_floats": (np.array([0.1, 1 / 3], np.float32), None),
    "value_string": (np.array("é", object), None),
    "value_strings": (np.array(["a", "b"], object), None),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_in_every_form(name):
    array, wrap = CONSTANTS[name]
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.append(helper.make_attribute(name, wrap(array) if wrap else array.tolist()))
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", [], [info]))
    (value,) = evaluate(lift(model), [])
    assert value.dtype == array.dtype
    assert value.shape == array.shape
    assert np.array_equal(value, array)


def sparse(indices, values=(1.0, 2.0), dims=(3, 4)):
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "s"),
        numpy_helper.from_array(np.array(indices, np.int64), "i"),
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
    assert evaluate(graph, [np.array([0, 9], np.float32)])[0].tolist() == [0.5, 1.5]


def test_declared_types_of_results_do_not_matter():
    graph = lifted("g (float[2,3] x) => (int64[7] y) <float[9] t> { t = Relu(x) y = Neg(t) }")
    assert graph.outputs[0].type == TensorType(F32, (2, 3))


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
        ({"dims": {"n": True}}, "whole number, not True"),
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
