"""What a value is: element type, symbolic shape, and the layout that it has in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from . import dim as dims
from .diagnostics import OpenSizeError
from .dim import Dim

Array = NDArray[Any]


@dataclass(frozen=True)
class DType:
    """An element type: its name in the text form, its numpy type, its code in ONNX and in the C interface."""

    name: str
    numpy: np.dtype[Any]
    code: int

    def __str__(self) -> str:
        return self.name

    @property
    def bytes(self) -> int:
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self.name in ("f64", "f32", "f16", "bf16")

    @property
    def is_signed(self) -> bool:
        return self.name.startswith("i")

    @property
    def is_integer(self) -> bool:
        return self.name[0] in "iu"

    @property
    def extremes(self) -> tuple[Any, Any]:
        """The least and the greatest finite number of a type of numbers."""
        info: Any = (np.iinfo if self.is_integer else cast(Any, ml_dtypes).finfo)(self.numpy)
        return info.min, info.max


F32 = DType("f32", np.dtype(np.float32), 1)
U8 = DType("u8", np.dtype(np.uint8), 2)
I8 = DType("i8", np.dtype(np.int8), 3)
U16 = DType("u16", np.dtype(np.uint16), 4)
I16 = DType("i16", np.dtype(np.int16), 5)
I32 = DType("i32", np.dtype(np.int32), 6)
I64 = DType("i64", np.dtype(np.int64), 7)
STRING = DType("str", np.dtype(object), 8)
BOOL = DType("bool", np.dtype(np.bool_), 9)
F16 = DType("f16", np.dtype(np.float16), 10)
F64 = DType("f64", np.dtype(np.float64), 11)
U32 = DType("u32", np.dtype(np.uint32), 12)
U64 = DType("u64", np.dtype(np.uint64), 13)
BF16 = DType("bf16", np.dtype(ml_dtypes.bfloat16), 16)

DTYPES = {t.name: t for t in (F32, U8, I8, U16, I16, I32, I64, STRING, BOOL, F16, F64, U32, U64, BF16)}
FLOATS = (F32, F64, F16, BF16)
INTEGERS = (I8, I16, I32, I64, U8, U16, U32, U64)
NUMBERS = (*FLOATS, *INTEGERS)

_BY_NUMPY = {t.numpy: t for t in DTYPES.values()}
_BY_CODE = {t.code: t for t in DTYPES.values()}


def dtype_of(numpy: Any) -> DType:
    """The element type of a numpy array or dtype, in any byte order. Raises `KeyError` if there is none."""
    dtype = np.dtype(getattr(numpy, "dtype", numpy))
    return STRING if dtype.kind in "OUST" else _BY_NUMPY[dtype.newbyteorder("=")]


def shape_of(array: Any) -> tuple[int, ...]:
    """The shape of anything that numpy can read."""
    return tuple(array.shape) if hasattr(array, "shape") else np.shape(array)


def dtype_by_code(code: int) -> DType:
    """The element type with ONNX's number `code`. Raises `KeyError` if gcomp has none."""
    return _BY_CODE[code]


@dataclass(frozen=True)
class Part:
    """One physical axis of a layout: one or several merged logical axes, whole or one side of a tiling.

    `whole` rounds the merged extent up to a multiple of `tile`; `outer` is the index divided by `tile`,
    `inner` the remainder.
    """

    axes: tuple[int, ...]
    side: Literal["whole", "outer", "inner"] = "whole"
    tile: int = 1

    def __str__(self) -> str:
        name = str(self.axes[0]) if len(self.axes) == 1 else f"({' '.join(map(str, self.axes))})"
        return (
            name
            + {
                "whole": f"^{self.tile}" if self.tile > 1 else "",
                "outer": f"/{self.tile}",
                "inner": f"%{self.tile}",
            }[self.side]
        )

    def extent(self, shape: Sequence[Dim]) -> Dim:
        merged = dims.product(shape[axis] for axis in self.axes)
        match self.side:
            case "whole":
                return merged if self.tile == 1 else dims.ceildiv(merged, self.tile) * self.tile
            case "outer":
                return dims.ceildiv(merged, self.tile)
            case "inner":
                return self.tile


