"""What the trials showed, and why mutants that no test can tell from the original are none."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from .mutant import Mutant
from .trial import Verdict

Outcome = Literal["noticed", "survives", "equivalent", "not tried"]

LEDGER = Path(__file__).with_name("ledger.json")
EQUIVALENT = Path(__file__).with_name("equivalent.toml")


def read() -> dict[str, Verdict]:
    """The verdict on each mutant by its id, as of the trial: whether its `key` still holds is left open."""
    return {name: Verdict(**entry) for name, entry in json.loads(LEDGER.read_text("utf-8")).items()}


def record(found: dict[str, Verdict | None]) -> None:
    """Adds verdicts, or takes those that are None away. A mutant has a line, so that changes are seen."""
    verdicts = {name: verdict for name, verdict in {**read(), **found}.items() if verdict is not None}
    lines = [f'"{name}": {json.dumps(asdict(verdict))}' for name, verdict in sorted(verdicts.items())]
    LEDGER.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def arguments() -> dict[str, dict[str, str]]:
    """By id: the `key` of a mutant that is equivalent to the original, and the `argument` for it."""
    return tomllib.loads(EQUIVALENT.read_text("utf-8"))


def outcomes(mutants: Iterable[Mutant]) -> dict[str, Outcome]:
    """What is known of each mutant by its id: nothing where its function changed since it was tried."""
    verdicts, excused = read(), arguments()
    found: dict[str, Outcome] = {}
    for mutant in mutants:
        key, verdict = mutant.key(), verdicts.get(mutant.id)
        if excused.get(mutant.id, {}).get("key") == key:
            found[mutant.id] = "equivalent"
        elif verdict is None or verdict.key != key:
            found[mutant.id] = "not tried"
        else:
            found[mutant.id] = "noticed" if verdict.killed else "survives"
    return found


def share(outcomes: Iterable[Outcome]) -> float:
    """Of the mutants that were tried and are not equivalent, the share that a test noticed."""
    tried = [outcome == "noticed" for outcome in outcomes if outcome in ("noticed", "survives")]
    return sum(tried) / len(tried) if tried else 0.0
