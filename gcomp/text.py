"""The text form of graphs: printed, parsed, and stored with its large constants beside it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np

from .arguments import checked
from .diagnostics import ParseError
from .files import replacing
from .ir import Graph
from .literal import INLINE, array_bytes, array_from_bytes, array_type, digest
from .parser import parse
from .printer import format_op, print_graph
from .types import Array, TensorType, parse_type

__all__ = ["format_op", "load_text", "parse", "print_graph", "save_text"]


@checked
def save_text(graph: Graph, path: str | Path) -> None:
    """Writes the text to `path`, and large constants, where there are any, to `<path>.npz`."""
    path, large = Path(path), large_constants(graph)
    if large:
        with replacing(_beside(path)) as new:
            stored: dict[str, Any] = {f"{name} {array_type(a)}": array_bytes(a) for name, a in large.items()}
            np.savez(new, **stored)
    with replacing(path) as new:
        new.write(print_graph(graph).encode())


@checked
def load_text(path: str | Path) -> Graph:
    """Reads what `save_text` wrote. Raises `ParseError`, also for constants unlike their digests."""
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        constants = _read_constants(_beside(path)) if _beside(path).exists() else {}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ParseError(f"{path}: cannot be read: {error}") from error
    try:
        return parse(text, constants)
    except ParseError as error:
        raise ParseError(f"{path}, {error.message}") from error


def large_constants(graph: Graph) -> dict[str, Array]:
    """The arrays that the text of `graph` gives by digest."""
    found: dict[str, Array] = {}
    for op in graph.walk():
        pending = list(op.attributes.values())
        while pending:
            value = pending.pop()
            if isinstance(value, tuple):
                pending += cast("tuple[Any, ...]", value)
            elif isinstance(value, np.ndarray) and value.size > INLINE:
                array = cast(Array, value)
                found[digest(array)] = array
    return found


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".npz")


def _read_constants(path: Path) -> dict[str, Array]:
    constants: dict[str, Array] = {}
    with np.load(path, allow_pickle=False) as stored:
        for key in stored.files:
            name, _, type = key.partition(" ")
            array = _restored(stored[key], parse_type(type), path)
            if digest(array) != name:
                raise ParseError(f"{path}: the constant {name} is damaged")
            constants[name] = array
    return constants


def _restored(data: Array, type: TensorType, path: Path) -> Array:
    try:
        return array_from_bytes(data, type)
    except ValueError as error:
        raise ParseError(f"{path}: {data.size} bytes do not make a {type}") from error
