"""Which register tile a contraction uses: the cheapest under a small model of the processor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from gcomp.types import F32

from ..cpu import Cpu

LOADS_PER_CYCLE = 2
SCALAR_LOAD, NEAR_LOAD, FAR_LOAD = 0.12, 0.25, 0.5
"""Cycles that a load costs although load units are idle, as it competes for issue slots: of an input element,
of a vector of weights from the first level of cache, and from a further one."""
NEAR = 24 << 10
"""Bytes of a panel of weights that stay in the first level between two tiles."""
FMA_LATENCY = 4
TILE_OVERHEAD = 15
"""Cycles to drain and refill the pipeline between two tiles, beside one for each vector stored."""
OPEN_LINES, QUEUED = 16, 6
"""Cache lines that may be on their way at once, and cycles that each further one of a tile waits."""
IN_FLIGHT = {"aarch64": 4}
"""Registers left to input elements, 2 elsewhere. On ARM LLVM loads several ahead, and with less room it moves
accumulators to memory."""
WIDEST = 8
"""Vectors in a panel, at most."""
SHALLOW = 128
"""Steps of a tile, at most, where what happens between two tiles matters."""
UNROLLED = 4
"""Steps of the depth in one iteration where each is a single tap."""


@dataclass(frozen=True)
class Run:
    """`count` neighbouring pieces of `size` from `start` on."""

    start: int
    count: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.count * self.size


def pieces(extent: int, most: int) -> int:
    """How many pieces of at most `most` it takes."""
    return -(-extent // most)


def balanced(extent: int, most: int) -> list[Run]:
    """`extent` cut in as few pieces of at most `most` as possible, all of one size or one less."""
    count = pieces(extent, most)
    size, larger = divmod(extent, count)
    runs = [Run(0, larger, size + 1), Run(larger * (size + 1), count - larger, size)]
    return [run for run in runs if run.count]


@dataclass(frozen=True)
class Tile:
    """`rows` x `vectors` accumulators, and the weights of `taps` neighbouring taps, in registers.

    There is room for the weights of the `last` steps at once, so that one row after the other can take them
    and be stored. Stores that all wait for the last step would hold up what follows the tile.
    """

    rows: int
    vectors: int
    taps: int = 1
    last: int = 0


@cache
def choose(
    cpu: Cpu,
    rows: int,
    vectors: int,
    depth: int,
    outer: int = 1,
    kernel: int = 1,
    stride: int = 1,
    dilation: int = 1,
    strict: bool = False,
    products: int = 0,
    in_turn: bool = True,
) -> Tile:
    """The tile for `rows` positions by `vectors` of results.

    Each is a sum over `depth` of `outer` times `kernel` taps, the latter shared by neighbours as `stride` and
    `dilation` let them. Taps are taken together only where the depth is too short to be unrolled: elsewhere
    reading an input once for all of them saves less than the registers of their weights cost. If `strict`,
    they never are: how many go together, which depends on the registers, decides the order of sums.
    `products` registers hold what is not added yet. Rows take the last of few steps in turn if `in_turn`.
    """
    steps = depth * outer
    spare = cpu.vector_registers - IN_FLIGHT.get(cpu.arch, 2) - products
    bytes, units = cpu.vector_bytes, cpu.fma_units

    def early(vectors: int, taps: int) -> int:
        """Weights read before their turn where steps are unrolled and there is room for it."""
        return vectors if taps == 1 and cpu.vector_registers >= 32 else 0

    alone = strict or depth >= UNROLLED
    together = {1} if alone else {pieces(kernel, groups) for groups in range(1, kernel + 1)}
    candidates = [
        Tile(r, v, taps)
        for taps in together
        for v in range(1, min(WIDEST, vectors) + 1)
        for r in range(1, rows + 1)
        if r * v + taps * v + early(v, taps) <= spare
    ]

    def cost(tile: Tile) -> tuple[float, int]:
        total = 0.0
        for across in balanced(vectors, tile.vectors):
            for down in balanced(rows, tile.rows):
                panel = across.size * bytes * kernel * steps
                weight = NEAR_LOAD if panel <= NEAR else FAR_LOAD
                step = _step(units, Tile(down.size, across.size, tile.taps), weight, kernel, stride, dilation)
                stored = down.size * across.size
                between = TILE_OVERHEAD + stored + QUEUED * max(0, stored - OPEN_LINES)
                total += across.count * down.count * (step * steps + between)
        return total, tile.rows * tile.vectors

    best = min(candidates or [Tile(1, 1)], key=cost)
    room = (spare - best.rows * best.vectors) // best.vectors
    in_turn = in_turn and best.taps == 1 and steps * kernel <= SHALLOW
    return replace(best, last=max(0, min(room, UNROLLED)) if in_turn else 0)


def _step(fma_units: int, tile: Tile, weight: float, kernel: int, stride: int, dilation: int) -> float:
    """Cycles for all taps of one step in one tile; `weight` is what loading a vector of weights costs."""
    cycles = 0.0
    for group in balanced(kernel, tile.taps):
        places = {row * stride + tap * dilation for row in range(tile.rows) for tap in range(group.size)}
        scalars, weights = len(places), group.size * tile.vectors
        fused = tile.rows * tile.vectors * group.size
        loads = (scalars + weights) / LOADS_PER_CYCLE
        each = max(fused / fma_units, loads, FMA_LATENCY * group.size)
        cycles += group.count * (each + SCALAR_LOAD * scalars + weight * weights)
    return cycles


def lanes_of(cpu: Cpu) -> int:
    """f32 elements in a vector."""
    return cpu.lanes(F32)
