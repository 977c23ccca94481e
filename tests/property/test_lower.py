"""Each operator's lowering, run by the interpreter, against its reference on its samples."""

from __future__ import annotations

import pytest

from gcomp.evaluate import evaluate_op
from gcomp.expand import expanded
from gcomp.interpret import interpret
from gcomp.lowering import lower_op
from gcomp.op import operators
from gcomp.testing.samples import operand_arrays, sample
from gcomp.tolerance import mismatch


def placed_samples() -> list[tuple[str, int]]:
    """Every sample of every operator, with native code or without."""
    return [
        (name, place) for name, cls in sorted(operators().items()) for place, _ in enumerate(cls.samples())
    ]


@pytest.mark.parametrize(("name", "place"), placed_samples())
def test_reference_and_lowering_agree_with_the_types_and_each_other(name: str, place: int) -> None:
    op = sample(name, place)
    arrays = operand_arrays(op)
    # evaluate_op raises where the reference is not of the inferred types.
    expected = evaluate_op(op, arrays)
    if not op.has_lower():
        return
    kernel = expanded(lower_op(op))
    given = [a if t is not None else None for t, a in zip(kernel.operands, arrays, strict=True)]
    found = interpret(kernel, given)
    assert len(found) == len(expected)
    for actual, wanted in zip(found, expected, strict=True):
        assert not (wrong := mismatch(actual, wanted, op.tolerance)), wrong


def test_every_family_has_samples() -> None:
    """An operator with native code and without a sample would pass the tests above unseen."""
    sampled = {name for name, _ in placed_samples()}
    unseen = {name for name, cls in operators().items() if cls.has_lower()} - sampled
    assert not unseen
