"""Attribute values and constants as text, bit by bit, and large constants by their digest."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import weakref
from typing import Any, cast

import numpy as np

from .diagnostics import GcompError
from .dim import Poly
from .types import STRING, Array, DType, Layout, TensorType, dtype_of

INLINE = 64
"""Constants of up to so many elements are spelled out; larger ones appear by digest."""

_digests: dict[int, tuple[weakref.ref[Array], str]] = {}
_arrays: dict[str, list[weakref.ref[Array]]] = {}
"""All living arrays of a digest: equal ones may die in any order."""


def quoted(text: str) -> str:
    """A string in double quotes, escaped as in JSON; on one line, and valid UTF-8 whatever it holds."""
    plain = json.dumps(text, ensure_ascii=False)
    try:
        plain.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return plain


def literal(value: Any) -> str:
    """The text of an attribute value. Raises `GcompError` for a type that has no text form."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return quoted(value)
        case tuple():
            return f"({', '.join(map(literal, cast('tuple[Any, ...]', value)))})"
        case np.ndarray():
            return array_literal(cast(Array, value))
        case np.generic():
            return literal(value.item())
        case DType() | TensorType():
            return str(value)
        case Layout():
            return f"layout<{value}>"
        case Poly():
            return f"dim<{value}>"
        case _:
            raise GcompError(f"an attribute of type {type(value).__name__} has no text form: {value!r}")


def array_literal(array: Array) -> str:
    """`f32[2] dense<1.0, 2.0>`, or `f32[512,512] @sha256:...` above `INLINE` elements."""
    type = array_type(array)
    if array.size > INLINE:
        return f"{type} @sha256:{digest(array)}"
    return f"{type} dense<{', '.join(_element(x, type.dtype) for x in array.ravel())}>"


def array_type(array: Array) -> TensorType:
    """The type of an array. Raises `GcompError` for a numpy dtype that gcomp lacks."""
    try:
        return TensorType(dtype_of(array), array.shape)
    except KeyError as error:
        raise GcompError(f"an array of dtype {array.dtype} has no text form") from error


def element(text: str, dtype: DType) -> Any:
    """Reads one element as `array_literal` writes it, strings excepted. Raises `ValueError`."""
    if dtype.name == "bool":
        return {"true": True, "false": False}[text] if text in ("true", "false") else _refuse(text, dtype)
    if not dtype.is_float:
        value = int(text)
        info = np.iinfo(dtype.numpy)
        return value if info.min <= value <= info.max else _refuse(text, dtype)
    if text.startswith("0x"):
        return np.array(int(text, 16), f"u{dtype.bytes}").view(dtype.numpy)[()]
    with np.errstate(over="ignore"):
        return np.array(float(text)).astype(dtype.numpy)[()]


def float_from_bits(text: str) -> float:
    """A double from the hexadecimal digits of its bits. Raises `ValueError`."""
    return struct.unpack("<d", struct.pack("<Q", int(text, 16)))[0]


def digest(array: Array) -> str:
    """The SHA-256 of an array's type and bits, in hexadecimal.

    Computed once for each array, which is read-only from then on; `known_array` finds the array while it
    lives.
    """
    known = _digests.get(id(array))
    if known is not None and known[0]() is array:
        return known[1]
    hash = hashlib.sha256(f"{array_type(array)} ".encode())
    hash.update(array_bytes(array).data)
    result = hash.hexdigest()
    array.setflags(write=False)
    key = id(array)

    def forget(reference: weakref.ref[Array]) -> None:
        if _digests.get(key, (None,))[0] is reference:
            del _digests[key]
        _arrays[result] = [held for held in _arrays[result] if held is not reference]
        if not _arrays[result]:
            del _arrays[result]

    reference = weakref.ref(array, forget)
    _digests[key] = reference, result
    _arrays.setdefault(result, []).append(reference)
    return result


def known_array(digest: str) -> Array | None:
    """The living array of this process that was printed under `digest`."""
    return next((array for held in _arrays.get(digest, []) if (array := held()) is not None), None)


def array_bytes(array: Array) -> Array:
    """The elements in row-major order as bytes (u8), little-endian; strings as a JSON list."""
    dtype = dtype_of(array)
    if dtype is STRING:
        return np.frombuffer(json.dumps([_string(x) for x in array.ravel()]).encode(), np.uint8)
    flat = np.ascontiguousarray(array).astype(dtype.numpy.newbyteorder("<"), copy=False)
    return flat.reshape(-1).view(np.uint8)


def array_from_bytes(data: Array, type: TensorType) -> Array:
    """The inverse of `array_bytes`. Raises `ValueError` where the bytes do not fit the type."""
    if type.dtype is not STRING:
        return data.view(type.dtype.numpy).reshape(type.static_shape)
    strings = np.empty(type.static_shape, object)
    strings[...] = np.array(json.loads(data.tobytes()), object).reshape(type.static_shape)
    return strings


def _refuse(text: str, dtype: DType) -> Any:
    raise ValueError(f"{text} is no {dtype}")


def _element(x: Any, dtype: DType) -> str:
    if dtype is STRING:
        return quoted(_string(x))
    if dtype.name == "bool":
        return "true" if x else "false"
    if not dtype.is_float:
        return str(int(x))
    text = str(x) if math.isfinite(x) else "nan" if math.isnan(x) else "inf" if x > 0 else "-inf"
    same = np.asarray(element(text, dtype)).tobytes() == np.asarray(x).astype(dtype.numpy).tobytes()
    return text if same else hex(int(np.asarray(x).astype(dtype.numpy).view(f"u{dtype.bytes}")))


def _float(value: float) -> str:
    if math.isnan(value):
        bits = struct.unpack("<Q", struct.pack("<d", value))[0]
        return "nan" if bits == 0x7FF8000000000000 else f"float<{bits:#x}>"
    return repr(value)


def _string(x: Any) -> str:
    return x.decode() if isinstance(x, bytes) else str(x)
