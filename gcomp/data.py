"""Inputs to run a model on: read from `.npz` files, or synthetic ones from a seed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .diagnostics import InputError
from .dim import parse, substitute
from .ir import Graph, Value
from .types import STRING, Array, DType, dtype_of

Sample = dict[str, Array]

LARGEST = 1 << 31
"""Bytes of one synthetic input above which data has to be given."""

_MOVES = ("Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators whose results hold their operands' values."""

_WORDS = ("alpha", "beta", "gamma", "delta")


class PortLike(Protocol):
    """An input as modules and graphs describe it; a size that is no integer is not known."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def shape(self) -> tuple[Any, ...]: ...


def synthetic(ports: Sequence[PortLike], seed: int = 0, graph: Graph | None = None) -> Sample:
    """One array per input, the same for the same seed on every machine, never all equal where that can be.

    Floats are standard normal, bytes uniform; wider integers are 0 or 1, or, where `graph` shows that they
    are indices, uniform over what is indexed. Sizes for which `graph` declares a range are drawn too. Raises
    `InputError` for an unknown size or a huge input.
    """
    limits = index_limits(graph) if graph is not None else {}
    ranges = sorted(graph.ranges.items()) if graph is not None else []
    random = np.random.default_rng(seed)
    sizes = {name: int(random.integers(low, high, endpoint=True)) for name, (low, high) in ranges}
    return {
        port.name: _random(port, sizes, np.random.default_rng([seed, place]), limits.get(port.name, 2))
        for place, port in enumerate(ports)
    }


class Samples:
    """The samples that `load_samples` reads, one after the other; of a folder's files one at a time is held.

    Their number is known where a single file holds them, and in a folder if each file is one sample.
    """

    def __init__(self, path: str | Path, ports: Sequence[PortLike]) -> None:
        self.ports = ports
        self.files = sample_files(path)
        self.first = load_samples(self.files[0], ports)

    def __len__(self) -> int:
        return len(self.first) if len(self.files) == 1 else len(self.files)

    def __iter__(self) -> Iterator[Sample]:
        yield from self.first
        for file in self.files[1:]:
            yield from load_samples(file, self.ports)


def sample_files(path: str | Path) -> list[Path]:
    """The file itself, or the `.npz` of a folder ordered by name. Raises `InputError` if there is none."""
    path = Path(path)
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: there is no .npz in this folder")
    return files


def load_samples(path: str | Path, ports: Sequence[PortLike]) -> list[Sample]:
    """The samples in a `.npz` with an array per input, or in a folder of such files, ordered by name.

    In a single file the leading axes may be multiples of the inputs' batch, the same multiple for all, and
    are cut into batches. An array becomes its input's dtype where no value can change. Raises `InputError`.
    """
    path = Path(path)
    if path.is_dir():
        return [sample for file in sample_files(path) for sample in load_samples(file, ports)]
    arrays = _read(path)
    names = [port.name for port in ports]
    if missing := [name for name in names if name not in arrays]:
        raise InputError(
            f"{path}: needs an array for each input ({', '.join(names)}), lacks {', '.join(missing)}; "
            f"it has {', '.join(arrays) or 'none'}"
        )
    cut = {port.name: _batches(path, port, _converted(path, port, arrays[port.name])) for port in ports}
    counts = {name: len(batches) for name, batches in cut.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise InputError(f"{path}: the inputs hold different numbers of batches ({listed})")
    return [dict(zip(cut, batch, strict=True)) for batch in zip(*cut.values(), strict=True)]


def index_limits(graph: Graph) -> dict[str, int]:
    """For each integer input used as indices, perhaps reshaped or cast before: how many it may tell apart."""
    return {
        value.name: min(limits)
        for value in graph.inputs
        if value.type.dtype.is_integer and (limits := list(_limits(value)))
    }


def _limits(value: Value, depth: int = 8) -> Iterator[int]:
    for op in value.users:
        indices, data = getattr(op, "indices", None), getattr(op, "data", None)
        if indices is value and isinstance(data, Value):
            axis: int = op.attributes.get("axis", 0)
            size = data.type.shape[axis]
            if isinstance(size, int) and size > 0:
                yield size
        elif op.kind in _MOVES and depth:
            yield from _limits(op.result, depth - 1)


def _random(port: PortLike, known: Mapping[str, int], random: np.random.Generator, limit: int) -> Array:
    bound = [substitute(parse(str(size)), known) if known else size for size in port.shape]
    sizes: tuple[int, ...] = tuple(size for size in bound if isinstance(size, int))
    if len(sizes) != len(port.shape):
        raise InputError(
            f"input {port.name} is {describe(port)}: for synthetic data all sizes must be known; "
            "bind them (--dim, --shape) or give data (--data)"
        )
    if int(np.prod(sizes, dtype=object)) * port.dtype.bytes > LARGEST:
        raise InputError(
            f"input {port.name} is {describe(port)}: too large for synthetic data, give your own"
        )
    if port.dtype == STRING:
        return np.asarray(random.choice(np.array(_WORDS, object), sizes), object)
    if port.dtype.is_float:
        return random.standard_normal(sizes, np.float32).astype(port.dtype.numpy)
    if port.dtype.is_integer and limit == 2 and port.dtype.bytes == 1:
        low, high = (-128, 128) if port.dtype.is_signed else (0, 256)
        return random.integers(low, high, sizes).astype(port.dtype.numpy)
    return random.integers(0, limit, sizes).astype(port.dtype.numpy)


def _read(path: Path) -> dict[str, Array]:
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise InputError(f"{path}: holds a single array; a .npz names one per input")
        with stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read as .npz: {why}") from error


def _converted(path: Path, port: PortLike, array: Array) -> Array:
    wanted = port.dtype.numpy
    if array.dtype.kind == "V" and array.dtype.itemsize == wanted.itemsize:
        return array.view(wanted)  # .npz files do not know bf16
    if port.dtype != STRING and not np.can_cast(array.dtype, wanted, "safe"):
        raise InputError(f"{path}: {port.name} is {describe(port)}, the file holds {_described(array)}")
    return array.astype(wanted, copy=False)


def _batches(path: Path, port: PortLike, array: Array) -> list[Array]:
    """The array, cut along its leading axis if that is a multiple of the input's."""
    fits = array.ndim == len(port.shape) and all(
        want == got or not isinstance(want, int)
        for want, got in zip(port.shape[1:], array.shape[1:], strict=False)
    )
    batch = port.shape[0] if port.shape else None
    if fits and (not isinstance(batch, int) or batch == len(array)):
        return [array]
    if not fits or not batch or not len(array) or len(array) % batch:
        raise InputError(f"{path}: {port.name} is {describe(port)}, the file holds {_described(array)}")
    return [array[start : start + batch] for start in range(0, len(array), batch)]


def describe(port: PortLike) -> str:
    """The type of an input or output in the text form."""
    return f"{port.dtype}[{','.join(map(str, port.shape))}]"


def _described(array: Array) -> str:
    try:
        name = dtype_of(array).name
    except KeyError:
        name = str(array.dtype)
    return f"{name}[{','.join(map(str, array.shape))}]"
