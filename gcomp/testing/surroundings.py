"""Puts operators around those of a case: what makes their inputs, what reads their results, and outputs more.

All of them are exact, so that they do not loosen what a rule has to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ..diagnostics import InferenceError
from ..dim import Dim, is_symbol
from ..ir import Graph, Value
from ..op import Argument, Operator
from ..ops import And, Max, Min, Reciprocal
from ..types import BOOL, STRING, Array, TensorType
from .arrays import broadcastable, draw_array, draw_size
from .case import Case, sizes_of


def surrounded(random: Random, case: Case, leaves: Sequence[Argument]) -> Case:
    """The case with more in its graph, which changes. `leaves` are the stand-ins that inputs came from."""
    around = _Surroundings(random, case.graph, dict(case.inputs), sizes_of(case))
    if leaves and random.randrange(3) == 2:
        place = random.randrange(len(leaves))
        around.feed(place, leaves[place])
    if random.randrange(2):
        around.read(random.randrange(len(case.graph.outputs)))
    if random.randrange(10) == 9:
        around.expose()
    return Case(around.graph, around.inputs)


@dataclass
class _Surroundings:
    random: Random
    graph: Graph
    inputs: dict[str, Array]
    sizes: dict[str, int]

    def feed(self, place: int, leaf: Argument) -> None:
        """The input at `place` goes through an operator that keeps its type and the range of `leaf`."""
        value = self.graph.inputs[place]
        op = self._paired(value, broadcastable(self.random, value.type.shape), leaf.low, leaf.high)
        if op is not None and op.result.type == value.type:
            op.result.name = f"{value.name}'"
            self.graph.replace(value, op.result)
            self.graph.add(op, before=self.graph.ops[0])

    def read(self, place: int) -> None:
        """The output at `place` is read, perhaps instead, by an operator whose result may be wider."""
        value, random = self.graph.outputs[place], self.random
        plain = tuple(size if isinstance(size, int) or is_symbol(size) else 1 for size in value.type.shape)
        shape = broadcastable(random, plain)
        if len(shape) == value.type.rank and random.randrange(2):
            shape = (draw_size(random), *shape)
        op = self._paired(value, shape) if random.randrange(2) else _told_apart(value)
        if op is not None:
            self.graph.add(op)
            if random.randrange(2):
                self.graph.outputs[place] = op.result
            elif random.randrange(4) < 3:  # else it is a dead end
                self._show(op.result)

    def expose(self) -> None:
        """Something from within becomes an output too."""
        shown = {id(value) for value in self.graph.outputs}
        inner = [value for op in self.graph.ops for value in op.results if id(value) not in shown]
        if inner:
            self._show(self.random.choice(inner))

    def _paired(
        self, value: Value, shape: tuple[Dim, ...], low: float = -2.0, high: float = 2.0
    ) -> Operator | None:
        """A detached operator over `value` and a new input of this shape; None where types have none."""
        dtype = value.type.dtype
        if dtype == STRING:
            return None
        place = len(self.graph.inputs)
        other = Value(TensorType(dtype, shape), self.graph, place, f"x{place}")
        try:
            op = And(value, other) if dtype == BOOL else self.random.choice((Max, Min))((value, other))
        except InferenceError:
            return None
        self.graph.inputs.append(other)
        self.inputs[other.name] = draw_array(self.random, other.type.substitute(self.sizes), low, high)
        return op

    def _show(self, value: Value) -> None:
        self.graph.outputs.append(value)
        self.graph.output_names.append(f"y{len(self.graph.output_names)}")


def _told_apart(value: Value) -> Operator | None:
    """A detached operator that tells 0.0 from -0.0; None where `value` holds no floats."""
    return Reciprocal(value) if value.type.dtype.is_float else None
