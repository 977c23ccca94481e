"""Shared objects, archives and objects: what is inside, and C programs that use them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gcomp import native
from gcomp.backends.llvm import link
from gcomp.backends.llvm.abi import identifier, public_symbols
from gcomp.backends.llvm.cpu import from_options, host
from gcomp.backends.llvm.elf import Object
from gcomp.backends.llvm.header import header_text
from gcomp.backends.llvm.jit import emit_object
from gcomp.backends.llvm.link import Linker, archive, find_linker, link_shared, relocatable, writing
from gcomp.diagnostics import BuildError
from gcomp.native import ErrorCode
from gcomp.port import Port
from gcomp.types import BF16, BOOL, F32, I64, U8

from . import doubler

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="links and runs ELF")

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "{name}.h"
static unsigned char memory[{upper}_ARENA_BYTES + GCOMP_ALIGNMENT];
int main(void) {{
    {name}_ctx ctx;
    float x[4] = {{1, 2, 3, 4}}, y[4], copy[4];
    int code = {name}_init(&ctx);
    memcpy(copy, x, sizeof x);
    if (code) {{ printf("init %d\\n", code); ctx.abi = GCOMP_ABI; }}
    ctx.arena = memory + (GCOMP_ALIGNMENT - (size_t)memory % GCOMP_ALIGNMENT) % GCOMP_ALIGNMENT;
    code = {name}(&ctx, x, y);
    if (code) {{ printf("run %d\\n", code); return 0; }}
    printf("%g %g %g %g %d\\n", y[0], y[1], y[2], y[3], memcmp(copy, x, sizeof x));
    return 0;
}}
"""


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def write_header(folder: Path, name: str = "doubler") -> None:
    text = header_text(
        name, doubler.INPUTS, doubler.OUTPUTS, arena_bytes=doubler.ARENA_BYTES, weights_bytes=4
    )
    (folder / f"{name}.h").write_text(text)


def program(folder: Path, *libraries: Path, name: str = "doubler", options: tuple[str, ...] = ()) -> Path:
    """A C program of the model `name`, built by the system's compiler."""
    write_header(folder, name)
    source, out = folder / f"{name}_main.c", folder / f"{name}_main"
    source.write_text(PROGRAM.format(name=name, upper=name.upper()))
    run(
        tool("gcc"), "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", *options, source, *libraries, "-o", out
    )
    return out


def linkers() -> list[Linker]:
    known = {"ld": False, "ld.lld": False, "gcc": True, "clang": True}
    found = [Linker((path,), driver) for name, driver in known.items() if (path := shutil.which(name))]
    if link.importlib.util.find_spec("ziglang"):
        found.append(Linker((sys.executable, "-m", "ziglang", "ld.lld")))
    return found


@pytest.fixture(params=linkers(), ids=lambda linker: linker.command[-1].split("/")[-1])
def linker(request: pytest.FixtureRequest) -> Linker:
    return request.param


def test_every_linker_makes_a_library_that_runs(linker: Linker, tmp_path: Path) -> None:
    objects = doubler.object_files(tmp_path)
    out = tmp_path / "m.so"
    link_shared(
        objects, out, public_symbols("doubler"), defsym={"gcomp_manifest": "doubler_manifest"}, linker=linker
    )
    result = native.load(out)(np.array([1, 2, 3, 4], np.float32))[0]
    assert result.tolist() == [2, 4, 6, 8]
    dynamic = run(tool("readelf"), "-Wd", out)
    assert "NEEDED" not in dynamic and "TEXTREL" not in dynamic and "RUNPATH" not in dynamic
    symbols = [line.split() for line in run(tool("readelf"), "-W", "--dyn-syms", out).splitlines()[4:]]
    names = {line[7]: line[6] for line in symbols if len(line) > 7}
    assert set(names) == {*public_symbols("doubler"), "gcomp_manifest"}
    assert "UND" not in names.values()
    (stack,) = [line for line in run(tool("readelf"), "-Wl", out).splitlines() if "GNU_STACK" in line]
    assert stack.split()[-2] == "RW"  # not executable


