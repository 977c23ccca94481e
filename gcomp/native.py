"""Runs native modules through the C interface: loads shared objects, passes arrays, reports errors."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, cast
from zipfile import is_zipfile

import numpy as np

from .arguments import checked
from .diagnostics import BuildError, InputError, RunError
from .port import Port, Symbol, check_count, described, fitting, in_order, sizes_of
from .types import DTYPES, STRING, Array

ABI = 1
"""Version of the C interface; artefacts and callers of different versions do not fit together."""

ALIGNMENT = 64
"""Bytes to which the arena and the weights are aligned."""
LARGE_PAGE, LARGE_PAGES = 2 << 20, 4 << 20
"""Bytes of a large page of most processors, and of an array from which on NumPy asks for them."""

MANIFEST_SYMBOL = "gcomp_manifest"
"""By this symbol a shared object says what it is; archives have none, so that two link into one program."""


class ErrorCode(IntEnum):
    """What `NAME_run` returns, with the message for it."""

    message: str

    def __new__(cls, number: int, message: str) -> ErrorCode:
        code = int.__new__(cls, number)
        code._value_ = number
        code.message = message
        return code

    OK = 0, "no error"
    ABI = 1, "the context was made for another version of the interface"
    CPU = 2, "the processor lacks an instruction set that the code was compiled for"
    INPUT = 3, "a tensor does not fit: its data pointer, dtype, rank or shape"
    ARENA = 4, "the arena is missing or not aligned to 64 bytes"
    INDEX = 5, "an index is out of range"
    MEMORY = 6, "out of memory"
    WEIGHTS = 7, "the weights are missing or not aligned to 64 bytes"
    SIZE = 8, "a symbolic size is outside of the range that the code was compiled for"


class CTensor(ctypes.Structure):
    """`gcomp_tensor` of the C interface."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_void_p),
    )


class CContext(ctypes.Structure):
    """`gcomp_ctx` of the C interface."""

    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("weights", ctypes.c_void_p),
        ("arena", ctypes.c_void_p),
        ("alloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
        ("parallel_for", ctypes.c_void_p),
        ("user", ctypes.c_void_p),
    )


_INIT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_RUN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_SIZES = _RUN

REMEMBERED = 64
"""Assignments of values to symbolic sizes whose shapes are kept; beyond it the oldest goes."""


