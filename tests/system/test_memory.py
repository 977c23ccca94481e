"""Modules and the memory of their process: nothing grows, inputs stay, outputs go where they are wanted."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm.module import LLVMModule
from gcomp.diagnostics import InputError
from gcomp.ir import Graph
from gcomp.types import Array
from tests.networks import networks

MB = 1 << 20


def compiled(graph: Graph) -> LLVMModule:
    module = gcomp.compile(graph, target="llvm", host_steps=False)
    assert isinstance(module, LLVMModule)
    return module


def network(name: str = "gemms") -> tuple[LLVMModule, list[Array]]:
    graph, arrays = networks()[name]()
    return compiled(graph), arrays


def resident() -> int:
    """Bytes of this process in memory."""
    if not Path("/proc/self/statm").is_file():
        pytest.skip("the system does not tell how much memory a process has")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(work: Callable[[], object], warm_up: Callable[[], object]) -> int:
    """Bytes by which the process grows over `work`."""
    warm_up()
    gc.collect()
    before = resident()
    work()
    gc.collect()
    return resident() - before


def test_calls_leave_nothing_behind() -> None:
    module, arrays = network()

    def call(times: int) -> None:
        for _ in range(times):
            module(*arrays)

    assert growth(lambda: call(100_000), lambda: call(1_000)) < 2 * MB


def test_modules_that_are_dropped_leave_little_behind() -> None:
    def compile(times: int) -> None:
        for _ in range(times):
            module, arrays = network("conv-0")
            module(*arrays)

    assert growth(lambda: compile(50), lambda: compile(1)) < 30 * MB


def test_large_weights_go_with_their_module() -> None:
    def compile(times: int) -> None:
        for _ in range(times):
            module, arrays = network("1x300@300x517")
            assert module.artefact.weights.nbytes > MB // 2
            module(*arrays)

    assert growth(lambda: compile(100), lambda: compile(25)) < 30 * MB


def test_outputs_that_are_dropped_are_freed() -> None:
    module, arrays = network()
    module(*arrays)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            module(*arrays)
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()


def test_inputs_are_not_changed() -> None:
    for name, make in networks().items():
        graph, arrays = make()
        for array in arrays:
            array.setflags(write=False)
        before = [array.tobytes() for array in arrays]
        compiled(graph)(*arrays)
        assert [array.tobytes() for array in arrays] == before, name


CHILD = """
import os, sys
from tests.networks import networks
import gcomp
graph, arrays = networks()["gemms"]()
module = gcomp.compile(graph, target="llvm", host_steps=False)
expected = None if sys.argv[1] == "first" else module(*arrays)[0].tobytes()
child = os.fork()
result = module(*arrays)[0].tobytes()
if child == 0:
    os.write(1, result)
    os._exit(0 if expected in (None, result) else 1)
sys.exit(os.waitpid(child, 0)[1] or expected not in (None, result))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("when", ["first", "again"])
def test_a_module_works_after_a_fork(when: str, repository: Path) -> None:
    """In parent and child, whether it is called for the first time there or was before."""
    done = subprocess.run([sys.executable, "-c", CHILD, when], cwd=repository, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    module, arrays = network()
    assert done.stdout == module(*arrays)[0].tobytes()


def test_outputs_go_where_they_are_wanted() -> None:
    module, arrays = network()
    (expected,) = module(*arrays)
    place = np.full_like(expected, np.nan)
    (result,) = module(*arrays, out=[place])
    assert result is place
    assert place.tobytes() == expected.tobytes()


def test_a_call_with_places_for_outputs_allocates_no_arrays() -> None:
    module, arrays = network("31x3@3x130")
    (place,) = module(*arrays)
    tracemalloc.start()
    try:
        module(*arrays, out=[place])
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        module(*arrays, out=[place])
        assert tracemalloc.get_traced_memory()[1] - before < place.nbytes / 2
    finally:
        tracemalloc.stop()


def places(kind: str, inputs: list[Array], expected: Array) -> list[Any]:
    frozen, backwards = expected.copy(), np.empty_like(expected)[::-1]
    frozen.setflags(write=False)
    given: dict[str, list[Any]] = {
        "too few": [],
        "too many": [expected, expected.copy()],
        "a list": [expected.tolist()],
        "another dtype": [expected.astype(np.float64)],
        "another byte order": [expected.astype(">f4")],
        "another shape": [expected[:-1].copy()],
        "not contiguous": [backwards],
        "read-only": [frozen],
        "an input": [inputs[0]],
    }
    return given[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("too few", "out needs 1 array, one an output, got 0"),
        ("too many", "out needs 1 array, one an output, got 2"),
        ("a list", "out for y0 must be a numpy array, got list"),
        ("another dtype", r"out for y0 must be f32\[4,4\], got f64\[4,4\]"),
        ("another byte order", r"out for y0 must be f32\[4,4\], got f32\[4,4\] in the other byte order"),
        ("another shape", r"out for y0 must be f32\[4,4\], got f32\[3,4\]"),
        ("not contiguous", r"must be contiguous and writeable, got strides \(-16, 4\) and writeable=True"),
        ("read-only", "must be contiguous and writeable, got .* writeable=False"),
        ("an input", "out for y0 must not overlap an input or another output"),
    ],
)
def test_a_place_that_does_not_fit_is_told(kind: str, message: str) -> None:
    graph = gcomp.parse('graph "g" (%x: f32[4,4]) -> (%y "y0") {\n  %y = Relu(%x)\n}')
    module, x = compiled(graph), np.eye(4, dtype=np.float32) - 0.5
    before, (expected,) = x.copy(), module(x)
    with pytest.raises(InputError, match=message):
        module(x, out=places(kind, [x], expected))
    assert np.array_equal(x, before)


def test_two_outputs_need_two_places() -> None:
    graph = gcomp.parse('graph "g" (%x: f32[8]) -> (%y "y0", %z "y1") {\n  %y = Relu(%x)\n  %z = Neg(%x)\n}')
    module, x = compiled(graph), np.linspace(-1, 1, 8, dtype=np.float32)
    memory = np.zeros(16, np.float32)
    with pytest.raises(InputError, match="out for y1 must not overlap"):
        module(x, out=[memory[:8], memory[7:15]])
    module(x, out=[memory[:8], memory[8:]])
    assert memory.tolist() == [*np.maximum(x, 0), *-x]