def test_every_linker_makes_an_archive_that_runs(linker: Linker, tmp_path: Path) -> None:
    out = tmp_path / "doubler.a"
    archive(doubler.object_files(tmp_path), out, linker=linker)
    assert run(program(tmp_path, out, options=("-static",))) == "2 4 6 8 0\n"


def test_a_program_finds_the_library_by_its_path(tmp_path: Path) -> None:
    assert run(program(tmp_path, doubler.shared(tmp_path))) == "2 4 6 8 0\n"


def test_an_archive_shows_public_symbols_only(tmp_path: Path) -> None:
    out = doubler.static(tmp_path)
    assert run(tool("ar"), "t", out) == "gcomp.o\n"
    index = [line.split(" in ")[0] for line in run(tool("nm"), "-s", out).splitlines() if " in " in line]
    assert sorted(index) == sorted(public_symbols("doubler"))
    (tmp_path / "own").mkdir()
    run(tool("ar"), "x", out, f"--output={tmp_path / 'own'}")
    found = Object(bytearray((tmp_path / "own" / "gcomp.o").read_bytes()))
    assert sorted(found.public()) == sorted(public_symbols("doubler"))


def test_two_models_in_one_program(tmp_path: Path) -> None:
    libraries = [
        doubler.static(tmp_path, name, weight=weight) for name, weight in (("two", 2.0), ("three", 3.0))
    ]
    for name in ("two", "three"):
        write_header(tmp_path, name)
    source, out = tmp_path / "both.c", tmp_path / "both"
    source.write_text("""
#include <stdio.h>
#include "two.h"
#include "three.h"
static union { unsigned char bytes[256]; long double aligned[16] __attribute__((aligned(64))); } arena;
int main(void) {
    two_ctx a; three_ctx b; float x[4] = {1, 2, 3, 4}, y[4], z[4];
    if (two_init(&a) || three_init(&b)) return 1;
    a.arena = b.arena = &arena;
    if (two(&a, x, y) || three(&b, x, z)) return 2;
    printf("%g %g\\n", y[3], z[3]);
    return 0;
}
""")
    run(tool("gcc"), "-Wall", "-Wextra", "-Werror", "-static", source, *libraries, "-o", out)
    assert run(out) == "8 12\n"


def test_an_archive_leaves_the_program_its_own_memcpy(tmp_path: Path) -> None:
    relocatable(doubler.object_files(tmp_path), tmp_path / "doubler.o")
    found = Object(bytearray((tmp_path / "doubler.o").read_bytes()))
    by_name = {found.name(symbol): symbol for symbol in found.symbols()}
    for name in ("memcpy", "memset", "memmove", "doubler_entry", "doubler_weights"):
        assert by_name[name].info >> 4 == 0, f"{name} is not local"


@pytest.mark.parametrize("kind", ["so", "a", "o"])
def test_the_same_objects_give_the_same_file(kind: str, tmp_path: Path) -> None:
    made: list[bytes] = []
    for folder in (tmp_path / "first", tmp_path / "second-longer"):
        folder.mkdir()
        objects, out = doubler.object_files(folder), folder / f"m.{kind}"
        if kind == "so":
            link_shared(objects, out, public_symbols("doubler"))
        else:
            {"a": archive, "o": relocatable}[kind](objects, out)
        made.append(out.read_bytes())
    assert made[0] == made[1]


def qemu(cpu: str, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("qemu-x86_64"), "-cpu", cpu, *map(str, command)], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(host().arch != "x86_64", reason="emulates x86-64 processors with a native C program")
@pytest.mark.parametrize(
    ("compiled_for", "runs_on", "output"),
    [
        ("skylake-avx512", "Haswell", f"init {int(ErrorCode.CPU)}\nrun {int(ErrorCode.CPU)}\n"),
        ("haswell", "Nehalem", f"init {int(ErrorCode.CPU)}\nrun {int(ErrorCode.CPU)}\n"),
        ("haswell", "max", "2 4 6 8 0\n"),
        ("x86-64-v2", "Nehalem", "2 4 6 8 0\n"),
        ("x86-64", "qemu64", "2 4 6 8 0\n"),
    ],
)
def test_a_processor_that_lacks_something_gets_a_code(
    compiled_for: str, runs_on: str, output: str, tmp_path: Path
) -> None:
    cpu = from_options({"cpu": compiled_for})
    built = program(tmp_path, doubler.static(tmp_path, cpu=cpu), options=("-static",))
    done = qemu(runs_on, built)
    assert (done.returncode, done.stdout) == (0, output), done.stderr