class NativeModule:
    """Native code with the arrays it works on; may be called from several threads at once, and after a fork.

    `run`, `init` and `sizes` are the addresses of `NAME_run`, `NAME_init` and `NAME_sizes`, the last of which
    only symbolic sizes need; `weights` is that of a blob aligned to
    `ALIGNMENT`, or None where the code holds its own. `keepalive` owns what the addresses point to.
    Raises `BuildError` for a manifest that this version of gcomp cannot serve, `RunError` where the processor
    lacks an instruction set that the code needs.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        *,
        run: int,
        init: int,
        sizes: int = 0,
        weights: int | None = None,
        keepalive: object = None,
    ) -> None:
        self.manifest, self._keepalive = manifest, keepalive
        self.name, arena_bytes = _checked(manifest)
        self._symbols = _symbols(manifest)
        self.inputs, self.outputs = _ports(manifest, "inputs"), _ports(manifest, "outputs")
        self.host_steps: list[Any] = list(manifest.get("host_steps", []))
        self._run = _RUN(run)
        self._context = CContext()
        if code := _INIT(init)(ctypes.addressof(self._context)):
            _refuse(self.name, code, manifest)
        if weights is not None:
            self._context.weights = weights
        self._sizes = _SIZES(sizes) if sizes else None
        self._frames: list[Frame] = []
        self._known: dict[tuple[int, ...], Shapes] = {}
        for port in (*self.inputs, *self.outputs):
            _check_served(port, self._symbols, self.name)
        self._static = None if self._symbols else Shapes(self.inputs, self.outputs, arena_bytes)

    def __repr__(self) -> str:
        listed = [", ".join(f"{p.name}: {p}" for p in ports) for ports in (self.inputs, self.outputs)]
        return f"<native module {self.name}({listed[0]}) -> ({listed[1]})>"

    def __call__(self, *arrays: Any, out: Sequence[Array] | None = None) -> list[Array]:
        """The outputs in graph order for the inputs in graph order, freshly allocated or written to `out`.

        Takes numpy arrays of any memory layout, anything with `__dlpack__` on the CPU, and whatever
        `numpy.asarray` takes. `out` holds a numpy array for each output, of its dtype and shape, contiguous,
        writeable, apart from the others and from the inputs; after an error their content is undefined.
        Raises `InputError` for arrays that do not fit, `RunError` if the code refuses.
        """
        shapes = self.shapes(arrays)
        given = self._accept(arrays, shapes)
        if out is None:
            results = [np.empty(shape, dtype) for shape, dtype in shapes.results]
        else:
            results = self._writable(out, given, shapes)
        try:
            frame = self._frames.pop()  # atomic: no other thread has it
        except IndexError:
            frame = Frame(self._context, shapes)
        if frame.shapes is not shapes:
            frame.fit(shapes)
        for tensor, array in zip(frame.tensors, (*given, *results), strict=True):
            tensor.data = array.ctypes.data
        code = self._run(*frame.arguments)
        self._frames.append(frame)
        if code:
            _refuse(self.name, code, self.manifest)
        return results

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs by name for the inputs by name. Raises as a call does, and for other names."""
        results = self(*in_order(self.name, self.inputs, inputs))
        return {port.name: result for port, result in zip(self.outputs, results, strict=True)}

    def accept(self, arrays: Sequence[Any]) -> list[Array]:
        """The arrays as the code takes them: contiguous, of the declared types. Raises `InputError`."""
        return self._accept(arrays, self.shapes(arrays))

    def shapes(self, arrays: Sequence[Any]) -> Shapes:
        """The shapes of a call with these arrays. Raises `InputError` for symbolic sizes out of range."""
        check_count(self.name, self.inputs, arrays)
        if self._static is not None:
            return self._static
        sizes = sizes_of(self.name, self.inputs, self._symbols, arrays)
        key = tuple(sizes.values())
        if key not in self._known:
            inputs, outputs = ([port.at(sizes) for port in ports] for ports in (self.inputs, self.outputs))
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = Shapes(inputs, outputs, self._measure(inputs))
        return self._known[key]

    def _measure(self, inputs: Sequence[Port]) -> int:
        """The bytes of the arena for inputs of these shapes."""
        if self._sizes is None:
            raise BuildError(f"{self.name}: symbolic sizes need {self.name}_sizes, which is not given")
        tensors, _owned = _structs(inputs)
        bytes = ctypes.c_int64()
        if code := self._sizes(ctypes.addressof(tensors), None, ctypes.addressof(bytes)):
            _refuse(self.name, code, self.manifest)
        return bytes.value

    def _accept(self, arrays: Sequence[Any], shapes: Shapes) -> list[Array]:
        return [
            array
            if type(array) is np.ndarray
            and array.dtype == dtype
            and array.shape == shape
            and array.flags.c_contiguous
            else fitting(self.name, shapes.inputs[index], array)
            for index, (array, (shape, dtype)) in enumerate(zip(arrays, shapes.expected, strict=True))
        ]

    def _writable(self, out: Sequence[Any], given: Sequence[Array], shapes: Shapes) -> list[Array]:
        """`out` as it is, if the code can write its results there while it reads `given`."""
        if len(out) != len(self.outputs):
            raise InputError(
                f"{self.name}: out needs {_count(len(self.outputs), 'array')}, one an output, got {len(out)}"
            )
        checked: list[Array] = []
        for port, (shape, dtype), place in zip(shapes.outputs, shapes.results, out, strict=True):
            who = f"{self.name}: out for {port.name}"
            if not isinstance(place, np.ndarray):
                raise InputError(f"{who} must be a numpy array, got {type(place).__name__}")
            array = cast(Array, place)
            if array.dtype != dtype or array.shape != shape:
                raise InputError(f"{who} must be {port}, got {described(array)}")
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise InputError(
                    f"{who} must be contiguous and writeable, got strides {array.strides} "
                    f"and writeable={array.flags.writeable}"
                )
            if any(np.may_share_memory(array, other) for other in (*given, *checked)):
                raise InputError(f"{who} must not overlap an input or another output")
            checked.append(array)
        return checked


