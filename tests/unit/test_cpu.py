"""Processors: options, derived facts, what LLVM is told, and the check at run time."""

import ctypes
import re
from pathlib import Path

import pytest

from gcomp.backends.llvm.architectures import ARCHITECTURES
from gcomp.backends.llvm.cpu import Cpu, from_options, host, normalised
from gcomp.backends.llvm.cpuid import CPUID, check_text
from gcomp.backends.llvm.idregisters import FIELDS
from gcomp.backends.llvm.jit import assembly, emit_object, load_objects
from gcomp.diagnostics import InputError, UnsupportedError
from gcomp.types import F16, F32, I8

X86 = "x86_64-linux-gnu"
ADD = """
define void @add(ptr %p) {
  %x = load <16 x float>, ptr %p
  %y = fadd <16 x float> %x, %x
  store <16 x float> %y, ptr %p
  ret void
}
"""


def x86(cpu: str, features: str = "") -> Cpu:
    return from_options({"triple": X86, "cpu": cpu, "features": features})


@pytest.mark.parametrize(
    ("cpu", "features", "vector", "registers", "register"),
    [
        ("x86-64", "", 16, 16, "xmm"),
        ("haswell", "", 32, 16, "ymm"),
        ("haswell", "-fma", 16, 16, "ymm"),
        ("skylake-avx512", "", 64, 32, "zmm"),
        ("skylake-avx512", "-avx512vl", 32, 16, "zmm"),
        ("sapphirerapids", "", 64, 32, "zmm"),
        ("znver5", "-avx512f", 32, 16, "ymm"),
        ("znver5", "-avx", 16, 16, "xmm"),
    ],
)
def test_vectors_follow_from_features(
    cpu: str, features: str, vector: int, registers: int, register: str
) -> None:
    found = x86(cpu, features)
    assert (found.vector_bytes, found.vector_registers) == (vector, registers)
    assert (found.lanes(F32), found.lanes(F16), found.lanes(I8)) == (vector // 4, vector // 2, vector)
    text = assembly(ADD, found, False)
    widest = next(name for name in ("zmm", "ymm", "xmm") if name in text)
    assert widest == register


def test_a_feature_brings_what_it_is_built_on_and_takes_what_is_built_on_it() -> None:
    grown = x86("x86-64", "+avx512fp16")
    assert grown.has("avx512bw", "avx512vl", "avx512f", "avx2", "fma", "sse3")
    shrunk = x86("sapphirerapids", "-avx2")
    assert shrunk.has("avx", "fma") and not any(
        f.startswith(("avx512", "avx2", "avxvnni")) for f in shrunk.features
    )


def test_other_architectures() -> None:
    a76 = from_options({"triple": "aarch64-linux-gnu", "cpu": "cortex-a76"})
    assert (a76.arch, a76.vector_bytes, a76.vector_registers) == ("aarch64", 16, 32)
    assert a76.has("neon", "dotprod") and not a76.has("i8mm")
    assert from_options({"triple": "riscv64-linux-gnu", "features": "+v"}).vector_bytes == 16
    m4 = from_options({"triple": "thumbv7em-none-eabihf", "cpu": "cortex-m4"})
    assert (m4.triple, m4.pointer_bytes, m4.lanes(F32)) == ("thumbv7em-unknown-none-eabihf", 4, 1)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_llvm_knows_every_processor_and_feature(arch: str, capfd: pytest.CaptureFixture[str]) -> None:
    triple = {
        "x86_64": X86,
        "aarch64": "aarch64-linux-gnu",
        "arm": "armv7a-linux-gnueabihf",
        "thumb": "thumbv7em-none-eabihf",
        "riscv64": "riscv64-linux-gnu",
        "wasm32": "wasm32-unknown-wasi",
    }[arch]
    for name in ARCHITECTURES[arch].cpus:
        assert assembly("define i32 @f() { ret i32 0 }", from_options({"triple": triple, "cpu": name}), False)
    assert capfd.readouterr().err == ""  # LLVM tells of names that it does not know, and goes on


def test_the_host_is_itself() -> None:
    assert from_options({}) == from_options({"cpu": "host"}) == host()
    assert set(host().features) <= set(ARCHITECTURES[host().arch].features)
    assert from_options({"triple": host().triple}) == host()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"triple": X86, "cpu": "pentium9"}, "cpu=pentium9 is not known.*haswell"),
        ({"triple": "sparc-sun-solaris"}, "no such architecture.*aarch64"),
        ({"triple": X86, "features": "+amx-tile"}, "'amx' is no feature"),
        ({"triple": X86, "features": "+avx3"}, "'avx3' is no feature"),
        ({"triple": X86, "features": "avx2"}, "features='avx2'"),
        ({"triple": "riscv64-linux-gnu", "cpu": "host"}, "this machine is"),
    ],
)
def test_unknown_names_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_options(options)


