"""sparsify: stores weights without their zeros where products are estimated to become faster by that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, log2, prod

import numpy as np

from gcomp import watch
from gcomp.dim import Range
from gcomp.ir import Graph
from gcomp.op import Constant, Storage
from gcomp.ops import Conv, Gemm
from gcomp.rewrite import supersede
from gcomp.types import F32, Array
from gcomp.weights import Layer, layers, matrices, zero_share

DENSE: Storage = "dense"
BLOCKS: dict[Storage, int] = {"unstructured": 1, "4x1": 4}
"""Neighbouring outputs that are stored or left out together."""
TELLING = 0.1
"""The share of zeros from which on a layer is told of, and sparse forms are thought of."""
WORTH = 0.9
"""Of the dense form's estimated time, what a sparse form may take: estimates err by less."""
MOST_TAPS = 32

DENSE_SHARE = 0.9
"""The share of fused multiply-adds per cycle that dense products reach."""
SPARSE_SHARE: dict[Storage, float] = {"unstructured": 0.6, "4x1": 0.92}
"""The same of loops over what is stored: single weights read each input anew."""
STEP, FEWEST = 1, 4
"""Cycles that each stored block takes beside its sums, and that its sums take at least."""
ROW = 4
"""Cycles to begin and end a row of blocks, in each section of the inputs."""
CROSSING, AGAIN = 2.3, 1
"""Steps of a transposition count so many cycles a vector: of an input that is new or a result, and of an
input that was read for another tap."""
BYTES = 8
"""Bytes of weights that come from beyond the second level of cache per cycle."""
SECTION = 32 << 10
"""Bytes of inputs between which sums of single weights wait in memory."""
WINOGRAD, SPREAD = 2.6, 4.0
"""By how much Winograd's convolution is faster than the direct one, and its weights are more."""
LEAST_CHANNELS, LEAST_TILES = 32, 8
"""What Winograd's convolution is used from."""