class Shapes:
    """What a call of known sizes takes and gives, and the bytes of its arena."""

    def __init__(self, inputs: Sequence[Port], outputs: Sequence[Port], arena_bytes: int) -> None:
        self.inputs, self.outputs, self.arena_bytes = inputs, outputs, arena_bytes
        self.expected = [(port.static_shape, port.dtype.numpy) for port in inputs]
        self.results = [(port.static_shape, port.dtype.numpy) for port in outputs]


class Frame:
    """What one running call owns: context, arena, tensor structs and their shapes."""

    def __init__(self, context: CContext, shapes: Shapes) -> None:
        self.context = CContext.from_buffer_copy(context)
        self._room = 0
        self.fit(shapes)

    def fit(self, shapes: Shapes) -> None:
        """Makes ready for calls of these shapes; an arena that is larger already stays."""
        self.shapes = shapes
        if shapes.arena_bytes > self._room:
            self._room, self._arena = shapes.arena_bytes, aligned(shapes.arena_bytes)
            self.context.arena = self._arena.ctypes.data
        groups, self._owned = zip(*map(_structs, (shapes.inputs, shapes.outputs)), strict=True)
        self.tensors = [tensor for group in groups for tensor in group]
        self.arguments = (ctypes.addressof(self.context), *map(ctypes.addressof, groups))


def _structs(ports: Sequence[Port]) -> tuple[Any, object]:
    """An array of structs, complete but for the data pointers; and what has to live as long."""
    tensors, shapes = (CTensor * len(ports))(), list[object]()
    for tensor, port in zip(tensors, ports, strict=True):
        shape = (ctypes.c_int64 * len(port.shape))(*port.static_shape)
        tensor.dtype, tensor.rank = port.dtype.code, len(port.shape)
        tensor.shape = ctypes.addressof(shape)
        shapes.append(shape)
    return tensors, (tensors, shapes)


