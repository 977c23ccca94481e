"""A native module written by hand, for tests that link, load and run one: y = x * w over f32[4]."""

import json
from pathlib import Path

import numpy as np

from gcomp.backends.llvm.abi import Weights, prologue_text, public_symbols
from gcomp.backends.llvm.cpu import Cpu, host
from gcomp.backends.llvm.elf import data_object
from gcomp.backends.llvm.jit import Loaded, emit_object, load_objects
from gcomp.backends.llvm.link import archive, link_shared
from gcomp.native import ABI, MANIFEST_SYMBOL, NativeModule, aligned
from gcomp.port import Port
from gcomp.types import F32

ARENA_BYTES = 128
INPUTS, OUTPUTS = [Port("x", F32, (4,))], [Port("y", F32, (4,))]

# Goes through the arena, calls memcpy, and returns the error code x[3] - 1000 where that is not negative.
ENTRY = """
declare ptr @memcpy(ptr, ptr, {word})

define hidden i32 @{name}_entry(ptr %weights, ptr %arena, ptr %in, ptr %out) nounwind {{
  %x = load ptr, ptr %in
  %y = load ptr, ptr %out
  %copied = call ptr @memcpy(ptr %arena, ptr %x, {word} 16)
  %values = load <4 x float>, ptr %arena, align 16
  %weight = load float, ptr %weights
  %one = insertelement <4 x float> poison, float %weight, i32 0
  %all = shufflevector <4 x float> %one, <4 x float> poison, <4 x i32> zeroinitializer
  %product = fmul <4 x float> %values, %all
  store <4 x float> %product, ptr %y, align 1
  %last = extractelement <4 x float> %values, i32 3
  %over = fsub float %last, 1.0e3
  %is.code = fcmp oge float %over, 0.0
  %number = fptosi float %over to i32
  %code = select i1 %is.code, i32 %number, i32 0
  ret i32 %code
}}
"""


def manifest(name: str = "doubler", cpu: Cpu | None = None) -> dict[str, object]:
    cpu = cpu or host()
    return {
        "abi": ABI,
        "name": name,
        "inputs": [{"name": "x", "dtype": "f32", "shape": [4]}],
        "outputs": [{"name": "y", "dtype": "f32", "shape": [4]}],
        "arena_bytes": ARENA_BYTES,
        "target": {"triple": cpu.triple, "cpu": cpu.name, "features": list(cpu.features)},
    }


def objects(name: str = "doubler", cpu: Cpu | None = None, weights: Weights = "external") -> list[bytes]:
    cpu = cpu or host()
    prologue = prologue_text(
        name,
        cpu,
        INPUTS,
        OUTPUTS,
        arena_bytes=ARENA_BYTES,
        manifest=json.dumps(manifest(name, cpu)),
        weights=weights,
    )
    entry = ENTRY.format(name=name, word=f"i{8 * cpu.pointer_bytes}")
    return [emit_object(prologue, cpu, False), emit_object(entry, cpu, True)]


def object_files(
    folder: Path, name: str = "doubler", cpu: Cpu | None = None, weight: float = 2.0
) -> list[Path]:
    """Objects with the weight inside, as files."""
    cpu = cpu or host()
    data = data_object({f"{name}_weights": np.array([weight], np.float32)}, cpu.triple)
    paths: list[Path] = []
    for number, content in enumerate([*objects(name, cpu, "embedded"), data]):
        paths.append(folder / f"{name}-{number}.o")
        paths[-1].write_bytes(content)
    return paths


def shared(folder: Path, name: str = "doubler", cpu: Cpu | None = None, weight: float = 2.0) -> Path:
    out = folder / f"{name}.so"
    aliases = {MANIFEST_SYMBOL: f"{name}_manifest"}
    link_shared(object_files(folder, name, cpu, weight), out, public_symbols(name), defsym=aliases)
    return out


def static(folder: Path, name: str = "doubler", cpu: Cpu | None = None, weight: float = 2.0) -> Path:
    out = folder / f"{name}.a"
    archive(object_files(folder, name, cpu, weight), out)
    return out


def in_memory(weight: float = 2.0) -> NativeModule:
    """The module linked into this process, its weight in an array."""
    loaded: Loaded = load_objects(objects(), ["doubler_run", "doubler_init"])
    blob = aligned(64)
    blob[:4] = np.array([weight], np.float32).view(np.uint8)
    return NativeModule(
        manifest(),
        run=loaded.addresses["doubler_run"],
        init=loaded.addresses["doubler_init"],
        weights=blob.ctypes.data,
        keepalive=(loaded, blob),
    )
