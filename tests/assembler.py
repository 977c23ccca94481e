"""NVIDIA's assembler, where there is one: what it makes of PTX, and what it says of each kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

PACKAGE = "nvidia-cuda-nvcc-cu12"


@dataclass(frozen=True)
class Facts:
    """What a kernel needs: registers of a thread, bytes that a thread saves because they are too few."""

    registers: int
    spilled: int


@cache
def ptxas() -> str | None:
    """The assembler: that of the Python package, else the one on the path."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    return next((str(f.locate()) for f in files if f.name == "ptxas"), None) or shutil.which("ptxas")


def assembled(ptx: str, arch: str, folder: Path) -> dict[str, Facts]:
    """Assembles all kernels in one run; their facts by symbol. Skips the test where there is no assembler."""
    assembler = ptxas()
    if assembler is None:
        pytest.skip(f"there is no ptxas: install {PACKAGE}, or put one on the path")
    (folder / "kernels.ptx").write_text(ptx)
    command = [assembler, "-v", "-arch", arch, "-o", "kernels.cubin", "kernels.ptx"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]
    assert (folder / "kernels.cubin").stat().st_size
    return {name: _facts(told) for name, told in _by_kernel(done.stderr)}


def _by_kernel(log: str) -> list[tuple[str, str]]:
    parts = re.split(r"Compiling entry function '(\w+)' for '\w+'", log)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def _facts(told: str) -> Facts:
    (registers,) = re.findall(r"Used (\d+) registers", told)
    (spilled,) = re.findall(r"(\d+) bytes spill stores", told)
    return Facts(int(registers), int(spilled))