@checked
def load(path: str | os.PathLike[str]) -> NativeModule:
    """The module in a shared object that gcomp wrote. Loading runs its code: load only what you trust.

    Raises `BuildError` if there is no such file or it is no module of this version of gcomp, `RunError` if
    the processor lacks an instruction set that the code needs.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise BuildError(f"{file}: there is no such file")
    try:
        library = ctypes.CDLL(_fresh_name(file))
    except OSError as error:
        if is_zipfile(file):
            raise BuildError(f"{file}: is a program and no library: run it, by python {file.name}") from error
        raise BuildError(f"{file}: cannot be loaded as a shared object for this system: {error}") from error
    try:
        text = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, MANIFEST_SYMBOL)))
        manifest: dict[str, Any] = json.loads(text)
        name, _ = _checked(manifest)
        run, init, sizes = (_address(library, f"{name}_{entry}") for entry in ("run", "init", "sizes"))
    except BuildError as error:
        raise BuildError(f"{file}: {error.message}") from error
    except (ValueError, AttributeError) as error:
        raise BuildError(f"{file}: is no module made by gcomp: {error}") from error
    return NativeModule(manifest, run=run, init=init, sizes=sizes, keepalive=library)


def aligned(size: int) -> Array:
    """Uninitialised memory of `size` bytes, aligned to `ALIGNMENT`.

    Where it fills large pages, which NumPy asks the system for, it starts with one.
    """
    alignment = LARGE_PAGE if size >= LARGE_PAGES else ALIGNMENT
    memory = np.empty(size + alignment, np.uint8)
    start = -memory.ctypes.data % alignment
    return memory[start : start + size]


_LOADED: dict[Path, list[tuple[int, int]]] = {}


def _fresh_name(file: Path) -> str:
    """A spelling of the path under which no older file was loaded.

    The system's loader answers a known spelling with the library that had it, even if the file was replaced.
    """
    status = file.stat()
    identity = (status.st_dev, status.st_ino)
    known = _LOADED.setdefault(file, [])
    if identity not in known:
        known.append(identity)
    return os.path.join(file.parent, *["."] * known.index(identity), file.name)


def _address(library: ctypes.CDLL, symbol: str) -> int:
    return ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value or 0


def _checked(manifest: Mapping[str, Any]) -> tuple[str, int]:
    """Name and arena size of a manifest of this version."""
    if not isinstance(manifest, Mapping) or "abi" not in manifest:
        raise BuildError("the manifest has no interface version")
    if manifest["abi"] != ABI:
        raise BuildError(
            f"compiled for version {manifest['abi']} of gcomp's interface, this gcomp speaks version {ABI}; "
            "compile the model again"
        )
    lacking = {"name", "inputs", "outputs", "arena_bytes"} - manifest.keys()
    if lacking:
        raise BuildError(f"the manifest lacks {', '.join(sorted(lacking))}")
    return str(manifest["name"]), int(manifest["arena_bytes"])


def _ports(manifest: Mapping[str, Any], side: str) -> tuple[Port, ...]:
    try:
        return tuple(Port(p["name"], DTYPES[p["dtype"]], tuple(p["shape"])) for p in manifest[side])
    except (KeyError, TypeError) as error:
        raise BuildError(f"{manifest['name']}: the manifest's {side} are unreadable: {error}") from error


def _symbols(manifest: Mapping[str, Any]) -> list[Symbol]:
    try:
        return [Symbol(**symbol) for symbol in manifest.get("symbols", [])]
    except TypeError as error:
        raise BuildError(f"{manifest['name']}: the manifest's symbols are unreadable: {error}") from error


def _check_served(port: Port, symbols: Sequence[Symbol], module: str) -> None:
    known = {symbol.name for symbol in symbols}
    if port.dtype == STRING or not port.symbols <= known:
        raise BuildError(
            f"{module}: {port.name} is {port}; native modules take sizes and numbers that are known"
        )


def _refuse(module: str, number: int, manifest: Mapping[str, Any]) -> NoReturn:
    try:
        code = ErrorCode(number)
    except ValueError:
        raise RunError(f"{module}: returned the unknown error {number}") from None
    message = f"{module}: {code.message} (error {number})"
    if code is ErrorCode.CPU:
        message += _shortage(manifest.get("target", {}).get("features", []))
    raise RunError(message)


_LINUX_FLAGS = {"bmi": "bmi1", "lzcnt": "abm", "sahf": "lahflm", "sse3": "pni", "crc32": "sse42"}


def _shortage(needed: Sequence[str], cpuinfo: str = "/proc/cpuinfo") -> str:
    """What the code needs and, where the system tells, which of it is missing."""
    text = f"\n  needed: {', '.join(needed)}"
    try:
        lines = Path(cpuinfo).read_text().splitlines()
    except OSError:
        return text
    flags = next(
        (set(line.split(":")[1].replace("_", "").split()) for line in lines if line[:5] == "flags"), None
    )
    if flags is None:
        return text
    plain = {feature: feature.replace(".", "") for feature in needed}
    missing = [feature for feature, flag in plain.items() if _LINUX_FLAGS.get(flag, flag) not in flags]
    return text + (f"\n  missing here: {', '.join(missing)}" if missing else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
