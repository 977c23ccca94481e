"""Facts of a processor: its instruction sets, what kernels derive from them, and how LLVM is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from llvmlite import binding as llvm

from gcomp.diagnostics import InputError
from gcomp.types import DType

from .architectures import ARCHITECTURES, Architecture, architecture_of


@dataclass(frozen=True)
class Cpu:
    """A processor to compile for.

    `name` only decides scheduling; `features` are the instruction sets beyond the architecture's baseline
    that code may use, hence those that an artefact requires.
    """

    triple: str
    name: str
    features: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.triple} {self.name} {','.join(f'+{f}' for f in self.features)}".strip()

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.arch]

    @property
    def arch(self) -> str:
        """x86_64, aarch64, arm, thumb, riscv64 or wasm32."""
        return architecture_of(self.triple)

    @property
    def pointer_bytes(self) -> int:
        return self.architecture.pointer_bytes

    @property
    def vector_bytes(self) -> int:
        """The width of the widest vectors worth using; that of one scalar where there are none."""
        return self.architecture.vectors(frozenset(self.features))[0]

    @property
    def vector_registers(self) -> int:
        return self.architecture.vectors(frozenset(self.features))[1]

    @property
    def fma_units(self) -> int:
        """Fused multiply-adds of the widest vector that start per cycle."""
        if self.vector_bytes == 64:
            return 1 if self.name in _ONE_WIDE_FMA and not self.has("avx512fp16") else 2
        return 1 if self.name in _NARROW else 2

    @property
    def is_exact(self) -> bool:
        """Whether floats can be the same bits as on others, sums of products being fused."""
        return self.architecture.exact is not None and self.has(*self.architecture.exact)

    @property
    def multiplies_bfloats(self) -> bool:
        """Whether an instruction adds two products of bf16 to each f32 of the widest vector."""
        return self.arch == "x86_64" and self.vector_bytes == 64 and self.has("avx512bf16")

    def has(self, *features: str) -> bool:
        """Whether code may use all of these. Raises `InputError` for a name that the architecture lacks."""
        for feature in features:
            _known(feature, self.architecture, self.arch)
        return set(features) <= set(self.features)

    def lanes(self, dtype: DType) -> int:
        """Elements of `dtype` in one vector, at least one."""
        return max(1, self.vector_bytes // dtype.bytes)

    @property
    def llvm_features(self) -> str:
        """The feature text for LLVM: everything that it might use by itself is named as present or absent."""
        known = self.architecture.features
        named = [f"{'+' if f in self.features else '-'}{f}" for f in known]
        # A minus first: turning a feature off also turns off those that need it.
        return ",".join(sorted(named, key=lambda f: f[0] == "+") + list(self.architecture.llvm_extras))


_ONE_WIDE_FMA = {"icelake-client", "rocketlake", "tigerlake", "znver4"}
_NARROW = {"cortex-a5", "cortex-a7", "cortex-a8", "cortex-a9", "cortex-a53", "cortex-a55"}


@cache
def host() -> Cpu:
    """This machine's processor, with the instruction sets that it (or its hypervisor) reports."""
    triple = normalised(llvm.get_process_triple())
    arch = _architecture(triple)
    reported = {name for name, present in llvm.get_host_cpu_features().items() if present}
    reported |= set(arch.baseline)
    # A hypervisor may hide a feature and leave those that are built on it.
    features = tuple(f for f in arch.features if {f, *arch.implied(f)} <= reported)
    name = llvm.get_host_cpu_name()
    return Cpu(triple, name if name in arch.cpus else arch.generic(frozenset(features)), features)


def from_options(options: Mapping[str, str]) -> Cpu:
    """The processor for a target's `triple`, `cpu` and `features` (such as `+avx2-fma`); the host's for none.

    Another triple or cpu starts from that one's instruction sets, to which `features` are added or removed.
    Raises `InputError` for names that are not known, naming those that are.
    """
    triple = normalised(options["triple"]) if options.get("triple") else host().triple
    arch = _architecture(triple)
    foreign = architecture_of(triple) != architecture_of(host().triple)
    name = options.get("cpu") or (next(iter(arch.cpus)) if foreign else "host")
    if name in ("host", "native"):
        if foreign:
            raise InputError(f"cpu={name}: this machine is {host().triple}, the target is {triple}")
        name, features = host().name, set(host().features)
    elif name in arch.cpus:
        features = {*arch.baseline, *arch.cpus[name]}
    else:
        raise InputError(f"cpu={name} is not known for {triple}, only {', '.join(['host', *arch.cpus])}")
    for sign, feature in _signed(options.get("features", "")):
        _known(feature, arch, triple)
        if sign == "+":
            features |= {feature, *arch.implied(feature)}
        else:
            features -= {feature, *(other for other in arch.features if feature in arch.implied(other))}
    return Cpu(triple, name, tuple(f for f in arch.features if f in features))


def normalised(triple: str) -> str:
    """The triple with all four parts: LLVM takes `thumbv7em-none-eabihf` for a system called eabihf."""
    parts = triple.split("-")
    if len(parts) == 2:
        parts.insert(1, "unknown")
    if len(parts) == 3:
        parts = [parts[0], "unknown", *parts[1:]] if parts[1] != "unknown" else [*parts, "unknown"]
    return "-".join(parts)


def _architecture(triple: str) -> Architecture:
    try:
        return ARCHITECTURES[architecture_of(triple)]
    except KeyError:
        raise InputError(f"triple={triple}: no such architecture, only {', '.join(ARCHITECTURES)}") from None


def _signed(text: str) -> Iterable[tuple[str, str]]:
    found: list[tuple[str, str]] = re.findall(r"([+-])([\w.]+)", text)
    if re.sub(r"[\s,;]", "", text) != "".join(sign + name for sign, name in found):
        raise InputError(f"features={text!r}: each is a name after + or -, such as +avx2-avx512f")
    return found


def _known(feature: str, arch: Architecture, where: str) -> None:
    if feature not in arch.features:
        raise InputError(f"{feature!r} is no feature for {where}, only {', '.join(arch.features)}")
