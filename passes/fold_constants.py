"""fold-constants: computes at compile time what no input can change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gcomp.diagnostics import GcompError
from gcomp.evaluate import evaluate_op
from gcomp.ir import Graph, Op, Value
from gcomp.op import Constant, Operator, constant_value, known_content
from gcomp.ops import DequantizeLinear
from gcomp.rewrite import outside_groups, supersede
from gcomp.types import Array


@dataclass(frozen=True)
class FoldConstants:
    """Replaces operators on constants, and integers that follow from shapes alone, by constants.

    `growth` is how many bytes larger than all it was made from a constant may be: an Expand of a scalar to
    a million elements is cheaper to run than to store. Quantized weights stay quantized unless `dequantize`
    is set: a later pass may compute on the integers.
    """

    name: str = field(default="fold-constants", init=False)
    growth: int = 1 << 16
    dequantize: bool = False

    def run(self, graph: Graph) -> bool:
        changed = False
        for op in list(outside_groups(graph)):
            arrays = self._folded(op)
            if arrays is not None:
                sources = [*_producers(op), op]
                supersede(op, [Constant(array).result for array in arrays], sources)
                changed = True
        return changed

    def _folded(self, op: Op) -> list[Array] | None:
        """The arrays of the results of `op`, or None if it stays."""
        if isinstance(op, Constant) or not isinstance(op, Operator) or op.parent is None:
            return None
        if isinstance(op, DequantizeLinear) and not self.dequantize:
            return None
        known = _known_integers(op)
        if known is not None:
            return [known]
        operands = [constant_value(value) for value in op.operands]
        read = sum(array.nbytes for array in operands if array is not None)
        if not op.inputs or op.regions or not all(isinstance(value.owner, Constant) for value in op.inputs):
            return None
        if not all(self._fits(value, read) for value in op.results):
            return None
        try:
            return list(evaluate_op(op, operands))
        except GcompError:  # what fails on these operands has to fail when the model runs, if it runs there
            return None

    def _fits(self, value: Value, read: int) -> bool:
        size = value.type.bytes
        return isinstance(size, int) and value.type.layout is None and size <= read + self.growth


def _known_integers(op: Operator) -> Array | None:
    """The only result of `op` if sizes alone decide all of its elements, as those of a Shape."""
    if len(op.results) != 1 or not op.result.type.is_static:
        return None
    content = known_content(op.result)
    if content is None or not all(isinstance(element, int) for element in content):
        return None
    return np.array(content, op.result.type.dtype.numpy).reshape(op.result.type.static_shape)


def _producers(op: Op) -> Iterator[Op]:
    """The operators whose names a folded result inherits."""
    for value in op.inputs:
        if isinstance(value.owner, Constant):
            yield value.owner


PASS = FoldConstants()