def test_asking_for_a_feature_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(InputError, match="'dotprod' is no feature"):
        x86("haswell").has("dotprod")


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("x86_64-linux-gnu", "x86_64-unknown-linux-gnu"),
        ("aarch64-unknown-linux", "aarch64-unknown-linux-unknown"),
        ("thumbv7em-none-eabihf", "thumbv7em-unknown-none-eabihf"),
        ("x86_64-pc-linux-gnu", "x86_64-pc-linux-gnu"),
    ],
)
def test_triples_have_four_parts(given: str, full: str) -> None:
    assert normalised(given) == full


def test_every_feature_of_x86_can_be_checked() -> None:
    assert set(CPUID) == set(ARCHITECTURES["x86_64"].features)


def test_every_feature_of_arm_can_be_checked() -> None:
    arm = ARCHITECTURES["aarch64"]
    assert set(FIELDS) == set(arm.features) - set(arm.baseline)


@pytest.mark.parametrize("triple", ["aarch64-apple-macosx13.0", "aarch64-none-elf"])
def test_only_linux_lets_programs_read_identification_registers(triple: str) -> None:
    a76 = from_options({"triple": triple, "cpu": "cortex-a76"})
    assert check_text("ok", a76) == "define internal i1 @ok() #0 {\n  ret i1 true\n}\n"


def check(cpu: Cpu) -> bool:
    """Runs the check of `cpu` on this machine."""
    text = (
        check_text("ok", cpu)
        + "define i1 @ask() {\n  %a = call i1 @ok()\n  ret i1 %a\n}\nattributes #0 = { noinline }\n"
    )
    loaded = load_objects([emit_object(text, host(), False)], ["ask"])
    return bool(ctypes.CFUNCTYPE(ctypes.c_bool)(loaded.addresses["ask"])())


needs_x86 = pytest.mark.skipif(host().arch != "x86_64", reason="asks an x86-64 processor")


@needs_x86
def test_the_host_passes_its_own_check() -> None:
    assert check(host())
    assert check(Cpu(host().triple, "x86-64", ()))


@needs_x86
@pytest.mark.parametrize("feature", CPUID)
def test_each_feature_is_checked_as_linux_tells_it(feature: str) -> None:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    flags = next(
        (line.split(":")[1].replace("_", "").split() for line in lines if line.startswith("flags")), None
    )
    if flags is None:
        pytest.skip("the system does not tell the processor's flags")
    linux = {"bmi": "bmi1", "lzcnt": "abm", "sahf": "lahflm", "sse3": "pni"}.get(
        feature, feature.replace(".", "")
    )
    assert check(Cpu(host().triple, "x86-64", (feature,))) == (linux in flags)


@needs_x86
def test_inline_assembly_for_another_architecture_is_refused() -> None:
    text = 'define void @f() {\n  call void asm sideeffect "nop", ""()\n  ret void\n}\n'
    with pytest.raises(UnsupportedError, match="inline assembly"):
        emit_object(text, from_options({"triple": "aarch64-linux-gnu"}), False)


def test_the_check_asks_whether_the_system_saves_vectors_before_it_asks_which() -> None:
    """XGETBV may only be run where bit 27 of ECX of leaf 1 is set (Intel SDM, volume 1, 14.3)."""
    text = check_text("f", x86("haswell"))
    (mask,) = re.findall(r"%leaf\.1\.0\.2\.some = and i32 %leaf\.1\.0\.2, (\d+)", text)
    assert int(mask) & 1 << 27
    assert text.index("leaf.1.0.2.some") < text.index("xgetbv")


@pytest.mark.parametrize(
    ("cpu", "generic"), [("x86-64", "x86-64"), ("haswell", "x86-64-v3"), ("sapphirerapids", "x86-64-v4")]
)
def test_the_generic_processor_is_the_largest(cpu: str, generic: str) -> None:
    assert ARCHITECTURES["x86_64"].generic(frozenset(x86(cpu).features)) == generic
