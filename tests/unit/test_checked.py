"""Check mode: what passes replace is compared as they do it, and the first wrong replacement is told."""

from __future__ import annotations

import numpy as np
import pytest

import gcomp
from gcomp import RewritePass, made_by, require, rewrite
from gcomp.ir import Graph, Value
from gcomp.op import constant
from gcomp.ops import Add, Exp, Neg, Relu, Sub
from gcomp.testing import checked
from gcomp.types import F32, TensorType
from tests.networks import networks

PIPELINE = "fold-constants,simplify,fold-batchnorm,clean,layout{block=8},clean,fuse"


@rewrite
def drop_both(neg: Neg) -> Value:
    """Neg(Relu(x)) -> x, which is wrong"""
    return made_by(neg.x, Relu).x


def graph() -> Graph:
    found = Graph("g")
    x = found.add_input(TensorType(F32, (2, 3)), "x")
    exp = found.add(Exp(x))
    neg = found.add(Neg(found.add(Relu(exp.result)).result))
    neg.origin = ("fc1/Neg",)
    found.outputs, found.output_names = [found.add(Add(neg.result, exp.result)).result], ["y"]
    return found


def test_a_wrong_replacement_is_told_with_rule_node_and_values() -> None:
    with pytest.raises(gcomp.RewriteError) as told, checked():
        gcomp.optimize(graph(), [RewritePass("drop", [drop_both])])
    text = str(told.value)
    assert "drop_both changes the answer" in text
    assert "= Neg(" in text and 'from ONNX node "fc1/Neg"' in text
    assert "v0 = np.array([[" in text


@rewrite
def no_rest(sub: Sub) -> Value:
    """x - x -> 0, which is wrong of infinities"""
    require(sub.lhs is sub.rhs, "one value twice")
    return constant(np.zeros(sub.result.type.static_shape, np.float32))


def test_exact_operators_get_what_is_no_number() -> None:
    found = Graph("g")
    x = found.add_input(TensorType(F32, (2, 3)), "x")
    found.outputs, found.output_names = [found.add(Sub(x, x)).result], ["y"]
    with pytest.raises(gcomp.RewriteError, match="no_rest changes the answer"), checked():
        gcomp.optimize(found, [RewritePass("rest", [no_rest])])


def test_outside_the_block_nobody_checks() -> None:
    with checked():
        pass
    gcomp.optimize(graph(), [RewritePass("drop", [drop_both])])


@pytest.mark.parametrize("name", sorted(networks()))
def test_what_the_default_passes_do_holds(name: str) -> None:
    with checked() as done:
        gcomp.optimize(networks()[name]()[0], PIPELINE)
    assert not done.unchecked
    assert done.held > 0 or name == "gemms"  # of which nothing is replaced


def test_inputs_are_those_of_the_part_that_changes() -> None:
    """A mere change of what is merged or folded is compared too, by the operators beside it."""
    found = graph()
    x = found.inputs[0]
    found.outputs.append(found.add(Add(found.add(Exp(x)).result, found.add(Exp(x)).result)).result)
    found.output_names.append("z")
    with checked() as done:
        after = gcomp.optimize(found, "clean")
    assert done.held == 2
    assert len(after.ops) == len(found.ops) - 2
