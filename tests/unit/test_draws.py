"""What generators draw: shapes within the budget, elements within bounds, special ones, changed sizes."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import numpy as np
import pytest

from gcomp.dim import Dim
from gcomp.ir import Op, Value
from gcomp.op import Constant, argument, constant
from gcomp.ops import Add, Cast, Clip, LeakyRelu, Mul, Relu, Reshape, Transpose, Where
from gcomp.testing.arrays import (
    EXTREMES,
    NOT_FINITE,
    broadcastable,
    draw_array,
    draw_extremes,
    draw_shape,
    extremes_of,
    tamed,
)
from gcomp.testing.fields import shared, with_literals, without_operand
from gcomp.testing.samples import arguments, cone
from gcomp.testing.variation import (
    Variation,
    attempted,
    is_fit,
    leveled,
    narrowed,
    retyped,
    widened,
    with_sizes,
)
from gcomp.types import BF16, BOOL, DTYPES, F16, F32, F64, I8, STRING, U8, DType, TensorType


def shapes(op: Relu | Add | Reshape) -> list[tuple[object, ...]]:
    """Of its operands that are stand-ins or constants, and of its result."""
    return [value.type.shape for value in (*op.inputs, op.result)]


def test_any_number_of_leading_axes_is_lost_as_often_as_another() -> None:
    random = Random(0)
    found = [broadcastable(random, (2, 3, 4)) for _ in range(4000)]
    ranks = Counter(len(shape) for shape in found)
    assert ranks.keys() == {0, 1, 2, 3} and all(900 < count < 1100 for count in ranks.values())
    for shape in found:
        assert np.broadcast_shapes(shape, (2, 3, 4)) == (2, 3, 4)  # pyright: ignore[reportArgumentType]


def test_shapes_stay_within_the_budget() -> None:
    random = Random(0)
    found = [draw_shape(random, rank=4, budget=100) for _ in range(2000)]
    sizes = {math.prod(size for size in shape if isinstance(size, int)) for shape in found}
    assert max(sizes) <= 100 and 0 in sizes and len(sizes) > 20


def test_a_tensor_takes_16_kibibytes_at_most() -> None:
    assert is_fit(Relu(argument(TensorType(F32, (64, 64)))))
    assert not is_fit(Relu(argument(TensorType(F32, (64, 65)))))
    assert not is_fit(Relu(argument(TensorType(F64, (64, 64)))))
    assert not is_fit(Relu(argument(TensorType(F32, (0, 1 << 40)))))


@pytest.mark.parametrize("dtype", [one for one in DTYPES.values() if one != STRING], ids=str)
def test_elements_lie_between_their_bounds(dtype: DType) -> None:
    random, type = Random(0), TensorType(dtype, (3, 7))
    for _ in range(50):
        array = draw_array(random, type, 1, 5)
        assert array.shape == (3, 7) and array.dtype == dtype.numpy
        numbers = array.astype(np.float64)
        assert numbers.min() >= (0 if dtype.name == "bool" else 1) and numbers.max() <= 5


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
def test_extremes_are_all_that_floats_have(dtype: DType) -> None:
    random, type = Random(0), TensorType(dtype, (16,))
    drawn = np.concatenate([draw_array(random, type, extremes=draw_extremes(random)) for _ in range(200)])
    found = {number.tobytes() for number in drawn}
    assert {number.tobytes() for number in extremes_of(dtype)} <= found
    calm = tamed(drawn).astype(np.float64)
    assert np.isfinite(calm[~np.isnan(calm)]).all() and np.nanmax(abs(calm)) < 4096


@pytest.mark.parametrize(("dtype", "ends"), [(I8, {-128, 127}), (U8, {0, 255})], ids=str)
def test_extremes_are_the_ends_of_integers(dtype: DType, ends: set[int]) -> None:
    assert {int(number) for number in extremes_of(dtype)} >= ends


def of(*shape: int) -> Value:
    return argument(TensorType(F32, shape))


def test_a_size_changes_wherever_it_occurs() -> None:
    table = constant(np.arange(6, dtype=np.float32).reshape(2, 3))
    changed = with_sizes(Add(of(2, 3), table), {3: 5})
    assert isinstance(changed, Add) and shapes(changed) == [(2, 5)] * 3
    (found,) = (value.owner for value in changed.inputs if isinstance(value.owner, Constant))
    assert found.value.tolist() == [[0, 1, 2, 3, 4], [5, 0, 1, 2, 3]]


def test_constants_that_list_sizes_change_with_them() -> None:
    changed = with_sizes(Reshape(of(2, 3), constant([3, 2])), {3: 5})
    assert isinstance(changed, Reshape) and changed.result.type.shape == (5, 2)


def test_integers_reach_all_over_their_type() -> None:
    random, type = Random(0), TensorType(U8, (16,))
    drawn = np.concatenate([draw_array(random, type, extremes=draw_extremes(random)) for _ in range(500)])
    assert len({int(number) for number in drawn}) > 200


def test_extremes_of_two_arrays_meet() -> None:
    random, type = Random(0), TensorType(F32, (8,))
    met = 0
    for _ in range(200):
        extremes = draw_extremes(random)
        one, other = (draw_array(random, type, extremes=extremes) for _ in range(2))
        met += bool(np.any(np.isinf(one) & (one == other)))
    assert met > 5


def test_indices_stay_in_their_range() -> None:
    random, type = Random(0), TensorType(DTYPES["i64"], (8,))
    for _ in range(200):
        array = draw_array(random, type, -3, 2.99, draw_extremes(random))
        assert array.min() >= -3 and array.max() <= 2


def test_a_stand_in_becomes_another_value() -> None:
    where = Where(argument(TensorType(BOOL, (2, 3))), of(2, 3), of(2, 3))
    found = [changed for seed in range(20) if isinstance(changed := shared(Random(seed), where), Where)]
    assert any(changed.x is changed.y for changed in found)
    square = Add(Relu(of(2, 3)).result, of(2, 3))
    reads = [changed for seed in range(20) if isinstance(changed := shared(Random(seed), square), Add)]
    assert any(changed.rhs is changed.lhs for changed in reads)


def test_axes_become_alike() -> None:
    found = {leveled(Random(seed), Transpose(of(2, 3, 4))).results[0].type.shape for seed in range(20)}
    assert all(len(set(shape)) == 1 for shape in found) and len(found) > 2


def shapes_of_constants(variation: Variation, root: Op) -> set[tuple[Dim, ...]]:
    """Those that constants have after one of many runs of the variation."""
    random = Random(0)
    ops = [op for _ in range(60) for op in cone(variation(random, root))]
    return {op.result.type.shape for op in ops if isinstance(op, Constant)}


def test_constants_become_narrow_and_wide() -> None:
    table = Add(of(2, 3), constant(np.ones((2, 3), np.float32)))
    assert {(), (3,), (1, 3), (2, 3)} <= shapes_of_constants(narrowed, table)
    assert shapes_of_constants(widened, Add(of(2, 3), constant(1.0))) == {(), (2, 3)}


def test_types_within_change_where_attributes_name_them() -> None:
    cast = Mul(Cast(of(3), DTYPES["i32"].code).result, constant(np.array([2], np.int32)))
    ops = [attempted(Random(seed), cast, retyped) for seed in range(60)]
    found = {op.results[0].type.dtype.name for op in ops if op is not None}
    assert {"i32", "f16", "u8"} <= found


def test_an_optional_operand_goes() -> None:
    clip = Clip(of(3), constant(0.0), constant(1.0))
    found = {
        tuple(value is None for value in without_operand(Random(seed), clip).operands) for seed in range(20)
    }
    assert found == {(False, True, False), (False, False, True)}


def test_literals_get_where_they_fit() -> None:
    root = LeakyRelu(Transpose(Mul(of(3, 3), constant(1.0)).result, None).result, 0.5)
    varied = with_literals([0.125, (1, 0), "word"])
    seen = [changed for seed in range(60) if (changed := varied(Random(seed), root)) is not root]
    texts = {str(op.attributes) for changed in seen for op in cone(changed)}
    assert any("(1, 0)" in text for text in texts) and "{'alpha': 0.125}" in texts
    assert not any("word" in text for text in texts) and all(arguments(changed) for changed in seen)
    assert any(op.value == 0.125 for changed in seen for op in cone(changed) if isinstance(op, Constant))


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
def test_what_is_not_finite_is_where_it_is_said_to_be(dtype: DType) -> None:
    places = np.flatnonzero(~np.isfinite(extremes_of(dtype).astype(np.float64)))
    assert tuple(places) == NOT_FINITE and len(extremes_of(dtype)) == EXTREMES
