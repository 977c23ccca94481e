"""Proofs of rules by z3: for all elements, over all small shapes of the patterns that they fire on.

Needs z3: `pip install gcomp[testing,prove]`.
"""

from ...diagnostics import UnsupportedError

try:
    from .prove import Proof, prove
except ModuleNotFoundError as error:
    if error.name != "z3":
        raise
    raise UnsupportedError("proofs need z3: pip install gcomp[testing,prove]") from error

__all__ = ["Proof", "prove"]
