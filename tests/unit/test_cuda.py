"""The cuda target: what it writes, what it refuses, how it speaks to the driver."""

from __future__ import annotations

import ctypes
import gc
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm import CUDA
from gcomp.backends.llvm.cuda import codegen, driver
from gcomp.backends.llvm.cuda.driver import Driver
from gcomp.backends.llvm.cuda.module import compile_graph
from gcomp.backends.llvm.cuda.thread import THREADS, Thread
from gcomp.diagnostics import BuildError, InputError, RunError, UnsupportedError
from gcomp.ir import Graph, Value
from gcomp.op import constant
from gcomp.ops import Expand, Gather, MatMul, Relu, Softmax
from gcomp.types import F32, I64, TensorType
from tests.emulated_gpu import EmulatedLibrary, emulated


def graph_of(make: Callable[..., Value], *types: TensorType) -> Graph:
    graph = Graph("small")
    values = [graph.add_input(type, f"x{place}") for place, type in enumerate(types)]
    graph.outputs, graph.output_names = [graph.add(make(*values).owner).results[0]], ["y"]  # pyright: ignore
    return graph


def f32(*shape: int) -> TensorType:
    return TensorType(F32, shape)


def seeded(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def test_compiling_needs_no_gpu(tmp_path: Path) -> None:
    graph = graph_of(lambda x: Relu(x).result, f32(3, 300))
    module = gcomp.compile(graph, target="cuda{arch=sm_90}", name="rectified")
    (file,) = module.save(tmp_path / "m.ptx")
    text, told = file.read_text(), json.loads(json.dumps(module.manifest))
    assert ".target sm_90" in text
    (launch,) = told["launches"]
    assert f".visible .entry {launch['kernel']}(" in text
    assert (launch["grid"], launch["block"]) == (-(-900 // THREADS), THREADS)
    assert launch["arguments"] == [
        ["arena", told["inputs"][0]["offset"]],
        ["arena", told["outputs"][0]["offset"]],
    ]
    assert told["weights_bytes"] == 0


def test_elements_are_read_whole() -> None:
    text = compile_graph(graph_of(lambda x: Relu(x).result, f32(64)), "sm_80", "m").program.ptx
    assert re.search(r"ld\.global\S*\.b32", text) and "st.global.b32" in text
    assert "b8" not in text


def test_only_programs_and_ptx_are_written(tmp_path: Path) -> None:
    module = compile_graph(graph_of(lambda x: Relu(x).result, f32(4)), "sm_80", "m")
    with pytest.raises(BuildError, match=r"\.so, only \.pyz, \.ptx"):
        module.save(tmp_path / "m.so")


def test_unknown_architecture() -> None:
    with pytest.raises(InputError, match=r"arch must be one of sm_80, .*, got 'sm_20'"):
        gcomp.compile(graph_of(lambda x: Relu(x).result, f32(4)), target="cuda{arch=sm_20}")


def unknown_to_gpus() -> str:
    """A kernel that calls what LLVM would need a library for."""
    return codegen.module_text(calling("llvm.sqrt.f32"), "sm_80").replace("llvm.sqrt", "llvm.exp")


def calling(intrinsic: str) -> Thread:
    """A kernel that calls a function of one f32."""
    fn = Thread("kernel")
    fn.parameters.append(("ptr", "x"))
    loaded = fn.load("%x", "float")
    fn.store(fn.call("float", intrinsic, [("float", loaded)]), "%x", "float")
    fn.do("ret void")
    return fn


def test_what_llvm_cannot_lower_is_an_error_and_not_the_end() -> None:
    for _ in range(2):
        with pytest.raises(BuildError, match=r"LLVM makes no code for sm_80 of this: .*libcall"):
            codegen.compiled([unknown_to_gpus()], "sm_80")
        fine = compile_graph(graph_of(lambda x: Relu(x).result, f32(4)), "sm_80", "m")
        assert ".visible .entry" in fine.program.ptx


def test_text_that_llvm_does_not_parse_is_an_error() -> None:
    with pytest.raises(BuildError, match=r"(?s)LLVM does not take the text made for it: .*expected"):
        codegen.compiled([unknown_to_gpus().replace("load float", "load floot")], "sm_80")


@pytest.mark.parametrize("name", ["llvm.exp.f32", "llvm.pow.f32", "llvm.sin.f32", "llvm.nvvm.none", "expf"])
def test_what_gpus_lack_is_refused_before_llvm_sees_it(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"GPUs have no code for {name}"):
        codegen.module_text(calling(name), "sm_80")


def test_a_call_of_a_function_is_refused() -> None:
    text = unknown_to_gpus().replace("llvm.exp.f32", "expf")
    with pytest.raises(BuildError, match="LLVM would call expf, which GPUs lack"):
        codegen.compiled([text], "sm_80")


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    driver.first_gpu.cache_clear()
    assert CUDA().available() is None
    assert CUDA().runs_here() == ("there is no NVIDIA driver: libcuda.so.1: cannot open shared object file")
    module = gcomp.compile(graph_of(lambda x: Relu(x).result, f32(4)), target="cuda")
    with pytest.raises(RunError, match="cuda: there is no NVIDIA driver"):
        module(seeded(4))


def test_no_gpu() -> None:
    with pytest.raises(RunError, match="finds no GPU"):
        Driver(EmulatedLibrary(gpus=0))


def test_a_gpu_that_is_too_old() -> None:
    graph = graph_of(lambda x: Relu(x).result, f32(4))
    module = emulated(graph, "sm_90", EmulatedLibrary(capability=(8, 6)))
    with pytest.raises(RunError, match=r"compiled for sm_90, this GPU is sm_86"):
        module(seeded(4))


def test_ptx_that_the_driver_refuses_leaves_nothing_behind() -> None:
    library = EmulatedLibrary()
    module = emulated(graph_of(lambda x: Relu(x).result, f32(4)), "sm_80", library)
    library.programs.clear()
    with pytest.raises(RunError, match=r"CUDA_ERROR_INVALID_VALUE\n  ptxas fatal: no such program"):
        module(seeded(4))
    assert not library.memory and library.depth == 0


def test_too_little_memory_leaves_nothing_behind() -> None:
    library = EmulatedLibrary(memory=1 << 10)
    module = emulated(graph_of(lambda x: Relu(x).result, f32(300)), "sm_80", library)
    with pytest.raises(RunError, match="cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY"):
        module(seeded(300))
    assert not library.memory and library.depth == 0


def test_memory_goes_with_the_module() -> None:
    library, weights = EmulatedLibrary(), seeded(8, 5)
    module = emulated(graph_of(lambda x: MatMul(x, constant(weights)).result, f32(3, 8)), "sm_80", library)
    x = seeded(3, 8)
    for _ in range(2):
        np.testing.assert_allclose(module(x)[0], x @ weights, rtol=1e-5, atol=1e-5)
    assert len(library.memory) == 2 and library.depth == 0
    del module
    gc.collect()
    assert not library.memory and library.depth == 0


def test_an_index_out_of_range_is_told_and_forgotten() -> None:
    graph = graph_of(lambda x, i: Gather(x, i, 0).result, f32(4, 3), TensorType(I64, (2,)))
    module, x = emulated(graph, "sm_80", EmulatedLibrary()), seeded(4, 3)
    with pytest.raises(RunError, match="an index is out of range"):
        module(x, np.array([0, 4]))
    assert np.array_equal(module(x, np.array([3, -4]))[0], x[[3, 0]])


def test_arrays_that_do_not_fit() -> None:
    module = emulated(graph_of(lambda x: Softmax(x).result, f32(2, 3)), "sm_80", EmulatedLibrary())
    with pytest.raises(InputError, match=r"input x0 must be f32\[2,3\], got f32\[3,2\]"):
        module(seeded(3, 2))
    with pytest.raises(InputError, match=r"takes 1 input \(x0\), got 2"):
        module(seeded(2, 3), seeded(2, 3))
    with pytest.raises(InputError, match="takes inputs x0, got z"):
        module.run({"z": seeded(2, 3)})
    assert list(module.run({"x0": seeded(2, 3)})) == ["y"]


def test_a_wrong_kernel_gives_a_wrong_answer() -> None:
    library = EmulatedLibrary()
    module = emulated(graph_of(lambda x: Relu(x).result, f32(600)), "sm_80", library)
    texts, x = module.program.texts, seeded(600)
    ((symbol, text),) = texts.items()
    texts[symbol] = text.replace(f"mul i32 %v1, {THREADS}", f"mul i32 %v1, {THREADS + 1}")
    assert texts[symbol] != text
    assert not np.array_equal(module(x)[0], np.maximum(x, 0))


def test_more_elements_than_32_bits_count() -> None:
    graph = graph_of(lambda x: Expand(x, constant([1 << 16, 1 << 16])).result, f32(1, 1))
    program = compile_graph(graph, "sm_80", "m").program
    ((_, text),) = program.texts.items()
    assert f"icmp ult i64 %v6, {1 << 32}" in text
    assert program.launches[0].grid == 1 << 24
    small = graph_of(lambda x: Expand(x, constant([1 << 15, 1 << 15])).result, f32(1, 1))
    assert f"icmp ult i32 %v4, {1 << 30}" in next(
        iter(compile_graph(small, "sm_80", "m").program.texts.values())
    )


def test_calls_from_two_threads_take_turns() -> None:
    module = emulated(graph_of(lambda x: Softmax(x).result, f32(4, 9)), "sm_80", EmulatedLibrary())
    given = [seeded(4, 9), -seeded(4, 9)]
    expected = [module(x)[0] for x in given]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda x: module(x)[0], given * 50))
    assert all(np.array_equal(result, expected[place % 2]) for place, result in enumerate(results))
