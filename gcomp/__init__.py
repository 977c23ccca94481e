"""Compiles ONNX models into native code that can be trusted; what is public here loads when first used."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bisect import bisect
    from .calibrate import quantize
    from .compiler import compile, optimize
    from .diagnostics import (
        BuildError,
        GcompError,
        IllFormed,
        InferenceError,
        InputError,
        ModelError,
        ParseError,
        RewriteError,
        RunError,
        UnsupportedError,
    )
    from .explain import explain
    from .lift import lift
    from .native import load
    from .profile import profile
    from .rewrite import RewritePass, constant, either_order, made_by, only_user, require, rewrite
    from .save import save_onnx
    from .session import InferenceSession
    from .text import parse
    from .version import __version__

__all__ = [
    "BuildError",
    "GcompError",
    "IllFormed",
    "InferenceError",
    "InferenceSession",
    "InputError",
    "ModelError",
    "ParseError",
    "RewriteError",
    "RewritePass",
    "RunError",
    "UnsupportedError",
    "__version__",
    "bisect",
    "compile",
    "constant",
    "either_order",
    "explain",
    "lift",
    "load",
    "made_by",
    "only_user",
    "optimize",
    "parse",
    "profile",
    "quantize",
    "require",
    "rewrite",
    "save_onnx",
]

_HOMES = {
    "bisect": ("bisect",),
    "calibrate": ("quantize",),
    "compiler": ("compile", "optimize"),
    "diagnostics": tuple(name for name in __all__ if name.endswith("Error") or name == "IllFormed"),
    "explain": ("explain",),
    "lift": ("lift",),
    "native": ("load",),
    "profile": ("profile",),
    "rewrite": ("RewritePass", "constant", "either_order", "made_by", "only_user", "require", "rewrite"),
    "save": ("save_onnx",),
    "session": ("InferenceSession",),
    "text": ("parse",),
    "version": ("__version__",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


class _Face(ModuleType):
    """Keeps `gcomp.lift` and `gcomp.rewrite` the functions, though modules are called the same.

    The import system binds a submodule to its name in the package; here that must not hide what is public.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
