"""LLVM text of a function that asks an ARM processor whether it has what the code was compiled for."""

from __future__ import annotations

from .cpu import Cpu

_ISAR0, _ISAR1, _PFR0, _ZFR0 = "3:0:0:6:0", "3:0:0:6:1", "3:0:0:4:0", "3:0:0:4:4"

# Feature -> identification register of AArch64 and the lowest bit of its field: signed, four bits, from 1 on
# if the processor has it.
FIELDS: dict[str, tuple[str, int]] = {
    "fullfp16": (_PFR0, 20),
    "dotprod": (_ISAR0, 44),
    "i8mm": (_ISAR1, 52),
    "bf16": (_ISAR1, 44),
    "sve": (_PFR0, 32),
    "sve2": (_ZFR0, 0),
}


def check_text(name: str, cpu: Cpu) -> str:
    """An internal function `name` without arguments that returns i1, with the attributes of group #0.

    It reads the registers as programs may on Linux from 4.11 on; for other systems it answers true.
    """
    asked = [feature for feature in cpu.features if feature in FIELDS] if "linux" in cpu.triple else []
    lines: list[str] = []
    answer = "true"
    for feature in asked:
        register, bit = FIELDS[feature]
        lines += [
            f'%{feature}.all = call i64 @llvm.read_volatile_register.i64(metadata !{{!"{register}"}})',
            f"%{feature}.high = shl i64 %{feature}.all, {60 - bit}",
            f"%{feature}.field = ashr i64 %{feature}.high, 60",
            f"%{feature}.there = icmp sgt i64 %{feature}.field, 0",
            f"%{feature}.ok = and i1 {answer}, %{feature}.there",
        ]
        answer = f"%{feature}.ok"
    body = "".join(f"  {line}\n" for line in lines)
    declared = "declare i64 @llvm.read_volatile_register.i64(metadata)\n" if asked else ""
    return f"{declared}define internal i1 @{name}() #0 {{\n{body}  ret i1 {answer}\n}}\n"
