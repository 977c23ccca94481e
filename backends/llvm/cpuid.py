"""LLVM text of a function that asks the processor whether it has what the code was compiled for."""

from __future__ import annotations

from collections import defaultdict

from . import idregisters
from .cpu import Cpu

_EAX, _EBX, _ECX, _EDX = range(4)

_OSXSAVE = (1, 0, _ECX, 27)

# Feature -> leaf, subleaf, register and bit of the CPUID instruction.
CPUID: dict[str, tuple[int, int, int, int]] = {
    "sse3": (1, 0, _ECX, 0),
    "ssse3": (1, 0, _ECX, 9),
    "fma": (1, 0, _ECX, 12),
    "cx16": (1, 0, _ECX, 13),
    "sse4.1": (1, 0, _ECX, 19),
    "sse4.2": (1, 0, _ECX, 20),
    "movbe": (1, 0, _ECX, 22),
    "popcnt": (1, 0, _ECX, 23),
    "xsave": (1, 0, _ECX, 26),
    "avx": (1, 0, _ECX, 28),
    "f16c": (1, 0, _ECX, 29),
    "bmi": (7, 0, _EBX, 3),
    "avx2": (7, 0, _EBX, 5),
    "bmi2": (7, 0, _EBX, 8),
    "avx512f": (7, 0, _EBX, 16),
    "avx512dq": (7, 0, _EBX, 17),
    "avx512ifma": (7, 0, _EBX, 21),
    "avx512cd": (7, 0, _EBX, 28),
    "avx512bw": (7, 0, _EBX, 30),
    "avx512vl": (7, 0, _EBX, 31),
    "avx512vbmi": (7, 0, _ECX, 1),
    "avx512vbmi2": (7, 0, _ECX, 6),
    "gfni": (7, 0, _ECX, 8),
    "avx512vnni": (7, 0, _ECX, 11),
    "avx512bitalg": (7, 0, _ECX, 12),
    "avx512vpopcntdq": (7, 0, _ECX, 14),
    "avx512fp16": (7, 0, _EDX, 23),
    "avxvnni": (7, 1, _EAX, 4),
    "avx512bf16": (7, 1, _EAX, 5),
    "avxifma": (7, 1, _EAX, 23),
    "avxvnniint8": (7, 1, _EDX, 4),
    "avxneconvert": (7, 1, _EDX, 5),
    "avxvnniint16": (7, 1, _EDX, 10),
    "sahf": (0x80000001, 0, _ECX, 0),
    "lzcnt": (0x80000001, 0, _ECX, 5),
}

_AVX_STATE = 0x06  # what the operating system saves at a switch: SSE and AVX registers
_AVX512_STATE = 0xE6  # and the mask registers and both halves of ZMM

# The check and its callers may use nothing beyond what every processor of the architecture has.
BASELINE = {
    "x86_64": '"target-cpu"="x86-64" "target-features"="-sse3,-avx"',
    "aarch64": '"target-cpu"="generic" "target-features"="+neon"',
}


def check_text(name: str, cpu: Cpu) -> str:
    """An internal function `name` without arguments that returns i1, with the attributes of group #0.

    It answers true where the processor is neither x86-64 nor aarch64: there, asking needs the C library.
    """
    if cpu.arch == "aarch64":
        return idregisters.check_text(name, cpu)
    if cpu.arch != "x86_64" or not cpu.features:
        return f"define internal i1 @{name}() #0 {{\n  ret i1 true\n}}\n"
    steps: list[tuple[str, str]] = []  # each: text that computes %ok.N as the last line needs it
    for (leaf, subleaf), masks in sorted(_masks(cpu).items()):
        if leaf == 7 and subleaf == 0:
            steps.append(_at_least("basic", 0, 7))
        elif leaf == 7:
            steps.append(_at_least("seven", 7, subleaf))
        elif leaf > 7:
            steps.append(_at_least("extended", 0x80000000, leaf))
        steps.extend(_has(leaf, subleaf, register, mask) for register, mask in sorted(masks.items()))
        if leaf == 1 and cpu.has("avx"):
            steps.append(_saved(_AVX512_STATE if cpu.has("avx512f") else _AVX_STATE))
    blocks = "".join(
        f"{text}  br i1 %{ok}, label %after.{n}, label %lacking\nafter.{n}:\n"
        for n, (text, ok) in enumerate(steps)
    )
    return f"define internal i1 @{name}() #0 {{\n{blocks}  ret i1 true\nlacking:\n  ret i1 false\n}}\n"


def _masks(cpu: Cpu) -> dict[tuple[int, int], dict[int, int]]:
    places = [CPUID[feature] for feature in cpu.features]
    if cpu.has("avx"):
        places.append(_OSXSAVE)
    masks: dict[tuple[int, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for leaf, subleaf, register, bit in places:
        masks[leaf, subleaf][register] |= 1 << bit
    return masks


def _cpuid(value: str, leaf: int, subleaf: int, register: int) -> str:
    return (
        f"  %{value}.all = call {{ i32, i32, i32, i32 }} asm sideeffect"
        f' "cpuid", "={{ax}},={{bx}},={{cx}},={{dx}},{{ax}},{{cx}}"(i32 {leaf}, i32 {subleaf})\n'
        f"  %{value} = extractvalue {{ i32, i32, i32, i32 }} %{value}.all, {register}\n"
    )


def _at_least(value: str, leaf: int, number: int) -> tuple[str, str]:
    """Whether CPUID answers for `number`: the highest one is in EAX of `leaf`."""
    text = _cpuid(value, leaf, 0, _EAX) + f"  %{value}.ok = icmp uge i32 %{value}, {number}\n"
    return text, f"{value}.ok"


def _has(leaf: int, subleaf: int, register: int, mask: int) -> tuple[str, str]:
    value = f"leaf.{leaf:x}.{subleaf}.{register}"
    return _cpuid(value, leaf, subleaf, register) + _all_set(value, mask), f"{value}.ok"


def _saved(mask: int) -> tuple[str, str]:
    text = (
        "  %state.all = call { i32, i32 } asm sideeffect"
        ' ".byte 0x0f, 0x01, 0xd0", "={ax},={dx},{cx}"(i32 0) ; xgetbv\n'
        "  %state = extractvalue { i32, i32 } %state.all, 0\n"
    )
    return text + _all_set("state", mask), "state.ok"


def _all_set(value: str, mask: int) -> str:
    return f"  %{value}.some = and i32 %{value}, {mask}\n  %{value}.ok = icmp eq i32 %{value}.some, {mask}\n"
