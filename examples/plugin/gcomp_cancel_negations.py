"""cancel-negations: drops pairs of negations, and turns sums with a negation into differences."""

from gcomp import RewritePass, made_by, rewrite
from gcomp.ir import Value
from gcomp.ops import Add, Neg, Sub


@rewrite
def drop_double_negation(op: Neg) -> Value:
    """Neg(Neg(x)) -> x"""
    return made_by(op.x, Neg).x


@rewrite
def sum_to_difference(op: Add) -> Sub:
    """Add(x, Neg(y)) -> Sub(x, y)"""
    return Sub(op.lhs, made_by(op.rhs, Neg).x)


@rewrite
def difference_to_sum(op: Sub) -> Add:
    """Sub(x, Neg(y)) -> Add(x, y)"""
    return Add(op.lhs, made_by(op.rhs, Neg).x)


PASS = RewritePass("cancel-negations", [drop_double_negation, sum_to_difference, difference_to_sum])
