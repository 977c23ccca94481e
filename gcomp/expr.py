"""Scalar expressions, as kernels use them, and the constructors that simplify index arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .dim import Dim
from .types import BOOL, I64, DType

_ids = itertools.count()


class Expr:
    """A scalar expression. Operators and comparisons build others; `eq` and `ne` stand for `==` and `!=`.

    Sub-expressions may be shared: each object is computed once where its variables are known.
    """

    dtype: DType
    """The type of the value: a field of some nodes, a property of those that take it from an operand."""

    def __add__(self, other: Operand) -> Expr:
        return binary("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return binary("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return binary("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return binary("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return binary("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return binary("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return binary("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return binary("div", other, self)

    def __floordiv__(self, other: Operand) -> Expr:
        return binary("floordiv", self, other)

    def __mod__(self, other: Operand) -> Expr:
        return binary("mod", self, other)

    def __and__(self, other: Operand) -> Expr:
        return binary("and", self, other)

    def __or__(self, other: Operand) -> Expr:
        return binary("or", self, other)

    def __xor__(self, other: Operand) -> Expr:
        return binary("xor", self, other)

    def __lshift__(self, other: Operand) -> Expr:
        return binary("shl", self, other)

    def __rshift__(self, other: Operand) -> Expr:
        return binary("shr", self, other)

    def __neg__(self) -> Expr:
        return unary("neg", self)

    def __invert__(self) -> Expr:
        return unary("not", self)

    def __lt__(self, other: Operand) -> Expr:
        return binary("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return binary("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return binary("lt", other, self)

    def __ge__(self, other: Operand) -> Expr:
        return binary("le", other, self)

    def eq(self, other: Operand) -> Expr:
        return binary("eq", self, other)

    def ne(self, other: Operand) -> Expr:
        return binary("ne", self, other)


Operand = Expr | int | float | bool
Index = Expr | Dim

UnaryName = Literal[
    "neg", "abs", "not", "sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf",
    "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
    "tanh", "erf", "sigmoid",
]  # fmt: skip
"""`round` is half to even. From `exp` on they are expanded by `gcomp.expand` before any backend sees them."""

BinaryName = Literal[
    "add", "sub", "mul", "div", "floordiv", "truncdiv", "mod", "rem", "min", "max", "pow",
    "and", "or", "xor", "shl", "shr", "lt", "le", "eq", "ne",
]  # fmt: skip
"""`div` is for floats. Integer division by zero yields 0; `floordiv` and `mod` round down, `truncdiv` and
`rem` toward zero; integers wrap; shifts by the width or more yield 0. `min` and `max` propagate NaN. `pow`
is expanded."""

COMPARISONS = ("lt", "le", "eq", "ne")


@dataclass(frozen=True, eq=False)
class Var(Expr):
    """A loop variable running from 0 to `extent` - 1; i64."""

    name: str
    extent: Dim
    dtype: DType = I64

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Literal_(Expr):
    """A number of type `dtype`."""

    value: int | float | bool
    dtype: DType


@dataclass(frozen=True, eq=False)
class Size(Expr):
    """A symbolic size as an i64."""

    dim: Dim
    dtype: DType = I64


@dataclass(frozen=True, eq=False)
class Unary(Expr):
    op: UnaryName
    x: Expr
    dtype: DType


@dataclass(frozen=True, eq=False)
class Binary(Expr):
    op: BinaryName
    lhs: Expr
    rhs: Expr
    dtype: DType


@dataclass(frozen=True, eq=False)
class Fma(Expr):
    """`a * b + c` rounded once."""

    a: Expr
    b: Expr
    c: Expr

    @property
    def dtype(self) -> DType:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.c.dtype


@dataclass(frozen=True, eq=False)
class Select(Expr):
    """`then` where `condition` holds, else `other`; both are computed."""

    condition: Expr
    then: Expr
    other: Expr

    @property
    def dtype(self) -> DType:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.then.dtype


@dataclass(frozen=True, eq=False)
class Cast(Expr):
    """`x` converted: floats to integers truncate and saturate, NaN becomes 0; integers to narrower ones wrap;
    to bool: whether it is not zero."""

    x: Expr
    dtype: DType


@dataclass(frozen=True, eq=False)
class Bitcast(Expr):
    """The bits of `x` read as another type of the same width."""

    x: Expr
    dtype: DType


@dataclass(frozen=True, eq=False)
class Checked(Expr):
    """`index` if 0 <= index < extent; else the run ends with an error, and no element is read through it."""

    index: Expr
    extent: Dim
    dtype: DType = I64


def fresh_name(letter: str) -> str:
    """A name for a variable or tensor that no other has."""
    return f"{letter}{next(_ids)}"


def literal(value: float | bool, dtype: DType = I64) -> Literal_:
    return Literal_(value, dtype)


def as_expr(value: Operand, dtype: DType) -> Expr:
    """`value` as an expression; Python numbers become literals of `dtype`."""
    return value if isinstance(value, Expr) else Literal_(value, dtype)


def as_index(value: Index) -> Expr:
    if isinstance(value, Expr):
        return value
    return Literal_(value, I64) if isinstance(value, int) else Size(value)


def unary(op: UnaryName, x: Expr) -> Expr:
    return Unary(op, x, BOOL if op in ("isnan", "isinf") else x.dtype)


def minimum(lhs: Operand, rhs: Operand) -> Expr:
    return binary("min", lhs, rhs)


def maximum(lhs: Operand, rhs: Operand) -> Expr:
    return binary("max", lhs, rhs)


def select(condition: Expr, then: Operand, other: Operand) -> Expr:
    """`then` where the condition holds, else `other`; of two numbers none may be bare."""
    dtype = then.dtype if isinstance(then, Expr) else other.dtype if isinstance(other, Expr) else None
    if dtype is None:
        raise ValueError("select needs one expression to tell its type")
    return Select(condition, as_expr(then, dtype), as_expr(other, dtype))


def cast(x: Expr, dtype: DType) -> Expr:
    return x if x.dtype == dtype else Cast(x, dtype)


def binary(op: BinaryName, lhs: Operand, rhs: Operand) -> Expr:
    """The operation on operands of one type; a Python number takes the other operand's type.

    Index arithmetic is simplified as it is built: constants fold, neutral elements vanish, and a quotient or
    remainder of `a * c + b` by `c` resolves where `b` is known to lie in [0, c).
    """
    dtype = lhs.dtype if isinstance(lhs, Expr) else rhs.dtype if isinstance(rhs, Expr) else I64
    left, right = as_expr(lhs, dtype), as_expr(rhs, dtype)
    if left.dtype != right.dtype:
        raise ValueError(f"{op} of {left.dtype} and {right.dtype}")
    if dtype == I64:
        simple = _simplify_index(op, left, right)
        if simple is not None:
            return simple
    return Binary(op, left, right, BOOL if op in COMPARISONS else dtype)


def bounds(x: Expr) -> tuple[int | None, int | None]:
    """The least and greatest value of an index expression, each None if unknown."""
    match x:
        case Literal_(value=value):
            return int(value), int(value)
        case Var(extent=int() as extent):
            return 0, max(extent - 1, 0)
        case Var() | Size():
            return 0, None
        case Checked(extent=int() as extent):
            return 0, max(extent - 1, 0)
        case Binary(op="add", lhs=lhs, rhs=rhs):
            (a, b), (c, d) = bounds(lhs), bounds(rhs)
            return (None if a is None or c is None else a + c), (None if b is None or d is None else b + d)
        case Binary(op="sub", lhs=lhs, rhs=rhs):
            (a, b), (c, d) = bounds(lhs), bounds(rhs)
            return (None if a is None or d is None else a - d), (None if b is None or c is None else b - c)
        case Binary(op="mul", lhs=lhs, rhs=Literal_(value=factor)) if factor >= 0:
            a, b = bounds(lhs)
            return (None if a is None else a * int(factor)), (None if b is None else b * int(factor))
        case Binary(op="floordiv", lhs=lhs, rhs=Literal_(value=divisor)) if divisor > 0:
            a, b = bounds(lhs)
            return (None if a is None else a // int(divisor)), (None if b is None else b // int(divisor))
        case Binary(op="mod", rhs=Literal_(value=divisor)) if divisor > 0:
            return 0, int(divisor) - 1
        case _:
            return None, None


def _simplify_index(op: BinaryName, lhs: Expr, rhs: Expr) -> Expr | None:
    a = int(lhs.value) if isinstance(lhs, Literal_) else None
    b = int(rhs.value) if isinstance(rhs, Literal_) else None
    if a is not None and b is not None:
        folded = _FOLD[op](a, b) if op in _FOLD and (b or op not in ("floordiv", "mod")) else None
        return None if folded is None else Literal_(folded, BOOL if op in COMPARISONS else I64)
    if a is not None and op in ("add", "mul"):
        return _simplify_index(op, rhs, lhs) or Binary(op, rhs, lhs, I64)
    match op:
        case "add" | "sub" if b == 0:
            return lhs
        case "mul" | "floordiv" if b == 1:
            return lhs
        case "mul" if b == 0:
            return rhs
        case "add" if (
            b is not None and isinstance(lhs, Binary) and lhs.op == "add" and isinstance(lhs.rhs, Literal_)
        ):
            return binary("add", lhs.lhs, int(lhs.rhs.value) + b)
        case "sub" if b is not None:
            return binary("add", lhs, -b)
        case "mul" if (
            b is not None and isinstance(lhs, Binary) and lhs.op == "mul" and isinstance(lhs.rhs, Literal_)
        ):
            return binary("mul", lhs.lhs, int(lhs.rhs.value) * b)
        case "floordiv" | "mod" if b is not None and b > 0:
            low, high = bounds(lhs)
            if low is not None and high is not None and low >= 0 and high < b:
                return Literal_(0, I64) if op == "floordiv" else lhs
            multiple, rest = _split_multiple(lhs, b)
            if multiple is not None:
                return (
                    binary("add", multiple, binary("floordiv", rest, b))
                    if op == "floordiv"
                    else binary("mod", rest, b)
                )
        case "lt":
            (low, high), (least, greatest) = bounds(lhs), bounds(rhs)
            if high is not None and least is not None and high < least:
                return Literal_(True, BOOL)
            if low is not None and greatest is not None and low >= greatest:
                return Literal_(False, BOOL)
        case "le":
            (low, high), (least, greatest) = bounds(lhs), bounds(rhs)
            if high is not None and least is not None and high <= least:
                return Literal_(True, BOOL)
            if low is not None and greatest is not None and low > greatest:
                return Literal_(False, BOOL)
        case _:
            pass
    return None


def _split_multiple(x: Expr, divisor: int) -> tuple[Expr | None, Expr]:
    """`x` as `multiple * divisor + rest`, if some addends of it are visibly multiples."""
    addends: list[Expr] = []
    pending = [x]
    while pending:
        match pending.pop():
            case Binary(op="add", lhs=lhs, rhs=rhs):
                pending += [lhs, rhs]
            case other:
                addends.append(other)
    multiple: Expr | None = None
    rest: Expr = Literal_(0, I64)
    for addend in addends:
        match addend:
            case Binary(op="mul", lhs=base, rhs=Literal_(value=factor)) if factor % divisor == 0:
                part = binary("mul", base, int(factor) // divisor)
                multiple = part if multiple is None else binary("add", multiple, part)
            case Literal_(value=value) if value and value % divisor == 0:
                part = Literal_(int(value) // divisor, I64)
                multiple = part if multiple is None else binary("add", multiple, part)
            case _:
                rest = binary("add", rest, addend)
    return multiple, rest


_FOLD: dict[str, Callable[[int, int], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "min": min,
    "max": max,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}
