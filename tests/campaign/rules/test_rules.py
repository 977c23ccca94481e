"""Every shipped rule was tried enough as it is now, its graphs still hold, and the page tells it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gcomp import RewritePass, made_by, require, rewrite
from gcomp.ir import Value
from gcomp.ops import Neg
from gcomp.testing import Counterexample
from gcomp.testing.sources import digest

from .attempt import advanced, attempt, count
from .ledger import GRAPHS, Entry, read, shortcomings
from .report import PAGE, page
from .shipped import shipped

AGAIN = 200
"""Cases of each rule that are tried again."""

RULES = list(shipped())


def test_no_entry_is_of_a_rule_that_is_gone() -> None:
    assert set(read()) <= set(RULES), "run `make rules`"


@pytest.mark.parametrize("name", RULES)
def test_a_rule_holds_on_graphs_of_the_campaign(name: str) -> None:
    one, rule = shipped()[name]
    entry = read().get(name)
    tried = entry.next if entry is not None else AGAIN
    again, texts = Entry(digest(rule)), set[bytes]()
    for seed in range(0, tried, max(1, tried // AGAIN))[:AGAIN]:
        count(again, attempt(one, rule, seed), texts)
    assert again.fired > AGAIN / 2
    assert again.distinct > AGAIN / 3


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(read()), "stale: run `make rules`"


ENOUGH = Entry(
    "key",
    next=GRAPHS,
    cases=GRAPHS,
    fired=GRAPHS,
    distinct=GRAPHS,
    traits={"empty": 600, "broadcasting": 3000},
    wished={"empty": 1500, "broadcasting": 5000, "symbolic": 5000},
    proof=("exact", "proved"),
)


@pytest.mark.parametrize(
    ("entry", "missing"),
    [
        (None, "never tried"),
        (replace(ENOUGH, key="other"), "changed since it was tried"),
        (replace(ENOUGH, distinct=GRAPHS - 1), "held on 9999 graphs, not 10000"),
        (replace(ENOUGH, traits={"empty": 600, "broadcasting": 100}), "broadcasting on 1.0%"),
        (replace(ENOUGH, wished={"empty": 1500, "broadcasting": 5000}), "symbolic was hardly wished for"),
        (replace(ENOUGH, proof=None), "no proof was tried"),
        (replace(ENOUGH, proof=("wrong", "wrong: y differs")), "wrong: y differs"),
    ],
)
def test_what_is_missing_is_told(entry: Entry | None, missing: str) -> None:
    assert not shortcomings(ENOUGH, "key")
    (told,) = shortcomings(entry, "key")
    assert told.startswith(missing)


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path) -> None:
    one, rule = shipped()["simplify/drop_identity"]
    part = advanced(one, rule, None, 20, 60, tmp_path)
    assert part.distinct == 20
    whole = advanced(one, rule, part, 40, 60, tmp_path)
    assert whole.distinct == 40
    assert whole == advanced(one, rule, None, 40, 60, tmp_path / "another")
    assert whole == advanced(one, rule, Entry("of another rule", next=7), 40, 60, tmp_path / "third")


@rewrite
def drop_negation(neg: Neg) -> Value:
    """-(-x) -> -x, which is wrong"""
    inner = made_by(neg.x, Neg)
    require(inner.x.type.dtype.is_float, "floats")
    return inner.result


def test_a_wrong_rule_stops_with_its_seed(tmp_path: Path) -> None:
    with pytest.raises(Counterexample, match="drop_negation is wrong") as found:
        advanced(RewritePass("wrong", [drop_negation]), drop_negation, None, 40, 60, tmp_path)
    assert found.value.__notes__[0].startswith("seed ")
