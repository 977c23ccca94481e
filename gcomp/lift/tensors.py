"""Arrays out of the tensors of a model: inline, sparse, or mapped from a file beside the model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from onnx import SparseTensorProto, TensorProto

from ..diagnostics import ModelError, UnsupportedError
from ..types import BF16, BOOL, F16, F32, F64, I64, STRING, U32, U64, Array, DType, dtype_by_code

DENSE_LIMIT = 1 << 31
"""Bytes that a sparse tensor may take when it is spelled out."""


def array_of(tensor: TensorProto, folder: Path | None) -> Array:
    """The elements of a tensor, read-only; external data are memory-mapped from within `folder`.

    Raises `ModelError` where the data are not what the tensor declares, `UnsupportedError` for its element
    type.
    """
    dtype = element_type(tensor.data_type, f"tensor {tensor.name!r}")
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape) or tensor.HasField("segment"):
        raise ModelError(f"tensor {tensor.name!r} has no valid shape: {list(shape)}")
    if tensor.data_location == TensorProto.EXTERNAL:
        array = _mapped(tensor, dtype, math.prod(shape), folder)
    elif tensor.HasField("raw_data"):
        _check_size(tensor, len(tensor.raw_data), math.prod(shape) * dtype.bytes, "bytes")
        array = np.frombuffer(tensor.raw_data, dtype.numpy.newbyteorder("<"))
    else:
        array = _typed(tensor, dtype, math.prod(shape))
    if dtype is BOOL:
        array = array.view(np.uint8) != 0
    array = array.reshape(shape)
    array.setflags(write=False)
    return array


def dense_of(sparse: SparseTensorProto, folder: Path | None) -> Array:
    """A sparse tensor spelled out. Raises `ModelError` for indices outside and above `DENSE_LIMIT`."""
    name, shape = sparse.values.name, tuple(sparse.dims)
    values, indices = array_of(sparse.values, folder), array_of(sparse.indices, folder)
    size = math.prod(shape)
    if any(extent < 0 for extent in shape) or size * max(values.itemsize, 1) > DENSE_LIMIT:
        raise ModelError(f"sparse tensor {name!r} of shape {list(shape)} is too large")
    if (
        values.ndim != 1
        or indices.dtype != np.int64
        or indices.shape
        not in (
            values.shape,
            (values.size, len(shape)),
        )
    ):
        raise ModelError(f"sparse tensor {name!r} has values {values.shape} and indices {indices.shape}")
    bounds = np.array(shape if indices.ndim == 2 else (size,))
    if ((indices < 0) | (indices >= bounds)).any():
        raise ModelError(f"sparse tensor {name!r} of shape {list(shape)} has an index outside")
    flat = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices
    dense = np.zeros(size, values.dtype)
    dense[flat] = values
    dense = dense.reshape(shape)
    dense.setflags(write=False)
    return dense


def element_type(code: int, what: str) -> DType:
    """The element type of an ONNX code; `what` has it. Raises `UnsupportedError`, `ModelError`."""
    try:
        return dtype_by_code(code)
    except KeyError:
        known = {number: name for name, number in TensorProto.DataType.items()}
        if code == TensorProto.UNDEFINED or code not in known:
            raise ModelError(f"{what} has no element type (code {code})") from None
        raise UnsupportedError(f"{what} has element type {known[code]}, which gcomp does not have") from None


def _typed(tensor: TensorProto, dtype: DType, count: int) -> Array:
    if dtype is STRING:
        _check_size(tensor, len(tensor.string_data), count, "strings")
        strings = np.empty(count, object)
        try:
            strings[:] = [text.decode() for text in tensor.string_data]
        except UnicodeDecodeError as error:
            raise ModelError(f"tensor {tensor.name!r} has a string that is not UTF-8") from error
        return strings
    held = {F32: tensor.float_data, F64: tensor.double_data, I64: tensor.int64_data}.get(dtype)
    if held is None:
        held = tensor.uint64_data if dtype in (U32, U64) else tensor.int32_data
    _check_size(tensor, len(held), count, "elements")
    wider: dict[DType, Any] = {F32: np.float32, F64: np.float64, U32: np.uint64, U64: np.uint64}
    wide = np.array(held, wider.get(dtype, np.int64))
    if dtype in (F16, BF16):
        return wide.astype(np.uint16).view(dtype.numpy)
    return wide.astype(dtype.numpy)


def _mapped(tensor: TensorProto, dtype: DType, count: int, folder: Path | None) -> Array:
    given = {entry.key: entry.value for entry in tensor.external_data}
    location = given.get("location", "")
    try:
        offset, length = int(given.get("offset", 0)), int(given.get("length", count * dtype.bytes))
    except ValueError as error:
        raise ModelError(f"tensor {tensor.name!r}: external data need whole numbers: {error}") from error
    if folder is None:
        raise ModelError(
            f"tensor {tensor.name!r} lies in the file {location!r}, but the model was given without a path"
        )
    if dtype is STRING or offset < 0:
        raise ModelError(f"tensor {tensor.name!r} of type {dtype} cannot be external at offset {offset}")
    path = (folder / location).resolve()
    if not location or not path.is_relative_to(folder.resolve()):
        raise ModelError(f"tensor {tensor.name!r}: external data {location!r} lie outside the model's folder")
    _check_size(tensor, length, count * dtype.bytes, f"bytes in {location!r}")
    if count == 0:
        return np.empty(0, dtype.numpy)
    if not path.is_file():
        raise ModelError(f"tensor {tensor.name!r}: the file of its data, {location!r}, does not exist")
    if path.stat().st_size < offset + length:
        raise ModelError(
            f"tensor {tensor.name!r} needs bytes {offset} to {offset + length} of {location!r}, "
            f"which has {path.stat().st_size}"
        )
    mapped = np.memmap(path, dtype.numpy.newbyteorder("<"), "r", offset, (count,)).view(np.ndarray)
    return mapped if offset % dtype.bytes == 0 else mapped.copy()


def _check_size(tensor: TensorProto, actual: int, expected: int, unit: str) -> None:
    if actual != expected:
        raise ModelError(
            f"tensor {tensor.name!r} of shape {list(tensor.dims)} needs {expected} {unit}, got {actual}"
        )
