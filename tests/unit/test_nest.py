"""Generic nests: what becomes vectors, what is merged, what padding holds, that nothing is called."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gcomp import plan
from gcomp.arena import most
from gcomp.backends.llvm import nest
from gcomp.backends.llvm.cpu import Cpu, from_options, host
from gcomp.backends.llvm.elf import Object
from gcomp.backends.llvm.halves import halves_text
from gcomp.backends.llvm.jit import emit_object
from gcomp.backends.llvm.problem import Emitted, View
from gcomp.backends.llvm.rounding import rounding_text
from gcomp.dim import symbol
from gcomp.expand import expanded
from gcomp.ir import Value
from gcomp.kernel import Checked, Kernel, Tensor
from gcomp.lowering import lower_op
from gcomp.native import ErrorCode, aligned
from gcomp.op import Operator, argument, constant
from gcomp.ops import (
    Add,
    Concat,
    Gather,
    MatMul,
    ReduceLogSumExp,
    ReduceSum,
    Relayout,
    Relu,
    Slice,
    TopK,
    Transpose,
)
from gcomp.testing.samples import native_samples, sample
from gcomp.types import F32, I64, Array, Layout, Part, TensorType, channels_last
from tests.functions import loaded, module_text
from tests.planned import padding, places

WIDE, NARROW = from_options({"cpu": "skylake-avx512"}), from_options({"cpu": "haswell"})
ARM = from_options({"triple": "aarch64-linux-gnu", "cpu": "cortex-a76"})
OLD = from_options({"triple": "x86_64-linux-gnu", "cpu": "x86-64"})


def x(*shape: int) -> TensorType:
    return TensorType(F32, shape)


def viewed(type: TensorType) -> View:
    return View(type, plan.dense(type))


def emitted(op: Operator, cpu: Cpu, in_place: bool = False) -> Emitted:
    operands = [None if value is None else viewed(value.type) for value in op.operands]
    results = [viewed(value.type) for value in op.results]
    return nest.emit(expanded(lower_op(op)), operands, results, cpu, "kernel", in_place)


def text(op: Operator, cpu: Cpu = WIDE) -> str:
    return str(emitted(op, cpu).function)


def run(op: Operator, *arrays: Array) -> tuple[int, list[Array]]:
    """The status, and the results as they lie in memory that was poisoned before."""
    made = emitted(op, host())
    results = [np.full(plan.dense(v.type)[0] * plan.physical_extents(v.type)[0], 9, v.type.dtype.numpy)
               for v in op.results]  # fmt: skip
    memory: list[Array] = []
    for given in made.arguments:
        match given.source:
            case "operand":
                memory.append(np.ascontiguousarray(arrays[given.index]))
            case "result":
                memory.append(results[given.index])
            case _:
                memory.append(aligned(most(given.bytes, {})))
    return loaded(made.function, made.optimise)(*(array.ctypes.data for array in memory)), results


def loops(text: str) -> int:
    return len(re.findall(r"= phi i64 ", text))


@pytest.mark.parametrize(("cpu", "lanes"), [(WIDE, 16), (NARROW, 8)], ids=["wide", "narrow"])
def test_contiguous_elements_are_computed_in_vectors(cpu: Cpu, lanes: int) -> None:
    found = text(Add(argument(x(3, 64)), argument(x(3, 64))), cpu)
    assert found.count(f"load <{lanes} x float>") == 2
    assert found.count(f"store <{lanes} x float>") == 1
    assert "load float" not in found
    assert loops(found) == 1


def test_what_remains_is_a_masked_vector() -> None:
    found = text(Relu(argument(x(3, 13))))  # 39 elements in a row: two vectors and seven lanes
    assert found.count("store <16 x float>") == 1
    assert len(re.findall(r"llvm\.masked\.store\.v16f32.*(?:i1 true, ){6}i1 true, i1 false", found)) == 1
    assert loops(found) == 1
    assert "x float>" not in text(Relu(argument(x(3, 5))))


def test_a_value_for_all_columns_is_read_once_a_row() -> None:
    found = text(Add(argument(x(7, 64)), argument(x(7, 1))))
    assert found.count("load float") == 1
    assert found.count("load <16 x float>") == 1
    assert loops(found) == 2


def test_crossed_axes_are_transposed_in_registers() -> None:
    found = text(Transpose(argument(x(48, 64)), (1, 0)))
    assert found.count("load <16 x float>") == found.count("store <16 x float>") == 16
    assert "shufflevector" in found
    assert "gather" not in found


def test_scattered_elements_are_not_gathered() -> None:
    every_third = Slice(argument(x(300)), constant([0]), constant([300]), constant([0]), constant([3]))
    assert "gather" not in text(every_third)
    assert "load float" in text(every_third)


def test_rows_are_reduced_in_a_fixed_number_of_lanes() -> None:
    for cpu in (WIDE, NARROW):
        found = text(ReduceSum(argument(x(7, 40)), constant([1]), keepdims=0), cpu)
        assert "fadd" in found and "<16 x float>" in found
        assert f"<{', '.join(['i1 true'] * 8 + ['i1 false'] * 8)}>" in found


def test_products_run_along_columns() -> None:
    assert "load <16 x float>" in text(MatMul(argument(x(5, 9)), argument(x(9, 32))))


LANES = host().vector_bytes // 4
TILED = Layout((Part((1,)), Part((0,), "outer", 4), Part((0,), "inner", 4)))
MERGED = Layout((Part((0,)), Part((2, 3), "outer", 16), Part((1,)), Part((2, 3), "inner", 16)))


@pytest.mark.parametrize("lanes", [4, 8, 16, 32])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 20, 3, 3), (2, 16, 1, 7), (3, 33, 2, 2)])
def test_padding_of_channels_is_zero(shape: tuple[int, ...], lanes: int) -> None:
    """Whether or not the layout rounds to as many lanes as this machine's vectors have."""
    check_relayout(shape, channels_last(4, lanes))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 5), Layout((Part((0,), "whole", 4), Part((1,), "whole", 8)))),
        ((3, 5), Layout((Part((1,), "whole", 8), Part((0,), "whole", 4)))),
        ((2, 5), Layout((Part((0,), "whole", 4), Part((1,), "whole", LANES)))),
        ((9, LANES), Layout((Part((0,), "whole", 4), Part((1,), "whole", LANES)))),
        ((6, 5), TILED),
        ((8, 5), TILED),
        ((2, 3, 4, 5), MERGED),
        ((2, 3, 4, 5), channels_last(4, 1)),
    ],
)
def test_elements_lie_where_the_layout_says_and_padding_is_zero(
    shape: tuple[int, ...], layout: Layout
) -> None:
    check_relayout(shape, layout)


