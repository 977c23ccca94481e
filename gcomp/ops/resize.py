"""Tensors sampled anew at other sizes: Resize, and Upsample, which it succeeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..dim import Dim
from ..ir import Op, Value
from ..kernel import Expr, Kernel, Tensor, cast, maximum, minimum, select, unary
from ..op import Operator, argument, constant, known_array, known_content, operator, single
from ..types import F16, F32, FLOATS, I8, INTEGERS, U8, Array, DType, TensorType
from .elementwise import accumulator, widened
from .index import axes_of, check_lists
from .sampling import MODES, TRANSFORMS, Sampling, scaled
from .superseded import Superseded

POLICIES = ("stretch", "not_larger", "not_smaller")


@operator(onnx="Resize", since=11)
class Resize(Operator):
    """`x` sampled at the points that `scales` or `sizes` give: the nearest elements, or means of several.

    Means of integers are truncated, or with `antialias` rounded axis by axis.
    """

    x: Value
    roi: Value | None = None
    scales: Value | None = None
    sizes: Value | None = None
    antialias: int = 0
    axes: tuple[int, ...] | None = None
    coordinate_transformation_mode: str = "half_pixel"
    cubic_coeff_a: float = -0.75
    exclude_outside: int = 0
    extrapolation_value: float = 0.0
    keep_aspect_ratio_policy: str = "stretch"
    mode: str = "nearest"
    nearest_mode: str = "round_prefer_floor"

    tolerance = "sampled"
    inner = F32

    def infer(self) -> TensorType:
        check_lists(self, roi=self.roi, scales=self.scales, sizes=self.sizes)
        x = self.x.type
        if self.mode not in MODES or self.coordinate_transformation_mode not in TRANSFORMS:
            self.fail(
                "a mode that the standard names",
                mode=self.mode,
                coordinate_transformation_mode=self.coordinate_transformation_mode,
            )
        if self.mode != "nearest" and x.dtype not in (*FLOATS, *INTEGERS):
            self.fail("numbers for a mode other than nearest", x=self.x, mode=self.mode)
        shape = list(x.shape)
        for axis, sampling in self.samplings(x.shape).items():
            shape[axis] = sampling.new
        return TensorType(x.dtype, tuple(shape))

    def samplings(self, shape: Sequence[Dim]) -> dict[int, Sampling]:
        """How each axis that changes is sampled. Raises `InferenceError` for what is not yet known."""
        axes = axes_of(self, range(len(shape)) if self.axes is None else self.axes, len(shape))
        scales, crop = self._scales(), self._crop(len(axes))
        if scales is not None:
            if len(scales) != len(axes):
                self.fail("a scale per axis", x=self.x, scales=scales)
            pairs = [
                (scaled(self, shape[axis], scale), scale) for axis, scale in zip(axes, scales, strict=True)
            ]
        else:
            pairs = self._sizes([shape[axis] for axis in axes])
        found: dict[int, Sampling] = {}
        for place, (axis, (new, scale)) in enumerate(zip(axes, pairs, strict=True)):
            own = crop[place] if self.coordinate_transformation_mode == "tf_crop_and_resize" else None
            if new != shape[axis] or scale != 1 or own is not None:
                found[axis] = Sampling(
                    shape[axis],
                    new,
                    scale,
                    mode=self.mode,
                    transform=self.coordinate_transformation_mode,
                    nearest=self.nearest_mode,
                    cubic=single(self.cubic_coeff_a),
                    exclude=bool(self.exclude_outside),
                    crop=own,
                    antialias=bool(self.antialias),
                )
        return found

    def _scales(self) -> list[float] | None:
        if self.scales is None or self.scales.type.size == 0:
            return None
        array = known_array(self.scales)
        if array is None:
            self.fail("scales that are known when compiling", scales=self.scales)
        if not (array > 0).all():
            self.fail("scales above 0", scales=array.tolist())
        return [float(scale) for scale in array]

    def _crop(self, count: int) -> list[tuple[float, float]]:
        if self.coordinate_transformation_mode != "tf_crop_and_resize":
            return []
        roi = known_array(self.roi)
        if roi is None or roi.size != 2 * count:
            self.fail("a known region with a start and an end per axis", roi=self.roi)
        return list(zip(map(float, roi[:count]), map(float, roi[count:]), strict=True))

    def _sizes(self, old: Sequence[Dim]) -> list[tuple[Dim, float | None]]:
        """Per axis the new size and the scale; None where the scale is the quotient of symbolic sizes."""
        sizes = known_content(self.sizes)
        if sizes is None or len(sizes) != len(old):
            self.fail("known scales, or a known size per axis", x=self.x, sizes=self.sizes)
        quotients: list[float | None] = []
        for new, size in zip(sizes, old, strict=True):
            if isinstance(new, int) and isinstance(size, int) and size:
                quotients.append(float(np.float32(new / size)))
            else:
                quotients.append(1.0 if new == size else None)
        if self.keep_aspect_ratio_policy == "stretch":
            return list(zip(sizes, quotients, strict=True))
        known = [quotient for quotient in quotients if quotient is not None]
        if self.keep_aspect_ratio_policy not in POLICIES or len(known) < len(old):
            self.fail(
                f"a policy of {', '.join(POLICIES)}, and known sizes",
                keep_aspect_ratio_policy=self.keep_aspect_ratio_policy,
                x=self.x,
            )
        scale = min(known) if self.keep_aspect_ratio_policy == "not_larger" else max(known)
        return [(int(np.floor(scale * size + 0.5)), scale) for size in old if isinstance(size, int)]

    @property
    def rounds(self) -> bool:
        """Whether the result is rounded along each axis before the next one, the last axis first."""
        return bool(self.antialias) and self.mode != "nearest" and self.x.type.dtype.is_integer

    def reference(self, x: Array, *_: Array | None) -> Array:
        result, outside = widened(x), np.zeros((1,) * x.ndim, bool)
        for axis, sampling in reversed(self.samplings(x.shape).items()):
            across = (-1, *(1,) * (x.ndim - 1 - axis))
            parts = [np.take(result, at, axis) * share.reshape(across) for at, share in sampling.taps()]
            result = np.asarray(sum(parts[1:], parts[0]))
            if self.rounds:
                limits = np.iinfo(x.dtype)
                result = np.clip(np.floor(result + 0.5), limits.min, limits.max)
            beyond = sampling.beyond()
            if beyond is not None:
                outside = outside | beyond.reshape(-1, *(1,) * (x.ndim - 1 - axis))
        if outside.any():
            result = np.where(outside, single(self.extrapolation_value), result)
        if x.dtype.kind in "iu":
            limits = np.iinfo(x.dtype)
            result = np.clip(np.trunc(result), limits.min, limits.max)
        return result.astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor, *_: Tensor | None) -> Tensor:
        type, samplings = self.result.type, self.samplings(x.shape)
        sums = accumulator(type.dtype) if type.dtype.is_float else F32
        source = x
        for axis, sampling in reversed(list(samplings.items())):
            if sampling.stretch > 1 or self.rounds:  # many elements count: one axis after the other
                whole = type.dtype if self.rounds else None
                source = along(k, source, axis, samplings.pop(axis), sums, whole)

        def sampled(places: tuple[Expr, ...], axes: Sequence[int]) -> Expr:
            if not axes:
                return source[places]
            axis, *rest = axes
            return samplings[axis].mix(
                places[axis], lambda place: sampled((*places[:axis], place, *places[axis + 1 :]), rest), sums
            )

        def element(*index: Expr) -> Expr:
            value = sampled(index, list(samplings))
            for axis, sampling in samplings.items():
                beyond = sampling.is_beyond(index[axis])
                if beyond is not None:
                    value = select(beyond, single(self.extrapolation_value), cast(value, sums))
            return cast(value, type.dtype)

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (1, 2, 4, 5))
        twice, odd = constant([1.0, 1.0, 2.0, 2.0]), constant([1.0, 1.0, 1.75, 0.6])
        for transform in TRANSFORMS[:4]:
            for mode in MODES:
                yield cls(argument(x), None, odd, coordinate_transformation_mode=transform, mode=mode)
        for nearest in ("round_prefer_ceil", "floor", "ceil"):
            yield cls(argument(x), None, odd, nearest_mode=nearest)
        yield cls(argument(x), None, twice)
        yield cls(argument(x), None, twice, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        yield cls(argument(x), None, twice, mode="linear")
        yield cls(argument(x), None, twice, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
        yield cls(argument(x), None, None, constant([1, 2, 7, 3]), mode="linear")
        yield cls(argument(x), None, None, constant([7, 3]), mode="linear", axes=(2, 3))
        yield cls(
            argument(x), None, None, constant([9, 7]), axes=(2, 3), keep_aspect_ratio_policy="not_larger"
        )
        yield cls(
            argument(x),
            constant([0.0, 0.0, 0.2, 0.4, 1.0, 1.0, 0.9, 1.2]),
            None,
            constant([1, 2, 3, 6]),
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=10.0,
        )
        yield cls(argument(TensorType(I8, (1, 1, 3, 3)), -9, 9), None, twice)
        small = constant([1.0, 1.0, 0.4, 0.8])
        for mode in ("linear", "cubic"):
            yield cls(argument(x), None, small, mode=mode, antialias=1)
        yield cls(argument(x), None, small, mode="cubic", antialias=1, exclude_outside=1)
        yield cls(argument(TensorType(U8, (1, 1, 7, 6)), 0, 255), None, small, mode="linear", antialias=1)
        yield cls(argument(TensorType(U8, (1, 1, 7, 6)), 0, 255), None, odd, mode="linear")
        yield cls(argument(TensorType(F32, (2, 7))), None, constant([1.0, 0.5]), mode="linear")
        yield cls(argument(TensorType(F16, (1, 1, 4, 4))), None, twice, mode="linear")

    @property
    def flops(self) -> Dim:
        taps = {"nearest": 0, "linear": 2, "cubic": 4}[self.mode]
        return self.result.type.size * (2 * taps * taps)


@operator(onnx="Resize", since=10)
class Resize_10(Superseded):
    """Resize by scales alone, from the first element on; going down, the nearest element is the next."""

    x: Value
    scales: Value
    mode: str = "nearest"

    tolerance = "approximate"

    def upgrade(self) -> Op | Value:
        array = known_array(self.scales)
        if array is None:
            self.fail("scales that are known when compiling", scales=self.scales)
        if self.mode == "linear":
            return _asymmetric(self.x, array, "linear", "floor")
        value = self.x
        if (array < 1).any():
            value = _asymmetric(value, np.minimum(array, 1), self.mode, "ceil").result
        return _asymmetric(value, np.maximum(array, 1), self.mode, "floor")

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (1, 1, 4, 5))
        yield cls(argument(x), constant([1.0, 1.0, 2.0, 3.0]))
        yield cls(argument(x), constant([1.0, 1.0, 0.6, 0.6]))
        yield cls(argument(x), constant([1.0, 1.0, 2.0, 2.5]), "linear")


@operator(onnx="Upsample", since=9)
class Upsample_9(Resize_10):
    """The old name of Resize."""

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (1, 1, 4, 5))
        yield cls(argument(x), constant([1.0, 1.0, 2.0, 3.0]))
        yield cls(argument(x), constant([1.0, 1.0, 1.5, 2.0]), "linear")


@operator(onnx="Upsample", since=7)
class Upsample_7(Superseded):
    """Upsample with its scales as an attribute."""

    x: Value
    scales: tuple[float, ...]
    mode: str = "nearest"

    tolerance = "approximate"

    def upgrade(self) -> Op | Value:
        return _asymmetric(self.x, np.array(self.scales, np.float32), self.mode, "floor")

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = TensorType(F32, (1, 1, 4, 5))
        yield cls(argument(x), (1.0, 1.0, 2.0, 3.0))
        yield cls(argument(x), (1.0, 1.0, 2.0, 2.0), "linear")


def along(k: Kernel, x: Tensor, axis: int, sampling: Sampling, dtype: DType, whole: DType | None) -> Tensor:
    """`x` sampled along one axis, as `dtype`; if `whole` is an integer type, rounded into its range."""
    shape = (*x.shape[:axis], sampling.new, *x.shape[axis + 1 :])

    def element(*index: Expr) -> Expr:
        def read(place: Expr) -> Expr:
            return x[(*index[:axis], place, *index[axis + 1 :])]

        value = sampling.mix(index[axis], read, dtype)
        if whole is None:
            return value
        limits = np.iinfo(whole.numpy)
        return minimum(maximum(unary("floor", value + 0.5), float(limits.min)), float(limits.max))

    return k.compute(TensorType(dtype, shape), element)


def _asymmetric(x: Value, scales: Array, mode: str, nearest: str) -> Resize:
    return Resize(
        x,
        None,
        constant(scales, np.float32),
        coordinate_transformation_mode="asymmetric",
        mode=mode,
        nearest_mode=nearest,
    )
