"""What was found, in a folder that is not committed: a tally, and the smallest case of each cluster."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gcomp.cut import workers
from gcomp.files import replacing
from gcomp.op import Constant
from gcomp.testing.case import Case

from .cases import to_onnx
from .judge import Verdict

FOLDER = Path(__file__).resolve().parents[2] / ".peers"


@dataclass
class Cluster:
    """Cases that are wrong in the same way on the same operators.

    The first of them, made small, lies beside the record as `<number>.onnx` and `<number>.npz`.
    """

    key: str
    kind: str
    detail: str
    told: str
    seed: str
    text: str
    number: int
    count: int = 1


@dataclass
class Record:
    """What came of an engine: the next seed of each source, how many cases, verdicts by kind, clusters.

    `aside` counts what is no finding by its reason; `alike` verdicts on the same operators, of which only the
    first is made small.
    """

    peer: str
    version: str
    following: dict[str, int] = field(default_factory=dict[str, int])
    cases: Counter[str] = field(default_factory=Counter[str])
    kinds: Counter[str] = field(default_factory=Counter[str])
    aside: Counter[str] = field(default_factory=Counter[str])
    alike: Counter[str] = field(default_factory=Counter[str])
    clusters: dict[str, Cluster] = field(default_factory=dict[str, Cluster])

    @property
    def folder(self) -> Path:
        return FOLDER / self.peer

    @classmethod
    def read(cls, peer: str, version: str) -> Record:
        """The record of an engine; a new one for another version."""
        if (FOLDER / peer / "record.json").is_file():
            held = cls.last(peer)
            if held.version == version:
                return held
        return cls(peer, version)

    @classmethod
    def last(cls, peer: str) -> Record:
        """The record of the version that was run last."""
        held: dict[str, Any] = json.loads((FOLDER / peer / "record.json").read_text("utf-8"))
        clusters = {key: Cluster(**one) for key, one in held.pop("clusters").items()}
        held |= {name: Counter(held[name]) for name in ("cases", "kinds", "aside", "alike")}
        return cls(**held, clusters=clusters)

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "record.json") as file:
            clusters = {key: vars(one) for key, one in self.clusters.items()}
            file.write(json.dumps(vars(self) | {"clusters": clusters}, indent=1).encode())

    def add(self, verdict: Verdict, case: Case, seed: str) -> Cluster:
        """Counts a case, made small, to its cluster."""
        key = key_of(verdict, case)
        cluster = self.clusters.get(key)
        if cluster is not None:
            cluster.count += 1
            return cluster
        number = len(self.clusters) + 1
        cluster = Cluster(key, verdict.kind, verdict.detail, verdict.told, seed, str(case.graph), number)
        self.clusters[key] = cluster
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{number}.onnx").write_bytes(to_onnx(case).SerializeToString())
        np.savez(self.folder / f"{number}.npz", allow_pickle=False, **case.inputs)
        return cluster


def key_of(verdict: Verdict, case: Case) -> str:
    """The operators with the types that they take, and how they fail: the same for the same cause, mostly."""
    ops = sorted({f"{op.kind}({op.inputs[0].type.dtype if op.inputs else ''})" for op in workers(case.graph)})
    empty = [value for op in case.graph.ops for value in op.operands if value and 0 in value.type.shape]
    if any(isinstance(value.owner, Constant) for value in empty):
        ops = ["an empty constant"]
    elif empty:
        ops = ["empty", *(op.split("(")[0] for op in ops)]
    return f"{verdict.kind} | {verdict.detail} | {' '.join(ops)}"
