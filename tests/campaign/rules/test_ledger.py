"""Every shipped rule, as it is now, was tried on enough graphs."""

from __future__ import annotations

import pytest

from gcomp.testing.sources import digest

from .ledger import read, shortcomings
from .shipped import shipped


@pytest.mark.parametrize("name", list(shipped()))
def test_a_rule_was_tried_enough(name: str) -> None:
    _, rule = shipped()[name]
    assert not shortcomings(read().get(name), digest(rule)), f"run `make rules RULES={name}`"
