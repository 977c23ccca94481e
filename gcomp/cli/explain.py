"""`gcomp explain`: where each rule fired on a model and nearly did, and where each kernel came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from .options import Recipe, as_json, takes_recipe
from .report import progress, report, table

if TYPE_CHECKING:
    from ..explain import Explanation, PassStory, RuleStory


@click.command()
@takes_recipe
@click.option("--rule", metavar="NAME", help="Tell of this rule alone.")
@click.option("--misses", type=click.IntRange(0), help="How many misses to tell of each rule.")
@as_json
def command(recipe: Recipe, rule: str | None, misses: int | None, as_json: bool) -> None:
    """Tell what became of MODEL.

    For each rule of the passes: where it fired, and where it nearly did and why not; and for each kernel the
    ONNX nodes that it computes. Sizes must be known for the kernels. --pass NAME, or a file, tells of that
    pass alone, with the graph before and after it.
    """
    from ..diagnostics import InputError
    from ..explain import MOST, explain
    from ..registry import loose_file

    loose = tuple(path for path in recipe.files if path.suffix == ".py")
    chosen = [str(path) for path in recipe.files if path.suffix != ".py"]
    pipeline = replace(recipe, files=loose).pipeline()
    if loose and not isinstance(pipeline, str) and pipeline is not None:
        chosen += [one.name for one in pipeline if loose_file(one.name) in loose]
    with progress(f"explaining {recipe.source.path}"):
        found = explain(
            recipe.source.graph(),
            target=recipe.target,
            passes=pipeline,
            precision=recipe.precision,
            show=chosen,
            most=MOST if misses is None else misses,
            kernels=not chosen and rule is None,
        )
    ran = list(dict.fromkeys(story.name for story in found.passes))
    for name in chosen:
        if name not in ran:
            raise InputError(f"explain: no pass {name!r} runs here; these do: {', '.join(ran) or 'none'}")
    passes = [story for story in found.passes if not chosen or story.name in chosen]
    if rule is not None:
        passes = about(rule, passes)
    facts: dict[str, Any] = {
        "passes": [asdict(story) for story in passes],
        "kernels": [asdict(step) for step in found.kernels],
    }
    report(as_json, facts, [*(line for story in passes for line in told(story)), *kernel_lines(found)])


def about(rule: str, passes: list[PassStory]) -> list[PassStory]:
    """The passes that have the rule, with nothing but that."""
    from ..diagnostics import InputError

    known = sorted({one.name for story in passes for one in story.rules if one.name})
    if rule not in known:
        raise InputError(f"explain: no rule {rule!r}; there are {', '.join(known) or 'none'}")
    kept = [replace(story, rules=[one for one in story.rules if one.name == rule]) for story in passes]
    return [story for story in kept if story.rules]


def told(story: PassStory) -> Iterator[str]:
    steps = f"{story.steps} step{'s' * (story.steps != 1)}"
    yield f"{story.text}: {steps if story.changed else 'changed nothing'}"
    for rule in story.rules:
        yield from rule_lines(rule)
    silent = [rule.name for rule in story.rules if not rule.applications and not rule.missed]
    if silent:
        yield f"  nothing to try here for {', '.join(silent)}"
    if story.before:
        yield from ("  before:", story.before.rstrip("\n"), "  after:", story.after.rstrip("\n"))


def rule_lines(rule: RuleStory) -> Iterator[str]:
    if not rule.applications and not rule.missed:
        return
    summary = f": {rule.summary}" if rule.summary else ""
    yield f"  {rule.name or 'without a rule'}{summary}"
    for one in rule.applications:
        yield f"    fired on {one.line}"
        yield from (f"       gives {line}" for line in one.after)
    for miss in rule.misses:
        yield f"    not on   {miss.line}"
        yield f"     why not {miss.reason}"
    if rule.missed > len(rule.misses):
        yield f"    nor on {rule.missed - len(rule.misses)} more"


def kernel_lines(found: Explanation) -> list[str]:
    if not found.kernels:
        return []
    rows = [
        (str(number), step.code, "+".join(step.operators), ", ".join(step.nodes))
        for number, step in enumerate(found.kernels)
    ]
    return ["", *table(("kernel", "code", "operators", "ONNX nodes"), rows)]
