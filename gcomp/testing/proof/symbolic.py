"""Runs a graph on unknown inputs: each element of its outputs becomes a term over theirs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from ...diagnostics import UnsupportedError
from ...expr import Binary, Bitcast, Cast, Checked, Expr, Fma, Literal_, Select, Size, Unary, Var
from ...ir import Graph, Op, Value
from ...kernel import Compute
from ...lowering import lower_op
from ...op import Constant, Operator
from ...tensor import Load, Reduce, Tensor
from ...types import I64, Array
from .terms import Reading, Scalar, Terms, is_known

LARGEST = 64
"""Elements of the largest tensor, and terms of the longest reduction."""


class TooLarge(UnsupportedError):
    """A graph whose terms would take too long."""


def outputs(graph: Graph, reading: Reading) -> list[Array]:
    """The outputs, of static shapes, as arrays of scalars; element (i, j) of input x is the unknown `x[i,j]`.

    Raises `UnsupportedError` for what has no closed form: operators without `lower` or whose `lower` is a
    program, regions, reads at an index that depends on data; `TooLarge`.
    """
    terms = Terms(reading)
    values: dict[Value, Array] = {}
    for value in graph.inputs:
        values[value] = _filled(
            value.type.static_shape,
            lambda index, v=value: terms.unknown(f"{v.name}[{','.join(map(str, index))}]", v.type.dtype),
        )
    for op in graph.ops:
        if isinstance(op, Constant):
            values[op.result] = _filled(op.value.shape, lambda index, array=op.value: array[index])
        else:
            values.update(zip(op.results, _results(op, values, terms), strict=True))
    return [values[value] for value in graph.outputs]


def _results(op: Op, values: dict[Value, Array], terms: Terms) -> list[Array]:
    if op.regions or not isinstance(op, Operator):
        raise UnsupportedError(f"{op.kind} has regions")
    kernel = lower_op(op)
    keeps = {v.type.dtype for v in op.inputs if v.type.dtype.is_float} == {op.results[0].type.dtype}
    known: dict[Tensor, Array] = {}
    for tensor, value in zip(kernel.operands, op.operands, strict=True):
        if tensor is not None and value is not None:
            known[tensor] = values[value]
    for stage in kernel.stages:
        if not isinstance(stage, Compute):
            raise UnsupportedError(f"{op.kind} is computed by a program")
        known[stage.result] = _computed(stage, known, terms, keeps)
    return [known[tensor] for tensor in kernel.results]


def _computed(stage: Compute, known: dict[Tensor, Array], terms: Terms, keeps: bool) -> Array:
    def element(index: tuple[int, ...]) -> Scalar:
        return _Evaluation(known, terms, keeps, dict(zip(stage.axes, index, strict=True))).value(stage.value)

    return _filled(stage.result.type.static_shape, element)


def _filled(shape: Sequence[int], element: Any) -> Array:
    """An array of objects, `element(index)` at each index."""
    if int(np.prod(shape)) > LARGEST:
        raise TooLarge(f"{int(np.prod(shape))} elements are more than {LARGEST}")
    array = np.empty(tuple(shape), object)
    for index in np.ndindex(*shape):
        array[index] = element(index)
    return array


class _Evaluation:
    """The value of expressions at known variables; `keeps` is of operators that keep the type of floats."""

    def __init__(
        self, known: dict[Tensor, Array], terms: Terms, keeps: bool, variables: dict[Var, int]
    ) -> None:
        self.known, self.terms, self.keeps, self.variables = known, terms, keeps, variables
        self._seen: dict[Expr, Scalar] = {}

    def value(self, x: Expr) -> Scalar:
        if x not in self._seen:
            self._seen[x] = self._fresh(x)
        return self._seen[x]

    def _fresh(self, x: Expr) -> Scalar:
        terms = self.terms
        match x:
            case Var():
                return np.int64(self.variables[x])
            case Literal_(value=value, dtype=dtype):
                return np.asarray(value, dtype.numpy)[()]
            case Size(dim=dim) if isinstance(dim, int):
                return np.int64(dim)
            case Load():
                return self._load(x)
            case Unary(op=op, x=inside):
                return terms.unary(op, self.value(inside), inside.dtype)
            case Binary(op=op, lhs=lhs, rhs=rhs):
                return terms.binary(op, self.value(lhs), self.value(rhs), lhs.dtype)
            case Fma(a=a, b=b, c=c):
                return terms.fused(self.value(a), self.value(b), self.value(c), c.dtype)
            case Select(condition=condition, then=then, other=other):
                chosen = self.value(condition)
                if is_known(chosen):
                    return self.value(then if chosen else other)
                return terms.select(chosen, self.value(then), self.value(other), then.dtype)
            case Cast(x=inside, dtype=dtype):
                return terms.cast(self.value(inside), inside.dtype, dtype, self.keeps)
            case Bitcast(x=inside, dtype=dtype):
                return terms.opaque(f"bits_{dtype.name}", self.value(inside), inside.dtype, dtype)
            case Checked(index=index):
                return self.value(index)
            case Reduce():
                return self._reduce(x)
            case _:
                raise UnsupportedError(f"{type(x).__name__} of an unknown size has no closed form")

    def _load(self, x: Load) -> Scalar:
        if x.where is not None:
            inside = self.value(x.where)
            if not is_known(inside):
                raise UnsupportedError("whether an element is read depends on data")
            if not inside:
                return np.asarray(x.other, x.dtype.numpy)[()]
        index = [self.value(place) for place in x.index]
        if not is_known(*index):
            raise UnsupportedError("which element is read depends on data")
        array = self.known[x.tensor]
        if any(not 0 <= place < size for place, size in zip(index, array.shape, strict=True)):
            raise UnsupportedError(f"an index is out of range of {x.tensor!r}")
        return array[tuple(int(place) for place in index)]

    def _reduce(self, x: Reduce) -> Scalar:
        extents = [self.value(Size(var.extent, I64)) for var in x.over]
        if int(np.prod(extents)) > LARGEST:
            raise TooLarge(f"a reduction over {int(np.prod(extents))} elements is longer than {LARGEST}")
        total: Scalar = np.asarray(x.init, x.dtype.numpy)[()]
        for index in product(*(range(int(extent)) for extent in extents)):
            variables = {**self.variables, **dict(zip(x.over, index, strict=True))}
            body = _Evaluation(self.known, self.terms, self.keeps, variables).value(x.body)
            total = self.terms.binary(x.op, total, body, x.dtype)
        return total
