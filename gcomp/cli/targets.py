"""`gcomp targets`: what can be compiled for here, with which options, on what processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import click

from .options import as_json
from .report import report, table

VECTOR_SETS = (
    *("sse4_2", "avx", "fma", "avx2", "avx_vnni", "avx512f", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""The names by which Linux reports the instruction sets that matter to kernels."""


@click.command()
@as_json
def command(as_json: bool) -> None:
    """List what can be compiled for here.

    With each target's options, and the facts of this machine's processor.
    """
    from ..pipeline import option_types
    from ..registry import find, names

    targets: dict[str, dict[str, Any]] = {}
    for name in names("backends"):
        target = find("backends", name)()
        reason = target.available()
        targets[name] = {
            "available": reason is None,
            "reason": reason,
            "options": sorted(option_types(target)),
            "cannot_run": None if reason else target.runs_here(),
            "passes": target.pipeline if reason is None else None,
        }
    host = host_facts()
    rows = [
        (
            name,
            _usable(facts),
            ", ".join(facts["options"]) or "none",
        )
        for name, facts in targets.items()
    ]
    report(
        as_json,
        {"targets": targets, "host": host},
        [
            *table(("target", "available", "options"), rows),
            "",
            f"processor: {host['processor']}, {host['architecture']}, {host['cores']} cores for this process",
            f"vector instructions: {', '.join(host['vector_sets']) or 'none that is known'}",
        ],
    )


def _usable(facts: dict[str, Any]) -> str:
    if not facts["available"]:
        return f"no: {facts['reason']}"
    return f"to compile only: {facts['cannot_run']}" if facts["cannot_run"] else "yes"


def host_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """This machine's processor, as the system tells."""
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        entries.setdefault(key.strip().lower(), value.strip())
    flags = set(entries.get("flags", entries.get("features", "")).split())
    return {
        "processor": entries.get("model name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "vector_sets": [name for name in VECTOR_SETS if name in flags],
    }
