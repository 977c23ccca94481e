"""Ranks and types of random graphs: axes come and go wherever they are listed, types change anywhere."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from gcomp import made_by, require, rewrite
from gcomp.diagnostics import GcompError
from gcomp.ir import Op, Value
from gcomp.op import Constant, argument, constant
from gcomp.ops import Add, AveragePool, Conv, Pad, QuantizeLinear, Relu, Reshape, Transpose
from gcomp.testing.climb import look
from gcomp.testing.fields import bounded
from gcomp.testing.patterns import example, pool
from gcomp.testing.ranks import reranked
from gcomp.testing.samples import arguments, cone
from gcomp.testing.turns import dtypes_of, of_rank, rank_of, with_type
from gcomp.testing.variation import retyped
from gcomp.types import F32, I8, TensorType


def of(*shape: int) -> Value:
    return argument(TensorType(F32, shape))


def variants(root: Op, count: int = 2000) -> list[Op]:
    """What becomes of `root` where its rank changes, as far as operators take it."""
    found: list[Op] = []
    for seed in range(count):
        try:
            found.append(reranked(Random(seed), root))
        except GcompError:
            continue
    return found


def test_pools_have_more_axes_and_fewer() -> None:
    root = AveragePool(of(1, 2, 7, 9), (2, 3), strides=(1, 2), pads=(0, 1, 1, 0))
    found = [op for op in variants(root) if isinstance(op, AveragePool)]
    kinds = {(op.kernel_shape, op.strides, op.pads, op.x.type.static_shape) for op in found}
    assert ((2,), (1,), (0, 1), (1, 2, 7)) in kinds
    assert ((3,), (2,), (1, 0), (1, 2, 9)) in kinds
    assert ((2, 2, 3), (1, 1, 2), (0, 0, 1, 1, 1, 0), (1, 2, 7, 7, 9)) in kinds
    assert ((2, 1, 3), (1, 1, 2), (0, 0, 1, 1, 0, 0), (1, 2, 7, 1, 9)) in kinds


def test_filters_follow_their_image() -> None:
    root = Conv(of(1, 2, 7, 9), constant(np.ones((3, 2, 2, 3), np.float32)), of(3), pads=(0, 1, 1, 0))
    shapes = {tuple(value.type.shape for value in op.inputs) for op in variants(root)}
    assert {((1, 2, 7), (3, 2, 2), (3,)), ((1, 2, 7, 9, 9), (3, 2, 2, 3, 3), (3,))} <= shapes


@pytest.mark.parametrize(
    ("make", "results"),
    [
        (lambda: Transpose(of(2, 3, 4), (2, 0, 1)), {(4, 3), (4, 2), (2, 3), (2, 4, 2, 3), (4, 1, 2, 3)}),
        (
            lambda: Reshape(of(2, 3, 4), constant([2, 3, 4])),
            {(3, 4), (2, 4), (2, 3), (2, 3, 3, 4), (2, 3, 1, 4)},
        ),
        (lambda: Add(of(2, 3), of(3)), {(2, 2, 3), (2,), (3,), (2, 3, 3), (1, 2, 3)}),
        (lambda: Pad(of(5, 4), constant([1, 0, 0, 2])), {(6,), (6, 6, 6), (1, 6, 6)}),
    ],
)
def test_axes_come_and_go_wherever_they_are_listed(make: Callable[[], Op], results: set[object]) -> None:
    assert results <= {op.results[0].type.shape for op in variants(make())}


def test_tensors_without_axes_stay() -> None:
    root = Relu(of())
    assert reranked(Random(0), root) is root


def test_constants_reach_the_ends_of_their_type() -> None:
    root = QuantizeLinear(of(3), constant(1.0), constant(np.int8(5), np.int8))
    ends = {
        int(op.value)
        for seed in range(20)
        for op in cone(bounded(Random(seed), root))
        if isinstance(op, Constant) and op.result.type.dtype == I8
    }
    assert ends == {-128, 127}


def test_types_change_that_no_operand_from_outside_has() -> None:
    found: set[str] = set()
    for seed in range(400):
        try:
            root = retyped(Random(seed), QuantizeLinear(of(3), constant(1.0), constant(np.int8(5), np.int8)))
        except GcompError:
            continue
        found.add(root.results[0].type.dtype.name)
    assert found == {"i8", "u8", "i16", "u16"}


@rewrite
def pad_before_pool(op: AveragePool) -> AveragePool:
    """AveragePool(Pad(x)) -> AveragePool(x), which is wrong"""
    pad = made_by(op.x, Pad)
    require(pad.mode == "constant", "a constant around")
    return AveragePool(pad.data, op.kernel_shape)


@rewrite
def clipped_at_zero(op: QuantizeLinear) -> QuantizeLinear:
    """Q(Relu(x)) -> Q(x), where the zero point is the least number"""
    relu = made_by(op.x, Relu)
    zero = made_by(op.zero_point, Constant).value
    require(zero.size == 1 and int(zero.flat[0]) == np.iinfo(zero.dtype).min, "the least number")
    return QuantizeLinear(relu.x, op.scale, op.zero_point, axis=op.axis)


def test_all_ranks_that_a_rule_admits_come() -> None:
    assert {pattern.rank for pattern in pool(pad_before_pool)} == set(range(3, 9))
    drawn = {rank_of(example(Random(seed), pad_before_pool)) for seed in range(200)}
    assert drawn == set(range(3, 9))


def test_all_types_that_a_rule_admits_come() -> None:
    drawn = {example(Random(seed), clipped_at_zero).results[0].type.dtype.name for seed in range(300)}
    assert drawn >= {"u8", "i8", "u16", "i16"}


def test_patterns_turn_to_the_ranks_and_types_that_a_rule_admits() -> None:
    random = Random(0)
    root = AveragePool(Pad(of(1, 2, 5, 4), constant([0, 0, 1, 0, 0, 0, 0, 2])).result, (2, 2))
    for rank in (3, 6):
        turned = of_rank(random, pad_before_pool, root, rank)
        assert turned is not None and rank_of(turned) == rank and look(pad_before_pool, turned).fires
    assert of_rank(random, pad_before_pool, root, 2) is None
    half = with_type(random, pad_before_pool, root, "f16")
    assert half is not None and {leaf.type.dtype.name for leaf in arguments(half)} == {"f16"}
    assert "f16" in dtypes_of(half)
    assert with_type(random, pad_before_pool, root, "bool") is None
