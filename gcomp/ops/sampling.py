"""How one axis is sampled at another size: coordinates, and the elements and weights around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dim import Dim, floordiv
from ..kernel import Expr, Operand, as_index, cast, maximum, minimum, reduce, select, unary
from ..op import Operator
from ..types import F32, I64, Array, DType

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
    if not math.isfinite(scale):
        op.fail("a finite scale", scale=scale)
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
    antialias: bool

    def taps(self) -> list[tuple[Array, Array]]:
        """What each new element is made of: places among the old ones, and their weights, one pair after the
        other."""
        old, new = self._lengths()
        points = self._points(np.arange(new, dtype=np.float32), float(old), float(new))
        if self.mode == "nearest":
            return [(np.clip(_rounded(points, self.nearest), 0, old - 1).astype(np.int64), np.ones(new))]
        first = np.floor(points)
        found: list[tuple[Array, Array]] = []
        for offset, weight in self._weights(points - first):
            place = first + offset
            inside = (place >= 0) & (place < old)
            share = np.where(inside, weight, 0) if self.exclude else weight
            found.append((np.clip(place, 0, old - 1).astype(np.int64), np.asarray(share, np.float64)))
        total = sum((share for _, share in found), np.zeros(new)) if self.is_normalised else np.ones(new)
        return [(places, share / total) for places, share in found]

    def beyond(self) -> Array | None:
        """Which points lie outside the axis, if that matters."""
        if self.crop is None:
            return None
        old, new = self._lengths()
        points = self._points(np.arange(new, dtype=np.float32), float(old), float(new))
        return (points < 0) | (points > old - 1)

    @property
    def stretch(self) -> float:
        """How much wider than usual the filter is, so that no element is left out on the way down."""
        return 1 / self.scale if self.antialias and self.scale is not None and self.scale < 1 else 1.0

    @property
    def is_normalised(self) -> bool:
        """Whether weights are divided by their sum."""
        return self.exclude or self.stretch > 1

    @property
    def reach(self) -> int:
        """The number of elements on either side of a point that may count."""
        return math.ceil((1 if self.mode == "linear" else 2) * self.stretch)

    def mix(self, index: Expr, read: Callable[[Expr], Expr], dtype: DType) -> Expr:
        """The new element at `index`, from what `read` gives for places among the old ones, as `dtype`."""
        last = as_index(self.old) - 1
        quotient = self._whole_quotient()
        if quotient is not None:
            return read(index // quotient)
        point = self._point(index)
        if self.mode == "nearest":
            return read(minimum(maximum(cast(rounded(point, self.nearest), I64), 0), last))
        first = unary("floor", point)
        base = cast(first, I64)

        def share(offset: Operand, weight: Expr) -> tuple[Expr, Expr]:
            place = base + offset
            if self.exclude:
                weight = select((place >= 0) & (place <= last), weight, 0.0)
            element = read(minimum(maximum(place, 0), last))
            return cast(element, dtype) * cast(weight, dtype), cast(weight, dtype)

        def from_left(t: Expr) -> tuple[Expr, Expr]:
            offset = t - (self.reach - 1)
            distance = unary("abs", cast(offset, F32) - (point - first)) / self.stretch
            return share(offset, self._filter(distance, select))

        if self.stretch > 1:
            value = reduce("add", [2 * self.reach], lambda *t: from_left(*t)[0], 0.0)
            return value / reduce("add", [2 * self.reach], lambda *t: from_left(*t)[1], 0.0)
        shares = [share(offset, weight) for offset, weight in self._weights(point - first)]
        value, total = shares[0]
        for element, weight in shares[1:]:
            value, total = value + element, total + weight
        return value / total if self.exclude else value

    def is_beyond(self, index: Expr) -> Expr | None:
        """Whether the point at `index` lies outside the axis, if that matters."""
        if self.crop is None:
            return None
        point = self._point(index)
        return (point < 0.0) | (point > cast(as_index(self.old) - 1, F32))

    def _lengths(self) -> tuple[int, int]:
        if not isinstance(self.old, int) or not isinstance(self.new, int):
            raise ValueError(f"sampling of an array needs numbers, got {self.old} to {self.new}")
        return self.old, self.new

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
        """The offset and weight of each element around points `part` of the way from one to the next."""
        if self.stretch > 1:
            offsets = range(1 - self.reach, self.reach + 1)
            distances = [(offset, abs(offset - part) / np.float32(self.stretch)) for offset in offsets]
            return [(offset, self._filter(distance, np.where)) for offset, distance in distances]
        if self.mode == "linear":
            return [(0, 1.0 - part), (1, part)]
        near, far = self._near, self._far
        return [(-1, far(part + 1.0)), (0, near(part)), (1, near(1.0 - part)), (2, far(2.0 - part))]

    def _near(self, x: Any) -> Any:
        return ((self.cubic + 2) * x - (self.cubic + 3)) * x * x + 1.0

    def _far(self, x: Any) -> Any:
        return self.cubic * (((x - 5.0) * x + 8.0) * x - 4.0)

    def _filter(self, distance: Any, choose: Callable[..., Any]) -> Any:
        """The weight at a distance that is not negative; `choose` is `where` or `select`."""
        if self.mode == "linear":
            return choose(distance < 1.0, 1.0 - distance, 0.0)
        beyond = choose(distance < 2.0, self._far(distance), 0.0)
        return choose(distance < 1.0, self._near(distance), beyond)

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
