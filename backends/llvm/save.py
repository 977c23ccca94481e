"""Writes a compiled module: shared object, archive, object, C header, LLVM text, assembly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gcomp.diagnostics import BuildError
from gcomp.files import replacing

from .abi import Weights, public_symbols
from .elf import write_data_object
from .header import header_text
from .jit import joined
from .link import archive, link_shared, relocatable

if TYPE_CHECKING:
    from .module import LLVMModule


def save(module: LLVMModule, path: Path) -> list[Path]:
    """Writes the form that the suffix names; libraries and objects get their header beside them.

    Returns the files written. Raises `BuildError` for another suffix, without a linker, or where it cannot be
    written.
    """
    if path.suffix not in _WRITERS:
        raise BuildError(
            f"{path}: cannot save as {path.suffix or 'a file without suffix'}, only {', '.join(_WRITERS)}"
        )
    _WRITERS[path.suffix](module, path)
    if path.suffix not in (".so", ".a", ".o"):
        return [path]
    header = path.with_suffix(".h")
    try:
        _header(module, header)
    except BuildError:
        path.unlink()  # a library without its header is only half of what was asked for
        raise
    return [path, header]


def _shared(module: LLVMModule, path: Path) -> None:
    name = module.artefact.name
    with _objects(module) as objects:
        link_shared(objects, path, public_symbols(name), defsym={"gcomp_manifest": f"{name}_manifest"})


def _archive(module: LLVMModule, path: Path) -> None:
    with _objects(module) as objects:
        archive(objects, path)


def _object(module: LLVMModule, path: Path) -> None:
    with _objects(module) as objects:
        relocatable(objects, path)


def _header(module: LLVMModule, path: Path) -> None:
    artefact = module.artefact
    text = header_text(
        artefact.name,
        module.inputs,
        module.outputs,
        arena_bytes=artefact.arena_bytes,
        weights_bytes=artefact.weights.nbytes,
        symbols=artefact.symbols,
    )
    with replacing(path) as file:
        file.write(text.encode())


def _llvm(module: LLVMModule, path: Path) -> None:
    _text(module, path, assembly=False)


def _assembly(module: LLVMModule, path: Path) -> None:
    _text(module, path, assembly=True)


def _text(module: LLVMModule, path: Path, assembly: bool) -> None:
    units = [(unit.text, unit.optimise) for unit in module.program.units.values()]
    own = [(module.program.entry, False), (module.prologue_text(_weights(module)), False)]
    with replacing(path) as file:
        file.write(joined([*units, *own], module.program.cpu, assembly).encode())


def _weights(module: LLVMModule) -> Weights:
    return "embedded" if module.artefact.weights.nbytes else "none"


@contextmanager
def _objects(module: LLVMModule) -> Generator[list[Path]]:
    """The module's objects as files: kernels, entry, prologue, weights."""
    artefact = module.artefact
    with tempfile.TemporaryDirectory(prefix="gcomp-") as folder:
        paths: list[Path] = []
        for number, data in enumerate([*artefact.objects, module.prologue_object(_weights(module))]):
            paths.append(Path(folder) / f"{number}.o")
            paths[-1].write_bytes(data)
        if artefact.weights.nbytes:
            paths.append(Path(folder) / "weights.o")
            with open(paths[-1], "wb") as file:
                write_data_object(file, {f"{artefact.name}_weights": artefact.weights}, artefact.cpu.triple)
        yield paths


_WRITERS: dict[str, Callable[[LLVMModule, Path], None]] = {
    ".so": _shared,
    ".a": _archive,
    ".o": _object,
    ".h": _header,
    ".ll": _llvm,
    ".s": _assembly,
}
