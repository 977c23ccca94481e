"""Matrix products as GPU kernels: tiles at all kinds of edges, what goes along with them, their barriers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gcomp.backends.llvm.cuda.codegen import compiled, joined
from gcomp.backends.llvm.cuda.contraction import contraction
from gcomp.backends.llvm.cuda.gemm import BUSY, tile
from gcomp.backends.llvm.cuda.module import compile_graph
from gcomp.compiler import optimize
from gcomp.diagnostics import RunError
from gcomp.evaluate import evaluate
from gcomp.expand import expanded
from gcomp.ir import Graph, Op, Value
from gcomp.kernel import Compute
from gcomp.lowering import lower_op
from gcomp.op import Argument, Operator, argument, constant
from gcomp.ops import (
    Add,
    Conv,
    ConvInteger,
    Einsum,
    Gelu,
    Gemm,
    MatMul,
    MatMulInteger,
    Softmax,
)
from gcomp.testing.samples import array_for, graph_of
from gcomp.tolerance import mismatch
from gcomp.types import F16, F32, F64, I8, I32, I64, U8, U64, DType, TensorType
from tests.assembler import assembled
from tests.emulated_gpu import EmulatedLibrary, emulated
from tests.fibres import BARRIER


def of(*shape: int, dtype: DType = F32) -> Value:
    low = 0.0 if dtype.name[0] == "u" else -4.0
    return argument(TensorType(dtype, shape), low, 4.0)


def templates_of(graph: Graph) -> list[str]:
    """What made each kernel, in the order of launches."""
    launches = compile_graph(graph, "sm_80", "m").program.launches
    return [launch.kernel.split("_")[1] for launch in launches]


def complaint(op: Operator) -> str:
    """Why the product of an operator is wrong; empty if it is right."""
    graph, arrays = graph_of(op)
    assert "gemm" in templates_of(graph)
    (actual,), (wanted,) = emulated(graph, "sm_80", EmulatedLibrary())(*arrays), evaluate(graph, arrays)
    return mismatch(actual, wanted, op.tolerance)


EDGES = [8, 9, 15, 16, 17, 31, 33, 64, 65, 130]


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_size_at_the_edge_of_a_tile(size: int, place: int) -> None:
    rows, columns, depth = (size if at == place else other for at, other in enumerate((20, 37, 13)))
    assert complaint(MatMul(of(rows, depth), of(depth, columns))) == ""


@pytest.mark.parametrize("rows", [40, 700, 1300, 1450])
@pytest.mark.parametrize("columns", [40, 700, 1300, 1450])
def test_every_tile(rows: int, columns: int) -> None:
    assert complaint(MatMul(of(rows, 19), of(19, columns))) == ""


def test_tiles_are_large_where_there_is_enough_to_do() -> None:
    def chosen(*sizes: int, dtype: DType = F32) -> tuple[int, int]:
        rows, columns, depth = sizes
        op = MatMul(of(rows, depth, dtype=dtype), of(depth, columns, dtype=dtype))
        (stage,) = expanded(lower_op(op)).stages
        assert isinstance(stage, Compute)
        product = contraction(stage)
        assert product is not None
        return tile(product)

    assert chosen(4096, 4096, 64) == (8, 8)
    assert chosen(4096, 4096, 64, dtype=F64) == (4, 4)
    assert chosen(16 * BUSY * 8, 16, 64) == (8, 1)
    assert chosen(20, 16 * BUSY * 8, 64) == (2, 8)
    assert chosen(64, 64, 64) == (1, 1)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (1,), (37,), (21, 1), (21, 37)])
def test_gemm(trans_a: int, trans_b: int, bias: tuple[int, ...] | None) -> None:
    a, b = of(*((30, 21) if trans_a else (21, 30))), of(*((37, 30) if trans_b else (30, 37)))
    c = None if bias is None else of(*bias)
    assert complaint(Gemm(a, b, c, alpha=0.5, beta=-2.0, trans_a=trans_a, trans_b=trans_b)) == ""


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 12, 20), (3, 20, 18)),
        ((2, 1, 12, 20), (5, 20, 18)),
        ((4, 2, 12, 20), (20, 18)),
        ((12, 20), (2, 3, 20, 18)),
        ((1, 1, 12, 20), (1, 20, 18)),
    ],
)
def test_batches(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    assert complaint(MatMul(of(*left), of(*right))) == ""


@pytest.mark.parametrize("dtype", [F16, F64, I32, I64, U64])
def test_other_types(dtype: DType) -> None:
    assert complaint(MatMul(of(19, 23, dtype=dtype), of(23, 41, dtype=dtype))) == ""


@pytest.mark.parametrize(
    "op",
    [
        Conv(of(2, 3, 9, 11), of(17, 3, 3, 3), of(17), pads=(1, 1, 1, 1)),
        Conv(of(1, 8, 12, 10), of(9, 8, 3, 2), strides=(2, 1), dilations=(1, 2), pads=(0, 1, 2, 0)),
        Conv(of(1, 16, 7, 9), of(24, 16, 1, 1), of(24)),
        Conv(of(2, 8, 21), of(20, 8, 3)),
        Einsum((of(2, 10, 9), of(2, 12, 9)), "bid,bjd->bij"),
        Einsum((of(9, 10), of(9), of(9, 12)), "ki,k,kj->ji"),
    ],
    ids=str,
)
def test_whatever_sums_products(op: Operator) -> None:
    assert complaint(op) == ""


def test_factors_are_computed_on_the_way() -> None:
    a, b = of(20, 33, dtype=U8), of(33, 18, dtype=I8)
    assert complaint(MatMulInteger(a, b, constant(7, np.uint8), of(18, dtype=I8))) == ""
    filters = of(9, 3, 3, 3, dtype=U8)
    assert complaint(ConvInteger(of(1, 3, 9, 9, dtype=U8), filters, constant(3, np.uint8))) == ""


def graph(make: Callable[..., Op], *given: Value) -> tuple[Graph, list[np.ndarray]]:
    """A graph of several operators, fused, and arrays for it."""
    made = Graph("several")
    last = make(*(made.add_input(value.type, f"x{place}") for place, value in enumerate(given)))

    def add(op: Op) -> Op:
        for value in op.operands if isinstance(op, Operator) else ():
            if value is not None and isinstance(value.owner, Op) and value.owner.parent is None:
                add(value.owner)
        return made.add(op)

    made.outputs, made.output_names = [add(last).results[0]], ["y"]
    rng = np.random.default_rng(2)
    return optimize(made, "fuse"), [
        array_for(value.owner, rng) for value in given if isinstance(value.owner, Argument)
    ]


def test_what_follows_a_sum_is_computed_with_it() -> None:
    def network(x: Value, w: Value, b: Value, skip: Value) -> Op:
        return Gelu(Add(Add(MatMul(x, w).result, b).result, skip).result)

    made, arrays = graph(network, of(40, 30), of(30, 50), of(50), of(40, 50))
    assert templates_of(made) == ["gemm"]
    (actual,), (wanted,) = emulated(made, "sm_80", EmulatedLibrary())(*arrays), evaluate(made, arrays)
    assert not mismatch(actual, wanted, "close")


def test_a_sum_that_is_read_in_another_order_is_not_mixed_up() -> None:
    def network(x: Value, w: Value) -> Op:
        return Softmax(MatMul(x, w).result)

    made, arrays = graph(network, of(16, 30), of(30, 20))
    (actual,), (wanted,) = emulated(made, "sm_80", EmulatedLibrary())(*arrays), evaluate(made, arrays)
    assert not mismatch(actual, wanted, "close")


@pytest.mark.parametrize(
    "op",
    [
        MatMul(of(7, 30), of(30, 30)),
        MatMul(of(30, 7), of(7, 30)),
        MatMul(of(30, 30), of(30, 7)),
        MatMul(of(30), of(30, 30)),
        Conv(of(1, 16, 9, 9), of(16, 1, 3, 3), group=16),
        Conv(of(2, 16, 21), of(20, 8, 3), group=2),
        Einsum((of(16, 16), of(16, 16)), "ij,ij->"),
    ],
    ids=str,
)
def test_what_has_nothing_to_share_is_left_to_single_threads(op: Operator) -> None:
    assert "gemm" not in templates_of(graph_of(op)[0])


def test_templates_can_be_left_out() -> None:
    made, arrays = graph_of(MatMul(of(20, 30), of(30, 40)))
    plain = emulated(made, "sm_80", EmulatedLibrary(), templates=False)
    assert [launch.kernel.split("_")[1] for launch in plain.program.launches] == ["nest"]
    assert not mismatch(plain(*arrays)[0], evaluate(made, arrays)[0], "close")


def test_tiles_are_read_from_shared_memory_as_vectors() -> None:
    made, _ = graph_of(MatMul(of(4096, 64), of(64, 4096)))
    ptx = compile_graph(made, "sm_80", "m").program.ptx
    assert len(re.findall(r"bar(rier)?\.(cta\.)?sync", ptx)) == 2
    loop = max(re.split(r"^\$L\w+:", ptx, flags=re.MULTILINE), key=lambda block: block.count("fma.rn.f32"))
    assert loop.count("fma.rn.f32") % 64 == 0
    loads = re.findall(r"\bld\.\S+", loop)
    assert set(loads) == {"ld.shared.v4.b32"} and len(loads) * 16 == loop.count("fma.rn.f32")


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_two_blocks_of_the_largest_tiles_fit_into_a_core(arch: str, tmp_path: Path) -> None:
    """A core has 65536 registers, 128 for each of 512 threads; a few indices of a tile may lie in memory."""
    made = [
        MatMul(of(4096, 64), of(64, 4096)),
        MatMul(of(4095, 63), of(63, 4097)),
        Gemm(of(63, 4095), of(4097, 63), of(4097), trans_a=1, trans_b=1),
        Conv(of(4, 64, 56, 56), of(500, 64, 3, 3), of(500), pads=(1, 1, 1, 1)),
        MatMul(of(4095, 63, dtype=F64), of(63, 4097, dtype=F64)),
        MatMul(of(4095, 63, dtype=I64), of(63, 4097, dtype=I64)),
    ]
    texts = [text for op in made for text in compile_graph(graph_of(op)[0], arch, "m").program.texts.values()]
    for name, facts in assembled(joined(compiled(texts, arch)), arch, tmp_path).items():
        assert facts.registers <= 128 and facts.spilled <= 64, f"{name}: {facts}"


@pytest.mark.parametrize("which", [0, 1])
def test_each_barrier_is_needed(which: int) -> None:
    made, arrays = graph_of(MatMul(of(40, 60), of(60, 40)))
    module = emulated(made, "sm_80", EmulatedLibrary())
    texts = module.program.texts
    ((symbol, text),) = texts.items()
    before, between, after = text.split(BARRIER)
    texts[symbol] = before + ("", BARRIER)[which] + between + ("", BARRIER)[1 - which] + after
    assert mismatch(module(*arrays)[0], evaluate(made, arrays)[0], "close")


def test_a_barrier_that_some_threads_do_not_reach_is_an_error() -> None:
    made, arrays = graph_of(MatMul(of(40, 60), of(60, 40)))
    module = emulated(made, "sm_80", EmulatedLibrary())
    texts = module.program.texts
    ((symbol, text),) = texts.items()
    (lane,) = re.findall(r"(%v\d+) = call i32 @llvm.nvvm.read.ptx.sreg.tid.x", text)
    skipped = (
        f"%odd = trunc i32 {lane} to i1\n  br i1 %odd, label %over, label %one\n"
        f"one:\n  {BARRIER}\n  br label %over\nover:\n"
    )
    head, _, tail = text.rpartition("  ret void")
    texts[symbol] = head + "  " + skipped + "  ret void" + tail
    with pytest.raises(RunError, match="cuLaunchKernel"):
        module(*arrays)


def test_sums_keep_their_order() -> None:
    """Term after term, as on processors."""
    a, b = np.array([[1e8, 1.0, -1e8] + [0.0] * 9] * 8, np.float32), np.ones((12, 8), np.float32)
    made, _ = graph_of(MatMul(of(8, 12), of(12, 8)))
    assert (emulated(made, "sm_80", EmulatedLibrary())(a, b)[0] == 0).all()
    assert (emulated(made, "sm_80", EmulatedLibrary())(a[:, [0, 2, 1, *range(3, 12)]], b)[0] == 1).all()


def test_infinities_stay_in_their_rows() -> None:
    """Elements beyond the edge are zero in the tile: they must not meet an infinity of a neighbour's."""
    made, (a, b) = graph_of(MatMul(of(9, 9), of(9, 9)))
    a[4, 2], b[3, 5] = np.inf, np.nan
    (actual,), (wanted,) = emulated(made, "sm_80", EmulatedLibrary())(a, b), evaluate(made, [a, b])
    assert not mismatch(actual, wanted, "close")
