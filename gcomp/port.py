"""What a module takes and gives: names, types, sizes that callers choose; arrays made to fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from . import dim as dims
from .arguments import described as instance
from .diagnostics import InputError, OpenSizeError
from .types import Array, DType, dtype_of, shape_of


@dataclass(frozen=True)
class Port:
    """An input or output of a module: a size is an integer, or the name of what is not known."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers. Raises `OpenSizeError` where a size is not known."""
        if any(isinstance(size, str) for size in self.shape):
            raise OpenSizeError(f"{self.name} is {self}: its sizes must be known")
        return tuple(int(size) for size in self.shape)

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols in its sizes."""
        return frozenset(name for size in self.shape for name in dims.symbols(dims.parse(str(size))))

    def at(self, sizes: Mapping[str, int]) -> Port:
        """The port where symbols have these values; those without one stay."""
        if not any(isinstance(size, str) for size in self.shape):
            return self
        bound = [dims.substitute(dims.parse(str(size)), sizes) for size in self.shape]
        return replace(self, shape=tuple(size if isinstance(size, int) else str(size) for size in bound))


@dataclass(frozen=True)
class Symbol:
    """A size that each call chooses: its range, and the input and axis that give it."""

    name: str
    low: int
    high: int
    input: int
    axis: int


def sizes_of(
    module: str, inputs: Sequence[Port], symbols: Sequence[Symbol], arrays: Sequence[Any]
) -> dict[str, int]:
    """The symbols' values that the arrays' shapes give.

    Raises `InputError`, in the name of `module`, for a rank that does not fit and a value out of range.
    """
    found: dict[str, int] = {}
    for symbol in symbols:
        port, shape = inputs[symbol.input], shape_of(arrays[symbol.input])
        if len(shape) != len(port.shape):
            raise InputError(f"{module}: input {port.name} must be {port}, got shape {shape}")
        size = found[symbol.name] = shape[symbol.axis]
        if not symbol.low <= size <= symbol.high:
            raise InputError(
                f"{module}: input {port.name} must be {port} with {symbol.name} from {symbol.low} to "
                f"{symbol.high}, got {symbol.name}={size}"
            )
    return found


def in_order(module: str, inputs: Sequence[Port], arrays: Mapping[str, Any]) -> list[Any]:
    """Arrays by name, in the order of the inputs. Raises `InputError` for others, said of `module`."""
    names = [port.name for port in inputs]
    if not isinstance(arrays, Mapping):
        raise InputError(f"{module}: takes arrays as a dict by input name, got {instance(arrays)}")
    if set(arrays) != set(names):
        listed = [", ".join(map(str, one)) or "none" for one in (names, arrays)]
        raise InputError(f"{module}: takes inputs {listed[0]}, got {listed[1]}")
    return [arrays[name] for name in names]


def check_count(module: str, inputs: Sequence[Port], arrays: Sequence[Any]) -> None:
    """Raises `InputError`, in the name of `module`, for another number of arrays than of inputs."""
    if len(arrays) != len(inputs):
        noun = "input" if len(inputs) == 1 else "inputs"
        names = ", ".join(port.name for port in inputs) or "none"
        raise InputError(f"{module}: takes {len(inputs)} {noun} ({names}), got {len(arrays)}")


def fitting(module: str, port: Port, given: Any) -> Array:
    """`given` as a contiguous array of the input's type and shape, copied where that is needed.

    Raises `InputError` for what does not fit, in the name of `module`.
    """
    array = _as_array(f"{module}: input {port.name}", given, port.dtype)
    if _element_type(array) != port.dtype.name or array.shape != port.shape:
        raise InputError(f"{module}: input {port.name} must be {port}, got {described(array)}")
    return np.require(array.astype(port.dtype.numpy, copy=False), requirements=["C"])


def _as_array(who: str, given: Any, dtype: DType) -> Array:
    if isinstance(given, np.ndarray):
        return cast(Array, given)
    try:
        if hasattr(given, "__dlpack__"):
            array: Array = np.from_dlpack(given)
            return array
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError, BufferError, AttributeError) as error:
        raise InputError(f"{who}: {type(given).__name__} cannot be read as an array: {error}") from error
    if not hasattr(given, "dtype") and np.can_cast(array.dtype, dtype.numpy, "same_kind"):
        return array.astype(dtype.numpy)  # lists and numbers have no element type of their own
    return array


def _element_type(array: Array) -> str:
    try:
        return str(dtype_of(array))
    except KeyError:
        return str(array.dtype)


def described(array: Array) -> str:
    """Type and shape; a byte order only where it is not the machine's."""
    order = "" if array.dtype.isnative else " in the other byte order"
    return f"{_element_type(array)}[{','.join(map(str, array.shape))}]{order}"
