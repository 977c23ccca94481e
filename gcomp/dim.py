"""Sizes of axes: integers, or canonical polynomials over named symbols."""

from __future__ import annotations

import ast
import keyword
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union

from .diagnostics import InferenceError, InputError

Dim = Union[int, "Poly"]
Range = tuple[int, int]
"""The least and the greatest value that a size may have."""
Atom = Union[str, "Call"]
Monomial = tuple[tuple[Atom, int], ...]

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Call:
    """An opaque factor of a monomial: `floordiv`, `min` or `max` of sizes that have no polynomial form."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: str, arguments: tuple[Dim, ...]) -> None:
        self.function, self.arguments = function, arguments

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        if self.function == "floordiv":
            return "({}//{})".format(*map(_factor, self.arguments))
        return f"{self.function}({', '.join(map(str, self.arguments))})"


class Poly:
    """A sum of integer multiples of products of symbols; equality is equality of the canonical form.

    Arithmetic with integers and other sizes yields an `int` wherever the symbols cancel.
    """

    __slots__ = ("_terms",)

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self._terms = tuple(sorted(((m, c) for m, c in terms.items() if c), key=lambda term: _order(term[0])))

    def __add__(self, other: Dim) -> Dim:
        terms = dict(self._terms)
        for monomial, factor in _terms(other):
            terms[monomial] = terms.get(monomial, 0) + factor
        return _simplest(Poly(terms))

    def __mul__(self, other: Dim) -> Dim:
        terms: dict[Monomial, int] = {}
        for left, a in self._terms:
            for right, b in _terms(other):
                product = _product(left, right)
                terms[product] = terms.get(product, 0) + a * b
        return _simplest(Poly(terms))

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: int) -> Dim:
        return self * -1 + other

    def __neg__(self) -> Dim:
        return self * -1

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return self - floordiv(self, other) * other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self._terms == other._terms

    def __hash__(self) -> int:
        return hash(self._terms)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        text = ""
        for monomial, factor in self._terms:
            name = "*".join("*".join([str(atom)] * power) for atom, power in monomial)
            sign, size = ("-" if factor < 0 else "+"), abs(factor)
            text += sign + (str(size) if not name else name if size == 1 else f"{name}*{size}")
        return text.removeprefix("+")

    @property
    def terms(self) -> tuple[tuple[Monomial, int], ...]:
        return self._terms


def symbol(name: str) -> Poly:
    """The size called `name`, made an identifier where it is none."""
    clean = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not _IDENTIFIER.fullmatch(clean) or keyword.iskeyword(clean):
        clean = f"_{clean}"
    return Poly({((clean, 1),): 1})


LARGEST = 10**9
"""What every symbol stays below; models write such numbers for "to the end"."""


def is_symbol(dim: Dim) -> bool:
    """Whether the size is a symbol and nothing else."""
    return isinstance(dim, Poly) and any(dim == symbol(name) for name in symbols(dim))


def symbols(dim: Dim) -> frozenset[str]:
    """The names of all symbols in `dim`."""
    found: set[str] = set()
    for monomial, _ in _terms(dim):
        for atom, _ in monomial:
            found.update([atom] if isinstance(atom, str) else (s for a in atom.arguments for s in symbols(a)))
    return frozenset(found)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with each symbol that `values` names replaced by its value."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, factor in dim.terms:
        product: Dim = factor
        for atom, power in monomial:
            value = _substitute_atom(atom, values)
            for _ in range(power):
                product = product * value
        total = total + product
    return total


def floordiv(lhs: Dim, rhs: Dim) -> Dim:
    """The quotient rounded down; exact where every term of `lhs` is a multiple of an integer `rhs`.

    Raises `InferenceError` where `rhs` is 0.
    """
    if rhs == 0:
        raise InferenceError(f"a size must be divided by another number than 0, got {lhs} // 0")
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs // rhs
    if rhs == 1 or lhs == 0:
        return lhs
    if lhs == rhs:
        return 1
    if isinstance(rhs, int) and rhs > 0 and isinstance(lhs, Poly):
        exact = Poly({m: c // rhs for m, c in lhs.terms if c % rhs == 0})
        rest = _simplest(Poly({m: c for m, c in lhs.terms if c % rhs}))
        if rest == 0:
            return _simplest(exact)
        if exact.terms:
            return _simplest(exact) + (rest // rhs if isinstance(rest, int) else _call("floordiv", rest, rhs))
    quotient = _exact_quotient(lhs, rhs)
    return quotient if quotient is not None else _call("floordiv", lhs, rhs)


def ceildiv(lhs: Dim, rhs: Dim) -> Dim:
    """The quotient rounded up."""
    return -floordiv(-lhs, rhs)


def minimum(*dims: Dim) -> Dim:
    """The least of the sizes, symbolic where that depends on symbols."""
    return _extreme("min", dims)


def maximum(*dims: Dim) -> Dim:
    """The greatest of the sizes, symbolic where that depends on symbols."""
    return _extreme("max", dims)


def grows(dim: Dim) -> bool:
    """Whether `dim` visibly never gets smaller where a symbol, which is at least 0, gets larger."""
    return _moves(dim, up=True)


def split_ranges(dims: Mapping[str, int | Range]) -> tuple[dict[str, int], dict[str, Range]]:
    """What a user says of symbols: sizes, and ranges of several. Raises `InputError` for a bad range."""
    sizes: dict[str, int] = {}
    ranges: dict[str, Range] = {}
    for name, given in dims.items():
        if not isinstance(given, tuple):
            sizes[name] = given
            continue
        if len(given) != 2 or not all(type(end) is int for end in given):
            raise InputError(f"dims[{name!r}]: a range is two whole numbers, not {given!r}")
        low, high = given
        if not 0 <= low <= high < LARGEST:
            raise InputError(
                f"dims[{name!r}]: a range begins at 0 or later and ends at or above that, below {LARGEST}; "
                f"got {low}..{high}"
            )
        if low == high:
            sizes[name] = low
        else:
            ranges[name] = given
    return sizes, ranges


def product(dims: Iterable[Dim]) -> Dim:
    """The product of the sizes; 1 for none."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def parse(text: str) -> Dim:
    """Reads what `str` prints. Raises `ValueError` for anything else."""
    try:
        return _evaluate(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, KeyError, RecursionError, InferenceError) as error:
        raise ValueError(f"{text!r} is not a size") from error


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Dim]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: floordiv,
}
_CALLS = {"min": minimum, "max": maximum}


