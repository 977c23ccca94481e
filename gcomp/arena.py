"""The working memory of a plan: which of its buffers share bytes, and where each begins, for every size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, overload

from . import dim as dims
from .diagnostics import OpenSizeError
from .dim import Dim, Range
from .ir import Graph
from .op import Storage
from .port import Symbol
from .types import Array

Space = Literal["input", "output", "arena", "constant"]

ALIGNMENT = 64
"""Bytes to which every buffer is aligned; inputs and outputs belong to the caller and need not be."""


@dataclass(eq=False)
class Buffer:
    """Memory for one value, or for several that never overlap in it.

    `index` numbers inputs and outputs; `array` and `storage` are those of a constant; `first` and `last` are
    the steps between which an arena buffer is in use, `offset` its place there in bytes. Where sizes are
    symbolic, `bytes` and `offset` are those at the largest, `size` is the bytes in general, and the buffer
    begins where the last of those `under` it ends.
    """

    space: Space
    bytes: int
    index: int = 0
    array: Array | None = None
    storage: Storage = "dense"
    first: int = 1 << 62
    last: int = -1
    offset: int = 0
    size: Dim = 0
    under: list[Buffer] = field(default_factory=list["Buffer"])


def symbols_of(graph: Graph) -> list[Symbol]:
    """The symbols of the inputs. Raises `OpenSizeError` for one without a range, or that no axis just is."""
    found: list[Symbol] = []
    for name in graph.symbols():
        if name not in graph.ranges:
            raise OpenSizeError(f"the size {name} has no range; bind it with dims=")
        places = [
            (index, axis)
            for index, value in enumerate(graph.inputs)
            for axis, size in enumerate(value.type.shape)
            if size == dims.symbol(name)
        ]
        if not places:
            raise OpenSizeError(f"the size {name} is no axis of an input, which would give it")
        found.append(Symbol(name, *graph.ranges[name], *places[0]))
    return found


def most(size: Dim, ranges: Mapping[str, Range]) -> int:
    """The greatest value of a size that grows with its symbols. Raises `OpenSizeError` for any other."""
    bound = dims.substitute(size, {name: high for name, (_, high) in ranges.items()})
    if not isinstance(bound, int) or not dims.grows(size):
        raise OpenSizeError(f"the greatest value of the size {size} is not known")
    return bound


def place(buffers: Iterable[Buffer]) -> int:
    """Gives each buffer its offset, and the bytes of all.

    First fit in order of first use: what was freed last is still in the caches.
    """
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: b.first):
        busy = sorted(
            (other.offset, other.offset + rounded(other.bytes)) for other in _meeting(buffer, placed)
        )
        for start, end in busy:
            if buffer.offset + buffer.bytes <= start:
                break
            buffer.offset = max(buffer.offset, end)
        placed.append(buffer)
    return max((buffer.offset + rounded(buffer.bytes) for buffer in placed), default=0)


def stack(buffers: list[Buffer]) -> None:
    """Sorts placed buffers and says which lie under which, so that they stay apart at smaller sizes too.

    One without elements lies under what begins where it does, or it would be moved behind that.
    """
    below: dict[int, set[int]] = {}
    known: list[Buffer] = []
    buffers.sort(key=lambda buffer: (buffer.offset, buffer.bytes))
    for buffer in buffers:
        under = _meeting(buffer, known)
        hidden = {number for other in under for number in below[id(other)]}
        buffer.under = [other for other in under if id(other) not in hidden]
        below[id(buffer)] = hidden | {id(other) for other in under}
        known.append(buffer)


def _meeting(buffer: Buffer, others: Iterable[Buffer]) -> list[Buffer]:
    """Those of the others that are in use at the same time."""
    return [other for other in others if other.last >= buffer.first and other.first <= buffer.last]


@overload
def rounded(size: int) -> int: ...
@overload
def rounded(size: Dim) -> Dim: ...
def rounded(size: Dim) -> Dim:
    """The bytes that a buffer of `size` takes."""
    return dims.ceildiv(size, ALIGNMENT) * ALIGNMENT
