"""The C header of an artefact: shared types, its symbols, shapes, and a typed call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import Template

from gcomp import dim as dims
from gcomp.dim import Call, Dim
from gcomp.native import ABI, ALIGNMENT, ErrorCode
from gcomp.port import Port, Symbol
from gcomp.types import DTYPES

from .abi import identifier

_C_TYPES = {
    "f64": "double",
    "f32": "float",
    "f16": "uint16_t",
    "bf16": "uint16_t",
    "bool": "uint8_t",
    **{f"{sign}{bits}": f"{'u' * (sign == 'u')}int{bits}_t" for sign in "iu" for bits in (8, 16, 32, 64)},
}
_TAKEN = frozenset(_C_TYPES.values()) | {"int8_t", "size_t", "ctx"}


def header_text(
    name: str,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    arena_bytes: int,
    weights_bytes: int,
    symbols: Sequence[Symbol] = (),
) -> str:
    """The header for the model `name`, an identifier. All sizes must be known, or made of `symbols`."""
    shared = _SHARED.substitute(
        abi=ABI,
        alignment=ALIGNMENT,
        errors=_enum((f"GCOMP_{_error(code)}", int(code), code.message) for code in ErrorCode),
        dtypes=_enum((f"GCOMP_{t.name.upper()}", t.code, _C_TYPES.get(t.name, "")) for t in DTYPES.values()),
    )
    upper, names = name.upper(), _parameters(name, [*inputs, *outputs])
    sizes = _sizes(name, names, symbols)
    sides = (("INPUT", inputs), ("OUTPUT", outputs))
    model = _MODEL.substitute(
        name=name,
        upper=upper,
        arena_bytes=arena_bytes,
        weights_bytes=weights_bytes,
        inputs=len(inputs),
        largest="; without inputs each size is the largest" if symbols else "",
        outputs=len(outputs),
        macros="".join(
            _macros(f"{upper}_{side}_{i}", p, sizes) for side, ports in sides for i, p in enumerate(ports)
        ),
        ranges=_ranges(upper, symbols, inputs),
        comment=_comment(names, inputs, outputs, symbols, sizes),
        parameters="".join(f",\n    int64_t {sizes[symbol.name]}" for symbol in symbols)
        + "".join(
            f",\n    {'const ' * (n < len(inputs))}{_C_TYPES[port.dtype.name]} *{names[n]}"
            for n, port in enumerate((*inputs, *outputs))
        ),
        body=_body(name, names, inputs, outputs, sizes),
    )
    return _FILE.substitute(name=name, upper=upper, shared=shared, model=model)


def _error(code: ErrorCode) -> str:
    return "OK" if code is ErrorCode.OK else f"ERROR_{code.name}"


def _enum(entries: Iterable[tuple[str, int, str]]) -> str:
    listed = list(entries)
    return "\n".join(
        f"    {name} = {number}{',' if n < len(listed) else ''}{f' /* {remark} */' if remark else ''}"
        for n, (name, number, remark) in enumerate(listed, 1)
    )


def _parameters(name: str, ports: Sequence[Port]) -> list[str]:
    """The ports' names as distinct C parameters."""
    names: list[str] = []
    for port in ports:
        names.append(identifier(port.name, {*_TAKEN, name, *names}))
    return names


def _sizes(name: str, taken: Sequence[str], symbols: Sequence[Symbol]) -> dict[str, str]:
    """For each symbol a C parameter that is none of the tensors'."""
    found: dict[str, str] = {}
    for symbol in symbols:
        found[symbol.name] = identifier(symbol.name, {*_TAKEN, name, *taken, *found.values()})
    return found


def _ranges(upper: str, symbols: Sequence[Symbol], inputs: Sequence[Port]) -> str:
    return "".join(
        f"/* {symbol.name}: axis {symbol.axis} of {inputs[symbol.input].name.replace('*/', '*_/')} */\n"
        f"#define {upper}_SIZE_{symbol.name.upper()}_MIN {symbol.low}\n"
        f"#define {upper}_SIZE_{symbol.name.upper()}_MAX {symbol.high}\n"
        for symbol in symbols
    )


def _expression(size: Dim, sizes: Mapping[str, str], wrapped: bool = False) -> str:
    """A size in C; in a macro its parameters stand in parentheses."""
    if isinstance(size, int):
        return str(size)
    terms: list[str] = []
    for monomial, factor in size.terms:
        parts: list[str] = []
        for atom, power in monomial:
            name = _call(atom, sizes, wrapped) if isinstance(atom, Call) else sizes[atom]
            parts += [f"({name})" if wrapped or isinstance(atom, Call) else name] * power
        terms.append(" * ".join([*parts, str(factor)] if factor != 1 or not parts else parts))
    return " + ".join(terms)


def _call(atom: Call, sizes: Mapping[str, str], wrapped: bool) -> str:
    """A quotient rounded down, by what is positive, or the least or greatest of sizes."""
    first, *rest = (_expression(argument, sizes, wrapped) for argument in atom.arguments)
    for other in rest:
        if atom.function == "floordiv":
            first = f"({first}) / ({other}) - (({first}) % ({other}) < 0)"
        else:
            test = "<" if atom.function == "min" else ">"
            first = f"({first}) {test} ({other}) ? ({first}) : ({other})"
    return first


