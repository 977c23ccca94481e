"""Finds passes and targets by name: in the folders `passes` and `backends`, then in other distributions."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from .diagnostics import InputError, raised

Kind = Literal["passes", "backends"]

LOOSE = "gcomp_pass_file_"
"""What the names of modules of pass files begin with."""

_SINGULAR: dict[str, str] = {"passes": "pass", "backends": "target"}


def find(kind: Kind, name: str) -> Any:
    """The pass or target called `name`, with no other module imported where the name tells which holds it.

    Raises `InputError` for an unknown name, with what it may have meant, and for a module out of contract.
    """
    if is_own(kind, name):
        found = _offers(kind, _file_name(name))
        if name in found:
            return found[name]
    for file in _files(kind) if kind == "backends" else ():
        found = _offers(kind, file)
        if name in found:
            return found[name]
    for point in _entry_points(kind):
        if point.name == name:
            return _loaded(kind, point)
    known = names(kind)
    near = difflib.get_close_matches(name, known, n=3)
    hint = f": did you mean {' or '.join(near)}?" if near else ";"
    raise InputError(f"no {_SINGULAR[kind]} is called {name!r}{hint} there are {', '.join(known) or 'none'}")


def is_own(kind: Kind, name: str) -> bool:
    """Whether gcomp's own folder holds it, in a file of that name."""
    return _file_name(name) in _files(kind)


def names(kind: Kind) -> list[str]:
    """All names that `find` knows, sorted.

    Passes are not imported for this. Backends are, as one may hold several targets; so importing a backend
    must not load its foreign library.
    """
    own = (
        [file.replace("_", "-") for file in _files(kind)]
        if kind == "passes"
        else [name for file in _files(kind) for name in _offers(kind, file)]
    )
    return sorted({*own, *(point.name for point in _entry_points(kind))})


def load_pass_file(path: str | Path) -> Any:
    """The `PASS` of a Python file that belongs to no package. Raises `InputError`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: a pass is a Python file, and there is none")
    module = ModuleType(LOOSE + path.stem)
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for what annotations name
    try:
        # Not through the import system, whose cached bytecode may be that of the file a moment ago.
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
    except Exception as error:  # whatever a stranger's file raises is a fault of that file
        del sys.modules[module.__name__]
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    return _pass_of(module, str(path))


def loose_file(name: str) -> Path | None:
    """The file that the pass called `name` was loaded from, if it is no part of a distribution."""
    for module_name, module in sys.modules.items():
        if module_name.startswith(LOOSE) and getattr(getattr(module, "PASS", None), "name", "") == name:
            return Path(str(module.__file__))
    return None


def _files(kind: Kind) -> list[str]:
    package = importlib.import_module(f"gcomp.{kind}")
    return sorted(file.name for file in pkgutil.iter_modules(package.__path__))


def _file_name(name: str) -> str:
    return name.replace("-", "_")


def _offers(kind: Kind, file: str) -> dict[str, Any]:
    """What a module of the folder holds, by name."""
    module = importlib.import_module(f"gcomp.{kind}.{file}")
    if kind == "backends":
        return _targets_of(module, module.__name__)
    found, name = _pass_of(module, module.__name__), file.replace("_", "-")
    if found.name != name:
        raise InputError(
            f"{module.__name__}: the pass of this file must be called {name}, it is {found.name}"
        )
    return {name: found}


def _entry_points(kind: Kind) -> Iterator[EntryPoint]:
    yield from sorted(entry_points(group=f"gcomp.{kind}"), key=lambda point: (point.name, point.value))


def _loaded(kind: Kind, point: EntryPoint) -> Any:
    """What an entry point names: a pass or target, or a module that holds it."""
    where = f"entry point {point.name} = {point.value}"
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"{where}: {error}") from error
    except Exception as error:  # whatever a stranger's module raises
        raise InputError(f"{where}: {raised(error)}") from error
    if not isinstance(found, ModuleType):
        return found
    if kind == "passes":
        return _pass_of(found, where)
    targets = _targets_of(found, where)
    if point.name not in targets:
        raise InputError(f"{where}: TARGETS holds {', '.join(targets) or 'nothing'}")
    return targets[point.name]


def _pass_of(module: ModuleType, where: str) -> Any:
    found = getattr(module, "PASS", None)
    if not isinstance(getattr(found, "name", None), str) or not callable(getattr(found, "run", None)):
        raise InputError(f"{where}: a pass file defines PASS, an object with a name and run(graph)")
    return found


def _targets_of(module: ModuleType, where: str) -> dict[str, Any]:
    targets = getattr(module, "TARGETS", None)
    if not isinstance(targets, dict):
        raise InputError(f"{where}: a backend defines TARGETS, a dict from name to target")
    return cast("dict[str, Any]", targets)
