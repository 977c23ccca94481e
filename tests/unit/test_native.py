"""Native modules called from Python: arrays in and out, errors, threads, forks."""

import ctypes
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from gcomp import native
from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.jit import emit_object, load_objects
from gcomp.diagnostics import BuildError, InputError, RunError
from gcomp.native import ErrorCode, NativeModule, load
from gcomp.port import Port
from gcomp.types import BF16, F32, I32

from . import doubler

X = np.array([1, 2, 3, 4], np.float32)
DOUBLED = [2, 4, 6, 8]


@pytest.fixture(scope="module", params=["in memory", "from a file"])
def module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NativeModule:
    if request.param == "in memory":
        return doubler.in_memory()
    return load(doubler.shared(tmp_path_factory.mktemp("native")))


def test_a_call_returns_fresh_arrays(module: NativeModule) -> None:
    first, second = module(X), module(X)
    assert type(first) is list and first[0].tolist() == second[0].tolist() == DOUBLED
    assert first[0].dtype == np.float32 and first[0].flags.writeable
    first[0][:] = 0
    assert second[0].tolist() == DOUBLED


def test_run_goes_by_names(module: NativeModule) -> None:
    results = module.run({"x": X})
    assert list(results) == ["y"] and results["y"].tolist() == DOUBLED


def test_it_says_what_it_takes(module: NativeModule) -> None:
    assert module.inputs == (Port("x", F32, (4,)),)
    assert module.outputs == (Port("y", F32, (4,)),)
    assert module.host_steps == []
    assert "doubler(x: f32[4]) -> (y: f32[4])" in repr(module)


def unaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    memory[:] = array.view(np.uint8)
    found = memory.view(array.dtype)
    assert not found.flags.aligned
    return found


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


class ThroughDLPack:
    """An array of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> object:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class ThroughArray:
    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return X


GIVEN = {
    "strided": np.repeat(X, 2)[::2],
    "reversed": X[::-1].copy()[::-1],
    "broadcast": np.broadcast_to(np.float32(3), (4,)),
    "big-endian": X.astype(">f4"),
    "unaligned": unaligned(X),
    "read-only": read_only(X),
    "dlpack": ThroughDLPack(X),
    "__array__": ThroughArray(),
    "memoryview": X.data,
    "list": [1.0, 2, 3, 4],
}


@pytest.mark.parametrize("kind", GIVEN)
def test_any_array_is_accepted(module: NativeModule, kind: str) -> None:
    given = GIVEN[kind]
    expected = [6.0] * 4 if kind == "broadcast" else DOUBLED
    assert module(given)[0].tolist() == expected


def test_contiguous_arrays_are_not_copied(module: NativeModule) -> None:
    for given in (X, read_only(X), unaligned(X), np.asfortranarray(X)):
        assert np.shares_memory(module.accept([given])[0], given)


def test_an_array_may_be_changed_between_calls(module: NativeModule) -> None:
    given = X.copy()
    assert module(given)[0].tolist() == DOUBLED
    given += 1
    assert module(given)[0].tolist() == [4, 6, 8, 10]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.zeros(4), "f64[4]"),
        (np.zeros(4, np.int32), "i32[4]"),
        (np.zeros(5, np.float32), "f32[5]"),
        (np.zeros((4, 1), np.float32), "f32[4,1]"),
        (np.float32(3), "f32[]"),
        ([1.0, 2.0], "f32[2]"),
        (["a", "b", "c", "d"], "str[4]"),
        (np.zeros(4, np.complex64), "complex64[4]"),
        ([1j, 2, 3, 4], "complex128[4]"),
        (None, "str[]"),
    ],
)
def test_what_does_not_fit_is_told_with_both_types(module: NativeModule, given: object, found: str) -> None:
    with pytest.raises(InputError) as caught:
        module(given)
    assert str(caught.value) == f"doubler: input x must be f32[4], got {found}"


@pytest.mark.parametrize("given", [[[1], [2, 3]], type("Odd", (), {"__dlpack__": lambda self: None})()])
def test_what_is_no_array_is_told(module: NativeModule, given: object) -> None:
    with pytest.raises(InputError, match=r"doubler: input x: .* cannot be read as an array"):
        module(given)


def test_a_wrong_number_of_inputs_is_told(module: NativeModule) -> None:
    with pytest.raises(InputError, match=r"doubler: takes 1 input \(x\), got 2"):
        module(X, X)
    with pytest.raises(InputError, match=r"takes 1 input \(x\), got 0"):
        module()


@pytest.mark.parametrize("names", [[], ["z"], ["x", "z"]])
def test_wrong_names_are_told(module: NativeModule, names: list[str]) -> None:
    with pytest.raises(InputError, match=f"takes inputs x, got {', '.join(names) or 'none'}"):
        module.run(dict.fromkeys(names, X))


@pytest.mark.parametrize("code", [ErrorCode.INDEX, ErrorCode.MEMORY])
def test_an_error_of_the_code_is_raised_and_the_next_call_works(
    module: NativeModule, code: ErrorCode
) -> None:
    with pytest.raises(RunError) as caught:
        module(np.array([0, 0, 0, 1000 + code], np.float32))
    assert str(caught.value) == f"doubler: {code.message} (error {int(code)})"
    assert module(X)[0].tolist() == DOUBLED


def test_an_unknown_error_is_raised_too(module: NativeModule) -> None:
    with pytest.raises(RunError, match="unknown error 77"):
        module(np.array([0, 0, 0, 1077], np.float32))


def test_calls_from_threads_do_not_mix(module: NativeModule) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        for step in range(300):
            given = np.array([seed, step, seed + step, seed - step], np.float32)
            result = module(given)[0]
            if (result != given * 2).any():
                wrong.append((given, result))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


SLEEPER = """
define hidden i32 @sleeper_entry(ptr %w, ptr %arena, ptr %in, ptr %out) nounwind {
  %x.at = load ptr, ptr %in
  %y.at = load ptr, ptr %out
  store i32 1, ptr %y.at
  br label %wait
wait: ; until another thread of Python has changed the input
  %x = load volatile i32, ptr %x.at
  %done = icmp ne i32 %x, 0
  br i1 %done, label %end, label %wait
end:
  ret i32 0
}
"""


def test_python_runs_while_the_code_does() -> None:
    from gcomp.backends.llvm.abi import prologue_text

    ports = [Port("x", I32, ())]
    manifest = {
        "abi": native.ABI,
        "name": "sleeper",
        "inputs": [{"name": "x", "dtype": "i32", "shape": []}],
        "outputs": [{"name": "y", "dtype": "i32", "shape": []}],
        "arena_bytes": 0,
    }
    prologue = prologue_text("sleeper", host(), ports, ports, arena_bytes=0, manifest="{}", weights="none")
    objects = [emit_object(prologue, host(), False), emit_object(SLEEPER, host(), False)]
    loaded = load_objects(objects, ["sleeper_run", "sleeper_init"])
    addresses = loaded.addresses
    module = NativeModule(
        manifest, run=addresses["sleeper_run"], init=addresses["sleeper_init"], keepalive=loaded
    )
    flag = np.zeros((), np.int32)
    thread = threading.Thread(target=module, args=(flag,), daemon=True)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    flag[()] = 1
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_process_may_call_it(module: NativeModule) -> None:
    module(X)
    child = os.fork()
    if child == 0:
        os._exit(0 if module(X)[0].tolist() == DOUBLED else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_process_with_a_module_ends_well() -> None:
    script = (
        "from tests.unit import doubler\nkept = doubler.in_memory()\nprint(kept([1, 2, 3, 4])[0].tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "ports",
    [
        [{"name": "x", "dtype": "f33", "shape": [1]}],
        [{"name": "x", "dtype": "f32", "shape": ["n"]}],
        [{"name": "x"}],
        [3],
    ],
)
def test_a_manifest_with_odd_inputs_is_refused(module: NativeModule, ports: list[object]) -> None:
    manifest = {**doubler.manifest(), "inputs": ports}
    init = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda context: 0)
    address = ctypes.cast(init, ctypes.c_void_p).value or 0
    with pytest.raises(BuildError, match="doubler"):
        NativeModule(manifest, run=address, init=address)


def test_bfloat16_goes_in_and_out() -> None:
    text = """
