"""What the ONNX standard leaves open, or an engine documents: cases on which a difference is no finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gcomp.cut import computed
from gcomp.ir import Op
from gcomp.op import Operator
from gcomp.testing.case import Case
from gcomp.types import Array

Operands = Sequence[Array | None]

ORDERED = ("ArgMax", "ArgMin", "Clip", "Hardmax", "Max", "MaxPool", "Min", "Relu", "Sign", "TopK")
"""Operators whose result hangs on comparisons; ReduceMax and others that hold one of these names too."""

ROUNDED = ("Cast", "CastLike", "Clip", "Shrink")
"""Operators that turn a float, an operand or an attribute, into an integer."""

FLAGS = (
    "antialias",
    "ceil_mode",
    "count_include_pad",
    "exclude_outside",
    "exclusive",
    "fmod",
    "keepdims",
    "largest",
    "noop_with_empty_axes",
    "reverse",
    "saturate",
    "select_last_index",
    "sorted",
    "trans_a",
    "trans_b",
    "upper",
)
"""Attributes for which the standard defines 0 and 1."""

HUGE = 2.0**60
"""Floats beyond this, and infinities, may overflow in sums and products, depending on the order."""

BOUNDS: dict[str, Callable[[list[Array]], Any]] = {
    "Abs": lambda a: abs(a[0]),
    "Add": lambda a: a[0] + a[1],
    "CumSum": lambda a: abs(a[0]).sum(),
    "Div": lambda a: np.where(a[1] == -1, -a[0], a[0]),
    "Gemm": lambda a: a[0].size * abs(a[0]).max() * abs(a[1]).max() + (abs(a[2]).max() if a[2:] else 0),
    "MatMul": lambda a: a[0].size * abs(a[0]).max() * abs(a[1]).max(),
    "Mul": lambda a: a[0] * a[1],
    "Neg": lambda a: -a[0],
    "Pow": lambda a: a[0] ** a[1] if a[1:] else abs(a[0]).max() ** 64,
    "ReduceL1": lambda a: abs(a[0]).sum(),
    "ReduceProd": lambda a: np.maximum(abs(a[0]), 1).prod(),
    "ReduceSum": lambda a: abs(a[0]).sum(),
    "ReduceSumSquare": lambda a: (a[0] ** 2).sum(),
    "Sub": lambda a: a[0] - a[1],
    "Sum": lambda a: sum(map(abs, np.broadcast_arrays(*a))),
}
"""What integer results, and sums on the way to them, are at most: of operands as floats."""


def reasons(case: Case) -> list[str]:
    """Why a difference on this case would be no finding; empty if it would be one."""
    arrays = computed(case.graph, dict(case.inputs))
    found: dict[str, None] = {}
    for op in case.graph.ops:
        operands = [None if value is None else arrays[value] for value in op.operands]
        for reason, is_so in OPEN.items():
            if is_so(op, operands):
                found[reason] = None
    return list(found)


def invalid_flag(op: Op, operands: Operands) -> bool:
    return any(value not in (0, 1) for name, value in op.attributes.items() if name in FLAGS)


def out_of_range(op: Op, operands: Operands) -> bool:
    """Whether an attribute or operand is beyond the range that the standard gives, or means, for it."""
    held = op.attributes
    match op.kind:
        case "Dropout":
            return operands[1] is not None and not (0 <= operands[1] < 1).all()
        case "LRN":
            return held["alpha"] <= 0 or held["beta"] <= 0 or held["bias"] <= 0
        case "QuantizeLinear" | "DequantizeLinear":
            blocks, scale = held.get("block_size", 0), operands[1]
            return (
                bool(held.get("precision"))
                or blocks < 0
                or (blocks > 0 and (scale is None or scale.ndim < 2))
            )
        case "ReverseSequence":
            return operands[1] is not None and bool((operands[1] < 1).any())
        case "DynamicQuantizeLinear":
            return operands[0] is not None and not (operands[0] != 0).any()
        case "InstanceNormalization":
            return operands[0] is not None and operands[0].ndim < 3
        case "Pad":
            return held["mode"] == "reflect" and _is_far(operands)
        case "Gather" | "GatherND" | "GatherElements" | "ScatterND" | "ScatterElements":
            return operands[0] is not None and operands[0].size == 0
        case _:
            return any(name.startswith(("epsilon", "p")) and value == -1 for name, value in held.items())


def window_beyond(op: Op, operands: Operands) -> bool:
    """Whether a window is wider than what it slides over, or ConvTranspose is to give more than it can."""
    if op.kind == "ConvTranspose" and op.attributes["output_shape"] is not None:
        return True
    return "kernel_shape" in op.attributes and 0 in (*op.results[0].type.shape, *op.inputs[0].type.shape)


def deviation_of_equals(op: Op, operands: Operands) -> bool:
    """MeanVarianceNormalization where a deviation is 0: the text divides by it, the function adds 1e-9."""
    if op.kind != "MeanVarianceNormalization" or operands[0] is None:
        return False
    return bool((np.ptp(operands[0].astype(np.float64), axis=tuple(op.attributes["axes"])) == 0).any())


def points_of_columns(op: Op, operands: Operands) -> bool:
    """MatMulInteger of stacked matrices with a vector of zero points."""
    points = [array for array in operands[2:] if array is not None and array.ndim == 1]
    stacked = any(array is not None and array.ndim > 2 for array in operands[:2])
    return op.kind == "MatMulInteger" and stacked and bool(points)


def sixth_of_doubles(op: Op, operands: Operands) -> bool:
    return op.kind == "HardSwish" and op.results[0].type.dtype.name == "f64"


def unsorted(op: Op, operands: Operands) -> bool:
    return op.kind == "TopK" and not op.attributes["sorted"]


def stashed_in_single(op: Op, operands: Operands) -> bool:
    doubles = operands[:1] and operands[0] is not None and operands[0].dtype == np.float64
    return bool(doubles) and op.kind in ("GroupNormalization", "LayerNormalization", "RMSNormalization")


def nan_compared(op: Op, operands: Operands) -> bool:
    compares = any(name in op.kind for name in ORDERED) or op.attributes.get("reduction") in ("max", "min")
    return compares and any(_is_nan(array) for array in operands)


def float_beyond_integer(op: Op, operands: Operands) -> bool:
    dtype = op.results[0].type.dtype if op.results else None
    if dtype is not None and dtype.name == "bool" and op.kind == "Cast":
        return any(_is_nan(array) for array in operands)
    if dtype is None or not dtype.is_integer or not any(name in op.kind for name in ROUNDED):
        return False
    info = np.iinfo(dtype.numpy)
    for array in operands:
        if array is not None and array.dtype.kind == "f":
            wide = array.astype(np.float64)
            if not (np.isfinite(wide) & (wide > float(info.min) - 1) & (wide < float(info.max) + 1)).all():
                return True
    return False


def integer_overflow(op: Op, operands: Operands) -> bool:
    """Whether an integer result, or a part of it, may be beyond its type."""
    if not op.results or not op.results[0].type.dtype.is_integer or op.kind not in BOUNDS:
        return False
    info = np.iinfo(op.results[0].type.dtype.numpy)
    wide = [array.astype(np.float64) for array in operands if array is not None and array.dtype == info.dtype]
    if not wide or not all(array.size for array in wide):
        return False
    with np.errstate(all="ignore"):
        bound = np.asarray(BOUNDS[op.kind](wide))
    return not ((bound >= float(info.min)) & (bound <= float(info.max))).all()


def integer_formula(op: Op, operands: Operands) -> bool:
    """Whether a formula over reals, a logarithm, a root, a quotient or a fraction, is taken of integers."""
    integers = bool(op.results) and op.results[0].type.dtype.is_integer
    return integers and op.kind in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "Shrink")


def long_shift(op: Op, operands: Operands) -> bool:
    if op.kind != "BitShift" or operands[1] is None:
        return False
    return bool((operands[1] >= 8 * operands[1].dtype.itemsize).any())


def infinity_in_clip(op: Op, operands: Operands) -> bool:
    one_bound = op.kind == "Clip" and None in (*op.operands[1:], *[None] * (3 - len(op.operands)))
    return one_bound and operands[0] is not None and bool(np.isinf(operands[0].astype(np.float64)).any())


def division_by_zero(op: Op, operands: Operands) -> bool:
    if op.kind not in ("Div", "Mod", "Pow") or len(operands) < 2 or operands[0] is None:
        return False
    left, right = operands[0], operands[1]
    if right is None or left.dtype.kind not in "iu":
        return False
    if op.kind == "Pow":
        return bool((right < 0).any())
    return bool((right == 0).any())


def order_of_sums(op: Op, operands: Operands) -> bool:
    inexact = isinstance(op, Operator) and op.tolerance != "exact"
    return inexact and any(_is_huge(array) for array in operands)


def empty_reduced(op: Op, operands: Operands) -> bool:
    reduces = op.kind.startswith(("Reduce", "Arg", "Dynamic", "Softmax", "LogSoftmax", "Global")) or (
        "Normalization" in op.kind
    )
    return reduces and bool(operands) and operands[0] is not None and operands[0].size == 0


OPEN: dict[str, Callable[[Op, Operands], bool]] = {
    "NaN where elements are compared (Max, Relu, ArgMin, TopK, ...)": nan_compared,
    "a float that the integer type cannot hold, NaN as a boolean (Cast)": float_beyond_integer,
    "an infinity in Clip without that bound: the text says the largest number": infinity_in_clip,
    "an integer result that its type cannot hold": integer_overflow,
    "integers divided by zero, or to a negative power": division_by_zero,
    "integers in a formula of real numbers (ReduceLogSum, ReduceMean, Shrink, ...)": integer_formula,
    "a shift by the width of the type or more": long_shift,
    "sums and products of infinities and huge numbers, which depend on their order": order_of_sums,
    "TopK that need not sort": unsorted,
    "a mean, an extreme or a norm of no elements": empty_reduced,
    "flags that are neither 0 nor 1": invalid_flag,
    "attributes and operands beyond the range that they have": out_of_range,
    "windows without a place, a ConvTranspose that is told its result's shape": window_beyond,
    "MeanVarianceNormalization of equal numbers": deviation_of_equals,
    "MatMulInteger of stacked matrices, with a vector of zero points": points_of_columns,
    "1 / 6 in HardSwish of doubles, an attribute of single precision": sixth_of_doubles,
    "statistics of doubles, which are in single precision by default (stash_type)": stashed_in_single,
}


DOUBLES = "doubles, which OpenVINO's CPU plug-in computes as f32"
LONG = "integers beyond 32 bits, which OpenVINO's CPU plug-in computes in i32"
LIMITS = (DOUBLES, LONG)
"""What engines document."""


def documented(peer: str, case: Case) -> str:
    """Which limit that the engine documents a case is beyond; empty if none."""
    if peer != "openvino":
        return ""
    arrays = list(computed(case.graph, dict(case.inputs)).values())
    if any(array.dtype == np.float64 for array in arrays):
        return DOUBLES
    long = [array for array in arrays if array.dtype.name in ("int64", "uint64", "uint32") and array.size]
    if any(int(array.max()) >= 2**31 or int(array.min()) < -(2**31) for array in long):
        return LONG
    return ""


def _is_far(operands: Operands) -> bool:
    """Whether an axis is padded by as much as it has, or more."""
    data, pads = operands[0], operands[1]
    if data is None or pads is None or any(axes is not None for axes in operands[3:]):
        return True
    return bool((np.reshape(pads, (2, -1)) >= data.shape).any())


def _is_nan(array: Array | None) -> bool:
    return array is not None and array.dtype.kind == "f" and bool(np.isnan(array).any())


def _is_huge(array: Array | None) -> bool:
    if array is None or array.dtype.kind != "f":
        return False
    limit = 2.0**12 if array.dtype == np.float16 else HUGE
    with np.errstate(invalid="ignore"):
        return bool((abs(array.astype(np.float64)) > limit).any())
