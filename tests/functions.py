"""Functions of LLVM text as code of this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from gcomp.backends.llvm.build import attributes
from gcomp.backends.llvm.cpu import Cpu, host
from gcomp.backends.llvm.emit import Function
from gcomp.backends.llvm.jit import emit_object, load_objects

_TYPES = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double}


def module_text(function: Function, cpu: Cpu | None = None) -> str:
    """The module of a function and of those that it brings along, visible to whoever loads it."""
    functions = [function, *function.functions]
    declarations = {text for one in functions for text in one.declarations}
    text = "\n".join([*map(str, functions), *sorted(declarations), attributes(cpu or host())])
    return text.replace("define hidden", "define")


def loaded(function: Function, optimise: bool = False) -> Callable[..., Any]:
    """The function; pointers are given as addresses."""
    found = load_objects([emit_object(module_text(function), host(), optimise)], [function.name])
    kinds = [_TYPES.get(type, ctypes.c_void_p) for type in (t.split()[0] for t, _ in function.parameters)]
    prototype = ctypes.CFUNCTYPE(_TYPES.get(function.returns), *kinds)
    code = prototype(found.addresses[function.name])

    def call(*arguments: Any, _owner: object = found) -> Any:
        return code(*arguments)

    return call
