"""Functions of a model are inlined, subgraphs become regions."""

import numpy as np
import pytest

from gcomp import op as registry
from gcomp.diagnostics import ModelError, UnsupportedError
from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Value
from gcomp.lift import lift, nodes
from gcomp.op import Operator
from gcomp.text import print_graph
from tests.onnx_text import kinds, lifted, model_of, refused

FUNCTIONS = """
g (float[3] x) => (float[3] y) {
    [outer] t = local.twice <slope = 0.5> (x)
    [again] u = local.twice (t)
    y = local.maybe (u)
}
<domain: "local", opset_import: ["" : 17, "local" : 1]>
twice <slope: float = 0.25> (a) => (c) {
    [first] b = local.once <slope: float = @slope> (a)
    [second] c = local.once <slope: float = @slope> (b)
}
<domain: "local", opset_import: ["" : 17]>
once <slope> (a) => (b) { [leak] b = LeakyRelu <alpha: float = @slope> (a) }
<domain: "local", opset_import: ["" : 17]>
maybe (a, bound) => (b) { b = Clip(a, bound) }
"""
FUNCTION_HEAD = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>'


def test_functions_are_inlined():
    graph = lifted(FUNCTIONS, FUNCTION_HEAD)
    assert kinds(graph) == ["LeakyRelu"] * 4 + ["Clip"]
    assert [op.attributes["alpha"] for op in graph.ops[:4]] == [0.5, 0.5, 0.25, 0.25]
    assert graph.ops[0].origin == ("outer/first/leak",)
    assert [op.result.name for op in graph.ops] == ["outer/b", "t", "again/b", "u", "y"]
    x = np.array([-8, 0, 3], np.float32)
    assert evaluate(graph, [x])[0].tolist() == [-0.125, 0, 3]


def test_functions_have_opsets_of_their_own():
    graph = lifted(
        """g (float[3] x) => (float[3] y) { y = local.clip (x) }
        <domain: "local", opset_import: ["" : 9]>
        clip (a) => (b) { b = Clip <min = 0.5> (a) }""",
        FUNCTION_HEAD,
    )
    assert kinds(graph) == ["Constant", "Clip"]


def test_functions_may_return_what_they_are_given():
    graph = lifted(
        """g (float[3] x) => (float[3] y) { t = local.same (x) y = Relu(t) }
        <domain: "local", opset_import: ["" : 17]>
        same (a) => (a) { }""",
        FUNCTION_HEAD,
    )
    assert kinds(graph) == ["Relu"]
    assert graph.inputs[0].name == "x"


def test_functions_that_call_themselves_are_refused():
    body = """g (float[3] x) => (float[3] y) { y = local.f (x) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        f (a) => (b) { b = local.h (a) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        h (a) => (b) { b = local.f (a) }"""
    refused(ModelError, model_of(body, FUNCTION_HEAD), "function 'f' calls itself")


def test_functions_that_multiply_without_end_are_refused(monkeypatch):
    calls = "{ b = local.f%d (a) c = local.f%d (b) d = local.f%d (c) }"
    body = "g (float[3] x) => (float[3] y) { y = local.f0 (x) }"
    for level in range(30):
        body += '\n<domain: "local", opset_import: ["" : 17, "local" : 1]>'
        body += f"\nf{level} (a) => (d) " + calls % ((level + 1,) * 3)
    body += '\n<domain: "local", opset_import: ["" : 17]>\nf30 (a) => (b) { b = Relu(a) }'
    monkeypatch.setattr(nodes, "NODE_LIMIT", 1000)
    refused(ModelError, model_of(body, FUNCTION_HEAD), "more than 1000 nodes")


def test_functions_take_so_many_inputs():
    body = FUNCTIONS.replace("local.maybe (u)", "local.maybe (u, u, u)")
    refused(ModelError, model_of(body, FUNCTION_HEAD), "'maybe' takes 2 inputs, node 'maybe_2' gives 3")


class Choice(Operator):
    """If, as far as lifting is concerned."""

    condition: Value
    then_branch: Graph
    else_branch: Graph

    def infer(self):
        return tuple(value.type for value in self.then_branch.outputs)


@pytest.fixture
def choice(monkeypatch):
    """If is the operator above, for one test."""
    registry.operators()
    Choice.onnx, Choice.since = "If", 1
    monkeypatch.setitem(registry._BY_ONNX, ("", "If"), [Choice])
    monkeypatch.setitem(registry._OPERATORS, "Choice", Choice)


BRANCHES = """g (bool b, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
    t = Relu(x)
    y = If (b) <
        then_branch = g1 () => (float[2] r) <float[2] v = {3, 4}> { s = Add(t, w) r = Mul(s, v) },
        else_branch = g2 () => (float[2] r) { r = Add(x, w) }
    >
}"""


def test_subgraphs_become_regions(choice):
    graph = lifted(BRANCHES)
    assert kinds(graph) == ["Relu", "Constant", "Choice"]
    op = graph.ops[-1]
    assert isinstance(op, Choice)
    assert op.result.name == "y"
    assert kinds(op.then_branch) == ["Add", "Constant", "Mul"]
    assert op.then_branch.captured() == [graph.ops[0].result, graph.ops[1].result]
    assert op.else_branch.captured() == [graph.inputs[1], graph.ops[1].result]
    assert 'then_branch=graph "g1" () -> (%r "r") {' in print_graph(graph)


def test_subgraphs_wait_for_what_they_capture(choice):
    model = model_of(BRANCHES)
    model.graph.node.reverse()
    assert kinds(lift(model)) == ["Relu", "Constant", "Choice"]


def test_unknown_operators_of_subgraphs_are_listed_too(choice):
    refused(UnsupportedError, BRANCHES.replace("Mul(s, v)", "Mull(s, v)"), '"Mull_1": Mull of ai.onnx')
