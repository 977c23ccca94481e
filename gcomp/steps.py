"""What a module consists of as it runs: its steps, where they came from, what they cost, where values lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .dim import substitute
from .ir import Op
from .op import Constant, Operator
from .types import Array


@dataclass(frozen=True)
class StepFacts:
    """One step of a module.

    `nodes` are the ONNX nodes that it comes from, `operators` what it computes, those of a fused group one
    by one, `code` what computes it: a template, `nest` or `reference`. `flops` is None where a size is not
    known. `weight_bytes` are read from constants; `data_bytes` are the other operands and the results.
    `code_bytes` is None where there is no machine code, or it cannot be told.
    """

    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    code: str
    flops: int | None
    weight_bytes: int
    data_bytes: int
    code_bytes: int | None = None

    @property
    def title(self) -> str:
        """The ONNX nodes where there are any, else the operators."""
        return ", ".join(self.nodes or self.operators)


@dataclass(frozen=True)
class Event:
    """One run of a step: seconds since the run of the module began, and how many it took."""

    step: StepFacts
    start: float
    seconds: float


@dataclass(frozen=True)
class Trace:
    """One run of a module, its steps in order."""

    outputs: list[Array]
    events: list[Event]


@dataclass(frozen=True)
class Span:
    """`bytes` at `offset` of the working memory, in use from step `first` to step `last`."""

    first: int
    last: int
    offset: int
    bytes: int


@dataclass(frozen=True)
class Memory:
    """What a module keeps in memory, in bytes; `scratch_bytes` of the arena lie behind all `spans`."""

    arena_bytes: int
    scratch_bytes: int
    weights_bytes: int
    spans: list[Span]


@dataclass(frozen=True)
class Limits:
    """What one core can do, as measured: f32 operations a second, and bytes read a second.

    `bandwidth` holds (bytes that are read over and over, bytes a second), the smallest first.
    """

    flops: float
    bandwidth: tuple[tuple[int, float], ...]

    def rate(self, size: int) -> float:
        """Bytes a second when reading `size` bytes over and over; between two sizes, that of the smaller."""
        return next((rate for least, rate in reversed(self.bandwidth) if least <= size), self.bandwidth[0][1])

    def or_better(self, other: Limits) -> Limits:
        """The better of two measurements of the same sizes: what disturbs one only makes it slower."""
        pairs = zip(self.bandwidth, other.bandwidth, strict=True)
        return Limits(max(self.flops, other.flops), tuple(max(a, b) for a, b in pairs))

    def bounds(self, step: StepFacts, touched: int) -> tuple[float, float]:
        """The least seconds for a step's arithmetic and for its memory traffic.

        `touched` is what a run of the whole module reads and writes: weights come from wherever that much
        stays between two runs. The step's other operands may come from the nearest cache that holds them.
        """
        near = self.rate(step.weight_bytes + step.data_bytes)
        traffic = step.weight_bytes / self.rate(touched) + step.data_bytes / near
        return (step.flops or 0) / self.flops, traffic


def nodes_of(op: Op) -> tuple[str, ...]:
    """The ONNX nodes that an operator, and what it holds, come from."""
    inner = [name for region in op.regions for one in region.walk() for name in one.origin]
    return tuple(dict.fromkeys((*op.origin, *inner)))


def operators_of(op: Op) -> tuple[str, ...]:
    """What an operator computes: its kind, or for one with regions the kinds in them."""
    inner = [one.kind for region in op.regions for one in region.ops if not isinstance(one, Constant)]
    return tuple(inner) or (op.kind,)


def flops_of(op: Op, values: Mapping[str, int]) -> int | None:
    """Floating-point operations of one run, if all sizes are known; `values` are those of symbolic ones."""
    flops = substitute(op.flops, values) if isinstance(op, Operator) else None
    return flops if isinstance(flops, int) else None


def facts_of(op: Op, code: str, operands: list[Array | None], results: list[Array]) -> StepFacts:
    """The facts of an operator that ran on these arrays."""
    pairs = [
        (array, isinstance(value.producer, Constant))
        for value, array in zip(op.operands, operands, strict=True)
        if value is not None and array is not None
    ]
    weights = sum(array.nbytes for array, fixed in pairs if fixed)
    data = sum(array.nbytes for array, fixed in pairs if not fixed) + sum(a.nbytes for a in results)
    return StepFacts(nodes_of(op), operators_of(op), code, flops_of(op, {}), weights, data)
