"""Reads the bytes of a model and makes sure that they are one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, TensorProto

from ..diagnostics import ModelError


def read_model(model: str | os.PathLike[str] | bytes | ModelProto) -> tuple[ModelProto, Path | None]:
    """The model, and the folder in which its external data may lie. Raises `ModelError`."""
    if isinstance(model, ModelProto):
        return _checked(model, "the model"), None
    if isinstance(model, bytes):
        return _decoded(model, "the model"), None
    path = Path(model)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    return _decoded(data, str(path)), path.parent


def _decoded(data: bytes, what: str) -> ModelProto:
    try:
        model = ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{what} is not an ONNX model, or is damaged: {error}") from error
    return _checked(model, what)


def _checked(model: ModelProto, what: str) -> ModelProto:
    if not model.HasField("graph"):
        raise ModelError(f"{what} is not an ONNX model: it has no graph")
    _check_names(model, what)
    return model


def _check_names(message: Message, what: str) -> None:
    """Raises `ModelError` for a name that is not UTF-8: protobuf hands it out as bytes."""
    fields: list[tuple[str, int, Any]]
    if isinstance(message, TensorProto):  # listing its fields would copy the weights
        fields = [
            ("name", FieldDescriptor.TYPE_STRING, message.name),
            ("external_data", FieldDescriptor.TYPE_MESSAGE, message.external_data),
        ]
    else:
        fields = [(field.name, field.type, value) for field, value in message.ListFields()]
    for name, type, value in fields:
        values: Any = [value] if isinstance(value, (str, bytes, Message)) else value
        if type == FieldDescriptor.TYPE_MESSAGE:
            for inner in values:
                _check_names(inner, what)
        elif type == FieldDescriptor.TYPE_STRING:
            for text in values:
                if isinstance(text, bytes):
                    raise ModelError(f"{what} is damaged: a {name} is not UTF-8: {text[:40]!r}")
