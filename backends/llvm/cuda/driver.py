"""The CUDA driver through ctypes: memory, modules and launches on the first GPU of this machine.

Saved programs carry this file, so it needs nothing but Python.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from functools import cache
from typing import Any

from gcomp.diagnostics import RunError

_POINTER_TO_POINTER = POINTER(c_void_p)

SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_void_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (_POINTER_TO_POINTER, c_int),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (_POINTER_TO_POINTER,),
    "cuCtxSynchronize": (),
    "cuModuleLoadDataEx": (_POINTER_TO_POINTER, c_char_p, c_uint, POINTER(c_int), _POINTER_TO_POINTER),
    "cuModuleGetFunction": (_POINTER_TO_POINTER, c_void_p, c_char_p),
    "cuModuleUnload": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoD_v2": (c_uint64, c_void_p, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    "cuMemsetD8_v2": (c_uint64, c_ubyte, c_size_t),
    "cuLaunchKernel": (c_void_p, *[c_uint] * 7, c_void_p, _POINTER_TO_POINTER, _POINTER_TO_POINTER),
}
"""The parameters of each function of the driver that is called; all return an int, 0 for success."""

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*"""

_LOG, _LOG_BYTES = 5, 6
"""CU_JIT_ERROR_LOG_BUFFER and CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES"""


@cache
def first_gpu() -> Driver:
    """The first GPU. Raises `RunError` with the reason where there is none."""
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise RunError(f"cuda: there is no NVIDIA driver: {error}") from error
    return Driver(library)


def reason() -> str | None:
    """Why nothing can run on a GPU here; None if it can."""
    try:
        first_gpu()
    except RunError as error:
        return error.message.removeprefix("cuda: ")
    return None


class Driver:
    """The driver with the primary context of its first device, which other libraries share.

    `library` has the functions of `SIGNATURES`. Device addresses are integers, handles are `c_void_p`. All
    methods may be called from any thread, inside `current`. They raise `RunError` with what the driver says.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        try:
            for name, parameters in SIGNATURES.items():
                function = getattr(library, name)
                function.argtypes, function.restype = parameters, c_int
        except AttributeError as error:
            raise RunError(f"cuda: the NVIDIA driver is too old: {error}") from error
        self._call("cuInit", 0)
        count, device = c_int(), c_int()
        self._call("cuDeviceGetCount", count)
        if count.value == 0:
            raise RunError("cuda: the NVIDIA driver finds no GPU")
        self._call("cuDeviceGet", device, 0)
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), device)
        self.name = name.value.decode(errors="replace")
        major, minor = c_int(), c_int()
        self._call("cuDeviceGetAttribute", major, _MAJOR, device)
        self._call("cuDeviceGetAttribute", minor, _MINOR, device)
        self.capability = 10 * major.value + minor.value
        """80 for an sm_80."""
        self._context = c_void_p()
        self._call("cuDevicePrimaryCtxRetain", self._context, device)

    @contextmanager
    def current(self) -> Generator[None]:
        """Makes the device's context that of this thread, and restores the one before."""
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", c_void_p())

    def load(self, ptx: str) -> c_void_p:
        """A module of the driver, which compiles the PTX for its device."""
        module, log = c_void_p(), ctypes.create_string_buffer(4096)
        options = (c_int * 2)(_LOG, _LOG_BYTES)
        values = (c_void_p * 2)(ctypes.addressof(log), len(log))
        code = self._library.cuModuleLoadDataEx(ctypes.byref(module), ptx.encode(), 2, options, values)
        if code:
            said = log.value.decode(errors="replace").strip()
            raise RunError(f"cuda: the driver does not take the PTX: {self._error(code)}\n  {said}".rstrip())
        return module

    def function(self, module: c_void_p, name: str) -> c_void_p:
        found = c_void_p()
        self._call("cuModuleGetFunction", found, module, name.encode())
        return found

    def unload(self, module: c_void_p) -> None:
        self._call("cuModuleUnload", module)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes (at least one), aligned to 256."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", address, max(1, size))
        return int(address.value)

    def free(self, address: int) -> None:
        self._call("cuMemFree_v2", address)

    def write(self, address: int, source: int, size: int) -> None:
        """Copies `size` bytes of this process to the device."""
        if size:
            self._call("cuMemcpyHtoD_v2", address, source, size)

    def read(self, address: int, target: int, size: int) -> None:
        """Copies `size` bytes from the device to this process, after all that was launched."""
        if size:
            self._call("cuMemcpyDtoH_v2", target, address, size)

    def synchronize(self) -> None:
        """Waits for all that was launched."""
        self._call("cuCtxSynchronize")

    def zero(self, address: int, size: int) -> None:
        self._call("cuMemsetD8_v2", address, 0, size)

    def launch(self, function: c_void_p, grid: int, block: int, addresses: Sequence[int]) -> None:
        """Starts a kernel on `grid` blocks of `block` threads, after what was launched before."""
        values = (c_uint64 * len(addresses))(*addresses)
        start, width = ctypes.addressof(values), ctypes.sizeof(c_uint64)
        places = (c_void_p * len(addresses))(*(start + width * place for place in range(len(addresses))))
        self._call("cuLaunchKernel", function, grid, 1, 1, block, 1, 1, 0, None, places, None)

    def _call(self, name: str, *arguments: Any) -> None:
        """Calls the function; what it takes by reference may be given as it is."""
        parameters = SIGNATURES[name]
        given = [
            ctypes.byref(argument) if _is_reference(parameter, argument) else argument
            for parameter, argument in zip(parameters, arguments, strict=True)
        ]
        code = getattr(self._library, name)(*given)
        if code:
            raise RunError(f"cuda: {name}: {self._error(code)}")

    def _error(self, code: int) -> str:
        parts: list[str] = []
        for function in (self._library.cuGetErrorName, self._library.cuGetErrorString):
            text = c_char_p()
            if function(code, ctypes.byref(text)) == 0 and text.value:
                parts.append(text.value.decode(errors="replace"))
        return ": ".join(parts) or f"error {code}"


def _is_reference(parameter: Any, argument: Any) -> bool:
    """Whether a parameter is a pointer to what the argument is."""
    pointed = getattr(parameter, "_type_", None)
    return isinstance(pointed, type) and isinstance(argument, pointed)