C_CALLS = """
#include <stdio.h>
#include <stddef.h>
#include "doubler.h"
static union { unsigned char bytes[512]; float aligned[16] __attribute__((aligned(64))); } arena;
#define SHOW(what) printf(#what " %d\\n", what)
int main(void) {
    doubler_ctx ctx;
    float x[5] = {1, 2, 3, 4, 5}, y[4], big[4] = {0, 0, 0, 1005};
    float other[16] __attribute__((aligned(64))) = {10};
    int64_t shape[1] = {4}, wrong[1] = {5}, room[1] = {0}, bytes = 0;
    gcomp_tensor in = {x, GCOMP_F32, 1, shape}, out = {y, GCOMP_F32, 1, shape}, empty = {NULL, 0, 0, room};
    SHOW(doubler_init(NULL));
    SHOW(doubler_init(&ctx));
    SHOW(doubler_run(NULL, &in, &out));
    SHOW(doubler_run(&ctx, &in, &out));
    ctx.arena = arena.bytes + 1;
    SHOW(doubler_run(&ctx, &in, &out));
    ctx.arena = &arena;
    SHOW(doubler_run(&ctx, &in, &out));
    ctx.cpu = 0;
    SHOW(doubler_run(&ctx, &in, &out));
    ctx.weights = NULL;
    SHOW(doubler_run(&ctx, &in, &out));
    printf("%g\\n", y[3]);
    ctx.weights = other;
    SHOW(doubler_run(&ctx, &in, &out));
    printf("%g\\n", y[3]);
    ctx.weights = other + 1;
    SHOW(doubler_run(&ctx, &in, &out));
    ctx.weights = other;
    in.dtype = GCOMP_F64;
    SHOW(doubler_run(&ctx, &in, &out));
    in.dtype = GCOMP_F32; in.rank = 2;
    SHOW(doubler_run(&ctx, &in, &out));
    in.rank = 1; in.shape = wrong;
    SHOW(doubler_run(&ctx, &in, &out));
    SHOW(doubler_sizes(&in, NULL, NULL));
    in.shape = NULL;
    SHOW(doubler_run(&ctx, &in, &out));
    in.shape = shape; in.data = NULL;
    SHOW(doubler_run(&ctx, &in, &out));
    SHOW(doubler_sizes(&in, &empty, &bytes));
    printf("%d %d %d %d\\n", (int)empty.dtype, (int)empty.rank, (int)room[0], (int)bytes);
    SHOW(doubler_sizes(NULL, NULL, NULL));
    SHOW(doubler_run(&ctx, NULL, &out));
    in.data = x; out.shape = wrong;
    SHOW(doubler_run(&ctx, &in, &out));
    out.shape = shape; ctx.abi = 99;
    SHOW(doubler_run(&ctx, &in, &out));
    ctx.abi = GCOMP_ABI; in.data = big;
    SHOW(doubler_run(&ctx, &in, &out));
    printf("%d %d\\n", (int)offsetof(gcomp_ctx, user), (int)sizeof(gcomp_tensor));
    printf("%.12s\\n", doubler_manifest);
    return 0;
}
"""


