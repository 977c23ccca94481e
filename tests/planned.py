"""Runs a plan by its operators' references on the memory that it lays out, and watches what happens there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcomp.arena import Buffer
from gcomp.evaluate import evaluate_op
from gcomp.plan import Plan, View, physical_extents
from gcomp.types import Array

POISON = 0xA5


def run_planned(plan: Plan, arrays: Sequence[Array]) -> list[Array]:
    """The outputs of `plan` for its inputs; the arena is poisoned before.

    Raises `AssertionError` where padding that is read is not zero, or an input or a constant is written.
    """
    memory: dict[Buffer, Array] = {}
    arena = np.full(plan.arena_bytes, POISON, np.uint8)

    def bytes_of(buffer: Buffer) -> Array:
        if buffer.space == "arena":
            return arena[buffer.offset : buffer.offset + buffer.bytes]
        if buffer not in memory:
            memory[buffer] = np.full(buffer.bytes, POISON, np.uint8)
            if buffer.array is not None:
                memory[buffer] = np.ascontiguousarray(buffer.array).reshape(-1).view(np.uint8)
        return memory[buffer]

    def elements(view: View) -> Array:
        return bytes_of(view.buffer).view(view.type.dtype.numpy)

    def read(view: View) -> Array:
        array = elements(view)[places(view)]
        assert not elements(view)[padding(view)].any(), f"padding of {view.type} is not zero"
        return array

    def write(view: View, array: Array) -> None:
        assert view.buffer.space in ("arena", "output"), f"a step writes to an {view.buffer.space}"
        elements(view)[padding(view)] = 0
        elements(view)[places(view)] = array

    for view, array in zip(plan.inputs, arrays, strict=True):
        memory[view.buffer] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for step in plan.steps:
        operands = [None if view is None else read(view) for view in step.operands]
        results = operands if step.op is None else evaluate_op(step.op, operands)
        for view, array in zip(step.results, results, strict=True):
            assert array is not None
            write(view, array)
    return [read(view) for view in plan.outputs]


def places(view: View) -> Array:
    """Where in its buffer, counted in elements, each logical element of a view lies."""
    shape = view.type.static_shape
    index = np.indices(shape)
    if view.type.layout is None:
        physical = list(index)
    else:
        physical: list[Array] = []
        for part in view.type.layout.parts:
            merged = np.zeros(shape, np.int64)
            for axis in part.axes:
                merged = merged * shape[axis] + index[axis]
            side = {"whole": merged, "outer": merged // part.tile, "inner": merged % part.tile}
            physical.append(side[part.side])
    total = np.full(shape, view.offset, np.int64)
    for place, stride in zip(physical, view.strides, strict=True):
        total = total + place * stride
    return total


def padding(view: View) -> Array:
    """Where in its buffer, counted in elements, the lanes lie that a layout adds to a view."""
    total = np.full((), view.offset, np.int64)
    for extent, stride in zip(physical_extents(view.type), view.strides, strict=True):
        total = total[..., None] + np.arange(extent) * stride
    return np.setdiff1d(total, places(view))
