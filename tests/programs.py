"""C programs that run compiled models, and the tools to build them; tests skip where a tool is not there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from gcomp.backends.llvm.module import LLVMModule
from gcomp.types import F32, Array

_MAIN = """#include <stdio.h>
#include <string.h>
{includes}
static unsigned char memory[{arena} + GCOMP_ALIGNMENT];

static void show(const float *values, size_t count) {{
    for (size_t i = 0; i < count; i++) {{
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        printf(" %08x", (unsigned)bits);
    }}
    printf("\\n");
}}

{functions}
int main(void) {{
{calls}
    return 0;
}}
"""

_FUNCTION = """{inputs}
static void use_{name}(void) {{
    {name}_ctx ctx;
    {buffers}
    int code = {name}_init(&ctx);
    printf("{name} init %d\\n", code);
    if (code) ctx.abi = GCOMP_ABI;
    ctx.arena = memory + (GCOMP_ALIGNMENT - (size_t)memory % GCOMP_ALIGNMENT) % GCOMP_ALIGNMENT;
    code = {name}(&ctx, {arguments});
    printf("{name} run %d\\n", code);
    if (code) return;
{shown}
}}
"""


@dataclass
class Outcome:
    """What a program says of one model: error codes of `NAME_init` and of the call, flat outputs."""

    init: int
    run: int = -1
    outputs: list[Array] = field(default_factory=list[Array])


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def source(*models: tuple[LLVMModule, Sequence[Array]]) -> str:
    """A program, C99 and C++, that runs each model of f32 once and prints all bits of its outputs."""
    arena = max(module.arena_bytes for module, _ in models)
    return _MAIN.format(
        includes="\n".join(f'#include "{module.artefact.name}.h"' for module, _ in models),
        arena=arena,
        functions="\n".join(_function(module, arrays) for module, arrays in models),
        calls="\n".join(f"    use_{module.artefact.name}();" for module, _ in models),
    )


def _function(module: LLVMModule, arrays: Sequence[Array]) -> str:
    name, upper = module.artefact.name, module.artefact.name.upper()
    assert all(port.dtype == F32 for port in (*module.inputs, *module.outputs))
    bits = [", ".join(f"{word:#x}u" for word in array.reshape(-1).view(np.uint32)) for array in arrays]
    places, results = range(len(arrays)), range(len(module.outputs))
    return _FUNCTION.format(
        name=name,
        inputs="\n".join(f"static const uint32_t {name}_bits_{n}[] = {{{bits[n]}}};" for n in places),
        buffers="\n    ".join(
            [
                *(f"static float x{n}[{upper}_INPUT_{n}_SIZE];" for n in places),
                *(f"static float y{n}[{upper}_OUTPUT_{n}_SIZE];" for n in results),
                *(f"memcpy(x{n}, {name}_bits_{n}, sizeof x{n});" for n in places),
            ]
        ),
        arguments=", ".join([*(f"x{n}" for n in places), *(f"y{n}" for n in results)]),
        shown="\n".join(f"    show(y{n}, {upper}_OUTPUT_{n}_SIZE);" for n in results),
    )


def outcomes(printed: str) -> dict[str, Outcome]:
    """What a program of `source` has printed, by the models' names."""
    found: dict[str, Outcome] = {}
    name = ""
    for line in printed.splitlines():
        words = line.split()
        if line.startswith(" "):
            found[name].outputs.append(
                np.array([int(word, 16) for word in words], np.uint32).view(np.float32)
            )
            continue
        name, entry, code = words
        if entry == "init":
            found[name] = Outcome(int(code))
        else:
            found[name].run = int(code)
    return found


def build(
    folder: Path, text: str, *libraries: Path, compiler: str = "gcc", options: Sequence[str] = ()
) -> Path:
    """A program of `text`, compiled in `folder` without any warning."""
    language = ("-x", "c++", "-std=c++11") if compiler.endswith("++") else ("-x", "c", "-std=c11")
    file, out = folder / "program.txt", folder / "program"
    file.write_text(text)
    strict = ("-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{folder}")
    run(tool(compiler), *language, *strict, file, "-x", "none", *libraries, *options, "-o", out)
    return out