def _evaluate(node: ast.expr) -> Dim:
    match node:
        case ast.Constant(value=int() as value):
            return value
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_evaluate(left), _evaluate(right))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _CALLS[name](*map(_evaluate, args))
        case _:
            raise TypeError(ast.dump(node))


def _factor(dim: Dim) -> str:
    """The text of a size, in parentheses unless it is a plain number or symbol."""
    text = str(dim)
    return text if text.isdigit() or _IDENTIFIER.fullmatch(text) else f"({text})"


def _order(monomial: Monomial) -> tuple[int, str]:
    return -sum(power for _, power in monomial), "*".join(f"{atom}^{power}" for atom, power in monomial)


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return (((), dim),) if isinstance(dim, int) else dim.terms


def _simplest(poly: Poly) -> Dim:
    if not poly.terms:
        return 0
    (monomial, factor), *rest = poly.terms
    return factor if not monomial and not rest else poly


def _product(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: str(item[0])))


def _call(function: str, *arguments: Dim) -> Poly:
    return Poly({((Call(function, arguments), 1),): 1})


def _extreme(function: str, dims: tuple[Dim, ...]) -> Dim:
    pick = min if function == "min" else max
    numbers = [dim for dim in dims if isinstance(dim, int)]
    others = sorted({dim for dim in dims if isinstance(dim, Poly)}, key=str)
    if not others:
        return pick(numbers)
    if function == "min" and any(is_symbol(dim) for dim in others):
        numbers = [number for number in numbers if number < LARGEST]
    arguments: list[Dim] = [*others, *([pick(numbers)] if numbers else [])]
    return arguments[0] if len(arguments) == 1 else _call(function, *arguments)


def _exact_quotient(lhs: Dim, rhs: Dim) -> Dim | None:
    """`lhs / rhs` where `rhs` is a single term that divides every term of `lhs`."""
    if isinstance(rhs, int) or len(rhs.terms) != 1:
        return None
    ((divisor, scale),) = rhs.terms
    quotient: dict[Monomial, int] = {}
    for monomial, factor in _terms(lhs):
        powers = dict(monomial)
        for atom, power in divisor:
            powers[atom] = powers.get(atom, 0) - power
        if factor % scale or min(powers.values(), default=0) < 0:
            return None
        key = tuple(sorted(((a, p) for a, p in powers.items() if p), key=lambda item: str(item[0])))
        quotient[key] = factor // scale
    return _simplest(Poly(quotient))


def _substitute_atom(atom: Atom, values: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, str):
        return values.get(atom, Poly({((atom, 1),): 1}))
    arguments = [substitute(argument, values) for argument in atom.arguments]
    return floordiv(*arguments) if atom.function == "floordiv" else _extreme(atom.function, tuple(arguments))


def _moves(dim: Dim, up: bool) -> bool:
    """Whether `dim` visibly never moves the other way than `up` says as symbols grow."""

    def atom_moves(atom: Atom, up: bool) -> bool:
        if isinstance(atom, str):
            return up
        first, *rest = atom.arguments
        if atom.function == "floordiv":
            return isinstance(rest[0], int) and rest[0] > 0 and _moves(first, up)
        return all(_moves(argument, up) for argument in atom.arguments)

    def term_moves(monomial: Monomial, factor: int) -> bool:
        if all(isinstance(atom, str) for atom, _ in monomial):
            return not monomial or (factor > 0) == up
        return len(monomial) == 1 and monomial[0][1] == 1 and atom_moves(monomial[0][0], (factor > 0) == up)

    return all(term_moves(monomial, factor) for monomial, factor in _terms(dim))
