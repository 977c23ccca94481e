"""Proofs: what holds is proved, what does not is shown to be wrong, and terms mean what numpy computes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcomp import RewritePass, made_by, require, rewrite
from gcomp.ops import Add, Exp, Mul, Neg, Relu, Sub, Transpose
from gcomp.pipeline import Pass
from gcomp.registry import find
from gcomp.rewrite import Rule
from gcomp.semantics import BINARY, UNARY, convert
from gcomp.types import DTYPES, F32, DType
from tests.commands import succeed

z3 = pytest.importorskip("z3", reason="z3 is not installed: make test EXTRAS=prove")
from gcomp.testing.proof import prove  # noqa: E402
from gcomp.testing.proof.terms import Terms  # noqa: E402

NEGATIONS = '''
from gcomp import RewritePass, made_by, rewrite
from gcomp.ir import Value
from gcomp.ops import Neg


@rewrite
def drop_negations(neg: Neg) -> Value:
    """Neg(Neg(x)) -> x"""
    return made_by(neg.x, Neg).x


PASS = RewritePass("negations", [drop_negations])
'''

INTEGERS = [DTYPES[name] for name in ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64")]
ARITHMETIC = ("add", "sub", "mul", "floordiv", "truncdiv", "mod", "rem", "min", "max", "and", "or", "xor")
COMPARED = ("lt", "le", "eq", "ne")


def shipped(pass_name: str, rule: str) -> Rule:
    one: Pass = find("passes", pass_name)
    assert isinstance(one, RewritePass)
    return next(found for found in one.rules if found.name == rule)


@rewrite
def sub_to_add(sub: Sub) -> Add:
    """x - y -> x + (-y)"""
    require(sub.result.type.dtype == F32, "f32")
    return Add(sub.lhs, Neg(sub.rhs).result)


@rewrite
def sub_to_sum(sub: Sub) -> Add:
    """x - y -> x + y"""
    require(sub.lhs.type.dtype == F32, "f32")
    return Add(sub.lhs, sub.rhs)


@rewrite
def exp_of_negative(exp: Exp) -> Exp:
    """exp(-x) -> exp(x)"""
    return Exp(made_by(exp.x, Neg).x)


@rewrite
def transposed_relu(op: Transpose) -> Relu:
    """Transpose(Relu(x)) -> Relu(Transpose(x))"""
    return Relu(Transpose(made_by(op.x, Relu).x, perm=op.perm).result)


@rewrite
def twice(mul: Mul) -> Mul:
    """x * x -> x * x, which is no change"""
    require(mul.lhs is mul.rhs, "a square")
    require(mul.result.type.rank > 99, "what never is")
    return Mul(mul.lhs, mul.rhs)


@pytest.mark.parametrize(
    ("pass_name", "rule", "verdict"),
    [
        ("simplify", "drop_transpose", "exact"),
        ("simplify", "compose_transposes", "exact"),
        ("simplify", "drop_identity", "exact"),
        ("simplify", "short_sum", "real"),
    ],
)
def test_shipped_rules_are_proved(pass_name: str, rule: str, verdict: str) -> None:
    proof = prove(shipped(pass_name, rule))
    assert (proof.verdict, proof.reason) == (verdict, "")
    assert proof.graphs >= proof.patterns >= 5


def test_readings() -> None:
    assert prove(transposed_relu).verdict == "exact"
    assert prove(sub_to_add).verdict == "real"  # to the bit it needs to know that a - b is a + -b


def test_a_wrong_rule_is_shown_to_be_wrong() -> None:
    proof = prove(sub_to_sum)
    assert proof.verdict == "wrong"
    assert "differs for x0[" in proof.reason
    assert str(proof).startswith("wrong: ")


def test_what_cannot_be_known_is_left_open() -> None:
    proof = prove(exp_of_negative)
    assert proof.verdict == "open" and "function" in proof.reason
    assert prove(shipped("fold-batchnorm", "gemm_batchnorm")).reason.endswith("the rule computes")
    assert prove(twice).reason == "it fires on no small graph"


@given(data=st.data(), dtype=st.sampled_from(INTEGERS), op=st.sampled_from((*ARITHMETIC, *COMPARED)))
def test_integer_terms_mean_what_numpy_computes(data: st.DataObject, dtype: DType, op: str) -> None:
    a, b = (data.draw(elements(dtype)) for _ in range(2))
    terms = Terms("reals")
    x, y = terms.unknown("x", dtype), terms.unknown("y", dtype)
    found = settled(terms.binary(op, x, y, dtype), {x: terms.term(a, dtype), y: terms.term(b, dtype)})
    with np.errstate(all="ignore"):
        expected = BINARY[op](np.asarray(a), np.asarray(b))[()]
    assert found.eq(terms.term(expected, DTYPES["bool"] if op in COMPARED else dtype))


@given(data=st.data(), dtype=st.sampled_from(INTEGERS), other=st.sampled_from(INTEGERS))
def test_conversions_of_integers(data: st.DataObject, dtype: DType, other: DType) -> None:
    a, terms = data.draw(elements(dtype)), Terms("bits")
    x = terms.unknown("x", dtype)
    found = settled(terms.cast(x, dtype, other), {x: terms.term(a, dtype)})
    assert found.eq(terms.term(convert(np.asarray(a), other)[()], other))


REALS = st.integers(-4000, 4000).map(lambda n: np.float64(n / 8))


@given(value=REALS, op=st.sampled_from(("neg", "abs", "floor", "ceil", "round", "trunc")))
def test_roundings_of_reals(value: np.float64, op: str) -> None:
    terms, dtype = Terms("reals"), DTYPES["f64"]
    x = terms.unknown("x", dtype)
    found = settled(terms.unary(op, x, dtype), {x: terms.term(value, dtype)})
    assert Fraction(found.numerator_as_long(), found.denominator_as_long()) == Fraction(
        float(UNARY[op](value))
    )


@given(value=REALS, dtype=st.sampled_from(INTEGERS[:4]))
def test_reals_as_integers_saturate(value: np.float64, dtype: DType) -> None:
    terms, wide = Terms("reals"), DTYPES["f64"]
    x = terms.unknown("x", wide)
    found = settled(terms.cast(x, wide, dtype), {x: terms.term(value, wide)})
    assert found.eq(terms.term(convert(np.asarray(value), dtype)[()], dtype))


def elements(dtype: DType) -> st.SearchStrategy[np.generic]:
    info = np.iinfo(dtype.numpy)
    return st.integers(int(info.min), int(info.max)).map(dtype.numpy.type)


def settled(term, values):
    return z3.simplify(z3.substitute(term, *values.items()))


def test_verify_proves(tmp_path: Path) -> None:
    file = tmp_path / "negations.py"
    file.write_text(NEGATIONS)
    facts = json.loads(succeed("verify", "--pass", file, "--graphs", "5", "--prove", "--json"))
    assert facts["holds"] is True
    assert [proof["verdict"] for proof in facts["proofs"]] == ["real"]
