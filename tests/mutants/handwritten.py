"""The faults written by hand: one TOML file a group, one table a fault."""

from __future__ import annotations

import tomllib
from pathlib import Path

from .mutant import ROOT, Mutant

FAULTS = Path(__file__).with_name("faults")


def handwritten(root: Path = ROOT) -> list[Mutant]:
    """All of them, group by group. Raises `ValueError` where one no longer fits the source."""
    return [
        fault(path.stem, name, table, root)
        for path in sorted(FAULTS.glob("*.toml"))
        for name, table in tomllib.loads(path.read_text("utf-8")).items()
    ]


def fault(group: str, name: str, table: dict[str, str], root: Path = ROOT) -> Mutant:
    """A fault from its table: `file`, the text `old` that occurs in it exactly once, `new` and `why`."""
    if table.keys() != {"file", "old", "new", "why"}:
        raise ValueError(f"{group}/{name}: wants file, old, new and why, has {', '.join(table)}")
    source, old = (root / table["file"]).read_bytes(), table["old"].encode()
    if (count := source.count(old)) != 1:
        where = f"tests/mutants/faults/{group}.toml"
        raise ValueError(
            f"{group}/{name}: the text to break occurs {count} times in {table['file']}, not once: "
            f"{table['old']!r}. Say in {where} where the same fault is made now"
        )
    start = source.index(old)
    return Mutant(group, name, table["file"], start, start + len(old), table["new"], table["why"])
