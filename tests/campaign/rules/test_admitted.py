"""Element types and ranks that a rule admits are found, whether or not they were drawn."""

from __future__ import annotations

from dataclasses import replace

from gcomp import made_by, require, rewrite
from gcomp.ops import AveragePool, Pad

from .admitted import beyond
from .ledger import Entry


@rewrite
def images_only(op: AveragePool) -> AveragePool:
    """AveragePool(Pad(x)) -> AveragePool(x), which is wrong"""
    pad = made_by(op.x, Pad)
    require(4 <= op.x.type.rank <= 6, "two to four axes of space")
    return AveragePool(pad.data, op.kernel_shape)


def test_what_was_not_drawn_but_is_admitted_is_told() -> None:
    drawn = Entry("key", dtypes={"f32": 9, "f16": 9, "i64": 9}, ranks={"4": 9, "5": 9})
    assert set(beyond(images_only, drawn)) == {"f64", "bf16", "rank 6"}
    rest = {"f64": 1, "bf16": 1}
    assert not beyond(images_only, replace(drawn, dtypes=drawn.dtypes | rest, ranks=drawn.ranks | {"6": 1}))
