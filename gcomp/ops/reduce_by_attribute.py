"""Reductions of old opsets, whose axes are an attribute: below 13 for ReduceSum, below 18 for others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from ..ir import Op, Value
from ..op import Operator, argument, constant, operator
from ..types import F32, TensorType
from .reduce import (
    ReduceL1,
    ReduceL2,
    ReduceLogSum,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    ReduceSumSquare,
    Reduction,
)
from .superseded import Superseded


class AxesAttribute(Superseded):
    """Base of the reductions of old opsets, whose axes are an attribute. `newest` replaces them."""

    newest: ClassVar[type[Reduction]]

    data: Value
    axes: tuple[int, ...] | None = None
    keepdims: int = 1

    def upgrade(self) -> Op:
        axes = constant(np.array(self.axes, np.int64)) if self.axes else None
        return self.newest(self.data, axes, keepdims=self.keepdims)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        yield cls(argument(TensorType(F32, (2, 3, 5)), 0.25, 2.0), (0, -1))
        yield cls(argument(TensorType(F32, (2, 3)), 0.25, 2.0), keepdims=0)


@operator(onnx="ReduceSum", since=1)
class ReduceSum_1(AxesAttribute):
    """ReduceSum with its axes as an attribute."""

    newest = ReduceSum


@operator(onnx="ReduceMean", since=1)
class ReduceMean_1(AxesAttribute):
    """ReduceMean with its axes as an attribute."""

    newest = ReduceMean


@operator(onnx="ReduceMax", since=1)
class ReduceMax_1(AxesAttribute):
    """ReduceMax with its axes as an attribute."""

    newest = ReduceMax


@operator(onnx="ReduceMin", since=1)
class ReduceMin_1(AxesAttribute):
    """ReduceMin with its axes as an attribute."""

    newest = ReduceMin


@operator(onnx="ReduceProd", since=1)
class ReduceProd_1(AxesAttribute):
    """ReduceProd with its axes as an attribute."""

    newest = ReduceProd


@operator(onnx="ReduceL1", since=1)
class ReduceL1_1(AxesAttribute):
    """ReduceL1 with its axes as an attribute."""

    newest = ReduceL1


@operator(onnx="ReduceL2", since=1)
class ReduceL2_1(AxesAttribute):
    """ReduceL2 with its axes as an attribute."""

    newest = ReduceL2


@operator(onnx="ReduceSumSquare", since=1)
class ReduceSumSquare_1(AxesAttribute):
    """ReduceSumSquare with its axes as an attribute."""

    newest = ReduceSumSquare


@operator(onnx="ReduceLogSum", since=1)
class ReduceLogSum_1(AxesAttribute):
    """ReduceLogSum with its axes as an attribute."""

    newest = ReduceLogSum


@operator(onnx="ReduceLogSumExp", since=1)
class ReduceLogSumExp_1(AxesAttribute):
    """ReduceLogSumExp with its axes as an attribute."""

    newest = ReduceLogSumExp
