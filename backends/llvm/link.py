"""Links objects into a shared object, an archive or one object, with whatever linker there is."""

from __future__ import annotations

import importlib.util
import mmap
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gcomp.diagnostics import BuildError

from .elf import Object, machine_in

_PREFIXES = {
    62: "x86_64-linux-gnu-",
    183: "aarch64-linux-gnu-",
    40: "arm-linux-gnueabihf-",
    243: "riscv64-linux-gnu-",
}
_MACHINES = {"x86_64": 62, "amd64": 62, "aarch64": 183, "arm64": 183, "armv7l": 40, "riscv64": 243}
_GIVEN_BY_LINKERS = {"_GLOBAL_OFFSET_TABLE_"}


@dataclass(frozen=True)
class Linker:
    """A command that links; a `driver` is a C compiler, which passes options on."""

    command: tuple[str, ...]
    driver: bool = False

    def run(self, *arguments: str) -> None:
        """Raises `BuildError` with what the linker says if it fails."""
        start = (*self.command, "-nostdlib", "-nostartfiles") if self.driver else self.command
        done = subprocess.run(
            [*start, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"status {done.returncode}"
            raise BuildError(f"{' '.join(self.command)} cannot link: {said}")

    def option(self, *words: str) -> list[str]:
        return [f"-Wl,{','.join(words)}"] if self.driver else list(words)


def find_linker(machine: int) -> Linker:
    """The first that can link objects for ELF's number `machine`. Raises `BuildError` with a remedy."""
    if importlib.util.find_spec("ziglang"):
        return Linker((sys.executable, "-m", "ziglang", "ld.lld"))
    if found := shutil.which("ld.lld"):
        return Linker((found,))
    native = sys.platform == "linux" and _MACHINES.get(platform.machine().lower()) == machine
    for prefix in ("",) * native + (_PREFIXES[machine],) * (machine in _PREFIXES):
        for name, driver in (("ld", False), ("gcc", True), ("clang", True)):
            if found := shutil.which(prefix + name):
                return Linker((found,), driver)
    raise BuildError(
        "no linker found: looked for ziglang, ld.lld, ld, gcc and clang; `pip install gcomp[zig]` brings one "
        "that needs nothing else"
    )


def link_shared(
    objects: Sequence[Path],
    out: Path,
    exports: Sequence[str],
    *,
    defsym: Mapping[str, str] | None = None,
    linker: Linker | None = None,
) -> None:
    """Links a shared object that needs no other and shows only `exports` and `defsym`, aliases by name.

    It has no soname: a program linked with its path finds it by that path.
    Raises `BuildError` for undefined symbols, without a linker, or where `out` cannot be written.
    """
    linker = linker or find_linker(_machine(objects))
    aliases = dict(defsym or {})
    with writing(out) as target, tempfile.TemporaryDirectory(prefix="gcomp-") as folder:
        script = Path(folder) / "exports.map"
        script.write_text(f"{{ global: {' '.join(f'{s};' for s in (*exports, *aliases))} local: *; }};\n")
        linker.run(
            "-shared",
            *linker.option("--no-undefined"),
            *linker.option("--gc-sections"),
            *linker.option("--build-id=none"),
            *linker.option("--hash-style=gnu"),
            *(word for rule in ("noexecstack", "text", "now", "relro") for word in linker.option("-z", rule)),
            *(word for a, s in aliases.items() for word in linker.option(f"--defsym={a}={s}")),
            *linker.option(f"--version-script={script}"),
            "-o",
            str(target),
            *map(str, objects),
        )


def relocatable(objects: Sequence[Path], out: Path, *, linker: Linker | None = None) -> None:
    """Joins objects into one, whose hidden symbols nothing else can see. Raises as `link_shared`."""
    linker = linker or find_linker(_machine(objects))
    with writing(out) as target:
        linker.run("-r", "-o", str(target), *map(str, objects))
        with open(target, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
            joined = Object(data)
            if lost := set(joined.undefined()) - _GIVEN_BY_LINKERS:
                raise BuildError(f"{out}: nothing defines {', '.join(sorted(lost))}")
            joined.localise()


def archive(objects: Sequence[Path], out: Path, *, linker: Linker | None = None) -> None:
    """An archive (`.a`) of one object made by `relocatable`, with an index. Raises as `link_shared`."""
    with tempfile.TemporaryDirectory(prefix="gcomp-") as folder, writing(out) as target:
        member = Path(folder) / "gcomp.o"
        relocatable(objects, member, linker=linker)
        with open(member, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            public, size = Object(data).public(), len(data)
        names = b"".join(name.encode() + b"\0" for name in public)
        index_size = 4 + 4 * len(public) + len(names)
        index_size += index_size % 2
        start = 8 + 60 + index_size  # of the member, whose header every entry of the index points to
        index = b"".join(n.to_bytes(4, "big") for n in (len(public), *[start] * len(public))) + names
        with open(target, "wb") as file, open(member, "rb") as source:
            file.write(b"!<arch>\n")
            file.write(_member_header("/", index_size) + index.ljust(index_size, b"\0"))
            file.write(_member_header("gcomp.o/", size))
            shutil.copyfileobj(source, file, 1 << 20)
            file.write(b"\n" * (size % 2))


@contextmanager
def writing(out: Path) -> Generator[Path, None, None]:
    """A path beside `out` to write to; it replaces `out` at the end, or goes if an error is raised.

    Raises `BuildError` where the folder or the file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            temporary = Path(folder) / out.name
            yield temporary
            os.replace(temporary, out)
    except OSError as error:
        raise BuildError(f"{out} cannot be written: {error.strerror or error}") from error


def _member_header(name: str, size: int) -> bytes:
    """Time and owner are zero, so that the same objects give the same archive."""
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'644':<8}{size:<10}`\n".encode()


def _machine(objects: Sequence[Path]) -> int:
    if not objects:
        raise BuildError("there is nothing to link")
    with open(objects[0], "rb") as file:
        return machine_in(file.read(20))
