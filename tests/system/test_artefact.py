"""What `save` writes: what is inside, and C programs that use it on this processor and on lesser ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.elf import Object
from gcomp.backends.llvm.jit import emit_object
from gcomp.backends.llvm.module import LLVMModule
from gcomp.diagnostics import BuildError, RunError
from gcomp.evaluate import evaluate
from gcomp.native import ErrorCode
from gcomp.tolerance import mismatch
from gcomp.types import Array
from tests.networks import networks
from tests.programs import build, outcomes, run, source, tool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="links and runs ELF")

ENTRIES = ["digits_init", "digits_manifest", "digits_run", "digits_sizes"]
ON_X86 = pytest.mark.skipif(
    host().arch != "x86_64", reason="emulates x86-64 processors with a native C program"
)


def compiled(repository: Path, target: str = "llvm") -> LLVMModule:
    model = repository / "examples" / "digits.onnx"
    module = gcomp.compile(str(model), target=target, shapes={"image": (1, 1, 8, 8)})
    assert isinstance(module, LLVMModule)
    return module


def network(name: str, called: str) -> tuple[LLVMModule, list[Array]]:
    graph, arrays = networks()[name]()
    module = gcomp.compile(graph, name=called, host_steps=False)
    assert isinstance(module, LLVMModule)
    return module, arrays


@pytest.fixture(scope="module")
def digits(repository: Path) -> LLVMModule:
    return compiled(repository)


@pytest.fixture(scope="module")
def image(repository: Path) -> Array:
    """The first held-out image, a seven."""
    with np.load(repository / "examples" / "digits.npz") as data:
        return (data["test_images"][:1] / 16).astype(np.float32)


@pytest.fixture(scope="module")
def folder(digits: LLVMModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.so, digits.a, digits.o and digits.h."""
    path = tmp_path_factory.mktemp("digits")
    for suffix in ("so", "a", "o"):
        written = digits.save(path / f"digits.{suffix}")
        assert written == [path / f"digits.{suffix}", path / "digits.h"]
    return path


def test_the_library_stands_alone(folder: Path) -> None:
    library = folder / "digits.so"
    dynamic = run(tool("readelf"), "-Wd", library)
    assert not [word for word in ("NEEDED", "TEXTREL", "RUNPATH", "RPATH", "INIT") if word in dynamic]
    rows = [line.split() for line in run("readelf", "-W", "--dyn-syms", library).splitlines()]
    symbols = {row[7]: row[6] for row in rows if len(row) > 7 and row[0][:-1].isdigit()}
    assert sorted(symbols) == [*ENTRIES, "gcomp_manifest"]
    assert "UND" not in symbols.values()
    segments = [line.split() for line in run("readelf", "-Wl", library).splitlines()]
    rights = {row[0]: "".join(row[6:-1]) for row in segments if row and row[0] in ("LOAD", "GNU_STACK")}
    assert rights["GNU_STACK"] == "RW"
    assert not [row for row in segments if row[:1] == ["LOAD"] and "W" in row[6:-1] and "E" in row[6:-1]]


def test_archive_and_object_show_the_entries_only(folder: Path) -> None:
    for library in ("digits.a", "digits.o"):
        assert run(tool("nm"), "-u", folder / library).split() in ([], ["gcomp.o:"])
        shown = run("nm", "-g", "--defined-only", folder / library).splitlines()
        assert sorted(line.split()[-1] for line in shown if len(line.split()) == 3) == ENTRIES


def test_the_manifest_is_in_the_library(folder: Path, digits: LLVMModule) -> None:
    assert gcomp.load(folder / "digits.so").manifest == digits.manifest


def scores(logits: Array) -> str:
    """As examples/digits.c prints them."""
    listed = [f"{number}  {float(value):8.4f}" for number, value in enumerate(logits)]
    return "\n".join([*listed, f"class {int(np.argmax(logits))}", ""])


