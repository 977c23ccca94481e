"""A layer of a transformer's encoder, as in BERT, with seeded weights."""

from __future__ import annotations

import numpy as np

from gcomp.ir import Graph, Value
from gcomp.op import constant
from gcomp.ops import Add, Gelu, LayerNormalization, MatMul, Mul, Reshape, Softmax, Transpose
from gcomp.types import F32, Array, TensorType


def encoder_layer(
    batch: int, tokens: int, width: int, heads: int, inner: int, seed: int = 0
) -> tuple[Graph, list[Array]]:
    """The layer over `x` f32[batch, tokens, width], and an array for it.

    Attention of `heads`, a residual, LayerNormalization; two products with a GELU between, `inner` wide, a
    residual, LayerNormalization. Weights keep the variance of what they multiply.
    """
    rng = np.random.default_rng(seed)
    graph = Graph("encoder_layer")
    x = graph.add_input(TensorType(F32, (batch, tokens, width)), "x")

    def normal(*shape: int, scale: float = 1.0) -> Value:
        return constant((scale * rng.standard_normal(shape)).astype(np.float32))

    def dense(x: Value, columns: int) -> Value:
        depth = x.type.static_shape[-1]
        product = graph.add(MatMul(x, normal(depth, columns, scale=depth**-0.5)))
        return graph.add(Add(product.result, normal(columns, scale=0.1))).result

    def normalised(x: Value, y: Value) -> Value:
        scale = constant((1 + 0.1 * rng.standard_normal(width)).astype(np.float32))
        return graph.add(LayerNormalization(Add(x, y).result, scale, normal(width, scale=0.1))).results[0]

    def in_heads(x: Value, perm: tuple[int, ...]) -> Value:
        split = graph.add(Reshape(x, constant([batch, tokens, heads, width // heads])))
        return graph.add(Transpose(split.result, perm)).result

    query, key, value = (
        in_heads(dense(x, width), perm) for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
    )
    scores = graph.add(Mul(MatMul(query, key).result, constant((width // heads) ** -0.5))).result
    mixed = graph.add(MatMul(Softmax(scores).result, value)).result
    joined = graph.add(Transpose(mixed, (0, 2, 1, 3))).result
    attended = graph.add(Reshape(joined, constant([batch, tokens, width]))).result
    x = normalised(x, dense(attended, width))
    grown = graph.add(Gelu(dense(x, inner))).result
    graph.outputs = [normalised(x, dense(grown, width))]
    graph.output_names = ["y"]
    return graph, [rng.standard_normal((batch, tokens, width)).astype(np.float32)]
