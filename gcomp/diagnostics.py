"""Errors: who, what was required, the actual values, where, and the origin in the user's model."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Iterable


class GcompError(Exception):
    """The base of everything that gcomp raises for a mistake of its user or a limit of its own.

    `line` is the text of the IR line concerned and `origin` the ONNX nodes that it came from.
    """

    def __init__(self, message: str, *, line: str = "", origin: Iterable[str] = ()) -> None:
        self.message, self.line, self.origin = message, line.strip(), tuple(origin)
        super().__init__(message)

    def __str__(self) -> str:
        text = self.message
        if self.line:
            text += f"\n  {self.line}\n  {'^' * min(len(self.line), 100)}"
        if self.origin:
            names = ", ".join(f'"{name}"' for name in self.origin)
            text += f"\n  from ONNX node{'s' if len(self.origin) > 1 else ''} {names}"
        return text


class InferenceError(GcompError):
    """An operator cannot take these operands or attributes."""


class IllFormed(GcompError):
    """A graph breaks a rule that holds for every graph."""


class ParseError(GcompError):
    """Text that is not the text form of a graph, a type or a pipeline."""


class ModelError(GcompError):
    """A model file that cannot be read or is not a valid ONNX model."""


class UnsupportedError(GcompError):
    """Something valid that gcomp, or the chosen target, cannot do."""


class OpenSizeError(UnsupportedError, ValueError):
    """A size had to be a number, or to be decided, where it is a symbol."""


class InputError(GcompError):
    """Arguments given to a compiled module, or options given to gcomp, that do not fit."""


class ReferenceFault(GcompError):
    """The reference of an operator raised something that is no word of gcomp's."""


class RewriteError(GcompError):
    """A rule or a pass broke its contract."""


class BuildError(GcompError):
    """Native code could not be produced, linked, loaded or written."""


class RunError(GcompError):
    """What was to run refuses: an index out of range, a missing CPU feature, no memory."""


class CrashError(RunError):
    """The process died in which something ran."""


def raised(error: Exception) -> str:
    """An error that somebody else's code raised: its class, its message and the place."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = error.message if isinstance(error, GcompError) else str(error)
    return f"{type(error).__name__}: {message} ({place.filename}, line {place.lineno})"


def warn(message: str) -> None:
    """Warns of what the nearest caller outside this package asked for."""
    depth, frame = 1, inspect.currentframe()
    package = __name__.partition(".")[0]
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, stacklevel=depth)
