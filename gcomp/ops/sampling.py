"""How one axis is sampled at another size: coordinates, and the elements and weights around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dim import Dim, floordiv
from ..kernel import Expr, as_index, cast, maximum, minimum, select, unary
from ..op import Operator
from ..types import F32, I64, Array

MODES = ("nearest", "linear", "cubic")
TRANSFORMS = (
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "half_pixel_symmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)


def scaled(op: Operator, size: Dim, scale: float) -> Dim:
    """The size of an axis times `scale`, rounded down. Raises `InferenceError` if that cannot be told."""
    if isinstance(size, int):
        return int(np.floor(np.float32(size) * np.float32(scale)))
    if scale.is_integer():
        return size * int(scale)
    if (1 / scale).is_integer():
        return floordiv(size, int(1 / scale))
    op.fail("a scale of a symbolic size that is a whole number or its reciprocal", size=size, scale=scale)


@dataclass(frozen=True)
class Sampling:
    """`old` elements sampled at `new` points; `scale` is None where it is the quotient of symbolic sizes.

    `crop` is the part of the axis that the points cover, as fractions. Coordinates are computed in f32, as
    ONNX Runtime does: where a point lies on the border between two elements, that decides which is nearest.
    """

    old: Dim
    new: Dim
    scale: float | None
    mode: str
    transform: str
    nearest: str
    cubic: float
    exclude: bool
    crop: tuple[float, float] | None

    def matrix(self) -> Array:
        """The weight of each old element in each new one, [new, old]."""
        old, new = int(str(self.old)), int(str(self.new))
        points = self._points(np.arange(new, dtype=np.float32), float(old), float(new))
        result = np.zeros((new, old))
        if self.mode == "nearest":
            places = np.clip(_rounded(points, self.nearest), 0, old - 1).astype(np.int64)
            result[np.arange(new), places] = 1
            return result
        first = np.floor(points)
        for offset, weight in self._weights(points - first):
            place = first + offset
            inside = (place >= 0) & (place < old)
            share = np.where(inside, weight, 0) if self.exclude else weight
            np.add.at(result, (np.arange(new), np.clip(place, 0, old - 1).astype(np.int64)), share)
        return result / result.sum(axis=1, keepdims=True) if self.exclude else result

    def beyond(self) -> Array | None:
        """Which points lie outside the axis, if that matters."""
        if self.crop is None:
            return None
        old, new = int(str(self.old)), int(str(self.new))
        points = self._points(np.arange(new, dtype=np.float32), float(old), float(new))
        return (points < 0) | (points > old - 1)

    def taps(self, index: Expr) -> list[tuple[Expr, Expr | None]]:
        """The old elements that make the new one at `index`, and their weights (None: the only one)."""
        last = as_index(self.old) - 1
        quotient = self._whole_quotient()
        if quotient is not None:
            return [(index // quotient, None)]
        point = self._point(index)
        if self.mode == "nearest":
            place = cast(rounded(point, self.nearest), I64)
            return [(minimum(maximum(place, 0), last), None)]
        first = unary("floor", point)
        base = cast(first, I64)
        found: list[tuple[Expr, Expr]] = []
        total: Expr | None = None
        for offset, weight in self._weights(point - first):
            place = base + offset
            if self.exclude:
                weight = select((place >= 0) & (place <= last), weight, 0.0)
                total = weight if total is None else total + weight
            found.append((minimum(maximum(place, 0), last), weight))
        return [(place, weight if total is None else weight / total) for place, weight in found]

    def is_beyond(self, index: Expr) -> Expr | None:
        """Whether the point at `index` lies outside the axis, if that matters."""
        if self.crop is None:
            return None
        point = self._point(index)
        return (point < 0.0) | (point > cast(as_index(self.old) - 1, F32))

    def _point(self, index: Expr) -> Expr:
        return self._points(cast(index, F32), self._extent(self.old), self._extent(self.new))

    @staticmethod
    def _extent(size: Dim) -> Any:
        return float(size) if isinstance(size, int) else cast(as_index(size), F32)

    def _points(self, i: Any, old: Any, new: Any) -> Any:
        """The coordinates of new elements `i`, as arrays or as expressions."""
        scale = self.scale if self.scale is not None else new / old
        single = self.new == 1
        match self.transform:
            case "align_corners":
                return i * 0.0 if single else i * ((old - 1.0) / (new - 1.0))
            case "asymmetric":
                return i / scale
            case "tf_half_pixel_for_nn":
                return (i + 0.5) / scale
            case "tf_crop_and_resize":
                start, end = self.crop or (0.0, 1.0)
                if single:
                    return i * 0.0 + (old - 1.0) * (0.5 * (start + end))
                return i * ((old - 1.0) * (end - start) / (new - 1.0)) + (old - 1.0) * start
            case "pytorch_half_pixel" if single:
                return i * 0.0
            case "half_pixel_symmetric":
                middle = old / 2.0
                return middle * (1.0 - new / (old * scale)) + (i + 0.5) / scale - 0.5
            case _:
                return (i + 0.5) / scale - 0.5

    def _weights(self, part: Any) -> list[tuple[int, Any]]:
        """The offset and weight of each element around a point `part` of the way from one to the next."""
        if self.mode == "linear":
            return [(0, 1.0 - part), (1, part)]
        a = self.cubic

        def near(x: Any) -> Any:
            return ((a + 2) * x - (a + 3)) * x * x + 1.0

        def far(x: Any) -> Any:
            return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

        return [(-1, far(part + 1.0)), (0, near(part)), (1, near(1.0 - part)), (2, far(2.0 - part))]

    def _whole_quotient(self) -> int | None:
        """For nearest elements that are each repeated `q` times: `q`."""
        if self.mode != "nearest" or self.scale is None or not self.scale.is_integer():
            return None
        q = int(self.scale)
        plain = self.transform == "asymmetric" and self.nearest == "floor"
        centred = self.transform in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
        rounds = self.nearest.startswith("round")
        return q if self.new == self.old * q and (plain or (centred and rounds)) else None


def rounded(x: Expr, mode: str) -> Expr:
    """`x` rounded to a whole number by one of ONNX's modes for nearest elements."""
    match mode:
        case "floor" | "ceil":
            return unary(mode, x)
        case "round_prefer_ceil":
            return unary("floor", x + 0.5)
        case _:
            return unary("ceil", x - 0.5)


def _rounded(x: Array, mode: str) -> Array:
    match mode:
        case "floor":
            return np.floor(x)
        case "ceil":
            return np.ceil(x)
        case "round_prefer_ceil":
            return np.floor(x + 0.5)
        case _:
            return np.ceil(x - 0.5)
