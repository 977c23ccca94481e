"""What entry points do first where sizes are symbolic: read them, and say what tensors fit."""

from __future__ import annotations

from collections.abc import Sequence

from gcomp import dim as dims
from gcomp.dim import Dim
from gcomp.native import ErrorCode
from gcomp.port import Port, Symbol

from .emit import Function, Value

TENSOR_TYPE = "{ ptr, i32, i32, ptr }"
"""`gcomp_tensor`: data, dtype, rank, shape. `getelementptr` over it fits every pointer size."""


def functions(
    name: str, inputs: Sequence[Port], outputs: Sequence[Port], symbols: Sequence[Symbol]
) -> list[Function]:
    """Internal functions of an artefact.

    `i32 NAME_measure(in, symbols)` writes the symbols' values, read from the inputs, or the largest where
    there are none; it gives an `ErrorCode`. `void NAME_specify(in_spec, out_spec, ...)` writes what tensors
    must be for these values, which follow as i64.
    """
    return [_measure(name, symbols), _specify(name, inputs, outputs, symbols)]


def specification(ports: Sequence[Port]) -> list[Dim]:
    """For each tensor: dtype, rank, number of bytes, sizes."""
    numbers: list[Dim] = []
    for port in ports:
        sizes = [dims.parse(str(size)) for size in port.shape]
        numbers += [port.dtype.code, len(sizes), dims.product(sizes) * port.dtype.bytes, *sizes]
    return numbers


def slots(inputs: Sequence[Port], outputs: Sequence[Port], symbols: Sequence[Symbol]) -> dict[str, int]:
    """How many i64 each array takes that these functions write."""
    return {
        "symbols": len(symbols),
        "in.spec": len(specification(inputs)),
        "out.spec": len(specification(outputs)),
    }


def _measure(name: str, symbols: Sequence[Symbol]) -> Function:
    fn = Function(f"{name}_measure", [("ptr", "in"), ("ptr", "symbols")], "i32", "internal")
    given, absent, bad, beyond = (fn.label(hint) for hint in ("given", "absent", "bad", "beyond"))
    fn.branch(fn.value("icmp eq ptr %in, null"), absent, given)
    fn.block(absent)
    for number, symbol in enumerate(symbols):
        fn.store(str(symbol.high), fn.element("%symbols", number, "i64"), "i64", 8)
    fn.do(f"ret i32 {int(ErrorCode.OK)}")
    fn.block(given)
    for number, symbol in enumerate(symbols):
        value = _read(fn, symbol, bad)
        fn.store(value, fn.element("%symbols", number, "i64"), "i64", 8)
        enough = fn.value(f"icmp sge i64 {value}, {symbol.low}")
        few = fn.value(f"icmp sle i64 {value}, {symbol.high}")
        inside = fn.label("inside")
        fn.branch(fn.value(f"and i1 {enough}, {few}"), inside, beyond)
        fn.block(inside)
    fn.do(f"ret i32 {int(ErrorCode.OK)}")
    for label, code in ((bad, ErrorCode.INPUT), (beyond, ErrorCode.SIZE)):
        fn.block(label)
        fn.do(f"ret i32 {int(code)}")
    return fn


def _read(fn: Function, symbol: Symbol, bad: str) -> Value:
    """The size of the axis that gives a symbol, from a tensor that may be anything."""

    def field(number: int, type: str) -> Value:
        at = fn.value(f"getelementptr {TENSOR_TYPE}, ptr %in, i64 {symbol.input}, i32 {number}")
        return fn.value(f"load {type}, ptr {at}")

    rank, shape = field(2, "i32"), field(3, "ptr")
    deep, there = fn.value(f"icmp sgt i32 {rank}, {symbol.axis}"), fn.value(f"icmp ne ptr {shape}, null")
    measured = fn.label("measured")
    fn.branch(fn.value(f"and i1 {deep}, {there}"), measured, bad)
    fn.block(measured)
    return fn.load(fn.element(shape, symbol.axis, "i64"), "i64", 8)


def _specify(
    name: str, inputs: Sequence[Port], outputs: Sequence[Port], symbols: Sequence[Symbol]
) -> Function:
    fn = Function(f"{name}_specify", [("ptr", "in"), ("ptr", "out")], "void", "internal")
    fn.symbols = [symbol.name for symbol in symbols]
    for side, ports in (("%in", inputs), ("%out", outputs)):
        for place, number in enumerate(specification(ports)):
            fn.store(str(fn.size(number)), fn.element(side, place, "i64"), "i64", 8)
    fn.do("ret void")
    return fn
