"""What an engine gets wrong on a case: how its answers, at both levels, lie to the reference's."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gcomp.ir import Graph
from gcomp.testing.case import Case
from gcomp.testing.meaning import Truth, truth
from gcomp.tolerance import LADDER
from gcomp.types import Array, DType

from .cases import to_onnx
from .left_open import documented, reasons
from .peer import Outcome, Peer

Kind = Literal["crash", "hang", "refusal", "gap", "optimiser", "wrong", "unsteady", "open"]

KINDS: dict[Kind, str] = {
    "crash": "the engine's process ends",
    "hang": "no answer in a minute",
    "refusal": "a valid model is refused",
    "gap": "the engine says that it does not have an operator, or not for these types",
    "optimiser": "wrong, or refused, with optimisations, right without them",
    "wrong": "wrong, and not right without optimisations",
    "unsteady": "two runs on the same inputs differ",
    "open": "a difference where the standard, or the engine's documents, leave the answer open",
}

GAPS = re.compile(
    r"could not find an implementation|not implemented|NotImplemented|unsupported|not supported|"
    r"doesn't support|does not support|OpConversionFailure|Not yet|No Op registered|no attribute 'convert'|"
    r"OperatorNotImplemented|are not supported|don't support|has no implementation|"
    r"Evaluation failed|only supports|No registered implementation",
    re.IGNORECASE,
)
"""How engines say that something is not there yet."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong: `detail` is what it has in common with others of its kind, `told` the whole of it."""

    kind: Kind
    detail: str
    told: str

    def same(self, other: Verdict | None) -> bool:
        return other is not None and (self.kind, self.detail) == (other.kind, other.detail)


def judged(peer: Peer, case: Case) -> Verdict | None:
    """What is wrong with the engine's optimised answers on a case; None if nothing is.

    What is wrong is run without optimisations too, which tells whose fault it is. Where the standard leaves
    the answer open the verdict is `open`, but for crashes. Raises `GcompError` for a case that the reference
    or ONNX does not take.
    """
    model = to_onnx(case).SerializeToString()
    wanted = expected(case)
    verdict = seen(peer.run(model, case.inputs, True), wanted, case.graph)
    if verdict is None or verdict.kind not in ("wrong", "refusal"):
        return verdict
    why = [documented(peer.name, case)] if documented(peer.name, case) else reasons(case)
    if why:
        return Verdict("open", why[0], verdict.told)
    plain = seen(peer.run(model, case.inputs, False), wanted, case.graph)
    return verdict if plain else Verdict("optimiser", f"{verdict.kind}: {verdict.detail}", verdict.told)


def seen(outcome: Outcome, wanted: Truth, graph: Graph) -> Verdict | None:
    """What is wrong with the outcome of one level."""
    match outcome.kind:
        case "crashed":
            return Verdict("crash", normal(outcome.message), outcome.message)
        case "hung":
            return Verdict("hang", "", outcome.message)
        case "refused":
            kind: Kind = "gap" if GAPS.search(outcome.message) else "refusal"
            return Verdict(kind, normal(outcome.message), outcome.message)
        case "ran":
            if wrong := wanted.complaint(outcome.outputs, graph.output_names):
                coarse = coarsest(graph)
                rounded = [in_precision(array, coarse) for array in outcome.outputs]
                right = replace(
                    wanted,
                    arrays=[in_precision(array, coarse) for array in wanted.arrays],
                    moved=lambda: [in_precision(array, coarse) for array in wanted.moved()],
                )
                if right.complaint(rounded, graph.output_names):
                    return Verdict("wrong", difference(outcome.outputs, wanted), wrong)
            pairs = zip(outcome.outputs, outcome.again, strict=True)
            if any(not same_bits(one, other) for one, other in pairs):
                return Verdict("unsteady", "", "two runs on the same inputs differ")
    return None


def expected(case: Case) -> Truth:
    """The reference's answer, with the tolerance that a peer is given.

    Floats are compared at least `close`, and `approximate` where operators round: peers may round elsewhere.
    """
    found = truth(case.graph, case.inputs)
    rungs: list[str] = []
    for rung, array in zip(found.tolerances, found.arrays, strict=True):
        least = ("close" if rung == "exact" else "approximate") if array.dtype.kind == "f" else rung
        rungs.append(max(rung, least, key=lambda rung: LADDER[rung].relative))
    return replace(found, tolerances=rungs)


def coarsest(graph: Graph) -> DType | None:
    """The float type of least precision that a graph computes in, which its wider results have as well."""
    values = [value for op in graph.walk() for value in op.results] + graph.inputs
    floats = [value.type.dtype for value in values if value.type.dtype.is_float]
    return min(floats, key=lambda dtype: dtype.bytes, default=None)


def in_precision(array: Array, dtype: DType | None) -> Array:
    """A float array in a type that is no wider than its own."""
    if dtype is None or array.dtype.kind != "f" or array.dtype.itemsize <= dtype.bytes:
        return array
    with np.errstate(over="ignore"):
        return array.astype(dtype.numpy)


def difference(outputs: list[Array], wanted: Truth) -> str:
    """In what outputs differ, without numbers: dtype, shape, NaN, infinity or value."""
    if len(outputs) != len(wanted.arrays):
        return "number of outputs"
    found: set[str] = set()
    for array, right, stable in zip(outputs, wanted.arrays, wanted.stable, strict=True):
        if array.dtype != right.dtype:
            found.add("dtype")
        elif array.shape != right.shape:
            found.add("shape")
        elif array.dtype.kind == "f":
            a, r = array[stable].astype(np.float64), right[stable].astype(np.float64)
            found |= {"nan"} if (np.isnan(a) != np.isnan(r)).any() else set()
            both = ~(np.isnan(a) | np.isnan(r))
            found |= {"infinity"} if (np.isinf(a) != np.isinf(r))[both].any() else set()
    return ", ".join(sorted(found)) or "value"


def same_bits(one: Array, other: Array) -> bool:
    """Whether arrays are equal, NaN equal to NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def normal(message: str) -> str:
    """An error's text without what differs from model to model: names, numbers, addresses."""
    text = " ".join(message.split())
    text = re.sub(r"\(?(node|output|input)?\d+\)?_?\d*|0x[0-9a-f]+|\{[^}]*\}|'[^']*'|\"[^\"]*\"", "#", text)
    return re.sub(r"(#[\s,.:x]*)+", "# ", text)[:160].strip()
