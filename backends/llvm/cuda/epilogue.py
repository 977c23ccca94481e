"""Puts what follows a sum, element by element, into the stage that sums: one kernel instead of two."""

from __future__ import annotations

from collections.abc import Sequence

from gcomp.kernel import Compute, Load, Reduce, Stage, Tensor, substitute, transform, walk

from ..nest import roots


def with_epilogues(stages: Sequence[Stage], results: Sequence[Tensor]) -> list[Stage]:
    """The stages; a sum that is no result, and that one stage alone reads, element by element, goes there."""
    pending = list(stages)
    for stage in stages:
        if not isinstance(stage, Compute) or stage.result in results or not _sums(stage):
            continue
        readers = [other for other in pending if other is not stage and _reads(other, stage.result)]
        reader = readers[0] if len(readers) == 1 else None
        if not isinstance(reader, Compute) or _sums(reader) or not _element_by_element(reader, stage.result):
            continue
        moved = substitute(stage.value, dict(zip(stage.axes, reader.axes, strict=True)))
        value = transform(
            reader.value,
            lambda part, tensor=stage.result, moved=moved: (
                moved if isinstance(part, Load) and part.tensor is tensor else None
            ),
        )
        pending[pending.index(reader)] = Compute(reader.result, reader.axes, value)
        pending.remove(stage)
    return pending


def _sums(stage: Compute) -> bool:
    return any(isinstance(part, Reduce) for part in walk(stage.value))


def _reads(stage: Stage, tensor: Tensor) -> bool:
    return any(isinstance(p, Load) and p.tensor is tensor for root in roots(stage) for p in walk(root))


def _element_by_element(stage: Compute, tensor: Tensor) -> bool:
    """Whether `tensor` is read only at the index that is being made."""
    loads = [part for part in walk(stage.value) if isinstance(part, Load) and part.tensor is tensor]
    return tensor.shape == stage.result.shape and all(
        load.where is None and all(i is axis for i, axis in zip(load.index, stage.axes, strict=True))
        for load in loads
    )
