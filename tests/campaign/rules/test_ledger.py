"""Every shipped rule, as it is now, was tried on enough graphs, of all types and ranks that it admits."""

from __future__ import annotations

import pytest

from gcomp.testing.sources import digest

from .admitted import beyond
from .ledger import read, shortcomings
from .shipped import shipped


@pytest.mark.parametrize("name", list(shipped()))
def test_a_rule_was_tried_enough(name: str) -> None:
    _, rule = shipped()[name]
    assert not shortcomings(read().get(name), digest(rule)), f"run `make rules RULES={name}`"


@pytest.mark.parametrize("name", list(shipped()))
def test_a_rule_was_tried_on_all_types_and_ranks_that_it_admits(name: str) -> None:
    missing = beyond(shipped()[name][1], read()[name])
    assert not missing, f"take {name} out of the ledger, then run `make rules RULES={name}`"
