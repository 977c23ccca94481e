"""prune: sets the weights of least magnitude to zero, to a sparsity and in a structure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gcomp.diagnostics import InputError
from gcomp.ir import Graph
from gcomp.op import Constant
from gcomp.ops import Conv
from gcomp.rewrite import supersede
from gcomp.types import Array
from gcomp.weights import Layer, layers, matrices

SCOPES = ("layer", "global", "balanced")
UNSTRUCTURED = "unstructured"


@dataclass(frozen=True)
class Prune:
    """Sets a share `sparsity` of the weights of each Conv, Gemm and MatMul to zero, those of least magnitude.

    `structure` says what is kept or dropped as a whole: `unstructured` single weights; `4x1` those of 4
    neighbouring outputs for the same input; `2:4` keeps 2 of each 4 neighbouring inputs, which is a sparsity
    of 0.5. Blocks are ranked by their mean square. `scope` says within what they compete: the `layer`; all
    layers, `global`; or, `balanced`, each output, or row of blocks, so that every one keeps as many. N:M is
    balanced by itself.

    Needs no data. Biases, depthwise filters, which are few and gain nothing, and weights that something else
    reads as well stay. What is zero already counts, so that pruning again changes nothing.
    """

    name: str = field(default="prune", init=False)
    sparsity: float = 0.5
    structure: str = UNSTRUCTURED
    scope: str = "layer"

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InputError(f"prune: sparsity lies in [0, 1), got {self.sparsity}")
        if self.scope not in SCOPES:
            raise InputError(f"prune: scope is one of {', '.join(SCOPES)}, got {self.scope!r}")
        kept, of = self._ratio
        if of and not 0 < kept <= of:
            raise InputError(f"prune: structure N:M keeps N of M, 0 < N <= M, got {self.structure}")
        if of and abs(self.sparsity - (1 - kept / of)) > 1e-6:
            raise InputError(
                f"prune: structure {self.structure} is a sparsity of {1 - kept / of:g}, got {self.sparsity:g}"
            )
        if not of and self._block < 1:
            raise InputError(
                f"prune: structure is {UNSTRUCTURED}, 4x1 or N:M as in 2:4, got {self.structure!r}"
            )

    def run(self, graph: Graph) -> bool:
        found: dict[Constant, Layer] = {}
        for layer in layers(graph):
            if isinstance(layer.weights.owner, Constant) and not self.obstacle(layer):
                found.setdefault(layer.weights.owner, layer)
        masks = self._masks([_matrices(layer) for layer in found.values()])
        changed = False
        for (constant, layer), mask in zip(found.items(), masks, strict=True):
            pruned = np.array(constant.value, order="C")
            view = matrices(layer.op, pruned)
            if np.any(view[mask] != 0):
                view[mask] = 0
                supersede(constant, [Constant(pruned).result], [constant])
                changed = True
        return changed

    def obstacle(self, layer: Layer) -> str:
        """Why the pass leaves a layer as it is; empty where it does not."""
        if layer.obstacle:
            return layer.obstacle
        op = layer.op
        if isinstance(op, Conv) and op.group > 1 and op.w.type.shape[1] == 1:
            return "it is depthwise"
        return "" if layer.array.size else "it has no weights"

    @property
    def _ratio(self) -> tuple[int, int]:
        """N and M of N:M, zeros for other structures."""
        match = re.fullmatch(r"(\d{1,3}):(\d{1,3})", self.structure)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @property
    def _block(self) -> int:
        """How many neighbouring outputs are one block; 0 for a structure that is none."""
        match = re.fullmatch(r"(\d{1,3})x1", self.structure)
        return 1 if self.structure == UNSTRUCTURED else int(match[1]) if match else 0

    def _masks(self, weights: Sequence[Array]) -> list[Array]:
        """Per layer, [group, output, tap, input]: which weights become zero."""
        kept, of = self._ratio
        if of:
            return [_n_of_m(np.abs(w), kept, of) for w in weights]
        scores = [_block_scores(w, self._block) for w in weights]
        if self.scope == "balanced":
            dropped = [_lowest_per_row(s, self.sparsity) for s in scores]
        elif self.scope == "layer":
            dropped = [_lowest(s, self.sparsity) for s in scores]
        else:
            together = np.concatenate([s.ravel() for s in scores]) if scores else np.zeros(0, np.float32)
            ends = np.cumsum([s.size for s in scores])[:-1]
            parts = np.split(_lowest(together, self.sparsity), ends)
            dropped = [part.reshape(s.shape) for part, s in zip(parts, scores, strict=False)]
        return [
            np.repeat(drop, self._block, axis=1)[:, : w.shape[1]]
            for drop, w in zip(dropped, weights, strict=True)
        ]


def _matrices(layer: Layer) -> Array:
    """The weights as [group, output, tap, input], in f32 or wider."""
    array = np.ascontiguousarray(layer.array)
    return matrices(layer.op, array).astype(np.promote_types(array.dtype, np.float32))


def _block_scores(weights: Array, block: int) -> Array:
    """The mean square of each block of outputs; the last block of a group may be smaller."""
    if block == 1:
        return np.abs(weights)
    starts = list(range(0, weights.shape[1], block))
    means = [np.square(weights[:, start : start + block]).mean(axis=1) for start in starts]
    return np.stack(means, axis=1)


def _lowest(scores: Array, share: float) -> Array:
    """True for that share of the scores, the lowest; of equal ones the first."""
    count = round(share * scores.size)
    drop = np.zeros(scores.size, bool)
    if count:
        flat = scores.ravel()
        limit = np.partition(flat, count - 1)[count - 1]
        drop[flat < limit] = True
        equal = np.flatnonzero(flat == limit)
        drop[equal[: count - int(drop.sum())]] = True
    return drop.reshape(scores.shape)


def _lowest_per_row(scores: Array, share: float) -> Array:
    """As `_lowest`, for each group and output on its own."""
    groups, outputs = scores.shape[:2]
    rows = scores.reshape(groups * outputs, -1)
    order = np.argsort(rows, axis=1, kind="stable")
    drop = np.zeros(rows.shape, bool)
    np.put_along_axis(drop, order[:, : round(share * rows.shape[1])], True, axis=1)
    return drop.reshape(scores.shape)


def _n_of_m(magnitudes: Array, kept: int, of: int) -> Array:
    """True for all but the `kept` largest of each `of` neighbouring inputs; of a shorter rest none more."""
    *others, inputs = magnitudes.shape
    padded = np.full((*others, -(-inputs // of) * of), -1, magnitudes.dtype)
    padded[..., :inputs] = magnitudes
    order = np.argsort(padded.reshape(*others, -1, of), axis=-1, kind="stable")
    drop = np.zeros(order.shape, bool)
    np.put_along_axis(drop, order[..., : of - kept], True, axis=-1)
    return drop.reshape(padded.shape)[..., :inputs]


PASS = Prune()