def check_relayout(shape: tuple[int, ...], layout: Layout) -> None:
    op = Relayout(argument(x(*shape)), layout)
    given = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    status, (found,) = run(op, given)
    view = plan.View(plan.Buffer("arena", 0), op.result.type, plan.dense(op.result.type))
    assert status == 0
    assert np.array_equal(found[places(view)], given)
    assert not found[padding(view)].any()


def test_padding_is_zero_where_nothing_is_a_vector() -> None:
    """Three channels far apart, which become the first of a block: neither contiguous nor worth crossing."""
    check_relayout((2, 3, 2, 2), channels_last(4, host().vector_bytes // 4))


class _Distance(Operator):
    """Indices further by 8, checked: no element is loaded through them."""

    x: Value

    def infer(self) -> TensorType:
        return self.x.type

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        return k.compute(self.x.type, lambda i: Checked(x[i] + 8, 8))


def test_lanes_that_are_not_there_add_nothing_to_a_row() -> None:
    """They hold zero, whose exponential is far above those of the row."""
    row = np.full((3, 37), -5, np.float32)
    total = ReduceSum(argument(x(3, 37)), constant([1]), keepdims=0)
    op = ReduceLogSumExp(argument(x(3, 37)), constant([1]), keepdims=0)
    for reduction, expected in ((total, -185.0), (op, np.log(37.0) - 5)):
        status, (found,) = run(reduction, row)
        assert status == 0
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_lanes_that_are_not_there_are_not_checked() -> None:
    """They hold zero, which 8 further would be out of range."""
    op = _Distance(argument(TensorType(I64, (21,)), -8, -1))
    indices = np.arange(21, dtype=np.int64) % 8 - 8
    assert re.search(r"llvm\.masked\.load", str(emitted(op, host()).function))
    status, (found,) = run(op, indices)
    assert status == 0 and np.array_equal(found, indices + 8)
    indices[20] = 0
    assert run(op, indices)[0] == ErrorCode.INDEX


def test_pointwise_results_in_a_layout_have_zero_padding() -> None:
    """0 + 1 is 1, and so would padding be if it were computed as elements are."""
    type = x(1, 3, 2, 2).with_layout(channels_last(4, 8))
    op = Add(argument(type), argument(TensorType(F32, ())))
    op.result.type = type
    status, (found,) = run(op, np.zeros(32, np.float32), np.array(1.0, np.float32))
    assert status == 0
    assert found.reshape(4, 8).tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]] * 4


