"""Runs a graph by its operators' references: the oracle, and what folding and checks use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from . import dim as dims
from .diagnostics import (
    GcompError,
    InferenceError,
    InputError,
    ReferenceFault,
    RunError,
    UnsupportedError,
    raised,
)
from .dim import Dim
from .ir import Graph, Op, Value
from .op import Operator
from .printer import format_op
from .types import Array, TensorType, dtype_of

Observer = Callable[[Value, Array], None]


def evaluate(
    graph: Graph, inputs: Mapping[str, Array] | Sequence[Array], keep: Observer | None = None
) -> list[Array]:
    """The outputs of `graph` for these inputs, by name or in order. A value is freed after its last use.

    `keep` is shown every input and result as it comes to be. Raises `InputError` for inputs that do not fit,
    `InferenceError` for a reference that breaks what its operator's types promise, and `RunError` for an
    index out of range.
    """
    sizes: dict[str, Dim] = {}
    values = _take_inputs(graph, inputs, sizes)
    last = _last_uses(graph)
    for value, array in values.items():
        if keep is not None:
            keep(value, array)
    for place, op in enumerate(graph.ops):
        operands = [None if value is None else values[value] for value in op.operands]
        for value, array in zip(op.results, evaluate_op(op, operands), strict=True):
            _agree(op, value.type, array, sizes)
            values[value] = array
            if keep is not None:
                keep(value, array)
        for value in last.get(place, ()):
            values.pop(value, None)
    return [values[value] for value in graph.outputs]


def evaluate_op(op: Op, operands: Sequence[Array | None]) -> tuple[Array, ...]:
    """The results of one operator, each an array of the declared dtype and, as far as it is known, shape.

    Raises `UnsupportedError` for an operator without a reference, `InferenceError` where the reference
    disagrees with the types, `RunError` for an index out of range, as native code does, and
    `ReferenceFault` for whatever else a reference raises.
    """
    if not isinstance(op, Operator) or type(op).reference is Operator.reference:
        raise UnsupportedError(f"{op.kind} has no reference", line=format_op(op), origin=op.origin)
    try:
        with np.errstate(all="ignore"):
            found = op.reference(*operands)
    except GcompError as error:
        line, origin = error.line or format_op(op), error.origin or op.origin
        raise type(error)(error.message, line=line, origin=origin) from error
    except IndexError as error:
        raise RunError(f"{op.kind}: {error}", line=format_op(op), origin=op.origin) from error
    except Exception as error:  # whatever a stranger's reference raises is a fault of that operator
        told = f"the reference of {op.kind} raises {raised(error)}"
        raise ReferenceFault(told, line=format_op(op), origin=op.origin) from error
    arrays = found if isinstance(found, tuple) else (found,)
    if len(arrays) != len(op.results):
        _refuse(op, f"the reference of {op.kind} gives {len(arrays)} results, not {len(op.results)}")
    results: list[Array] = []
    for value, array in zip(op.results, arrays, strict=True):
        array = np.asarray(array)
        if array.dtype != value.type.dtype.numpy:
            array = array.astype(value.type.dtype.numpy)
        _agree(op, value.type, array, {})
        results.append(array)
    return tuple(results)


def _take_inputs(
    graph: Graph, inputs: Mapping[str, Array] | Sequence[Array], sizes: dict[str, Dim]
) -> dict[Value, Array]:
    if isinstance(inputs, Mapping):
        wrong = sorted(set(inputs) ^ set(graph.input_names))
        if wrong:
            raise InputError(
                f"graph {graph.name!r} takes inputs {', '.join(graph.input_names)}, got {', '.join(inputs)}; "
                f"{wrong[0]!r} is {'missing' if wrong[0] not in inputs else 'unknown'}"
            )
        arrays = [np.asarray(inputs[name]) for name in graph.input_names]
    else:
        if len(inputs) != len(graph.inputs):
            raise InputError(f"graph {graph.name!r} takes {len(graph.inputs)} inputs, got {len(inputs)}")
        arrays = [np.asarray(array) for array in inputs]
    pairs = list(zip(graph.inputs, arrays, strict=True))
    for value, array in pairs:
        _check_input(value, array, sizes)
    for value, array in pairs:  # sizes that are more than a symbol, now that all symbols are known
        _check_sizes(value, array, sizes)
    return dict(pairs)


def _check_input(value: Value, array: Array, sizes: dict[str, Dim]) -> None:
    try:
        fits = dtype_of(array) == value.type.dtype
    except KeyError:
        fits = False
    if not fits or array.ndim != value.type.rank:
        raise InputError(f"input {value.name!r} is {value.type}, got {array.dtype}{list(array.shape)}")
    for dim, size in zip(value.type.shape, array.shape, strict=True):
        name = _lone_symbol(dim)
        if name:
            sizes.setdefault(name, size)


def _check_sizes(value: Value, array: Array, sizes: dict[str, Dim]) -> None:
    expected = value.type.substitute(sizes)
    pairs = zip(expected.shape, array.shape, strict=True)
    if any(isinstance(want, int) and want != got for want, got in pairs):
        known = ", ".join(f"{name}={size}" for name, size in sorted(sizes.items()))
        raise InputError(
            f"input {value.name!r} is {value.type}, got {array.dtype}{list(array.shape)}"
            + (f" where {known}" if known and not value.type.is_static else "")
        )


def _agree(op: Op, type: TensorType, array: Array, sizes: dict[str, Dim]) -> None:
    """Checks a result's shape; a symbol that first appears here, of a data-dependent size, gets its value."""
    shape = type.substitute(sizes).shape
    if len(shape) != array.ndim or any(
        isinstance(want, int) and want != got for want, got in zip(shape, array.shape, strict=True)
    ):
        _refuse(op, f"the reference of {op.kind} gives shape {list(array.shape)} where {type} is promised")
    for dim, size in zip(shape, array.shape, strict=True):
        name = _lone_symbol(dim)
        if name:
            sizes[name] = size


def _lone_symbol(dim: Dim) -> str:
    names = dims.symbols(dim)
    return next(iter(names)) if len(names) == 1 and dims.symbol(next(iter(names))) == dim else ""


def _last_uses(graph: Graph) -> dict[int, list[Value]]:
    """The values to free after the operator at each place: those read there last, and results never read."""
    last: dict[Value, int] = {}
    for place, op in enumerate(graph.ops):
        last.update(dict.fromkeys((*op.inputs, *op.results), place))
    for value in graph.outputs:
        last.pop(value, None)
    places: dict[int, list[Value]] = {}
    for value, place in last.items():
        places.setdefault(place, []).append(value)
    return places


def _refuse(op: Op, message: str) -> None:
    raise InferenceError(message, line=format_op(op), origin=op.origin)
