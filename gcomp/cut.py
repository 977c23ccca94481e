"""Part of a graph as a graph of its own, fed with what the whole graph computed there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .data import Sample
from .dim import Dim, is_symbol, symbol
from .evaluate import evaluate
from .ir import Graph, Op, Value, reads, unused_name
from .op import Constant
from .ops import Relayout
from .types import Array, TensorType

SMALL = 64
"""Elements of an integer tensor up to which it becomes a constant: types may depend on it, as on a shape."""


def computed(graph: Graph, sample: Sample) -> dict[Value, Array]:
    """Every value of `graph`, regions left out, by the reference."""
    arrays: dict[Value, Array] = {}
    evaluate(graph, sample, keep=arrays.__setitem__)
    return arrays


def workers(graph: Graph) -> list[Op]:
    """The operators that are no constants, in order."""
    return [op for op in graph.ops if not isinstance(op, Constant)]


def part(graph: Graph, kept: Collection[Op], arrays: Mapping[Value, Array]) -> tuple[Graph, Sample]:
    """The operators `kept` as a graph of their own, and the arrays of its inputs.

    What they read of others becomes an input, or a constant where it is small and of integers; constants go
    along. What others read, and what is an output, becomes an output. Inputs and outputs are row-major. A
    size that is computed of symbols becomes a symbol where it is that of an input. Raises `InferenceError`
    where an operator does not take that.
    """
    return _Part(graph, kept, arrays).made()


class _Part:
    def __init__(self, graph: Graph, kept: Collection[Op], arrays: Mapping[Value, Array]) -> None:
        self.graph, self.kept, self.arrays = graph, set(kept), arrays
        self.copy = Graph(graph.name)
        self.copy.metadata = dict(graph.metadata)
        self.values: dict[Value, Value] = {}
        self.sample: Sample = {}
        self.names: set[str] = set()
        self.sizes, self.symbols = dict[Dim, Dim](), set(graph.symbols())

    def made(self) -> tuple[Graph, Sample]:
        ops = [op for op in self.graph.ops if op in self.kept]
        for op in ops:
            for value in reads(op):
                if value not in self.values:
                    self.values[value] = self.brought(value)
            new = self.copy.add(op.clone(self.values))
            self.values.update(zip(op.results, new.results, strict=True))
        symbols = self.copy.symbols()
        self.copy.ranges = {name: self.graph.ranges[name] for name in symbols if name in self.graph.ranges}
        made = [value for op in ops for value in op.results]
        read = [value for value in made if self.is_read_outside(value)]
        for value in read or made[-1:]:
            mine = self.values[value]
            self.copy.outputs.append(
                mine if mine.type.layout is None else self.copy.add(Relayout(mine, None)).result
            )
            self.copy.output_names.append(unused_name(self.output_name(value), self.names))
        return self.copy, self.sample

    def brought(self, value: Value) -> Value:
        """What stands for a value of an operator that is not kept."""
        array = self.arrays[value]
        if isinstance(value.owner, Constant):
            mine = self.copy.add(value.owner.clone({})).result
        elif isinstance(value.owner, Op) and value.type.dtype.is_integer and array.size <= SMALL:
            mine = self.copy.add(Constant(array)).result
        else:
            mine = self.copy.add_input(
                TensorType(value.type.dtype, tuple(map(self.size, value.type.shape))),
                unused_name(value.name or f"x{len(self.sample)}", self.names),
            )
            self.sample[mine.name] = array
        layout = value.type.layout
        return mine if mine.type.layout == layout else self.copy.add(Relayout(mine, layout)).result

    def size(self, size: Dim) -> Dim:
        """A size that an input can tell: what is computed of symbols becomes a symbol of its own."""
        if isinstance(size, int) or is_symbol(size):
            return size
        if size not in self.sizes:
            self.sizes[size] = symbol(unused_name("size", self.symbols))
        return self.sizes[size]

    def is_read_outside(self, value: Value) -> bool:
        return value in self.graph.outputs or any(
            user not in self.kept and user.parent is self.graph for user in value.users
        )

    def output_name(self, value: Value) -> str:
        if value in self.graph.outputs:
            return self.graph.output_names[self.graph.outputs.index(value)]
        return value.name or f"y{len(self.copy.outputs)}"
