"""The campaign over whole graphs: a slice of it, from its seeds, as native code against the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gcomp.compiler import parse_target
from tests.campaign import graphs

FIRST, SLICES = 1_000_000, 6
"""A seed that no campaign comes to, and how many times as many graphs as one process runs."""


@pytest.mark.parametrize("part", range(SLICES))
def test_whole_graphs_agree_with_the_reference(part: int) -> None:
    first = FIRST + part * graphs.TOGETHER
    found = graphs.slice_of(range(first, first + graphs.TOGETHER))
    assert len(found) == graphs.TOGETHER
    assert not [f"{one.seed}: {one.wrong}" for one in found if one.wrong]


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "LEDGER", tmp_path / "graphs.json")
    monkeypatch.setattr(graphs, "TOGETHER", 3)
    for count in (1, 2):
        done = CliRunner().invoke(graphs.command, ["--seconds", "0.001"])
        assert done.exit_code == 0, done.output
        ledger = graphs.Ledger.read()
        assert (ledger.seed, ledger.held) == (3 * count, 3 * count)
    assert "6 graphs held" in done.output
    assert sum(ledger.sizes.values()) == 6 and ledger.operators


def test_a_graph_that_ends_the_process_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(seed: int, targets: object) -> graphs.Tried:
        if seed == 1:
            raise SystemExit(9)
        return graphs.Tried(seed)

    monkeypatch.setattr(graphs, "tried", tried)
    found = graphs.slice_of(range(3))
    assert [bool(one.wrong) for one in found] == [False, True, False]
    assert "CrashError" in found[1].wrong


def test_the_targets_are_with_templates_and_without() -> None:
    assert [getattr(parse_target(text), "templates", None) for text in graphs.TARGETS] == [True, False]
