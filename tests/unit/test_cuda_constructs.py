"""Every operation of the kernel language on every type, for a GPU: it has code, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from gcomp.backends.llvm.cuda.codegen import compiled, joined, module_text
from gcomp.backends.llvm.cuda.kernels import Scratch, emit
from gcomp.diagnostics import UnsupportedError
from gcomp.expand import expanded
from gcomp.expr import BinaryName, Bitcast, Expr, Fma, Select, UnaryName, binary, cast, unary
from gcomp.kernel import Kernel, reduce
from gcomp.types import BF16, BOOL, DTYPES, F32, I64, STRING, U8, DType, TensorType
from tests.assembler import assembled

TYPES = [dtype for dtype in DTYPES.values() if dtype != STRING]


def constructs() -> Iterator[tuple[str, list[DType], Callable[..., Expr]]]:
    """Each operation's name, its operands' types, and what makes it."""
    for name, of in product(get_args(UnaryName), TYPES):
        yield f"{name} of {of}", [of], lambda x, name=name: unary(name, x)
    for name, of in product(get_args(BinaryName), TYPES):
        yield f"{name} of {of}", [of, of], lambda x, y, name=name: binary(name, x, y)
    for of in TYPES:
        yield f"fma of {of}", [of] * 3, Fma
        yield f"select of {of}", [BOOL, of, of], Select
        yield f"sum of {of}", [of], lambda x: reduce("add", [3], lambda _: x, 0)
        yield f"product of {of}", [of], lambda x: reduce("mul", [3], lambda _: x, 1)
        yield f"greatest of {of}", [of], lambda x: reduce("max", [3], lambda _: x, 0)
    for of, to in product(TYPES, TYPES):
        yield f"cast of {of} to {to}", [of], lambda x, to=to: cast(x, to)
        if of.bytes == to.bytes:
            yield f"bitcast of {of} to {to}", [of], lambda x, to=to: Bitcast(x, to)


def kernel_of(dtypes: list[DType], make: Callable[..., Expr]) -> Kernel | None:
    """The construct for each of five elements; None if the kernel language itself does not have it."""
    kernel = Kernel([TensorType(dtype, (5,)) for dtype in dtypes])
    operands = [tensor for tensor in kernel.operands if tensor is not None]
    try:
        type = TensorType(make(*(tensor.load((0,)) for tensor in operands)).dtype, (5,))
        kernel.results = [kernel.compute(type, lambda i: make(*(t.load((i,)) for t in operands)))]
        return expanded(kernel)
    except ValueError:
        return None


@cache
def emitted(arch: str) -> tuple[dict[str, str], dict[str, str]]:
    """The LLVM text of each construct, and the refusal of each that has none."""
    texts: dict[str, str] = {}
    refused: dict[str, str] = {}
    for number, (name, dtypes, make) in enumerate(constructs()):
        if kernel := kernel_of(dtypes, make):
            homes = {id(tensor): Scratch(0) for tensor in (*kernel.operands, *kernel.results)}
            try:
                function = emit(kernel.stages[-1], homes, in_place=False, templates=True).function
                texts[name] = module_text(function, arch).replace("@kernel(", f"@k{number}(")
            except UnsupportedError as error:
                refused[name] = error.message
    return texts, refused


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_what_is_emitted_llvm_and_ptxas_take(arch: str, tmp_path: Path) -> None:
    """All in one module: LLVM would end its process, which is an error here, at the first without code."""
    texts, _ = emitted(arch)
    declarations = {
        line for text in texts.values() for line in text.splitlines() if line.startswith("declare")
    }
    (attributes,) = {line for text in texts.values() for line in text.splitlines() if line.startswith("attr")}
    bodies = [text.partition("\n}\n")[0] + "\n}\n" for text in texts.values()]
    (ptx,) = compiled(["\n".join([*bodies, *sorted(declarations), attributes])], arch)
    assert ptx.count(".visible .entry") == len(texts) > 500
    assert len(assembled(joined([ptx]), arch, tmp_path)) == len(texts)


def test_what_is_refused_is_no_operation_of_its_type() -> None:
    _, refused = emitted("sm_80")
    assert all(message.startswith("llvm: no code for ") for message in refused.values())
    for name in (
        "not of f32",
        "isnan of u8",
        "isinf of i64",
        "fma of i32",
        "bitcast of bool to u8",
        "sqrt of i8",
    ):
        assert name in refused
    for of in (F32, BF16, I64, U8, BOOL):
        for name in ("add of", "min of", "max of", "select of", "eq of", "cast of f32 to"):
            assert f"{name} {of}" not in refused
