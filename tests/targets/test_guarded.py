"""Native code keeps to its buffers: what ends at, or begins after, a protected page is never left.

Inputs and weights cannot be written there, outputs and arena are full of poison before.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guard import Fenced, cases, survey

pytestmark = pytest.mark.skipif(os.name != "posix", reason="protects pages by mprotect")

CHUNKS = 12


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_native_code_keeps_to_its_buffers(chunk: int, repository: Path) -> None:
    wrong = survey(repository, cases()[chunk::CHUNKS])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ["inputs", "outputs", "arena", "weights"])
def test_a_buffer_that_is_too_short_is_noticed(kind: str, repository: Path) -> None:
    wrong = survey(repository, ["conv-0", "conv-3"], "--short", kind)
    assert wrong == ["conv-0, templates on, end: SIGSEGV", "conv-3, templates on, end: SIGSEGV"]


WRITES_AN_INPUT = """
import ctypes, numpy, tests.guard
held = tests.guard.Fenced(8, "start", 0, numpy.zeros(2, numpy.int32))
assert held.content == bytes(8)
print("read", flush=True)
ctypes.memset(held.address, 1, 1)
"""


def test_an_input_that_is_written_is_noticed(repository: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", WRITES_AN_INPUT], cwd=repository, capture_output=True, text=True
    )
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "read\n"), child.stderr


@pytest.mark.parametrize("place", [-1, 5])
def test_bytes_written_beside_a_buffer_are_noticed(place: int) -> None:
    held = Fenced(5, "odd", 0xFF)
    ctypes.memset(held.address, 1, 5)
    assert not held.spilled
    ctypes.memset(held.address + place, 1, 1)
    assert held.spilled
