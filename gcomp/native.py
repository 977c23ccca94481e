"""Runs native modules through the C interface: loads shared objects, passes arrays, reports errors."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from .diagnostics import BuildError, InputError, RunError
from .types import DTYPES, STRING, Array, DType, dtype_of

ABI = 1
"""Version of the C interface; artefacts and callers of different versions do not fit together."""

ALIGNMENT = 64
"""Bytes to which the arena and the weights are aligned."""

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


@dataclass(frozen=True)
class Port:
    """An input or output of a module: a size is an integer, or the name of what is not known."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


class NativeModule:
    """Native code with the arrays it works on; may be called from several threads at once, and after a fork.

    `run` and `init` are the addresses of `NAME_run` and `NAME_init`; `weights` is that of a blob aligned to
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
        weights: int | None = None,
        keepalive: object = None,
    ) -> None:
        self.manifest, self._keepalive = manifest, keepalive
        self.name, self._arena_bytes = _checked(manifest)
        self.inputs, self.outputs = _ports(manifest, "inputs"), _ports(manifest, "outputs")
        self.host_steps: list[Any] = list(manifest.get("host_steps", []))
        self._run = _RUN(run)
        self._context = CContext()
        if code := _INIT(init)(ctypes.addressof(self._context)):
            _refuse(self.name, code, manifest)
        if weights is not None:
            self._context.weights = weights
        self._frames: list[_Frame] = []
        self._results = [(_static(port, self.name), port.dtype.numpy) for port in self.outputs]
        self._expected = [(_static(port, self.name), port.dtype.numpy) for port in self.inputs]

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
        given = self.accept(arrays)
        if out is None:
            results = [np.empty(shape, dtype) for shape, dtype in self._results]
        else:
            results = self._writable(out, given)
        try:
            frame = self._frames.pop()  # atomic: no other thread has it
        except IndexError:
            frame = _Frame(self)
        for tensor, array in zip(frame.tensors, (*given, *results), strict=True):
            tensor.data = array.ctypes.data
        code = self._run(*frame.arguments)
        self._frames.append(frame)
        if code:
            _refuse(self.name, code, self.manifest)
        return results

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs by name for the inputs by name. Raises as a call does, and for other names."""
        names = [port.name for port in self.inputs]
        if set(inputs) != set(names):
            raise InputError(
                f"{self.name}: takes inputs {', '.join(names) or 'none'}, "
                f"got {', '.join(map(str, inputs)) or 'none'}"
            )
        results = self(*(inputs[name] for name in names))
        return {port.name: result for port, result in zip(self.outputs, results, strict=True)}

    def accept(self, arrays: Sequence[Any]) -> list[Array]:
        """The arrays as the code takes them: contiguous, of the declared types. Raises `InputError`."""
        expected = self._expected
        if len(arrays) != len(expected):
            names = ", ".join(port.name for port in self.inputs)
            raise InputError(
                f"{self.name}: takes {_count(len(expected), 'input')} ({names}), got {len(arrays)}"
            )
        return [
            array
            if type(array) is np.ndarray
            and array.dtype == dtype
            and array.shape == shape
            and array.flags.c_contiguous
            else self._fitting(index, array)
            for index, (array, (shape, dtype)) in enumerate(zip(arrays, expected, strict=True))
        ]

    def _fitting(self, index: int, given: Any) -> Array:
        return fitting(self.name, self.inputs[index], given)

    def _writable(self, out: Sequence[Any], given: Sequence[Array]) -> list[Array]:
        """`out` as it is, if the code can write its results there while it reads `given`."""
        if len(out) != len(self.outputs):
            raise InputError(
                f"{self.name}: out needs {_count(len(self.outputs), 'array')}, one an output, got {len(out)}"
            )
        checked: list[Array] = []
        for port, (shape, dtype), place in zip(self.outputs, self._results, out, strict=True):
            who = f"{self.name}: out for {port.name}"
            if not isinstance(place, np.ndarray):
                raise InputError(f"{who} must be a numpy array, got {type(place).__name__}")
            array = cast(Array, place)
            if array.dtype != dtype or array.shape != shape:
                raise InputError(f"{who} must be {port}, got {_described(array)}")
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise InputError(
                    f"{who} must be contiguous and writeable, got strides {array.strides} "
                    f"and writeable={array.flags.writeable}"
                )
            if any(np.may_share_memory(array, other) for other in (*given, *checked)):
                raise InputError(f"{who} must not overlap an input or another output")
            checked.append(array)
        return checked


class _Frame:
    """What one running call owns: context, arena, tensor structs and their shapes."""

    def __init__(self, module: NativeModule) -> None:
        self.context = CContext.from_buffer_copy(module._context)  # pyright: ignore[reportPrivateUsage]
        self._memory: list[object] = []
        if size := module._arena_bytes:  # pyright: ignore[reportPrivateUsage]
            arena = aligned(size)
            self._memory.append(arena)
            self.context.arena = arena.ctypes.data
        groups = [self._structs(module.inputs), self._structs(module.outputs)]
        self.tensors = [tensor for group in groups for tensor in group]
        self.arguments = (ctypes.addressof(self.context), *map(ctypes.addressof, groups))

    def _structs(self, ports: Sequence[Port]) -> Any:
        """An array of structs, complete but for the data pointers."""
        tensors = (CTensor * len(ports))()
        for tensor, port in zip(tensors, ports, strict=True):
            shape = (ctypes.c_int64 * len(port.shape))(*port.shape)  # pyright: ignore[reportArgumentType]
            tensor.dtype, tensor.rank = port.dtype.code, len(port.shape)
            tensor.shape = ctypes.addressof(shape)
            self._memory.append(shape)
        self._memory.append(tensors)
        return tensors


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
        raise BuildError(f"{file}: cannot be loaded as a shared object for this system: {error}") from error
    try:
        text = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, MANIFEST_SYMBOL)))
        manifest: dict[str, Any] = json.loads(text)
        name, _ = _checked(manifest)
        run, init = (_address(library, f"{name}_{entry}") for entry in ("run", "init"))
    except BuildError as error:
        raise BuildError(f"{file}: {error.message}") from error
    except (ValueError, AttributeError) as error:
        raise BuildError(f"{file}: is no module made by gcomp: {error}") from error
    return NativeModule(manifest, run=run, init=init, keepalive=library)


def aligned(size: int) -> Array:
    """Uninitialised memory of `size` bytes, aligned to `ALIGNMENT`."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
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


def _static(port: Port, module: str) -> tuple[int, ...]:
    sizes = tuple(size for size in port.shape if isinstance(size, int))
    if len(sizes) != len(port.shape) or port.dtype == STRING:
        raise BuildError(
            f"{module}: {port.name} is {port}; native modules take sizes and numbers that are known"
        )
    return sizes


def fitting(module: str, port: Port, given: Any) -> Array:
    """`given` as a contiguous array of the input's type and shape, copied where that is needed.

    Raises `InputError` for what does not fit, in the name of `module`.
    """
    array = _as_array(f"{module}: input {port.name}", given, port.dtype)
    if _element_type(array) != port.dtype.name or array.shape != port.shape:
        raise InputError(f"{module}: input {port.name} must be {port}, got {_described(array)}")
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


def _described(array: Array) -> str:
    """Type and shape; a byte order only where it is not the machine's."""
    order = "" if array.dtype.isnative else " in the other byte order"
    return f"{_element_type(array)}[{','.join(map(str, array.shape))}]{order}"


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
