"""Tables of architectures: instruction sets that LLVM may use by itself, processors, vector registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """What is fixed for an architecture. Features that no compiler picks by itself (AES, say) are absent.

    `needs` maps a feature to those it is built on, `cpus` LLVM's processor names to their features, generic
    ones first, from small to large; `vectors_with` lists (features, vector bytes, vector registers), widest
    first; `exact` are features with which vectors keep to IEEE 754, fused multiply-add included, None where
    they do not, or where that was not tested.
    """

    machine: int
    pointer_bytes: int
    baseline: tuple[str, ...]
    needs: Mapping[str, tuple[str, ...]]
    cpus: Mapping[str, tuple[str, ...]]
    vectors_with: tuple[tuple[tuple[str, ...], int, int], ...]
    exact: tuple[str, ...] | None = None
    llvm_extras: tuple[str, ...] = ()
    abi: str = ""

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(self.needs)

    def implied(self, feature: str) -> frozenset[str]:
        """All features that `feature` is built on."""
        direct = self.needs[feature]
        return frozenset(direct).union(*(self.implied(other) for other in direct))

    def vectors(self, features: frozenset[str]) -> tuple[int, int]:
        """Bytes and number of the widest vector registers that these features give."""
        return next((size, count) for needed, size, count in self.vectors_with if features.issuperset(needed))

    def generic(self, features: frozenset[str]) -> str:
        """The largest generic processor that has no more than these features."""
        names = [name for name in self.cpus if name.startswith(("x86-64", "generic"))]
        return [name for name in names if features.issuperset(self.cpus[name])][-1]


def architecture_of(triple: str) -> str:
    """The key in `ARCHITECTURES` for a triple; what is none of them stays as it is."""
    name = triple.split("-")[0]
    if name.startswith("thumb"):
        return "thumb"
    if name == "arm" or name.startswith("armv"):
        return "arm"
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


_X86_2 = ("cx16", "popcnt", "sahf", "sse3", "ssse3", "sse4.1", "sse4.2")
_SANDY = (*_X86_2, "xsave", "avx")
_X86_3 = (*_SANDY, "f16c", "fma", "lzcnt", "bmi", "bmi2", "movbe", "avx2")
_X86_4 = (*_X86_3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_CASCADE = (*_X86_4, "avx512vnni")
_ICE = (*_CASCADE, "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512bitalg", "avx512vpopcntdq", "gfni")
_ALDER = (*_X86_3, "avxvnni", "gfni")

_ARM_76 = ("neon", "fullfp16", "dotprod")
_NEOVERSE_V1 = (*_ARM_76, "i8mm", "bf16", "sve")

ARCHITECTURES: dict[str, Architecture] = {
    "x86_64": Architecture(
        machine=62,
        pointer_bytes=8,
        baseline=(),
        needs={
            "cx16": (),
            "popcnt": (),
            "sahf": (),
            "sse3": (),
            "ssse3": ("sse3",),
            "sse4.1": ("ssse3",),
            "sse4.2": ("sse4.1",),
            "xsave": (),
            "avx": ("sse4.2", "xsave"),
            "f16c": ("avx",),
            "fma": ("avx",),
            "avx2": ("avx",),
            "lzcnt": (),
            "bmi": (),
            "bmi2": (),
            "movbe": (),
            "gfni": (),
            "avxvnni": ("avx2",),
            "avxifma": ("avx2",),
            "avxvnniint8": ("avx2",),
            "avxvnniint16": ("avx2",),
            "avxneconvert": ("avx2",),
            "avx512f": ("avx2", "f16c", "fma"),
            "avx512cd": ("avx512f",),
            "avx512dq": ("avx512f",),
            "avx512vl": ("avx512f",),
            "avx512bw": ("avx512f",),
            "avx512vnni": ("avx512f",),
            "avx512ifma": ("avx512f",),
            "avx512vpopcntdq": ("avx512f",),
            "avx512vbmi": ("avx512bw",),
            "avx512vbmi2": ("avx512bw",),
            "avx512bitalg": ("avx512bw",),
            "avx512bf16": ("avx512bw",),
            "avx512fp16": ("avx512bw", "avx512dq", "avx512vl"),
        },
        cpus={
            "x86-64": (),
            "x86-64-v2": _X86_2,
            "x86-64-v3": _X86_3,
            "x86-64-v4": _X86_4,
            "nehalem": _X86_2,
            "westmere": _X86_2,
            "sandybridge": _SANDY,
            "ivybridge": (*_SANDY, "f16c"),
            "haswell": _X86_3,
            "broadwell": _X86_3,
            "skylake": _X86_3,
            "skylake-avx512": _X86_4,
            "cascadelake": _CASCADE,
            "cooperlake": (*_CASCADE, "avx512bf16"),
            "icelake-client": _ICE,
            "icelake-server": _ICE,
            "rocketlake": _ICE,
            "tigerlake": _ICE,
            "sapphirerapids": (*_ICE, "avx512bf16", "avx512fp16", "avxvnni"),
            "emeraldrapids": (*_ICE, "avx512bf16", "avx512fp16", "avxvnni"),
            "alderlake": _ALDER,
            "raptorlake": _ALDER,
            "meteorlake": _ALDER,
            "znver1": _X86_3,
            "znver2": _X86_3,
            "znver3": _X86_3,
            "znver4": (*_ICE, "avx512bf16"),
            "znver5": (*_ICE, "avx512bf16", "avxvnni"),
        },
        vectors_with=(
            (("avx512f", "avx512bw", "avx512dq", "avx512vl"), 64, 32),
            (("avx2", "fma"), 32, 16),
            ((), 16, 16),
        ),
        exact=("fma",),
        # AMX needs leave from the kernel; the rest would be used unasked, and is gone from newer processors.
        llvm_extras=("-prefer-256-bit", "-amx-tile", "-sse4a", "-fma4", "-xop", "-tbm"),
    ),
    "aarch64": Architecture(
        machine=183,
        pointer_bytes=8,
        baseline=("neon",),
        needs={
            "neon": (),
            "fullfp16": ("neon",),
            "dotprod": ("neon",),
            "i8mm": ("neon",),
            "bf16": ("neon",),
            "sve": ("neon", "fullfp16"),
            "sve2": ("sve",),
        },
        cpus={
            "generic": ("neon",),
            "cortex-a53": ("neon",),
            "cortex-a55": _ARM_76,
            "cortex-a57": ("neon",),
            "cortex-a72": ("neon",),
            "cortex-a73": ("neon",),
            "cortex-a75": _ARM_76,
            "cortex-a76": _ARM_76,
            "cortex-a78": _ARM_76,
            "cortex-x1": _ARM_76,
            "neoverse-n1": _ARM_76,
            "neoverse-v1": _NEOVERSE_V1,
            "neoverse-n2": (*_NEOVERSE_V1, "sve2"),
            "neoverse-v2": (*_NEOVERSE_V1, "sve2"),
            "apple-m1": _ARM_76,
            "apple-m2": (*_ARM_76, "i8mm", "bf16"),
        },
        vectors_with=(((), 16, 32),),
        exact=("neon",),
    ),
    "arm": Architecture(
        machine=40,
        pointer_bytes=4,
        baseline=(),
        needs={"vfp3": (), "fp16": ("vfp3",), "neon": ("vfp3",), "vfp4": ("vfp3", "fp16")},
        cpus={
            "generic": ("vfp3",),
            "cortex-a7": ("vfp3", "fp16", "neon", "vfp4"),
            "cortex-a8": ("vfp3", "neon"),
            "cortex-a9": ("vfp3", "fp16", "neon"),
            "cortex-a15": ("vfp3", "fp16", "neon", "vfp4"),
        },
        vectors_with=((("neon",), 16, 16), ((), 4, 32)),
    ),
    "thumb": Architecture(
        machine=40,
        pointer_bytes=4,
        baseline=(),
        needs={"dsp": (), "vfp4d16sp": (), "mve": ("dsp",), "mve.fp": ("mve",)},
        cpus={
            "generic": (),
            "cortex-m0": (),
            "cortex-m3": (),
            "cortex-m4": ("dsp", "vfp4d16sp"),
            "cortex-m7": ("dsp", "vfp4d16sp"),
            "cortex-m33": ("dsp", "vfp4d16sp"),
            "cortex-m55": ("dsp", "vfp4d16sp", "mve", "mve.fp"),
        },
        vectors_with=((("mve.fp",), 16, 8), ((), 4, 16)),
    ),
    "riscv64": Architecture(
        machine=243,
        pointer_bytes=8,
        baseline=("m", "a", "f", "d", "c"),
        needs={"m": (), "a": (), "f": (), "d": ("f",), "c": (), "v": ("d",)},
        cpus={"generic-rv64": (), "sifive-u74": (), "sifive-x280": ("v",)},
        vectors_with=((("v",), 16, 32), ((), 8, 32)),
        abi="lp64d",
    ),
    "wasm32": Architecture(
        machine=0,
        pointer_bytes=4,
        baseline=(),
        needs={"simd128": ()},
        cpus={"generic": (), "bleeding-edge": ("simd128",)},
        vectors_with=((("simd128",), 16, 16), ((), 8, 16)),
    ),
}
