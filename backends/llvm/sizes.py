"""Symbolic sizes as instructions on i64 values."""

from __future__ import annotations

from collections.abc import Callable

from gcomp.diagnostics import OpenSizeError
from gcomp.dim import Atom, Dim


def emit_size(dim: Dim, symbol: Callable[[str], str], value: Callable[[str], str]) -> str:
    """The value of `dim`; `symbol` gives those of its symbols, `value` adds an instruction and names it.

    Raises `OpenSizeError` for a quotient by what is no positive number.
    """

    def of(dim: Dim) -> str:
        if isinstance(dim, int):
            return str(dim)
        total = ""
        for monomial, factor in dim.terms:
            product = ""
            for one, power in monomial:
                name = atom(one)
                for _ in range(power):
                    product = value(f"mul nsw i64 {product}, {name}") if product else name
            if not product:
                product = str(factor)
            elif factor != 1:
                product = value(f"mul nsw i64 {product}, {factor}")
            total = value(f"add nsw i64 {total}, {product}") if total else product
        return total

    def atom(one: Atom) -> str:
        if isinstance(one, str):
            return symbol(one)
        if one.function == "floordiv":
            return quotient(*one.arguments)
        first, *rest = map(of, one.arguments)
        for other in rest:
            first = value(f"call i64 @llvm.s{one.function}.i64(i64 {first}, i64 {other})")
        return first

    def quotient(dividend: Dim, divisor: Dim) -> str:
        if not isinstance(divisor, int) or divisor <= 0:
            raise OpenSizeError(
                f"the size ({dividend})//({divisor}) needs a divisor that is a positive number"
            )
        x = of(dividend)
        down = value(f"sdiv i64 {x}, {divisor}")
        product = value(f"mul nsw i64 {down}, {divisor}")
        beyond = value(f"icmp sgt i64 {product}, {x}")
        return value(f"add i64 {down}, {value(f'sext i1 {beyond} to i64')}")

    return of(dim)
