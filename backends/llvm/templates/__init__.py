"""Hand-scheduled kernels: each module of this folder takes the operators that it lists in `ANCHORS`.

Those that say `IS_SPECIAL = True` take few problems, and are asked before the others.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module

from gcomp.diagnostics import OpenSizeError
from gcomp.op import Operator

from ..problem import Emitted, Problem

Match = Callable[[Problem], Emitted | None]
"""The kernel for a problem; None for one that this template does not take."""


def template_for(anchor: type[Operator]) -> Match | None:
    """What tries the templates for an operator class, special ones first; None if there are none."""
    matches = overrides().get(anchor)
    return None if matches is None else lambda problem: _matched(matches, problem)


@cache
def overrides() -> dict[type[Operator], list[Match]]:
    """The `match` functions of all templates by operator class."""
    found: dict[type[Operator], list[Match]] = {}
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [import_module(f"{__name__}.{name}") for name in names]
    for module in sorted(modules, key=lambda module: not getattr(module, "IS_SPECIAL", False)):
        for anchor in getattr(module, "ANCHORS", ()):
            found.setdefault(anchor, []).append(module.match)
    return found


def _matched(matches: Sequence[Match], problem: Problem) -> Emitted | None:
    """The first kernel that is made; a template whose sizes must be numbers makes none for a symbol."""
    for match in matches:
        try:
            emitted = match(problem)
        except OpenSizeError:
            continue
        if emitted is not None:
            return emitted
    return None
