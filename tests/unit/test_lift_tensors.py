"""Arrays out of tensors: every type, inline, external, and damaged."""

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto

from gcomp.diagnostics import ModelError, UnsupportedError
from gcomp.evaluate import evaluate
from gcomp.lift import lift
from gcomp.lift.tensors import array_of
from gcomp.op import Constant
from gcomp.types import DTYPES
from tests.onnx_text import lifted, model_of, refused


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
