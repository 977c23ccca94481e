"""Weights as blocks of four outputs that share an input, without those that are zero; and when that pays."""

from __future__ import annotations

from math import log2

import numpy as np

from gcomp.types import Array

from ..cpu import Cpu
from .schedule import FMA_LATENCY, balanced, lanes_of, pieces
from .tile import CACHE

BLOCK = 4
"""Outputs in a block: each takes one scalar of weights and shares the vectors of inputs with the others."""

DENSE_SHARE, SPARSE_SHARE = 0.97, 0.92
"""The share of fused multiply-adds per cycle that the dense kernels reach, and that loops over blocks do."""
BLOCK_OVERHEAD, ROW_OVERHEAD = 1, 20
"""Cycles that each block takes beside its sums, and to begin and end a row of blocks."""
CROSSING = 2
"""Steps of a transposition count so much: shuffles, and the memory between the first level and the second."""
WORTH = 0.9
"""Of the dense kernel's estimated time, what the sparse kernel may take: the estimate errs by less."""


def widest(cpu: Cpu, depth: int) -> int:
    """Vectors of rows in a chunk: their inputs fit in the cache, and one of these and sums in registers."""
    return max(1, min((cpu.vector_registers - 2) // (BLOCK + 1), CACHE // (depth * cpu.vector_bytes)))


def occupied(matrix: Array) -> Array:
    """Whether each block of [outputs, inputs] holds anything, as bool [row of blocks, input]."""
    outputs, inputs = matrix.shape
    padded = np.zeros((pieces(outputs, BLOCK) * BLOCK, inputs), bool)
    padded[:outputs] = matrix != 0
    return np.asarray(padded.reshape(-1, BLOCK, inputs).any(axis=1))


def starts(blocks: Array, rows: int) -> Array:
    """Where each of `rows` rows of blocks starts among all that are stored, and the last ends, as i32."""
    counts = np.zeros(rows + 1, np.int32)
    counts[1 : len(blocks) + 1] = blocks.sum(axis=1)
    return np.cumsum(counts, dtype=np.int32)


def inputs(blocks: Array) -> Array:
    """The input of each block that is stored, as i32, in the order of the inputs within each row."""
    return np.nonzero(blocks)[1].astype(np.int32)


def values(matrix: Array, blocks: Array) -> Array:
    """The weights of each block that is stored, f32 [block, output]."""
    padded = np.zeros((len(blocks) * BLOCK, matrix.shape[1]), np.float32)
    padded[: len(matrix)] = matrix
    return padded.reshape(len(blocks), BLOCK, -1).swapaxes(1, 2)[blocks]


def pays(cpu: Cpu, rows: int, blocks: Array) -> bool:
    """Whether a product of `rows` rows is faster block by block than dense, by estimated cycles."""
    lanes = lanes_of(cpu)
    outputs, depth = len(blocks) * BLOCK, blocks.shape[1]
    dense = rows * outputs * depth / (lanes * cpu.fma_units * DENSE_SHARE)
    crossed = pieces(rows, lanes) * (depth + outputs) * (log2(lanes) + 1) * CROSSING
    stored, sums = int(blocks.sum()), 0.0
    for run in balanced(pieces(rows, lanes), widest(cpu, depth)):
        cycles = max(BLOCK * run.size / cpu.fma_units, FMA_LATENCY) / SPARSE_SHARE + BLOCK_OVERHEAD
        sums += run.count * (stored * cycles + len(blocks) * ROW_OVERHEAD)
    return sums + crossed < WORTH * dense