def _macros(prefix: str, port: Port, parameters: Mapping[str, str]) -> str:
    sizes = [dims.parse(str(size)) for size in port.shape]
    if port.symbols:
        given = f"({', '.join(parameters[name] for name in sorted(port.symbols))})"
        listed = ", ".join(_expression(size, parameters, True) for size in sizes)
        shape = f"#define {prefix}_SHAPE{given} {{{listed}}}\n"
        count = f"{given} ({_expression(dims.product(sizes), parameters, True)})"
    else:
        shape = f"#define {prefix}_SHAPE {{{', '.join(map(str, sizes))}}}\n" if sizes else ""
        count = f" {dims.product(sizes)}"
    return (
        f"#define {prefix}_NAME {_quoted(port.name)}\n"
        f"#define {prefix}_DTYPE GCOMP_{port.dtype.name.upper()}\n"
        f"#define {prefix}_RANK {len(sizes)}\n{shape}"
        f"#define {prefix}_SIZE{count}\n"
    )


def _quoted(text: str) -> str:
    """A C string literal; octal escapes, for they end after three digits."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{plain}"'


def _comment(
    names: Sequence[str],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    symbols: Sequence[Symbol],
    sizes: Mapping[str, str],
) -> str:
    lines = [f" *   size {sizes[one.name]}: {one.low} to {one.high}" for one in symbols]
    lines += [
        f" *   {'in ' if n < len(inputs) else 'out'}  {names[n]}: {port}"
        for n, port in enumerate((*inputs, *outputs))
    ]
    return "\n".join(["/* The whole model, typed; returns one of the codes above:", *lines, " */"])


def _body(
    name: str,
    names: Sequence[str],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    sizes: Mapping[str, str],
) -> str:
    def listed(port: Port) -> str:
        return ", ".join(_expression(dims.parse(str(size)), sizes) for size in port.shape)

    lines = [
        f"    int64_t gcomp_shape_{n}[{len(port.shape)}] = {{{listed(port)}}};"
        for n, port in enumerate((*inputs, *outputs))
        if port.shape
    ]
    arguments: list[str] = []
    for side, ports, start in (("in", inputs, 0), ("out", outputs, len(inputs))):
        arguments.append(f"gcomp_{side}" if ports else "NULL")
        if not ports:
            continue
        lines.append(f"    gcomp_tensor gcomp_{side}[{len(ports)}] = {{")
        for n, port in enumerate(ports, start):
            shape = f"gcomp_shape_{n}" if port.shape else "NULL"
            dtype = f"GCOMP_{port.dtype.name.upper()}"
            lines.append(f"        {{(void *)(uintptr_t){names[n]}, {dtype}, {len(port.shape)}, {shape}}},")
        lines[-1] = lines[-1].removesuffix(",")
        lines.append("    };")
    return "\n".join([*lines, f"    return {name}_run(ctx, {', '.join(arguments)});"])


_FILE = Template("""\
/* Made by gcomp for the model $name. */
#ifndef GCOMP_MODEL_${upper}_H
#define GCOMP_MODEL_${upper}_H

#include <stddef.h>
#include <stdint.h>

$shared
$model
#endif
""")

_SHARED = Template("""\
#ifndef GCOMP_ABI
#define GCOMP_ABI $abi
#define GCOMP_ALIGNMENT $alignment

enum {
$errors
};

/* Element types by ONNX's numbers, each with its type in C. */
enum {
$dtypes
};

/* A dense row-major tensor. Data may have any alignment and is never written for an input. */
typedef struct {
    void *data;
    int32_t dtype;
    int32_t rank;
    int64_t *shape;
} gcomp_tensor;

typedef struct {
    uint32_t abi;        /* GCOMP_ABI, set by NAME_init */
    uint32_t cpu;        /* set by NAME_init after its check of the processor; with 0 each call checks */
    const void *weights; /* aligned to GCOMP_ALIGNMENT; NULL: the weights inside the artefact */
    void *arena;         /* NAME_ARENA_BYTES bytes, aligned to GCOMP_ALIGNMENT, for one call at a time */
    void *(*alloc)(void *user, size_t bytes, int32_t output);
    void (*free)(void *user, void *memory);
    void (*parallel_for)(void *user, int64_t n, void (*body)(void *arg, int64_t i), void *arg);
    void *user;
} gcomp_ctx;
#elif GCOMP_ABI != $abi
#error "headers of different versions of gcomp: compile the models with the same one"
#endif
""")

_MODEL = Template("""\
#define ${upper}_ARENA_BYTES $arena_bytes
#define ${upper}_WEIGHTS_BYTES $weights_bytes
#define ${upper}_INPUTS $inputs
#define ${upper}_OUTPUTS $outputs
$ranges$macros
#ifdef __cplusplus
extern "C" {
#endif

typedef gcomp_ctx ${name}_ctx;

/* Empties the context and points it at the weights inside; the arena is left to the caller.
 * Returns GCOMP_ERROR_CPU if this processor cannot run the code. */
int ${name}_init(${name}_ctx *ctx);

/* Runs the model, inputs and outputs in the order above. Calls with different arenas may run at once. */
int ${name}_run(const ${name}_ctx *ctx, const gcomp_tensor *in, gcomp_tensor *out);

/* Checks types and shapes of the inputs, writes those of the outputs (sizes where shape is not NULL) and the
 * bytes of the arena. Each argument may be NULL$largest. */
int ${name}_sizes(const gcomp_tensor *in, gcomp_tensor *out, int64_t *arena_bytes);

/* What the artefact is, as JSON. */
extern const char ${name}_manifest[];

$comment
static inline int $name(
    const ${name}_ctx *ctx$parameters) {
$body
}

#ifdef __cplusplus
}
#endif
""")
