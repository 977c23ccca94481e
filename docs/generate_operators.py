"""Writes docs/operators.md from the operator classes: `python docs/generate_operators.py`."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from onnx import defs

from gcomp.op import Constant, Operator, operators

NEWEST = 21
"""The opset up to which ONNX's own list is compared, so that a newer onnx package changes nothing here."""

PAGE = Path(__file__).with_name("operators.md")

HEAD = """\
# Operators

Generated from the operator classes by `python docs/generate_operators.py`; do not edit.

*Opsets* are those from which on a class of its own says what the operator means; models below the first are
refused, those between two are read by the lower one. *Code*: `native` is compiled; `host` runs through the
operator's numpy reference, from Python only, so such a model cannot be saved. On strings every operator runs
on the host.

| Operator | Opsets | Code | File |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    families: dict[tuple[str, str], list[type[Operator]]] = {}
    for cls in operators().values():
        if cls.onnx:
            families.setdefault((cls.domain, cls.onnx), []).append(cls)
    rows = [
        "| {} | {} | {} | {} |\n".format(
            name if not domain else f"{domain}.{name}",
            ", ".join(map(str, sorted(cls.since for cls in classes))),
            "native" if all(map(is_native, classes)) else "host",
            ", ".join(sorted({f"`{cls.__module__.replace('.', '/')}.py`" for cls in classes})),
        )
        for (domain, name), classes in sorted(families.items())
    ]
    missing = fill(", ".join(sorted(known_to_onnx() - {name for _, name in families})), 110)
    return (
        f"{HEAD}{''.join(rows)}\n## Not there yet\n\n"
        f"Of ONNX's own operators up to opset {NEWEST}; a model with one of them is refused:\n\n{missing}.\n"
    )


def known_to_onnx() -> set[str]:
    """The names of ONNX's own operators that are in force in opset `NEWEST`."""
    schemas = [s for s in defs.get_all_schemas_with_history() if not s.domain and s.since_version <= NEWEST]
    newest = {s.name: s for s in sorted(schemas, key=lambda schema: schema.since_version)}
    return {name for name, schema in newest.items() if not schema.deprecated}


def is_native(cls: type[Operator]) -> bool:
    """Whether kernels are made of it, perhaps as the newer operators that it becomes."""
    return cls is Constant or cls.has_lower() or cls.upgrade is not Operator.upgrade


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
