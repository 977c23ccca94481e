"""Static programs for ARM that run many compiled models under qemu; tests skip where a tool is not there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gcomp.backends.llvm.module import LLVMModule
from gcomp.port import Port, sizes_of
from gcomp.types import Array
from tests.programs import Outcome, run, tool

TRIPLE = "aarch64-linux-gnu"
SYSROOT = Path("/usr/aarch64-linux-gnu")
"""Where the cross compiler's C library lies, for programs that are not static."""

Model = tuple[LLVMModule, Sequence[Array]]

_PROGRAM = """#include <stdio.h>
#include <stdlib.h>
{includes}

static void *take(size_t bytes) {{
    void *memory = aligned_alloc(GCOMP_ALIGNMENT, (bytes / GCOMP_ALIGNMENT + 1) * GCOMP_ALIGNMENT);
    if (!memory) abort();
    return memory;
}}

static void *given(size_t bytes) {{
    void *memory = take(bytes);
    if (fread(memory, 1, bytes, stdin) != bytes) abort();
    return memory;
}}

{functions}
int main(void) {{
{calls}
    return 0;
}}
"""

_FUNCTION = """static void use_{name}(void) {{
    static const size_t sizes[] = {{{sizes}}};
    {name}_ctx ctx;
    void *data[{count}];
    int codes[2];
    for (int i = 0; i < {count}; i++) data[i] = i < {inputs} ? given(sizes[i]) : take(sizes[i]);
    codes[0] = {name}_init(&ctx);
    if (codes[0]) ctx.abi = GCOMP_ABI;
    ctx.arena = take({upper}_ARENA_BYTES);
    codes[1] = {name}(&ctx{symbols}{arguments});
    fwrite(codes, sizeof codes, 1, stdout);
    for (int i = {inputs}; i < {count}; i++) fwrite(data[i], 1, sizes[i], stdout);
    fflush(stdout);
    for (int i = 0; i < {count}; i++) free(data[i]);
    free(ctx.arena);
}}
"""


def cross_program(folder: Path, models: Sequence[Model], suffix: str, *, static: bool = True) -> Path:
    """A program for aarch64 that runs each model once, each saved in the form of `suffix`.

    It compiles without a warning, and reads all tensors from its input; `emulate` runs it.
    """
    compiler = _compiler()
    libraries = [module.save(folder / f"{module.artefact.name}.{suffix}")[0] for module, _ in models]
    file, out = folder / "program.c", folder / "program"
    file.write_text(
        _PROGRAM.format(
            includes="\n".join(f'#include "{module.artefact.name}.h"' for module, _ in models),
            functions="\n".join(_function(module, arrays) for module, arrays in models),
            calls="\n".join(f"    use_{module.artefact.name}();" for module, _ in models),
        )
    )
    strict = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{folder}")
    run(*compiler, *strict, *["-static"] * static, file, *libraries, "-o", out)
    return out


def emulate(program: Path, models: Sequence[Model], cpu: str, *options: object) -> list[Outcome]:
    """What the program says of each model on an emulated processor; fails with the model that it died in."""
    stdin = b"".join(np.ascontiguousarray(array).tobytes() for _, arrays in models for array in arrays)
    command = [tool("qemu-aarch64"), "-cpu", cpu, *map(str, options), str(program)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    found: list[Outcome] = []
    rest = done.stdout
    for module, arrays in models:
        ports = [port.at(_sizes(module, arrays)) for port in module.outputs]
        sizes = [8, *map(_bytes, ports)]
        assert len(rest) >= sum(sizes), (
            f"{module.artefact.name}: the program died of {-done.returncode}: {done.stderr!r}"
        )
        parts: list[bytes] = []
        for size in sizes:
            parts.append(rest[:size])
            rest = rest[size:]
        init, code = np.frombuffer(parts[0], np.int32)
        outputs = [
            np.frombuffer(part, port.dtype.numpy).reshape([int(size) for size in port.shape])
            for part, port in zip(parts[1:], ports, strict=True)
        ]
        found.append(Outcome(int(init), int(code), outputs))
    assert (done.returncode, done.stderr, rest) == (0, b"", b"")
    return found


def _compiler() -> list[str]:
    """The command of a C compiler that links for aarch64."""
    if found := shutil.which(f"{TRIPLE}-gcc"):
        return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"]
    pytest.skip(f"neither {TRIPLE}-gcc nor ziglang is installed")


def _sizes(module: LLVMModule, arrays: Sequence[Array]) -> dict[str, int]:
    return sizes_of(module.artefact.name, module.inputs, module.artefact.symbols, arrays)


def _function(module: LLVMModule, arrays: Sequence[Array]) -> str:
    values = _sizes(module, arrays)
    ports = [port.at(values) for port in (*module.inputs, *module.outputs)]
    return _FUNCTION.format(
        name=module.artefact.name,
        upper=module.artefact.name.upper(),
        sizes=", ".join(str(_bytes(port)) for port in ports),
        count=len(ports),
        inputs=len(module.inputs),
        symbols="".join(f", {size}" for size in values.values()),
        arguments="".join(f", data[{place}]" for place in range(len(ports))),
    )


def _bytes(port: Port) -> int:
    return int(np.prod([int(size) for size in port.shape], dtype=np.int64)) * port.dtype.bytes