def test_every_mistake_has_its_code(tmp_path: Path) -> None:
    write_header(tmp_path)
    source, out = tmp_path / "calls.c", tmp_path / "calls"
    source.write_text(C_CALLS)
    run(tool("gcc"), "-Wall", "-Wextra", "-Werror", source, doubler.static(tmp_path), "-o", out)
    shown = [line.rsplit(" ", 1)[-1] if "doubler_" in line else line for line in run(out).splitlines()]
    code = {name: str(int(value)) for name, value in ErrorCode.__members__.items()}
    assert shown == [
        code["ABI"], "0", code["ABI"], code["ARENA"], code["ARENA"], "0", "0", "0", "8", "0", "40",
        code["WEIGHTS"], *[code["INPUT"]] * 6,
        "0", "1 1 4 128", "0", code["INPUT"], code["INPUT"], code["ABI"], "5",
        f"{native.CContext.user.offset} {native.ctypes.sizeof(native.CTensor)}", '{"abi": 1, "',
    ]  # fmt: skip


PORTS = [Port("x", F32, (1, 3)), Port("x", BF16, ()), Port("int", I64, (0,)), Port('a "q"??/*/', BOOL, (2,))]


@pytest.mark.parametrize("compiler", [("gcc", "-std=c99"), ("g++", "-x", "c++", "-std=c++11")])
def test_headers_of_two_models_fit_in_one_file_of_c_and_of_cpp(
    compiler: tuple[str, ...], tmp_path: Path
) -> None:
    for name, inputs, outputs in (("m", PORTS, [Port("m", U8, ())]), ("n", [], [Port("linux", F32, (2,))])):
        (tmp_path / f"{name}.h").write_text(
            header_text(name, inputs, outputs, arena_bytes=0, weights_bytes=0)
        )
    source = tmp_path / "both.c"
    source.write_text('#include "m.h"\n#include "n.h"\n#include "m.h"\nint main(void) { return 0; }\n')
    command = (tool(compiler[0]), *compiler[1:], "-pedantic", "-Wall", "-Wextra", "-Werror", "-c", source)
    run(*command, "-o", tmp_path / "both.o")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("resnet-50", "resnet_50"),
        ("3d", "m3d"),
        ("", "model"),
        ("int", "int_"),
        ("gcomp", "gcomp_"),
        ("größe", "gr__e"),
        ("_x", "x"),
        ("taken", "taken_3"),
    ],
)
def test_names_become_identifiers(text: str, name: str) -> None:
    assert identifier(text, {"taken", "taken_2"}) == name


def test_a_symbol_that_nothing_defines_is_told(linker: Linker, tmp_path: Path) -> None:
    path = tmp_path / "lost.o"
    text = "declare i32 @nowhere()\ndefine i32 @f() {\n  %a = call i32 @nowhere()\n  ret i32 %a\n}\n"
    path.write_bytes(emit_object(text, host(), False))
    with pytest.raises(BuildError, match="nowhere"):
        link_shared([path], tmp_path / "m.so", ["f"], linker=linker)
    with pytest.raises(BuildError, match="nothing defines nowhere"):
        archive([path], tmp_path / "m.a", linker=linker)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lost.o"]


def test_without_a_linker_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"pip install gcomp\[zig\]"):
        find_linker(62)


def test_a_foreign_machine_needs_its_own_linker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    foreign = 183 if host().arch == "x86_64" else 62
    for name in ("ld", "gcc"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(BuildError, match="no linker found"):
        find_linker(foreign)
    cross = tmp_path / {183: "aarch64-linux-gnu-ld", 62: "x86_64-linux-gnu-ld"}[foreign]
    cross.write_text("")
    cross.chmod(0o755)
    assert find_linker(foreign) == Linker((str(cross),))


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    out = tmp_path / "kept"
    out.write_text("old")
    with pytest.raises(ZeroDivisionError), writing(out) as target:
        target.write_text("new")
        target.write_text(str(1 // len("")))
    assert out.read_text() == "old" and os.listdir(tmp_path) == ["kept"]
    with writing(out) as target:
        target.write_text("new")
    assert out.read_text() == "new" and os.listdir(tmp_path) == ["kept"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be written: No such file"):
        link_shared(doubler.object_files(tmp_path), tmp_path / "none" / "m.so", ["doubler_run"])


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.so" / "inside").mkdir(parents=True)
    with pytest.raises(BuildError, match="cannot be written"):
        link_shared(doubler.object_files(tmp_path), tmp_path / "m.so", ["doubler_run"])
