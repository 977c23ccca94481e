"""Holds the arguments of what users call to their annotations."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from .diagnostics import InputError

P = ParamSpec("P")
Result = TypeVar("Result")

_WORDS: dict[Any, str] = {
    NoneType: "None",
    bytes: "bytes",
    np.ndarray: "an array",
    float: "a number",
    os.PathLike: "a path",
    Path: "a path",
    Mapping: "a dict",
    Sequence: "a sequence",
    Iterable: "an iterable",
    Collection: "a collection",
}
"""What types are called to a user; any other goes by its name."""


def checked(function: Callable[P, Result]) -> Callable[P, Result]:
    """`function`, which refuses an argument unlike its annotation before it does anything.

    What is read of annotations: classes, unions, literals, `Any`, and mappings, sequences, tuples and
    iterables with what they hold; an iterator is taken as it is. A number may be an integer; text is no
    sequence. Raises `InputError`: who, which argument or part of it, what it must be, what it is.
    """
    names = list(inspect.signature(function).parameters)
    who = function.__qualname__.removesuffix(".__init__")
    hints = cache(lambda: get_type_hints(function))  # when first called: then all that they name is there

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        known = hints()
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if complaint := _complaint(name, value, known.get(name, Any)):
                raise InputError(f"{who}: {complaint}")
        return function(*args, **kwargs)

    return call


def described(value: object) -> str:
    """A value in an error: its class and, in short, itself."""
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"


def _complaint(where: str, value: object, hint: Any) -> str:
    """What is wrong with `value`, which lies at `where`; empty if it is as the annotation says."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    fitting = [member for member in members if _is_a(value, member)]
    if not fitting:
        *first, last = dict.fromkeys(map(_called, members))
        return f"{where} must be {', '.join(first)}{' or ' if first else ''}{last}, got {described(value)}"
    complaints = [
        next(filter(None, (_complaint(*part) for part in _parts(where, value, member))), "")
        for member in fitting
    ]
    return "" if "" in complaints else complaints[0]


def _is_a(value: object, hint: Any) -> bool:
    """Whether `value` is of the class of `hint`, whatever it holds."""
    kind = get_origin(hint) or hint
    if kind is Literal:
        return value in get_args(hint)
    if kind is Any or isinstance(kind, TypeVar):
        return True
    if isinstance(value, str | bytes):
        return kind in (str, bytes, object) and isinstance(value, kind)
    return isinstance(value, int | float if kind is float else kind)


def _parts(where: str, value: object, hint: Any) -> Iterator[tuple[str, object, Any]]:
    """What a collection holds: where, the value, and the annotation of it."""
    inner = get_args(hint)
    if isinstance(value, Mapping) and len(inner) == 2:
        for key, held in cast("Mapping[object, object]", value).items():
            yield f"a key of {where}", key, inner[0]
            yield f"{where}[{key!r}]", held, inner[1]
    elif isinstance(value, Sequence) and inner and get_origin(hint) is not Literal:
        items = cast("Sequence[object]", value)
        fixed = get_origin(hint) is tuple and inner[-1] is not ...
        for number, held in enumerate(items):
            yield f"{where}[{number}]", held, inner[min(number, len(inner) - 1)] if fixed else inner[0]


def _called(hint: Any) -> str:
    kind = get_origin(hint) or hint
    if kind is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return _WORDS.get(kind, f"{'an' if kind.__name__[0] in 'aeioAEIO' else 'a'} {kind.__name__}")