def test_padding_is_written_with_the_lanes_before_it() -> None:
    """Of 20 channels in vectors of 16: the second vector holds 4 of them, and 12 zeros."""
    type = x(1, 20, 2, 2).with_layout(channels_last(4, 16))
    op = Add(argument(type), argument(TensorType(F32, ())))
    op.result.type = type
    found = text(op)
    assert found.count("store <16 x float>") == found.count("store ") == 2
    assert loops(found) == 1 and "masked.store" not in found


def test_symbolic_rows_are_vectors_where_nothing_is_left_over() -> None:
    n = symbol("n")
    assert "load <16 x float>" in text(Relu(argument(TensorType(F32, (n * 48,)))))
    assert "x float>" not in text(Relu(argument(TensorType(F32, (n * 24,)))))


def test_an_index_out_of_range_is_told_and_reads_nothing() -> None:
    op = Gather(argument(x(3, 4)), argument(TensorType(I64, (2,))))
    given = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert run(op, given, np.array([2, 0]))[0] == 0
    assert run(op, given, np.array([2, 1 << 40]))[0] == ErrorCode.INDEX


def test_an_index_is_checked_where_axes_are_crossed() -> None:
    type = x(3, 16, 4, 5).with_layout(channels_last(4, 1))
    op = Gather(argument(type), argument(TensorType(I64, (2,))))
    op.result.type = x(2, 16, 4, 5)
    assert "shufflevector" in text(op, host())
    given = np.random.default_rng(0).standard_normal((3, 16, 4, 5)).astype(np.float32)
    memory = np.moveaxis(given, 1, 3)
    status, (found,) = run(op, memory, np.array([2, 0]))
    assert status == 0 and np.array_equal(found.reshape(2, 16, 4, 5), given[[2, 0]])
    assert run(op, memory, np.array([2, 3]))[0] == ErrorCode.INDEX


def test_memory_that_is_shared_is_not_called_unshared() -> None:
    op = Relu(argument(x(4)))
    apart, together = (emitted(op, WIDE, in_place).function for in_place in (False, True))
    assert all("noalias" in type for type, _ in apart.parameters)
    assert not any("noalias" in type for type, _ in together.parameters)


def test_nothing_to_compute_is_no_code() -> None:
    assert loops(text(Relu(argument(x(0, 4))))) == 0
    joined = Concat((argument(x(0, 2)), argument(x(1, 2))), 0)
    _, (found,) = run(joined, *(np.ones((rows, 2), np.float32) for rows in (0, 1)))
    assert found.tolist() == [1, 1]


def test_scratch_is_asked_for() -> None:
    op = TopK(argument(x(3, 40)), constant([5]))
    sizes = [most(given.bytes, {}) for given in emitted(op, WIDE).arguments if given.source == "scratch"]
    assert len(sizes) == 1 and sizes[0] % 64 == 0 and sizes[0] > 0


def test_a_symbolic_size_is_a_parameter() -> None:
    type = TensorType(F32, (symbol("n"), 16))
    view = View(type, (16, 1))
    made = nest.emit(lower_op(Relu(argument(type))), [view], [view], WIDE, "kernel", False)
    assert made.function.symbols == ["n"]
    assert "(ptr noalias %x0, ptr noalias %y0, i64 %size.n)" in str(made.function)


@pytest.mark.parametrize("cpu", [OLD, NARROW, ARM], ids=["x86-64", "haswell", "aarch64"])
@pytest.mark.parametrize("name", sorted({name for name, _ in native_samples()}))
def test_code_needs_nothing_from_outside(name: str, cpu: Cpu) -> None:
    """No function of a library is called but what stands in for instructions, which is brought along."""
    made = emitted(sample(name, 0), cpu)
    found = Object(bytearray(emit_object(module_text(made.function, cpu), cpu, made.optimise)))
    brought = re.findall(r"define weak hidden \w+ @(\w+)\(", halves_text(cpu) + rounding_text(cpu))
    assert set(found.undefined()) <= set(brought)
