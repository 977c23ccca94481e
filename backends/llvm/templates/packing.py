"""How constant weights are rearranged at compile time for the kernels of `tile`."""

from __future__ import annotations

import numpy as np

from gcomp.types import Array

from .schedule import Tile, balanced


def pack(w: Array, lanes: int, vectors: int, tile: Tile) -> Array:
    """Filters [outputs, depth, taps, taps] as [panel][outer tap][tap group][depth][tap][column], flat.

    Outputs are padded with zeros to `vectors` of `lanes`.
    """
    outputs, depth, height, width = w.shape
    padded = np.zeros((vectors * lanes, depth, height, width), w.dtype)
    padded[:outputs] = w
    parts: list[Array] = []
    for run in balanced(vectors, tile.vectors):
        columns = run.size * lanes
        first = run.start * lanes
        block = padded[first : first + run.count * columns].reshape(run.count, columns, depth, height, width)
        by_tap = block.transpose(0, 3, 4, 2, 1)
        groups = [
            by_tap[:, :, start : start + group.size].transpose(0, 1, 3, 2, 4).reshape(run.count, height, -1)
            for group in balanced(width, tile.taps)
            for start in range(group.start, group.stop, group.size)
        ]
        parts.append(np.concatenate(groups, axis=2).ravel())
    return np.concatenate(parts)
