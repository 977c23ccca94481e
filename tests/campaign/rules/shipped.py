"""The rules that come with gcomp."""

from __future__ import annotations

from functools import cache

from gcomp import registry
from gcomp.rewrite import RewritePass, Rule


@cache
def shipped() -> dict[str, tuple[RewritePass, Rule]]:
    """The pass of a rule alone, and the rule, by the names of both: `simplify/drop_cast`."""
    own = [name for name in registry.names("passes") if registry.is_own("passes", name)]
    passes = [registry.find("passes", name) for name in own]
    return {
        f"{one.name}/{rule.name}": (one.only(rule.name), rule)
        for one in passes
        if isinstance(one, RewritePass)
        for rule in one.rules
    }
