"""Grown graphs that ONNX has all operators for, so that any tool that reads ONNX can be tested with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

from ..ir import Op
from ..op import Constant, Operator
from ..save.opsets import is_expressible
from .case import Case
from .growth import Admits, Classes, single, whole
from .samples import native_classes


@cache
def named_classes() -> tuple[type[Operator], ...]:
    """The operators that have native code, samples and a name in ONNX."""
    return tuple(cls for cls in native_classes() if cls.onnx)


def in_onnx(op: Op) -> bool:
    """Whether ONNX has the operator for these operands and attributes."""
    return isinstance(op, Constant) or is_expressible(op)


def whole_model(random: Random) -> Case:
    """A case as `whole` grows it, of operators that ONNX has."""
    return _expressed(random, whole)


def single_model(random: Random) -> Case:
    """A case as `single` grows it, of an operator that ONNX has."""
    return _expressed(random, single)


def _expressed(random: Random, grown: Callable[[Random, Classes, Admits], Case]) -> Case:
    return grown(random, named_classes(), in_onnx)
