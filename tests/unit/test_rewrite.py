"""What rules may do and see, and what the engine refuses: each error with its message and place."""

import numpy as np
import pytest

from gcomp.diagnostics import RewriteError
from gcomp.ir import Graph, Op, Value
from gcomp.op import Constant, Operator
from gcomp.ops import Abs, Add, Identity, MatMul, Mean, Mul, Neg, Relu, Sub, Sum
from gcomp.rewrite import (
    Refusal,
    RewritePass,
    _cycle,
    constant,
    either_order,
    made_by,
    only_user,
    require,
    rewrite,
    supersede,
)
from gcomp.types import F32, TensorType, parse_type
from gcomp.wellformed import check
from tests.weak_rule import FUSE_GEMM, matmul_add_to_gemm


@rewrite
def neg_neg(op: Neg) -> Value:
    """Neg(Neg(x)) -> x"""
    return made_by(op.x, Neg).x


def graph_of(*inputs: str) -> tuple[Graph, list[Value]]:
    """A graph with inputs x0, x1, ... of these types."""
    graph = Graph()
    return graph, [graph.add_input(parse_type(type), f"x{i}") for i, type in enumerate(inputs)]


def output(graph: Graph, *ops: Op) -> None:
    for op in ops:
        graph.add(op)
        graph.outputs += op.results
        graph.output_names.append(f"y{len(graph.output_names)}")


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


def matmul_add(bias: str) -> Graph:
    graph, (a, b, c) = graph_of("f32[1,8]", "f32[8,1]", bias)
    product = MatMul(a, b)
    product.origin = ("fc/MatMul",)
    add = Add(product.result, c)
    add.origin = ("fc/Add",)
    output(graph, add)
    return graph


def test_a_rule_is_applied_with_its_origins_and_the_graph_stays_well_formed() -> None:
    graph = matmul_add("f32[1]")
    assert FUSE_GEMM.run(graph)
    assert kinds(graph) == ["Gemm"]
    assert graph.ops[0].origin == ("fc/MatMul", "fc/Add")
    assert graph.output_names == ["y0"]
    check(graph)
    assert not FUSE_GEMM.run(graph)


def test_a_bias_that_widens_is_refused() -> None:
    with pytest.raises(RewriteError) as caught:
        FUSE_GEMM.run(matmul_add("f32[5,1]"))
    assert caught.value.message == (
        "fuse-gemm: matmul_add_to_gemm fails: Gemm needs c to broadcast to f32[1,1], got c: f32[5,1]"
    )
    assert "Add(" in caught.value.line
    assert caught.value.origin == ("fc/Add",)


def test_another_type_is_refused_in_the_words_of_the_design() -> None:
    @rewrite
    def forget_the_bias(add: Add) -> Value:
        return made_by(add.lhs, MatMul).result

    with pytest.raises(RewriteError) as caught:
        RewritePass("fuse-gemm", [forget_the_bias]).run(matmul_add("f32[5,1]"))
    assert caught.value.message == "fuse-gemm: forget_the_bias puts f32[1,1] in place of f32[5,1]"


def test_a_refined_type_is_accepted_and_spreads() -> None:
    graph, (x, y) = graph_of("f32[n,4]", "f32[2,4]")
    output(graph, Abs(Neg(Sub(x, x).result).result))

    @rewrite
    def known(op: Sub) -> Identity:
        return Identity(y)

    assert RewritePass("refine", [known]).run(graph)
    assert [str(op.result.type) for op in graph.ops] == ["f32[2,4]"] * 3
    check(graph)


def test_values_with_other_users_stay() -> None:
    graph, (x,) = graph_of("f32[4]")
    inner = Neg(x)
    output(graph, Neg(inner.result), Abs(inner.result))
    assert RewritePass("neg", [neg_neg]).run(graph)
    assert kinds(graph) == ["Neg", "Abs"]
    assert graph.outputs[0] is x
    check(graph)


def test_outputs_keep_their_names_and_dead_producers_go() -> None:
    graph, (x,) = graph_of("f32[4]")
    output(graph, Neg(Neg(Neg(Neg(Abs(x).result).result).result).result))
    assert RewritePass("neg", [neg_neg]).run(graph)
    assert kinds(graph) == ["Abs"]
    assert graph.output_names == ["y0"]


def test_value_names_pass_on() -> None:
    graph = matmul_add("f32[1]")
    graph.outputs[0].name = "logits"
    FUSE_GEMM.run(graph)
    assert graph.outputs[0].name == "logits"


def test_rules_that_undo_each_other_are_named() -> None:
    @rewrite
    def to_sub(op: Add) -> Sub:
        return Sub(op.lhs, op.rhs)

    @rewrite
    def to_add(op: Sub) -> Add:
        return Add(op.lhs, op.rhs)

    graph, (x,) = graph_of("f32[4]")
    output(graph, Add(x, x))
    with pytest.raises(RewriteError, match=r"loop: no end after 80 rewrites: (to_\w+ -> ){2}to_\w+$"):
        RewritePass("loop", [to_sub, to_add]).run(graph)


def test_rules_without_a_cycle_are_counted() -> None:
    assert _cycle([*"xyabab", *"ab" * 3]) == ": a -> b -> a"
    assert _cycle([*"abbaabbb", *"ababbab"]) == "; most often b (9 times), a (6 times)"


