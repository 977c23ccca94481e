"""Each rule for graphs, broken once."""

import pytest

from gcomp.diagnostics import IllFormed
from gcomp.ir import Graph, Op, Value
from gcomp.op import argument
from gcomp.ops import Add, MatMul, Relu
from gcomp.text import parse
from gcomp.types import F32, TensorType, channels_last
from gcomp.wellformed import check

TEXT = """
graph "main" (%x: f32[n,4], %w: f32[4,4]) -> (%b "y", %c "z") {
  %a = MatMul(%x, %w) from "first"
  %b = Relu(%a) from "second"
  %c = Add(%a, %b)
}
"""


class Branch(Op):
    """Holds a region and gives what that gives."""

    body: Graph

    def infer(self) -> tuple[TensorType, ...]:
        return tuple(value.type for value in self.body.outputs)


@pytest.fixture
def graph() -> Graph:
    return parse(TEXT)


def with_branch(graph: Graph) -> Branch:
    """Adds an operator whose region reads %a and the region's own input."""
    body = Graph("body")
    own = body.add_input(graph.ops[0].result.type, "own")
    body.outputs = [body.add(Add(graph.ops[0].result, own)).result]
    branch = graph.add(Branch(body))
    graph.outputs.append(branch.result)
    graph.output_names.append("branch")
    return branch


def refused(graph: Graph, complaint: str) -> IllFormed:
    with pytest.raises(IllFormed, match=complaint) as caught:
        check(graph)
    return caught.value


def test_a_sound_graph_passes(graph):
    check(graph)
    with_branch(graph)
    check(graph)
    check(graph.clone())
    graph.ops[1].result.type = graph.ops[1].result.type.with_layout(channels_last(2, 4))
    check(graph)


def test_values_are_defined_before_they_are_read(graph):
    graph.ops.reverse()
    error = refused(graph, "Add reads %a: .*, which is not defined before")
    assert error.line.startswith("%c = Add(%a, %b)")


def test_the_error_shows_line_and_origin(graph):
    graph.ops[0], graph.ops[1] = graph.ops[1], graph.ops[0]
    error = refused(graph, "Relu reads")
    assert error.line == '%b = Relu(%a) : f32[n,4] from "second"'
    assert error.origin == ("second",)
    assert "^^^" in str(error)


def test_values_of_strangers_are_refused(graph):
    stranger = parse(TEXT)
    graph.ops[1].replace_operand(graph.ops[0].result, stranger.ops[0].result)
    refused(graph, "Relu reads .* not defined before")


def test_outputs_are_defined(graph):
    graph.outputs[0] = parse(TEXT).outputs[0]
    refused(graph, "an output of graph 'main' is not defined")


def test_a_region_may_not_leak(graph):
    branch = with_branch(graph)
    graph.outputs[0] = branch.body.outputs[0]
    refused(graph, "an output of graph 'main' is not defined")


def test_a_region_reads_only_what_is_defined_before(graph):
    branch = with_branch(graph)
    graph.ops.remove(branch)
    graph.ops.insert(0, branch)
    refused(graph, "Add reads")


def test_tables_of_users_agree(graph):
    graph.ops[0].result.users.pop(graph.ops[1])
    assert refused(graph, "users of %a.* misses Relu").origin == ("first",)
    graph.ops[0].result.users[graph.ops[1]] = None
    check(graph)
    graph.inputs[0].users[graph.ops[2]] = None
    refused(graph, "users of %x.* wrongly lists Add")


def test_captured_values_count_the_holder_of_the_region(graph):
    branch = with_branch(graph)
    graph.ops[0].result.users.pop(branch)
    refused(graph, "users of %a.* misses Branch")


def test_parents_agree(graph):
    graph.ops[1].parent = None
    refused(graph, "its parent is another")


def test_results_belong_to_their_operator(graph):
    op = graph.ops[2]
    op.results = (Value(op.result.type, graph.ops[1], 0, "c"),)
    refused(graph, "result 0 of Add says that it belongs elsewhere")


def test_inputs_belong_to_the_graph(graph):
    graph.inputs.reverse()
    refused(graph, "input 0 of graph 'main'")


def test_no_operator_appears_twice(graph):
    graph.ops.append(graph.ops[0])
    refused(graph, "MatMul appears twice")


def test_types_are_inferred_ones(graph):
    graph.ops[1].result.type = TensorType(F32, (4, 4))
    refused(graph, r"Relu has results f32\[4,4\], but its operands give f32\[n,4\]")


def test_operands_fit(graph):
    matmul = graph.ops[0]
    assert isinstance(matmul, MatMul)
    graph.inputs[1].type = TensorType(F32, (3, 4))
    refused(graph, r"MatMul needs a\[-1\] == b\[-2\]")


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["y"], "2 outputs and 1 names"),
        (["y", "z", "u"], "2 outputs and 3 names"),
        (["y", "y"], "several outputs called 'y'"),
    ],
)
def test_outputs_have_unique_names(graph, names, complaint):
    graph.output_names = names
    refused(graph, complaint)


def test_inputs_have_unique_names(graph):
    graph.inputs[1].name = "x"
    refused(graph, "several inputs called 'x'")


def test_stand_ins_are_refused():
    graph = Graph()
    graph.outputs = [graph.add(Relu(argument(TensorType(F32, (2,))))).result]
    graph.output_names = ["y"]
    refused(graph, "an Argument stands for an operand")