@dataclass(frozen=True)
class Sparsify:
    """Chooses for constant weights of each Conv, Gemm and MatMul the form that is estimated to be fastest.

    Forms are dense, `unstructured`, and `4x1` blocks of outputs; only the `storage` of the constant changes.

    The estimate counts cycles of a processor with `units` fused multiply-adds of `lanes` f32 per cycle and so
    many vector `registers`. Every layer with some zeros is told to watchers, with the reason.
    """

    name: str = field(default="sparsify", init=False)
    lanes: int = 16
    registers: int = 32
    units: int = 2

    def run(self, graph: Graph) -> bool:
        form: Storage
        found: dict[Constant, list[Layer]] = {}
        for layer in layers(graph):
            if isinstance(layer.weights.owner, Constant) and layer.weights.type.dtype == F32:
                found.setdefault(layer.weights.owner, []).append(layer)
        changed = False
        for constant, readers in found.items():
            zeros, form = zero_share(constant.value), DENSE
            if zeros >= TELLING:
                form, reason = self._form(readers, graph.ranges)
                for layer in readers:
                    watch.decided(self.name, layer.op, f"{form}, as {reason} ({zeros:.1%} zeros)")
            if form != constant.storage:
                supersede(constant, [Constant(constant.value, form).result], [constant])
                changed = True
        return changed

    def _form(self, readers: Sequence[Layer], ranges: Mapping[str, Range]) -> tuple[Storage, str]:
        """The storage for weights that all these layers read, and why.

        A batch in a range counts as its largest: the more images, the less the weights weigh that are read.
        """
        largest = {name: high for name, (_, high) in ranges.items()}
        for layer in readers:
            if obstacle := layer.obstacle or _obstacle(layer, self.lanes, largest):
                return DENSE, obstacle
        works = [_Work.of(layer, largest) for layer in readers]
        dense = sum(self._dense(work) for work in works)
        times: dict[Storage, float] = {
            form: sum(self._sparse(work, form) for work in works) / dense for form in BLOCKS
        }
        best: Storage = min(times, key=times.__getitem__)
        told = " and ".join(
            f"{form} takes {times[form]:.2f}" for form in sorted(times, key=times.__getitem__)
        )
        return best if times[best] < WORTH else DENSE, f"{told} of dense time by estimate"

    def _dense(self, work: _Work) -> float:
        """Cycles of the dense product."""
        sums = (
            work.rows * _pieces(work.outputs, self.lanes) * work.taps * work.depth / self.units / DENSE_SHARE
        )
        streamed = 4 * work.outputs * work.taps * work.depth / BYTES
        return sums / WINOGRAD + SPREAD * streamed if work.suits_winograd else max(sums, streamed)

    def _sparse(self, work: _Work, form: Storage) -> float:
        """Cycles of the product with what the form stores: its sums, and transposing inputs and results."""
        block, stored = BLOCKS[form], work.stored(BLOCKS[form])
        vectors = _pieces(work.positions, self.lanes)
        size = min(vectors, FEWEST if block == 1 else max(1, self.registers // (block + 2)))
        chunks, size = _pieces(vectors, size), vectors / _pieces(vectors, size)
        step = max(block * size / self.units, FEWEST / 2) / SPARSE_SHARE[form] + STEP
        inputs = work.taps * work.depth
        sections = _pieces(inputs * ceil(size) * self.lanes * 4, SECTION) if block == 1 else 1
        rows = _pieces(work.outputs, block) * sections * ROW
        streamed = (4 * block + 2) * stored / BYTES
        lines = (work.depth + work.outputs) * CROSSING + (work.taps - 1) * work.depth * AGAIN
        crossed = vectors * lines * (log2(self.lanes) + 1)
        return work.images * (chunks * (max(stored * step, streamed) + rows) + crossed)


@dataclass(frozen=True)
class _Work:
    """A product: `positions` in each of `images` times a matrix, `held` says where not zero.

    `held` is bool [output, tap, input].
    """

    held: Array
    images: int
    positions: int
    suits_winograd: bool

    @classmethod
    def of(cls, layer: Layer, sizes: Mapping[str, int]) -> _Work:
        op = layer.op
        shape = op.results[0].type.substitute(sizes).static_shape
        held = matrices(op, np.ascontiguousarray(layer.array != 0))[0]
        if not isinstance(op, Conv):
            return cls(held, 1, prod(shape[:-1]), False)
        tiles = prod(_pieces(size, 4) for size in shape[2:])
        plain = op.geometry.kernel == (3, 3) and {*op.geometry.strides, *op.geometry.dilations} == {1}
        enough = min(held.shape[0], held.shape[2]) >= LEAST_CHANNELS and tiles >= LEAST_TILES
        return cls(held, shape[0], prod(shape[2:]), plain and enough)

    @property
    def rows(self) -> int:
        return self.images * self.positions

    @property
    def outputs(self) -> int:
        return self.held.shape[0]

    @property
    def taps(self) -> int:
        return self.held.shape[1]

    @property
    def depth(self) -> int:
        return self.held.shape[2]

    def stored(self, block: int) -> int:
        """How many blocks of so many neighbouring outputs hold anything."""
        first, *others = (self.held[output::block] for output in range(block))
        any_held = first.copy()
        for part in others:
            any_held[: len(part)] |= part
        return int(np.count_nonzero(any_held))


def _obstacle(layer: Layer, lanes: int, sizes: Mapping[str, int]) -> str:
    """Why products with these weights are always dense; empty where they need not be."""
    op = layer.op
    if not op.results[0].type.substitute(sizes).is_static:
        return "its sizes are not known"
    if not isinstance(op, Conv) and not op.results[0].type.is_static:
        return "its number of rows is open"
    if 0 in op.results[0].type.shape:
        return "it has no results"
    if isinstance(op, Conv):
        if op.w.type.rank != 4:
            return "it is no convolution in two dimensions"
        if op.group > 1:
            return "its filters are in groups"
        if prod(op.geometry.kernel) > MOST_TAPS:
            return f"its filters have more than {MOST_TAPS} taps"
        return "it has few input channels" if layer.array.shape[1] < lanes // 2 else ""
    if layer.array.ndim != 2 or op.inputs[0].type.rank < 2:
        return "it is no product with one matrix"
    if isinstance(op, Gemm):
        if op.trans_a:
            return "its left side is transposed"
        if op.c is not None and not _is_per_column(op, op.c.type.static_shape):
            return "its addend is not one per output"
    return ""


def _is_per_column(op: Gemm, shape: Iterable[int]) -> bool:
    *others, last = [1, *shape]
    return op.beta == 1 and last == op.results[0].type.shape[-1] and set(others) == {1}


def _pieces(extent: int, most: int) -> int:
    return -(-extent // most)


PASS = Sparsify()