define hidden i32 @copy_entry(ptr %w, ptr %arena, ptr %in, ptr %out) nounwind {
  %x.at = load ptr, ptr %in
  %y.at = load ptr, ptr %out
  %x = load i32, ptr %x.at, align 1
  store i32 %x, ptr %y.at, align 1
  ret i32 0
}
"""
    from gcomp.backends.llvm.abi import prologue_text

    ports = [Port("x", BF16, (2,))]
    described = [{"name": "x", "dtype": "bf16", "shape": [2]}]
    manifest = {
        "abi": native.ABI,
        "name": "copy",
        "inputs": described,
        "outputs": described,
        "arena_bytes": 0,
    }
    prologue = prologue_text("copy", host(), ports, ports, arena_bytes=0, manifest="{}", weights="none")
    loaded = load_objects(
        [emit_object(prologue, host(), False), emit_object(text, host(), False)], ["copy_run", "copy_init"]
    )
    addresses = loaded.addresses
    module = NativeModule(manifest, run=addresses["copy_run"], init=addresses["copy_init"], keepalive=loaded)
    given = np.array([1.5, -2], BF16.numpy)
    (result,) = module(given)
    assert result.dtype == given.dtype and result.tolist() == [1.5, -2]
    assert module([1.5, -2])[0].tolist() == [1.5, -2]


@pytest.mark.parametrize(
    "size", [1, 100, native.LARGE_PAGES - 1, native.LARGE_PAGES, 3 * native.LARGE_PAGES + 5]
)
def test_memory_that_fills_large_pages_starts_with_one(size: int) -> None:
    memory = native.aligned(size)
    assert memory.nbytes == size
    start = memory.ctypes.data
    assert start % (native.LARGE_PAGE if size >= native.LARGE_PAGES else native.ALIGNMENT) == 0
