"""Runs an engine on drawn cases, makes what it fails on small, and counts the same cause once."""

from __future__ import annotations

import time
from collections.abc import Callable

from gcomp.cut import computed, part, workers
from gcomp.reduce import Case as Reducible
from gcomp.reduce import Reducer
from gcomp.repro import stored
from gcomp.testing.case import Case

from .cases import UNFIT, drawn
from .judge import Verdict, judged
from .peer import Peer
from .records import Record, key_of

EFFORT = 150
"""Questions that the reduction of one case may ask."""

DAMAGING = ("crash", "hang", "unsteady")
"""Verdicts that may come of memory which an earlier case has damaged."""


def hunt(
    peer: Peer, record: Record, source: str, count: int, seconds: float, tell: Callable[[str], None]
) -> None:
    """Goes on where the record ends, for `count` cases of a source or so many seconds."""
    until = time.monotonic() + seconds
    until_case = record.cases[source] + count
    try:
        while record.cases[source] < until_case and time.monotonic() < until:
            seed = record.following.get(source, 0)
            record.following[source] = seed + 1
            case = drawn(source, seed)
            if case is not None:
                one_case(peer, record, source, seed, case, tell)
    finally:
        record.write()


def one_case(
    peer: Peer, record: Record, source: str, seed: int, case: Case, tell: Callable[[str], None]
) -> None:
    """Judges a case, and adds what is wrong to the record."""
    try:
        verdict = judged(peer, case)
    except UNFIT as error:
        tell(f"{source} {seed}: not taken: {str(error)[:300]}")
        return
    record.cases[source] += 1
    if verdict is None:
        return
    record.kinds[verdict.kind] += 1
    if verdict.kind in ("gap", "open"):
        record.aside[verdict.detail] += 1
        return
    operators = sorted({op.kind for op in workers(case.graph)})
    alike = " ".join((verdict.kind, verdict.detail, *operators))
    record.alike[alike] += 1
    if record.alike[alike] > 1:
        return
    case = isolated(peer, case, verdict) or case
    if (known := record.clusters.get(key_of(verdict, case))) is not None:
        known.count += 1
        return
    if verdict.kind in DAMAGING and not verdict.same(again(peer, case)):
        record.aside["not seen again in a new process"] += 1
        return
    small, verdict = reduced(peer, case, verdict)
    before = len(record.clusters)
    cluster = record.add(verdict, small, f"{source} {seed}")
    if len(record.clusters) > before:
        tell(f"{source} {seed}: {cluster.key}\n  {verdict.told}")
    record.write()


def isolated(peer: Peer, case: Case, verdict: Verdict) -> Case | None:
    """One operator of the case, on what it is given there, that fails in the same way by itself."""
    if len(workers(case.graph)) < 2:
        return None
    arrays = computed(case.graph, dict(case.inputs))
    for op in workers(case.graph):
        try:
            graph, inputs = part(case.graph, [op], arrays)
            alone = Case(stored(graph), inputs)
            if verdict.same(judged(peer, alone)):
                return alone
        except UNFIT:
            continue  # no model of its own
    return None


def again(peer: Peer, case: Case) -> Verdict | None:
    """The verdict in a new process, which no earlier case has damaged."""
    peer.start()
    return judged(peer, case)


def reduced(peer: Peer, case: Case, verdict: Verdict) -> tuple[Case, Verdict]:
    """The smallest case found on which the engine fails in the same way, and how it does."""
    damaging = verdict.kind in DAMAGING

    def fails(tried: Reducible) -> bool:
        ask = again if damaging else judged
        return verdict.same(ask(peer, Case(tried.graph, tried.sample)))

    small = Reducer(fails, EFFORT // 5 if damaging else EFFORT).reduced(
        Reducible(case.graph, dict(case.inputs))
    )
    found = Case(small.graph, small.sample)
    return found, judged(peer, found) or verdict
