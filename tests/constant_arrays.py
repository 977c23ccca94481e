"""The arrays that graphs hold."""

from __future__ import annotations

from gcomp.ir import Value
from gcomp.op import Constant
from gcomp.types import Array


def array_of(value: Value) -> Array:
    """What a constant holds."""
    assert isinstance(value.owner, Constant)
    return value.owner.value
