"""What generators draw: shapes within the budget, elements within bounds, special ones, changed sizes."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import numpy as np
import pytest

from gcomp.ir import Value
from gcomp.op import Constant, argument, constant
from gcomp.ops import Add, Relu, Reshape
from gcomp.testing.arrays import broadcastable, draw_array, draw_shape, extremes_of, tamed
from gcomp.testing.variation import is_fit, with_sizes
from gcomp.types import BF16, DTYPES, F16, F32, F64, I8, STRING, U8, DType, TensorType


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
    drawn = np.concatenate([draw_array(random, type, extremes=True) for _ in range(200)])
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
