"""The C interface of an artefact: its types and symbols as LLVM sees them, the code of its entry points."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Sequence
from typing import Literal

from gcomp import dim as dims
from gcomp.diagnostics import BuildError
from gcomp.dim import Dim
from gcomp.native import ABI, ALIGNMENT, ErrorCode
from gcomp.port import Port, Symbol

from . import measure, prologue
from .cpu import Cpu
from .cpuid import BASELINE, check_text
from .halves import halves_text
from .measure import TENSOR_TYPE, specification
from .memory import memory_text
from .rounding import rounding_text

CONTEXT_TYPE = "{ i32, i32, ptr, ptr, ptr, ptr, ptr, ptr }"
"""`gcomp_ctx`: abi, cpu, weights, arena, alloc, free, parallel_for, user."""

Weights = Literal["embedded", "external", "none"]
"""Where weights come from: the symbol `NAME_weights`, only the context, or there are none."""

_RESERVED = re.compile(
    r"alignas|alignof|and|and_eq|asm|auto|bitand|bitor|bool|break|case|catch|char|class|"
    r"compl|concept|const|const_cast|constexpr|continue|decltype|default|delete|do|double|"
    r"dynamic_cast|else|enum|explicit|export|extern|false|float|for|friend|gcomp|goto|if|"
    r"inline|int|linux|long|main|mutable|namespace|new|noexcept|not|not_eq|nullptr|operator|"
    r"or|or_eq|private|protected|public|register|reinterpret_cast|requires|restrict|return|"
    r"short|signed|sizeof|static|static_assert|static_cast|struct|switch|template|this|"
    r"thread_local|throw|true|try|typedef|typeid|typename|typeof|union|unix|unsigned|using|"
    r"virtual|void|volatile|wchar_t|while|xor|xor_eq"
)


def identifier(text: str, taken: Collection[str] = ()) -> str:
    """`text` as an identifier of C and C++ that is neither reserved nor `taken`."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text).lstrip("_") or "model"
    if name[0].isdigit():
        name = f"m{name}"
    if _RESERVED.fullmatch(name) or name.startswith("gcomp_"):
        name += "_"
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


def public_symbols(name: str) -> list[str]:
    """What an artefact lets its users see."""
    return [f"{name}_{part}" for part in ("init", "run", "sizes", "manifest")]


def prologue_text(
    name: str,
    cpu: Cpu,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    arena_bytes: int,
    manifest: str,
    weights: Weights,
    symbols: Sequence[Symbol] = (),
) -> str:
    """A whole LLVM module: everything of the artefact but `NAME_entry`, which it declares, and the weights.

    `NAME_run` checks context, processor, arena, weights and every tensor, in code that any processor of the
    architecture runs, then calls the hidden `i32 NAME_entry(weights, arena, in, out)`, all pointers, for an
    `ErrorCode`; `symbols`, which it reads from the inputs, follow as i64, and `i64 NAME_arena_bytes` of them
    is declared too. Raises `BuildError` for sizes that are not known.
    """
    known = {symbol.name for symbol in symbols}
    for port in (*inputs, *outputs):
        if any(not dims.symbols(dims.parse(str(size))) <= known for size in port.shape):
            raise BuildError(f"{name}: {port.name} is {port}: an artefact's sizes must be known")
    values = {
        "name": name,
        "word": f"i{8 * cpu.pointer_bytes}",
        "token": str(zlib.crc32(f"{cpu.arch} {cpu.features}".encode()) % 2**31 | 1),
        "inputs": str(len(inputs)),
        "outputs": str(len(outputs)),
        "misaligned": str(ALIGNMENT - 1),
        "tensor": TENSOR_TYPE,
        "context": CONTEXT_TYPE,
        "baseline": BASELINE.get(cpu.arch, ""),
        "abi": str(ABI),
        **{f"error_{code.name.lower()}": str(int(code)) for code in ErrorCode},
    }
    if symbols:
        made = measure.functions(name, inputs, outputs, symbols)
        sized = prologue.sized(
            name, [symbol.name for symbol in symbols], measure.slots(inputs, outputs, symbols)
        )
        specs = sorted({text for fn in made for text in fn.declarations} | {str(fn) for fn in made})
    else:
        sized = prologue.static(name, arena_bytes)
        specs = [
            _constant(f"{name}_{side}_spec", specification(ports))
            for side, ports in (("in", inputs), ("out", outputs))
        ]
    return "\n".join(
        (
            _bytes(f"{name}_manifest", manifest),
            *specs,
            check_text(f"{name}_cpu_ok", cpu),
            prologue.template(weights, arena_bytes > 0).substitute(values | sized),
            memory_text(cpu.pointer_bytes),
            halves_text(cpu),
            rounding_text(cpu),
        )
    )


def _bytes(symbol: str, text: str) -> str:
    """A public constant with `text` as a C string."""
    data = text.encode() + b"\0"
    quoted = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in data)
    return f'@{symbol} = constant [{len(data)} x i8] c"{quoted}"'


def _constant(symbol: str, numbers: Sequence[Dim]) -> str:
    listed = ", ".join(f"i64 {number}" for number in numbers)
    return f"@{symbol} = internal unnamed_addr constant [{len(numbers)} x i64] [{listed}]"
