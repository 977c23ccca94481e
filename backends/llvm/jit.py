"""From LLVM text to object code, and from object code to addresses in this process."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from llvmlite import binding as llvm

from gcomp.diagnostics import BuildError, UnsupportedError

from .architectures import architecture_of
from .cpu import Cpu, host

_LOCK = threading.Lock()
_NUMBER = itertools.count()


def emit_object(text: str, cpu: Cpu, optimise: bool) -> bytes:
    """A relocatable object for a module's text; `optimise` runs LLVM's O2 pipeline first.

    Triple and data layout are those of `cpu`. Raises `BuildError` for text that LLVM does not take.
    """
    with _LOCK:
        module, machine = _prepared(text, cpu, optimise)
        return bytes(machine.emit_object(module))


def assembly(text: str, cpu: Cpu, optimise: bool) -> str:
    """The assembly text of what `emit_object` makes."""
    with _LOCK:
        module, machine = _prepared(text, cpu, optimise)
        return str(machine.emit_assembly(module))


def optimised(text: str, cpu: Cpu) -> str:
    """The LLVM text after the O2 pipeline."""
    with _LOCK:
        return str(_prepared(text, cpu, True)[0])


def joined(parts: Sequence[tuple[str, bool]], cpu: Cpu, as_assembly: bool) -> str:
    """Several modules' texts, each with whether to optimise it, as one LLVM module's text or its assembly."""
    with _LOCK:
        (first, machine), *rest = (_prepared(text, cpu, optimise) for text, optimise in parts)
        for module, _ in rest:
            first.link_in(module)
        return str(machine.emit_assembly(first)) if as_assembly else str(first)


def llvm_version() -> str:
    """The version of LLVM that generates code."""
    return ".".join(map(str, llvm.llvm_version_info))


@dataclass(frozen=True)
class Loaded:
    """Object code in this process; the addresses hold while `owner` lives."""

    addresses: dict[str, int]
    owner: object


def load_objects(objects: Sequence[bytes], symbols: Sequence[str]) -> Loaded:
    """Links objects into this process, on their own: no symbol of the process or of other modules is visible.

    Raises `BuildError` for a symbol that the objects lack.
    """
    builder = llvm.JITLibraryBuilder()
    for data in objects:
        builder.add_object_img(data)
    for symbol in symbols:
        builder.export_symbol(symbol)
    with _LOCK:
        try:
            tracker = builder.link(_linker(), f"gcomp{next(_NUMBER)}")
        except RuntimeError as error:
            raise BuildError(f"the objects cannot be linked in memory: {error}") from error
    return Loaded({symbol: int(tracker[symbol]) for symbol in symbols}, tracker)


def _prepared(text: str, cpu: Cpu, optimise: bool) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    if re.search(r"\basm\b", text) and cpu.arch != host().arch:
        # LLVM would end the process: it can only assemble for the architecture that it runs on.
        raise UnsupportedError(
            f"code for {cpu.triple} holds inline assembly, which needs to be compiled on it"
        )
    machine = _machine(cpu, 3 if optimise else 2)
    try:
        module = llvm.parse_assembly(text)
        module.triple, module.data_layout = cpu.triple, str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        message = str(error).strip()
        place = re.search(r":(\d+):\d+: error", message)
        line = text.splitlines()[int(place[1]) - 1] if place else ""
        raise BuildError(f"LLVM does not take the text made for it: {message}", line=line) from error
    if optimise:
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        tuning.loop_vectorization = tuning.slp_vectorization = True
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
    return module, machine


@cache
def _machine(cpu: Cpu, level: int) -> llvm.TargetMachine:
    _start(cpu.arch)
    return llvm.Target.from_triple(cpu.triple).create_target_machine(
        cpu=cpu.name,
        features=cpu.llvm_features,
        opt=level,
        reloc="pic",
        codemodel="small",  # the default is for code that is loaded far from its data
        abiname=cpu.architecture.abi,
    )


@cache
def _linker() -> llvm.LLJIT:
    return llvm.create_lljit_compiler(_machine(host(), 2), use_jit_link=True)


@cache
def _start(arch: str) -> None:
    if arch == architecture_of(llvm.get_process_triple()):
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
