"""Arrays, types and attributes as ONNX has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from onnx import AttributeProto, TensorProto, TypeProto, defs, helper

from ..literal import array_bytes
from ..op import Operator
from ..types import STRING, Array, DType, TensorType, dtype_of


def tensor_proto(array: Array, name: str) -> TensorProto:
    """An array as an ONNX tensor."""
    tensor = TensorProto(name=name, dims=array.shape, data_type=dtype_of(array).code)
    if dtype_of(array) is STRING:
        tensor.string_data.extend(str(text).encode() for text in array.ravel())
    else:
        tensor.raw_data = array_bytes(array).tobytes()
    return tensor


def type_proto(type: TensorType, dim_params: Mapping[str, str]) -> TypeProto:
    """A type; `dim_params` has the model's names for symbols that are called otherwise."""
    shape = [size if isinstance(size, int) else dim_params.get(str(size), str(size)) for size in type.shape]
    return helper.make_tensor_type_proto(type.dtype.code, shape)


def attribute_protos(
    op: Operator, field: str, value: Any, schema: defs.OpSchema | None
) -> list[AttributeProto]:
    """The attribute of a field; none where ONNX has it not, or has it by default."""
    name = onnx_name(op, field, schema)
    if isinstance(value, DType):
        value = value.code
    elif isinstance(value, TensorType):
        value = type_proto(value, {})
    elif isinstance(value, np.ndarray):
        value = tensor_proto(cast(Array, value), "")
    elif isinstance(value, bool):
        value = int(value)
    if schema is None:
        return [helper.make_attribute(name, value)]
    if name not in schema.attributes:
        return []
    declared = schema.attributes[name]
    kind = _type_code(declared.type)
    if kind == AttributeProto.FLOAT:
        value = float(value)
    attribute = helper.make_attribute(name, value, attr_type=kind)
    default = declared.default_value
    held, usual = helper.get_attribute_value(attribute), helper.get_attribute_value(default)
    return [] if not declared.required and default.type == kind and held == usual else [attribute]


def _type_code(type: Any) -> Any:
    return type.value


def onnx_name(op: Operator, field: str, schema: defs.OpSchema | None) -> str:
    """What ONNX calls an attribute or region."""
    if field in op.onnx_names or schema is None or field in schema.attributes:
        return op.onnx_names.get(field, field)
    alike = [name for name in schema.attributes if name.lower() == field.replace("_", "").lower()]
    return alike[0] if alike else field
