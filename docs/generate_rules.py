"""Writes docs/rules.md from the rules of the shipped passes: `python docs/generate_rules.py`. Takes minutes.

Needs z3: `pip install gcomp[testing,prove]`.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.progress import track

from gcomp.registry import find, is_own, names
from gcomp.rewrite import RewritePass, Rule
from gcomp.testing.proof import prove

PAGE = Path(__file__).with_name("rules.md")

HEAD = """\
# Rules

Generated from the rules of the shipped passes by `python docs/generate_rules.py`; do not edit.

Every rule is tested on random graphs grown around its pattern, as `gcomp verify --pass FILE` does for yours.
Rules that are algebra are also proved, by z3, for all elements over small shapes of those patterns; `--prove`
does that for yours:

- *to the bit*: the results are the same whatever float arithmetic does, with infinities and NaN.
- *over the reals*: they are the same but for rounding, infinities and NaN; integers wrap as they do.

| Pass | Rule | Says | Proof |
|---|---|---|---|
"""


def rules(pass_name: str) -> tuple[Rule, ...]:
    """The rules of a shipped pass; none of one that works on whole graphs."""
    one = find("passes", pass_name)
    return tuple(one.rules) if isinstance(one, RewritePass) else ()


def row(pass_name: str, place: int) -> str:
    """The line of the table for one rule of a pass."""
    rule = rules(pass_name)[place]
    return f"| {pass_name} | {rule.name} | `{rule.summary}` | {prove(rule)} |\n"


if __name__ == "__main__":
    own = [name for name in names("passes") if is_own("passes", name)]
    places = [(name, place) for name in own for place in range(len(rules(name)))]
    with ProcessPoolExecutor() as pool:
        rows = list(track(pool.map(row, *zip(*places, strict=True)), "proving", len(places)))
    PAGE.write_text(HEAD + "".join(rows), "utf-8")