def test_the_example_program_recognises_a_seven(
    folder: Path, digits: LLVMModule, image: Array, repository: Path
) -> None:
    text = (repository / "examples" / "digits.c").read_text("utf-8")
    printed = run(build(folder, text, folder / "digits.so"))
    assert printed.endswith("class 7\n")
    assert printed.split("\n", 8)[8] == scores(digits(image)[0][0])


def in_an_empty_root(folder: Path, program: Path) -> str:
    """What the program prints where there is no other file; skips where the system forbids that."""
    root = folder / "root"
    root.mkdir()
    shutil.copy(program, root / "program")
    refused: list[str] = []
    for command in (["chroot"], ["unshare", "-r", "chroot"]):
        if shutil.which(command[0]) is None:
            refused.append(f"{command[0]} is not installed")
            continue
        done = subprocess.run([*command, root, "/program"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        assert "cannot change root" in done.stderr or "unshare" in done.stderr, done
        refused.append(done.stderr.strip())
    pytest.skip(f"no empty root to be had: {'; '.join(refused)}")


def test_a_static_program_runs_where_there_is_nothing_else(
    folder: Path, digits: LLVMModule, image: Array, repository: Path, tmp_path: Path
) -> None:
    text = (repository / "examples" / "digits.c").read_text("utf-8")
    program = build(folder, text, folder / "digits.a", options=["-static"])
    assert in_an_empty_root(tmp_path, program).endswith(scores(digits(image)[0][0]))


@pytest.mark.parametrize("compiler", ["gcc", "g++", "clang", "clang++"])
@pytest.mark.parametrize("suffix", ["a", "o", "so"])
def test_several_models_share_a_program(
    suffix: str, compiler: str, digits: LLVMModule, image: Array, tmp_path: Path
) -> None:
    """The second and third have kernels in common."""
    models = [(digits, [image]), network("conv-0", "second"), network("conv-0", "third")]
    libraries = [module.save(tmp_path / f"{module.artefact.name}.{suffix}")[0] for module, _ in models]
    found = outcomes(run(build(tmp_path, source(*models), *libraries, compiler=compiler)))
    for module, arrays in models:
        outcome, expected = found[module.artefact.name], module(*arrays)
        assert (outcome.init, outcome.run) == (0, 0)
        assert [y.tobytes() for y in outcome.outputs] == [y.tobytes() for y in expected]


def emulated(
    folder: Path, module: LLVMModule, arrays: Sequence[Array], cpu: str
) -> subprocess.CompletedProcess[str]:
    """A static program of the module, run on an emulated processor."""
    emulator = tool("qemu-x86_64")
    version = run(emulator, "--version").split("version ")[1].split(".")
    if (int(version[0]), int(version[1])) < (7, 2):
        pytest.skip("this qemu does not know AVX2")
    module.save(folder / "model.a")
    (folder / "model.h").rename(folder / f"{module.artefact.name}.h")
    program = build(folder, source((module, arrays)), folder / "model.a", options=["-static"])
    return subprocess.run([emulator, "-cpu", cpu, program], capture_output=True, text=True, check=False)


@ON_X86
@pytest.mark.parametrize(("cpu", "runs_on"), [("skylake-avx512", "Haswell"), ("haswell", "Nehalem")])
def test_a_lesser_processor_gets_a_code(
    cpu: str, runs_on: str, image: Array, repository: Path, tmp_path: Path
) -> None:
    module = compiled(repository, f"llvm{{cpu={cpu}}}")
    done = emulated(tmp_path, module, [image], runs_on)
    assert done.returncode == 0, done
    outcome = outcomes(done.stdout)["digits"]
    assert (outcome.init, outcome.run, outcome.outputs) == (ErrorCode.CPU, ErrorCode.CPU, [])


@ON_X86
@pytest.mark.parametrize(
    ("cpu", "runs_on"), [("haswell", "Haswell"), ("x86-64-v2", "Nehalem"), ("x86-64", "qemu64")]
)
def test_code_for_a_lesser_processor_runs_there(
    cpu: str, runs_on: str, image: Array, repository: Path, tmp_path: Path
) -> None:
    module = compiled(repository, f"llvm{{cpu={cpu}}}")
    done = emulated(tmp_path, module, [image], runs_on)
    assert done.returncode == 0, done
    outcome = outcomes(done.stdout)["digits"]
    assert (outcome.init, outcome.run) == (0, 0)
    expected = evaluate(module.graph, [image])[0].reshape(-1)
    assert not (why := mismatch(outcome.outputs[0], expected, "approximate")), why


@pytest.mark.skipif(host().arch != "x86_64", reason="other processors are not asked")
def test_a_library_for_a_greater_processor_says_what_is_missing(repository: Path, tmp_path: Path) -> None:
    lacking = [name for name in host().architecture.features if not host().has(name)]
    if not lacking:
        pytest.skip("this processor has every instruction set that gcomp knows")
    compiled(repository, f"llvm{{features=+{lacking[-1]}}}").save(tmp_path / "digits.so")
    with pytest.raises(RunError) as caught:
        gcomp.load(tmp_path / "digits.so")
    message = str(caught.value)
    assert "the processor lacks an instruction set" in message
    missing = message.split("missing here: ")[1].split(", ")
    assert lacking[-1] in missing and set(missing) <= set(lacking)


def symbols(data: bytes) -> set[str]:
    """Names in an object, without those that the assembler numbers."""
    found = Object(bytearray(data))
    return {name for symbol in found.symbols() if (name := found.name(symbol)) and not name.startswith(".L")}


def test_llvm_text_compiles_to_the_same_symbols(digits: LLVMModule, folder: Path, tmp_path: Path) -> None:
    assert digits.save(tmp_path / "digits.ll") == [tmp_path / "digits.ll"]
    data = emit_object((tmp_path / "digits.ll").read_text("utf-8"), host(), False)
    assert sorted(Object(bytearray(data)).public()) == ENTRIES
    assert Object(bytearray(data)).undefined() == ["digits_weights"]
    assert symbols(data) == symbols((folder / "digits.o").read_bytes())


def test_assembly_assembles_to_the_same_symbols(digits: LLVMModule, folder: Path, tmp_path: Path) -> None:
    assert digits.save(tmp_path / "digits.s") == [tmp_path / "digits.s"]
    run(tool("as"), tmp_path / "digits.s", "-o", tmp_path / "own.o")
    data = (tmp_path / "own.o").read_bytes()
    assert symbols(data) == symbols((folder / "digits.o").read_bytes())


SUFFIXES = ["so", "a", "o", "h", "ll", "s"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_model_gives_the_same_file(
    suffix: str, digits: LLVMModule, repository: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    digits.save(first)
    compiled(repository).save(second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_path_that_cannot_be_written_is_one_error(suffix: str, digits: LLVMModule, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=rf"none/m\.{suffix} cannot be written"):
        digits.save(tmp_path / "none" / f"m.{suffix}")
    (tmp_path / f"taken.{suffix}").mkdir()
    with pytest.raises(BuildError, match=rf"taken\.{suffix} cannot be written"):
        digits.save(tmp_path / f"taken.{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"taken.{suffix}"]


@pytest.mark.parametrize("suffix", ["so", "a", "o"])
def test_a_header_that_cannot_be_written_leaves_no_library(
    suffix: str, digits: LLVMModule, tmp_path: Path
) -> None:
    (tmp_path / "m.h").mkdir()
    with pytest.raises(BuildError, match=r"m\.h cannot be written"):
        digits.save(tmp_path / f"m.{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["m.h"]


@pytest.mark.parametrize("name", ["m.dll", "m", "m.so.1"])
def test_an_unknown_form_is_told(name: str, digits: LLVMModule, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot save as .*, only \.so, \.a, \.o, \.h, \.ll, \.s$"):
        digits.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gemms", "conv-0", "34x10@10x512-inputs"])
def test_a_loaded_library_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    module, arrays = network(name, "model")
    module.save(tmp_path / "model.so")
    loaded = gcomp.load(tmp_path / "model.so")
    assert [y.tobytes() for y in loaded(*arrays)] == [y.tobytes() for y in module(*arrays)]
    assert (loaded.inputs, loaded.outputs) == (tuple(module.inputs), tuple(module.outputs))