@dataclass(frozen=True)
class Layout:
    """The order of physical axes, outermost first. Lanes beyond the logical shape always hold zero."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.parts))

    def physical(self, shape: Sequence[Dim]) -> tuple[Dim, ...]:
        """The extents of the physical axes of a tensor of this logical `shape`."""
        return tuple(part.extent(shape) for part in self.parts)


_PART = re.compile(r"(\d+|\([\d ]+\))(?:([\^/%])(\d+))?")


def parse_layout(text: str) -> Layout:
    """Reads what `str` of a layout prints, such as `0 2 3 1^16`. Raises `ValueError`."""
    parts: list[Part] = []
    if _PART.sub("", text).strip():
        raise ValueError(f"{text!r} is not a layout")
    for axes, mark, tile in _PART.findall(text):
        side: Any = {"": "whole", "^": "whole", "/": "outer", "%": "inner"}[mark]
        parts.append(Part(tuple(map(int, axes.strip("()").split())), side, int(tile or 1)))
    return Layout(tuple(parts))


def channels_last(rank: int, block: int) -> Layout:
    """Batch, space, then channels rounded up to `block`."""
    return Layout((Part((0,)), *(Part((axis,)) for axis in range(2, rank)), Part((1,), "whole", block)))


@dataclass(frozen=True)
class TensorType:
    """`dtype[shape]`, dense and row-major unless a layout says otherwise."""

    dtype: DType
    shape: tuple[Dim, ...]
    layout: Layout | None = None

    def __str__(self) -> str:
        inside = ",".join(map(str, self.shape)) + (f" @ {self.layout}" if self.layout else "")
        return f"{self.dtype}[{inside}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """The number of elements."""
        return dims.product(self.shape)

    @property
    def is_static(self) -> bool:
        return all(isinstance(size, int) for size in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers. Raises `OpenSizeError`, a `ValueError`, where a size is symbolic."""
        sizes = tuple(size for size in self.shape if isinstance(size, int))
        if len(sizes) != self.rank:
            raise OpenSizeError(f"{self} has symbolic sizes")
        return sizes

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """The sizes of all axes but the first as integers. Raises `OpenSizeError` where one is symbolic."""
        return replace(self, shape=self.shape[1:], layout=None).static_shape

    @property
    def physical(self) -> tuple[Dim, ...]:
        """The extents in memory, outermost first."""
        return self.layout.physical(self.shape) if self.layout else self.shape

    @property
    def bytes(self) -> Dim:
        """Bytes in memory, padding included."""
        return dims.product(self.physical) * self.dtype.bytes

    def with_layout(self, layout: Layout | None) -> TensorType:
        return self if layout == self.layout else replace(self, layout=layout)

    def substitute(self, values: Mapping[str, Dim]) -> TensorType:
        if self.is_static:
            return self
        return replace(self, shape=tuple(dims.substitute(size, values) for size in self.shape))

    def accepts(self, other: TensorType) -> bool:
        """Whether a value of type `other` may stand for this type: the same, or with sizes refined."""
        return (
            self.dtype == other.dtype
            and self.layout == other.layout
            and self.rank == other.rank
            and all(
                mine == its or (not isinstance(mine, int))
                for mine, its in zip(self.shape, other.shape, strict=True)
            )
        )


def broadcast_shapes(*shapes: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The common shape under numpy's rule. Raises `ValueError` where two sizes are known to differ.

    A symbolic size against an integer above 1 must equal it or be 1, so the result is the integer.
    """
    rank = max(map(len, shapes), default=0)
    result: list[Dim] = []
    for axis in range(rank):
        sizes = {shape[axis - rank + len(shape)] for shape in shapes if axis - rank + len(shape) >= 0} - {1}
        numbers = [size for size in sizes if isinstance(size, int)]
        if len(numbers) > 1:
            raise ValueError(f"sizes {' and '.join(map(str, sorted(numbers)))} do not broadcast")
        result.append(numbers[0] if numbers else dims.maximum(*sizes) if sizes else 1)
    return tuple(result)


_TYPE = re.compile(r"(\w+)\[([^@\]]*)(?:@ ([^\]]+))?\]")


def parse_type(text: str) -> TensorType:
    """Reads what `str` of a type prints, such as `f32[n,3,8,8 @ 0 2 3 1^16]`. Raises `ValueError`."""
    match = _TYPE.fullmatch(text.strip())
    if not match or match[1] not in DTYPES:
        raise ValueError(f"{text!r} is not a type")
    shape = tuple(dims.parse(size) for size in _split(match[2].strip()))
    return TensorType(DTYPES[match[1]], shape, parse_layout(match[3]) if match[3] else None)


def _split(text: str) -> list[str]:
    """Splits at commas outside parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts] if text else []
