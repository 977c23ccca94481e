"""The findings that are kept: minimal models with inputs, the right answers, and what the standard says."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gcomp import lift
from gcomp.data import Sample
from gcomp.testing.case import Case
from gcomp.types import DTYPES, Array, dtype_of

from .judge import expected
from .records import Record

FOLDER = Path(__file__).with_name("findings")
FILE = FOLDER / "findings.toml"

LARGEST = 2048
"""Bytes that a kept model has at most."""


@dataclass(frozen=True)
class Finding:
    """A model on which an engine of a version is wrong, in the way `kind` and `detail` of its verdict say.

    `told` is how it is wrong; `title` and `why`, the standard's word on it, are written by hand.
    """

    name: str
    engine: str
    version: str
    kind: str
    detail: str
    seed: str
    told: str
    title: str
    why: str
    inputs: Sample
    outputs: Sample

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.onnx"

    @property
    def case(self) -> Case:
        return Case(lift(self.path), self.inputs)


def read() -> list[Finding]:
    """All findings, by engine."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(FILE.read_text("utf-8"))
    for table in tables.values():
        table |= {key: _arrays(table[key]) for key in ("inputs", "outputs") if key in table}
    found = [Finding(name, **table) for name, table in tables.items()]
    return sorted(found, key=lambda one: (one.engine, one.kind, one.name))


def keep(record: Record, number: int, name: str) -> None:
    """Copies a cluster's smallest case to the findings, whose title and reason are left to be written."""
    (cluster,) = (one for one in record.clusters.values() if one.number == number)
    model = (record.folder / f"{number}.onnx").read_bytes()
    with np.load(record.folder / f"{number}.npz") as stored:
        inputs = {key: stored[key] for key in stored.files}
    facts = {"engine": record.peer, "version": record.version, "kind": cluster.kind, "detail": cluster.detail}
    write(name, model, inputs, {**facts, "seed": cluster.seed, "told": cluster.told, "title": "", "why": ""})


def write(name: str, model: bytes, inputs: Sample, facts: Mapping[str, str]) -> None:
    """Adds a finding to the file."""
    case = Case(lift(model), inputs)
    outputs = dict(zip(case.graph.output_names, expected(case).arrays, strict=True))
    lines = [f"[{name}]", *(f"{key} = {_quoted(' '.join(text.split()))}" for key, text in facts.items())]
    for key, arrays in (("inputs", inputs), ("outputs", outputs)):
        items = ", ".join(f"{_quoted(port)} = {_table(array)}" for port, array in arrays.items())
        lines.append(f"{key} = {{ {items} }}" if items else f"{key} = {{}}")
    (FOLDER / f"{name}.onnx").write_bytes(model)
    with FILE.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n\n")


def _table(array: Array) -> str:
    elements = ", ".join(_element(x) for x in array.ravel().tolist())
    return f'{{ dtype = "{dtype_of(array)}", shape = {list(array.shape)}, elements = [{elements}] }}'


def _element(x: Any) -> str:
    return str(x).lower() if isinstance(x, bool) else repr(x)


def _arrays(tables: Mapping[str, Any]) -> Sample:
    return {
        name: np.array(held["elements"], DTYPES[held["dtype"]].numpy).reshape(held["shape"])
        for name, held in tables.items()
    }


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
