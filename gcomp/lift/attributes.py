"""Attributes of nodes as the fields of operator classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
from onnx import AttributeProto, NodeProto, TypeProto, defs

from ..diagnostics import ModelError, UnsupportedError
from ..dim import symbol
from ..ir import Op
from ..op import Operator
from ..types import Array, DType, TensorType
from .tensors import array_of, dense_of, element_type

GRAPH = AttributeProto.GRAPH


def resolved(node: NodeProto, caller: Mapping[str, AttributeProto]) -> dict[str, AttributeProto]:
    """A node's attributes by name; in a function, references become what its `caller` gave, or nothing."""
    found: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif attribute.ref_attr_name in caller:
            copy = AttributeProto()
            copy.CopyFrom(caller[attribute.ref_attr_name])
            copy.name = attribute.name
            found[attribute.name] = copy
    return found


@cache
def field_names(cls: type[Operator]) -> dict[str, str]:
    """The field of each attribute or region, by its ONNX name in snake_case."""
    return {
        snake(cls.onnx_names.get(field.name, field.name)): field.name
        for field in cls.fields()
        if field.kind in ("attribute", "region")
    }


def snake(name: str) -> str:
    """`transA` as `trans_a`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def unknown_attributes(
    cls: type[Operator], given: Mapping[str, AttributeProto], opset: int
) -> list[AttributeProto]:
    """The attributes that the class has no field for and that count: they differ from ONNX's default."""
    known = field_names(cls)
    strange = [attribute for name, attribute in given.items() if snake(name) not in known]
    if not strange or not defs.has(cls.onnx, cls.domain):
        return strange
    declared = _schema(cls, opset).attributes
    ignored = getattr(cls, "ignored", ())
    return [
        attribute
        for attribute in strange
        if attribute.name not in ignored
        and (
            attribute.name not in declared
            or _plain(declared[attribute.name].default_value) != _plain(attribute)
        )
    ]


def check_types(cls: type[Operator], given: Mapping[str, AttributeProto], opset: int) -> None:
    """Raises `ModelError` for an attribute whose type is not the one that ONNX declares."""
    if not defs.has(cls.onnx, cls.domain):
        return
    declared = _schema(cls, opset).attributes
    for name, attribute in given.items():
        if name in declared and type_code(declared[name].type) != attribute.type:
            types = AttributeProto.AttributeType
            raise ModelError(
                f"{cls.onnx}: attribute {name} is {types.Name(type_code(declared[name].type))}, "
                f"got {types.Name(attribute.type)}"
            )


def type_code(type: Any) -> Any:
    """The number that attributes of this type carry."""
    return type.value


def field_value(cls: type[Op], field: str, attribute: AttributeProto, folder: Path | None) -> Any:
    """The value for a field that is no region. Raises `ModelError`, `UnsupportedError`."""
    value = attribute_value(attribute, folder)
    hint = _hints(cls)[field]
    if isinstance(value, int) and (hint is DType or DType in get_args(hint)):
        return element_type(value, f"attribute {attribute.name}")
    return bool(value) if hint is bool else value


def attribute_value(attribute: AttributeProto, folder: Path | None) -> Any:
    """An attribute as a number, string, array, type or tuple of such; floats as their `shortest`."""
    kinds = AttributeProto
    match attribute.type:
        case kinds.FLOAT:
            return shortest(attribute.f)
        case kinds.INT:
            return attribute.i
        case kinds.STRING:
            return _text(attribute.s, attribute)
        case kinds.TENSOR:
            return array_of(attribute.t, folder)
        case kinds.SPARSE_TENSOR:
            return dense_of(attribute.sparse_tensor, folder)
        case kinds.FLOATS:
            return tuple(map(shortest, attribute.floats))
        case kinds.INTS:
            return tuple(attribute.ints)
        case kinds.STRINGS:
            return tuple(_text(text, attribute) for text in attribute.strings)
        case kinds.TENSORS:
            return tuple(array_of(tensor, folder) for tensor in attribute.tensors)
        case kinds.TYPE_PROTO:
            return _type(attribute.tp, attribute.name)
        case _:
            raise UnsupportedError(
                f"attribute {attribute.name} is {kinds.AttributeType.Name(attribute.type)}; "
                "gcomp does not read such"
            )


def constant_array(given: Mapping[str, AttributeProto], folder: Path | None) -> Array:
    """What a Constant node holds, in whichever attribute it does. Raises `ModelError`."""
    if len(given) != 1:
        raise ModelError(f"Constant takes exactly one attribute, got {', '.join(given) or 'none'}")
    ((name, attribute),) = given.items()
    dtypes: dict[str, Any] = {"float": np.float32, "int": np.int64, "string": object}
    kind = name.removeprefix("value_").removesuffix("s")
    if name not in ("value", "sparse_value") and not (name.startswith("value_") and kind in dtypes):
        raise ModelError(f"Constant has no attribute {name}")
    array = np.asarray(attribute_value(attribute, folder), dtypes.get(kind))
    array.setflags(write=False)
    return array


def shortest(number: float) -> float:
    """The shortest decimal that is this float32: 1e-05 and not 9.999999747378752e-06."""
    return float(str(np.float32(number)))


@cache
def _hints(cls: type[Op]) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _schema(cls: type[Operator], opset: int) -> defs.OpSchema:
    newest = defs.get_schema(cls.onnx, cls.domain)
    return newest if newest.since_version <= opset else defs.get_schema(cls.onnx, opset, cls.domain)


def _plain(attribute: AttributeProto) -> tuple[Any, ...]:
    """The value alone, to compare."""
    lists = (attribute.floats, attribute.ints, attribute.strings)
    return (attribute.type, attribute.f, attribute.i, attribute.s, *map(tuple, lists))


def _text(raw: bytes, attribute: AttributeProto) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"attribute {attribute.name} is not UTF-8: {raw[:40]!r}") from error


def _type(type: TypeProto, name: str) -> TensorType:
    if type.WhichOneof("value") != "tensor_type":
        raise UnsupportedError(f"attribute {name} is a type other than a tensor's")
    dtype = element_type(type.tensor_type.elem_type, f"attribute {name}")
    sizes = [
        dim.dim_value if dim.HasField("dim_value") else symbol(dim.dim_param or f"{name}_{axis}")
        for axis, dim in enumerate(type.tensor_type.shape.dim)
    ]
    return TensorType(dtype, tuple(sizes))
