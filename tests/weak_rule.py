"""A rule that is too weak, for the tests of all that guards against one: a bias may widen the product."""

from __future__ import annotations

from gcomp import RewritePass, made_by, require, rewrite
from gcomp.ops import Add, Gemm, MatMul


@rewrite
def matmul_add_to_gemm(add: Add) -> Gemm:
    """Add(MatMul(a, b), c) -> Gemm(a, b, c)"""
    product = made_by(add.lhs, MatMul)
    require(product.a.type.rank == product.b.type.rank == 2, "Gemm takes matrices")
    return Gemm(product.a, product.b, add.rhs)


FUSE_GEMM = RewritePass("fuse-gemm", [matmul_add_to_gemm])
