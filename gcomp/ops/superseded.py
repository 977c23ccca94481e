"""Operators of old opsets: each says only how it reads in the newest ones, the rest follows from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir import Op, Value
from ..op import Operator
from ..types import Array, TensorType


class Superseded(Operator):
    """Base of the classes that `upgrade` replaces on import; types and reference are its."""

    tolerance = "approximate"

    def upgrade(self) -> Op | Value | tuple[Value, ...]:
        """The same meaning in the newest operators. Raises `InferenceError`."""
        raise NotImplementedError

    def infer(self) -> TensorType | tuple[TensorType, ...]:
        return tuple(value.type for value in self.replacements())

    def reference(self, *operands: Array | None, **none: Any) -> Array | tuple[Array, ...]:
        known = {
            value: array
            for value, array in zip(self.operands, operands, strict=True)
            if value is not None and array is not None
        }
        return tuple(evaluated(value, known) for value in self.replacements())

    def replacements(self) -> Sequence[Value]:
        """The value that stands for each result."""
        new = self.upgrade()
        return new.results if isinstance(new, Op) else (new,) if isinstance(new, Value) else new


def evaluated(value: Value, known: dict[Value, Array]) -> Array:
    """The array of a value made by detached operators from values in `known`; adds what it computes there."""
    if value not in known:
        op = value.owner
        if not isinstance(op, Operator):
            raise KeyError(value)
        arrays = op.reference(*(None if v is None else evaluated(v, known) for v in op.operands))
        known.update(zip(op.results, arrays if isinstance(arrays, tuple) else (arrays,), strict=True))
    return known[value]
