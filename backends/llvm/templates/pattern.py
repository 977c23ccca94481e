"""Sparse matrices as streams: what of a matrix is stored, in which order, for which inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcomp.types import Array

from .schedule import pieces


@dataclass(frozen=True)
class Pattern:
    """A matrix [outputs, inputs] cut in sections of inputs, of which only blocks of outputs are stored.

    A block is `block` neighbouring outputs for one input, of which any is not zero. Within each section, rows
    of blocks lie in order of how many blocks they have, so that loops over neighbouring rows end alike. All
    arrays are i32; `values` are f32 [stored block, block].
    """

    block: int
    rows: int
    sections: int
    starts: Array
    """[section, row + 1]: where the blocks of each row, in that order, start; absolute."""
    order: Array
    """[section, row]: which row of blocks it is."""
    filled: Array
    """[section]: how many rows hold any; the others come last."""
    inputs: Array
    """[stored block]: its input, counted from the section's first."""
    values: Array


def occupied(matrix: Array, block: int) -> Array:
    """Whether each block of [outputs, inputs] holds anything, as bool [row of blocks, input]."""
    outputs, inputs = matrix.shape
    padded = np.zeros((pieces(outputs, block) * block, inputs), bool)
    padded[:outputs] = matrix != 0
    return np.asarray(padded.reshape(-1, block, inputs).any(axis=1))


def pattern_of(matrix: Array, block: int, sections: list[tuple[int, int]], together: int) -> Pattern:
    """The pattern of a matrix, with rows of blocks that hold nothing up to a multiple of `together`.

    `sections` are the first input of each and the one after its last.
    """
    rows = pieces(len(matrix), block * together) * together
    padded = np.zeros((rows * block, matrix.shape[1]), np.float32)
    padded[: len(matrix)] = matrix
    blocks = occupied(padded, block)
    by_block = padded.reshape(rows, block, -1).swapaxes(1, 2)
    starts, order, filled, inputs, values = [], [], [], [], []
    stored = 0
    for first, stop in sections:
        counts = blocks[:, first:stop].sum(axis=1)
        sorted_rows = np.argsort(-counts, kind="stable")
        starts.append(stored + np.concatenate([[0], np.cumsum(counts[sorted_rows])]))
        order.append(sorted_rows)
        filled.append(np.count_nonzero(counts))
        part = blocks[sorted_rows, first:stop]
        inputs.append(np.nonzero(part)[1])
        values.append(by_block[sorted_rows, first:stop][part])
        stored += int(counts.sum())

    def joined(arrays: list[Array]) -> Array:
        return np.concatenate([np.ravel(a) for a in arrays]).astype(np.int32)

    return Pattern(
        block,
        rows,
        len(sections),
        joined(starts),
        joined(order),
        np.array(filled, np.int32),
        joined(inputs),
        np.concatenate(values),
    )
