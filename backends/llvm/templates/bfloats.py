"""Pairs of bf16 in four bytes: rounding f32 to them, and adding both products of two pairs to an f32."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from gcomp.types import Array

from ..emit import Function, Value, lane_mask, vector
from .unit import Unit

LANES = 16
"""f32 in the only vectors with these instructions."""
ALIASED = 2048
"""Rows this many bytes apart, or a multiple, fall on the same few cache sets."""


def _add_products(fn: Function, a: Value, b: Value, c: Value, lanes: int) -> Value:
    sums, pairs, halves = vector("float", lanes), vector("i32", lanes), vector("bfloat", 2 * lanes)
    x, y = (fn.value(f"bitcast {pairs} {value} to {halves}") for value in (a, b))
    return fn.call(sums, "llvm.x86.avx512bf16.dpbf16ps.512", [(sums, c), (halves, x), (halves, y)])


PAIRS = Unit("i32", "float", _add_products, 4, 2)


def in_pairs(w: Array) -> Array:
    """bf16 [rows, depth] as i32 [rows, pairs], with a zero at the end of an odd depth."""
    rows, depth = w.shape
    padded = np.zeros((rows, depth + depth % 2), ml_dtypes.bfloat16)
    padded[:, :depth] = w
    return padded.view(np.int32)


def row_of_pairs(depth: int) -> int:
    """How many pairs apart rows of `depth` numbers lie that `rounded_row` writes."""
    step = -(-depth // (2 * LANES)) * LANES
    return step + LANES if step * 4 % ALIASED == 0 else step


def rounded_row(fn: Function, source: Value, target: Value, depth: int) -> None:
    """Writes `depth` f32 from `source` on as pairs; what fills up the last vector of them is zero."""
    floats, halves = vector("float", LANES), vector("bfloat", 2 * LANES)

    def read(at: Value, active: int) -> Value:
        pointer = fn.element(source, at, "float")
        if active <= 0:
            return "zeroinitializer"
        if active < LANES:
            return fn.masked_load(pointer, lane_mask(active, LANES), "float", LANES)
        return fn.load(pointer, floats, 4)

    def part(at: Value, active: int) -> None:
        low, high = read(at, active), read(fn.add(at, LANES), active - LANES)
        pairs = fn.call(halves, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", [(floats, high), (floats, low)])
        fn.store(pairs, fn.element(target, at, "bfloat"), halves, 64)

    whole = depth // (2 * LANES) * 2 * LANES
    fn.loop(0, whole, 2 * LANES, lambda at, _: part(at, 2 * LANES))
    if whole < depth:
        part(str(whole), depth - whole)
