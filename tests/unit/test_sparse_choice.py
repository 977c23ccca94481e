"""When products skip zeros: by the share of blocks that are zero, and by the shape."""

import numpy as np
import pytest

from bench.single import problem_for
from gcomp.backends.llvm.cpu import from_options
from gcomp.backends.llvm.templates import pattern, template_for
from gcomp.op import constant
from gcomp.ops.linear import MatMul
from gcomp.types import Array
from tests.unit.test_templates import numbers, of

WIDE = from_options({"triple": "x86_64-linux-gnu", "cpu": "x86-64-v4"})


def weights(zeros: float, inputs: int, outputs: int, block: int = 4) -> Array:
    keep = np.random.default_rng(0).random((inputs, -(-outputs // block))) >= zeros
    return numbers(0, inputs, outputs) * np.repeat(keep, block, axis=1)[:, :outputs]


def chosen(rows: int, b: Array) -> str:
    problem = problem_for(MatMul(of(rows, b.shape[0]), constant(b)), WIDE, {1: b})
    match = template_for(MatMul)
    emitted = match(problem) if match else None
    assert emitted is not None
    return emitted.template


@pytest.mark.parametrize("zeros", [0.0, 0.05])
def test_few_zeros_stay_dense(zeros: float) -> None:
    assert chosen(128, weights(zeros, 768, 768)) == "gemm"


@pytest.mark.parametrize("zeros", [0.5, 0.8, 0.95])
def test_blocks_of_zeros_are_skipped(zeros: float) -> None:
    assert chosen(128, weights(zeros, 768, 768)) == "block-sparse"


def test_zeros_without_structure_stay_dense() -> None:
    """At 60 % single zeros 13 % of the blocks of four are zero: less than transposing costs."""
    assert chosen(128, weights(0.6, 768, 768, block=1)) == "gemm"


@pytest.mark.parametrize("rows", [1, 3])
def test_few_rows_stay_dense(rows: int) -> None:
    assert chosen(rows, weights(0.8, 768, 768)) == "gemm"


def test_what_is_stored() -> None:
    matrix = np.zeros((6, 3), np.float32)
    matrix[1, 2], matrix[3, 0], matrix[5, 1] = 1, 2, 3
    blocks = pattern.occupied(matrix)
    np.testing.assert_array_equal(blocks, [[True, False, True], [False, True, False]])
    np.testing.assert_array_equal(pattern.starts(blocks, 4), [0, 2, 3, 3, 3])
    np.testing.assert_array_equal(pattern.inputs(blocks), [0, 2, 1])
    np.testing.assert_array_equal(pattern.values(matrix, blocks), [[0, 0, 0, 2], [0, 1, 0, 0], [0, 3, 0, 0]])
