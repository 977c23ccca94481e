"""Models written in ONNX's text syntax, lifted or refused."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
from onnx import ModelProto, parser

from gcomp.diagnostics import GcompError
from gcomp.ir import Graph
from gcomp.lift import lift
from gcomp.wellformed import check

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

Error = TypeVar("Error", bound=GcompError)


def model_of(body: str, head: str = HEAD) -> ModelProto:
    """The model of this text; without a `head` it has opset 17."""
    return parser.parse_model(f"{head}\n{body}")


def lifted(body: str, head: str = HEAD, **given: Any) -> Graph:
    """The graph of this text, checked."""
    graph = lift(model_of(body, head), **given)
    check(graph)
    return graph


def refused(error: type[Error], body: str | ModelProto, match: str, **given: Any) -> Error:
    """The error with which lifting fails."""
    with pytest.raises(error, match=match) as caught:
        lift(body if isinstance(body, ModelProto) else model_of(body), **given)
    return caught.value


def kinds(graph: Graph) -> list[str]:
    """The operators in order."""
    return [op.kind for op in graph.ops]
