"""Tests for passes and targets: random graphs, what has to hold on them, the smallest where it does not.

Needs Hypothesis: `pip install gcomp[testing]`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..diagnostics import UnsupportedError

if TYPE_CHECKING:
    from .case import Case
    from .checking import checked
    from .counterexample import Counterexample
    from .meaning import Disagreement, same_meaning
    from .passes import PassReport, check_pass
    from .strategies import around, dtypes, graphs, models, operators, shapes, tensors
    from .targets import Miscompiled, TargetReport, check_target

__all__ = [
    "Case",
    "Counterexample",
    "Disagreement",
    "Miscompiled",
    "PassReport",
    "TargetReport",
    "around",
    "check_pass",
    "check_target",
    "checked",
    "dtypes",
    "graphs",
    "models",
    "operators",
    "same_meaning",
    "shapes",
    "tensors",
]

_HOMES = {
    "case": ("Case",),
    "checking": ("checked",),
    "counterexample": ("Counterexample",),
    "meaning": ("Disagreement", "same_meaning"),
    "passes": ("PassReport", "check_pass"),
    "strategies": ("around", "dtypes", "graphs", "models", "operators", "shapes", "tensors"),
    "targets": ("Miscompiled", "TargetReport", "check_target"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_HOME_OF[name]}", __name__)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "hypothesis":
            raise
        raise UnsupportedError("gcomp.testing needs Hypothesis: pip install gcomp[testing]") from error
    return getattr(module, name)