@pytest.mark.parametrize(
    ("replacement", "complaint"),
    [
        (lambda op: op, "gives back what it was to replace"),
        (lambda op: (op.x, op.x), "gives 2 values for 1 results"),
        (lambda op: (None,), "drops %"),
        (lambda op: Abs(op.result), "reads what it replaces"),
        (lambda op: MatMul(op.x, op.x), r"fails: MatMul needs a\[-1\] == b\[-2\]"),
        (lambda op: None, "gives NoneType, where operators or values are wanted"),
        (lambda op: [3], "gives list, where operators or values are wanted"),
        (lambda op: op.attributes["axis"], r"raises KeyError: 'axis' \(.*test_rewrite.py, line \d+\)"),
    ],
)
def test_broken_replacements_are_refused(replacement, complaint: str) -> None:
    def broken(op: Neg) -> Value:
        return replacement(op)

    graph, (x,) = graph_of("f32[2,4]")
    output(graph, Neg(x))
    with pytest.raises(RewriteError, match=f"bad: broken .*{complaint}"):
        RewritePass("bad", [rewrite(broken)]).run(graph)


def test_rules_reach_into_regions() -> None:
    @rewrite
    def outer_neg(op: Neg) -> Value:
        return made_by(op.x, Neg).x

    class Holder(Operator):
        """Gives what its region gives."""

        body: Graph

        def infer(self) -> TensorType:
            return self.body.outputs[0].type

    graph, (x,) = graph_of("f32[4]")
    outer = graph.add(Neg(Abs(x).result))
    body = Graph("body")
    body.outputs = [body.add(Neg(outer.result)).result]
    body.output_names = ["b"]
    output(graph, Holder(body))
    assert RewritePass("neg", [outer_neg]).run(graph)
    assert body.ops == []
    check(graph)


def test_looks_refuse_with_a_reason() -> None:
    graph, (x, y) = graph_of("f32[2,2]", "f32[2,2]")
    mul = graph.add(Mul(Relu(x).result, y))
    with pytest.raises(Refusal, match="needs a MatMul, finds Relu") as caught:
        made_by(mul.lhs, MatMul)
    assert (caught.value.value, caught.value.wanted) == (mul.lhs, MatMul)
    with pytest.raises(Refusal, match="needs a MatMul, finds an input"):
        made_by(x, MatMul)
    with pytest.raises(Refusal, match="needs a Constant, finds nothing"):
        constant(None)
    with pytest.raises(Refusal, match="more love"):
        require(False, "more love")
    assert either_order(mul, Relu) == (mul.lhs.owner, y)
    assert either_order((y, mul.lhs), Relu) == (mul.lhs.owner, y)
    with pytest.raises(Refusal, match=r"needs one user of .*, finds 2"):
        graph.add(Abs(y))
        only_user(y)
    graph.outputs = [mul.result]
    graph.add(Neg(mul.result))
    with pytest.raises(Refusal, match="is an output of the graph too"):
        only_user(mul.result)
    assert constant(Constant(np.array([1, 2], np.float32)).result).tolist() == [1, 2]


def test_an_operator_is_not_taken_for_the_one_that_it_derives_from() -> None:
    graph, (x,) = graph_of("f32[4]")
    mean = graph.add(Mean((x, x)))
    assert isinstance(mean, Sum)
    with pytest.raises(Refusal):
        made_by(mean.result, Sum)


def test_misses_are_told_nearest_first() -> None:
    graph, (a, b, c) = graph_of("f32[2,3,3]", "f32[3,3]", "f32[3]")
    output(graph, Add(MatMul(a, b).result, c), Add(Relu(a).result, c))
    report = FUSE_GEMM.apply(graph)
    assert not report.applications
    assert [(miss.rule, miss.reason, miss.looks) for miss in report.misses()] == [
        ("matmul_add_to_gemm", "Gemm takes matrices", 1),
        ("matmul_add_to_gemm", "needs a MatMul, finds Relu", 0),
    ]


def test_a_rule_names_its_root_and_says_what_it_does() -> None:
    assert matmul_add_to_gemm.roots == (Add,)
    assert matmul_add_to_gemm.summary == "Add(MatMul(a, b), c) -> Gemm(a, b, c)"

    def rootless(x) -> Value:
        return x

    with pytest.raises(RewriteError, match="rootless: a rule takes one operator, annotated with its class"):
        rewrite(rootless)

    def mysterious(x: "Nowhere") -> Value:  # type: ignore[name-defined]  # noqa: F821
        return x

    with pytest.raises(RewriteError, match="mysterious: name 'Nowhere' is not defined"):
        rewrite(mysterious)


def test_a_union_is_a_root_for_each_class() -> None:
    @rewrite
    def drop(op: Neg | Abs) -> Value:
        return op.x

    graph, (x,) = graph_of("f32[4]")
    output(graph, Neg(Abs(Relu(x).result).result))
    assert RewritePass("drop", [drop]).run(graph)
    assert kinds(graph) == ["Relu"]


def test_a_new_value_takes_the_layout_of_the_old_one() -> None:
    graph, (x,) = graph_of("f32[1,4,2,2]")
    old = graph.add(Neg(x))
    old.result.type = parse_type("f32[1,4,2,2 @ 0 2 3 1^16]")
    new = Abs(x)
    graph.outputs, graph.output_names = [old.result], ["y"]

    @rewrite
    def to_abs(op: Neg) -> Abs:
        return new

    assert RewritePass("abs", [to_abs]).run(graph)
    assert str(graph.outputs[0].type) == "f32[1,4,2,2 @ 0 2 3 1^16]"


def test_supersede_leaves_shared_producers_alone() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (4,)), "x")
    shared = graph.add(Abs(x))
    first, second = graph.add(Neg(shared.result)), graph.add(Relu(shared.result))
    graph.outputs, graph.output_names = [first.result, second.result], ["a", "b"]
    supersede(first, [x], [first])
    assert kinds(graph) == ["Abs", "Relu"]
    check(graph)
