"""Copies of activations in the form in which a processor multiplies them."""

from __future__ import annotations

from collections.abc import Callable

from gcomp.types import I16, DType

from ..emit import Function, Value, scalar, vector

CHUNK = 64
"""Numbers copied at once."""


def copy_numbers(fn: Function, source: Value, target: Value, count: int, of: DType, to: DType) -> None:
    """`count` bytes of type `of`: as the other type of bytes 128 more or less, or widened to i16."""
    element = scalar(to)

    def part(at: Value | int, count: int) -> None:
        type, wide = vector("i8", count), vector(element, count)
        value = fn.load(fn.element(source, at, "i8"), type)
        if to == I16:
            value = fn.value(f"{'sext' if of.is_signed else 'zext'} {type} {value} to {wide}")
        elif to != of:
            value = fn.value(f"xor {type} {value}, {fn.splat('-128', 'i8', count)}")
        fn.store(value, fn.element(target, at, element), wide)

    in_chunks(fn, count, part)


def fill(fn: Function, target: Value, count: int, number: int, dtype: DType) -> None:
    """`count` times the same number."""
    bits = 8 * dtype.bytes
    number = (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)  # LLVM writes integers as signed

    def part(at: Value | int, count: int) -> None:
        value = fn.splat(str(number), scalar(dtype), count)
        fn.store(value, fn.element(target, at, scalar(dtype)), vector(scalar(dtype), count))

    in_chunks(fn, count, part)


def in_chunks(fn: Function, count: int, part: Callable[[Value | int, int], None]) -> None:
    """`part(at, size)` for all of `count`, in chunks and then in powers of two."""
    whole = count // CHUNK * CHUNK
    fn.loop(0, whole, CHUNK, lambda at, _: part(at, CHUNK))
    size = CHUNK // 2
    while size:
        if count & size:
            part(whole, size)
            whole += size
        size //= 2
