"""The ELF writer and the editor of symbols."""

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gcomp.backends.llvm.cpu import from_options
from gcomp.backends.llvm.elf import Object, data_object, write_data_object
from gcomp.backends.llvm.jit import emit_object
from gcomp.diagnostics import BuildError, UnsupportedError

X86 = "x86_64-unknown-linux-gnu"
TRIPLES = [X86, "aarch64-linux-gnu", "riscv64-linux-gnu", "armv7a-linux-gnueabihf"]
BLOBS = {"first": b"abc", "second": np.arange(5, dtype=np.int32), "empty": b""}


@pytest.fixture
def readelf():
    if not (command := shutil.which("readelf")):
        pytest.skip("readelf is not installed")

    def run(*arguments: object) -> str:
        done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=True)
        assert not done.stderr, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("triple", TRIPLES)
def test_blobs_lie_aligned_under_their_symbols(triple: str) -> None:
    text = data_object(BLOBS, triple)
    found = Object(bytearray(text))
    symbols = {found.name(symbol): symbol for symbol in found.symbols()[1:]}
    assert list(symbols) == list(BLOBS)
    for name, blob in BLOBS.items():
        symbol, content = symbols[name], bytes(blob)
        start = found.sections[symbol.section].offset + symbol.value
        assert symbol.value % 64 == 0 and symbol.size == len(content)
        assert text[start : start + symbol.size] == content
        assert symbol.other == 2  # hidden


@pytest.mark.parametrize(
    ("triple", "machine"), [*zip(TRIPLES, ("X86-64", "AArch64", "RISC-V", "ARM"), strict=True)]
)
def test_readelf_takes_the_object(triple: str, machine: str, tmp_path: Path, readelf) -> None:
    path = tmp_path / "data.o"
    path.write_bytes(data_object(BLOBS, triple))
    text = readelf("-WhSs", path)
    assert machine in text and "REL (Relocatable file)" in text
    (data,) = [line for line in text.splitlines() if ".rodata" in line]
    assert data.split("]")[1].split()[-1] == "64"
    assert ".note.GNU-stack" in text
    assert "OBJECT  GLOBAL HIDDEN     1 second" in text


def test_visibility_default_makes_symbols_public() -> None:
    assert Object(bytearray(data_object(BLOBS, X86))).public() == []
    assert Object(bytearray(data_object(BLOBS, X86, "default"))).public() == list(BLOBS)


def test_a_blob_of_another_element_type_or_order_is_taken_by_its_elements() -> None:
    blob = np.arange(6, dtype=np.float32).reshape(2, 3)
    for given in (blob, memoryview(blob.tobytes())):
        assert blob.tobytes() in data_object({"w": given}, X86)
    assert blob.T.tobytes() in data_object({"w": blob.T}, X86)


def test_large_data_lies_beyond_the_reach_of_code(
    tmp_path: Path, readelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcomp.backends.llvm.elf.LARGE", 256)
    path = tmp_path / "data.o"
    with path.open("wb") as file:
        write_data_object(file, {"w": bytes(256)}, X86)
    (line,) = [line for line in readelf("-WS", path).splitlines() if ".lrodata" in line]
    assert line.split()[-4] == "Al"
    assert b".lrodata" not in data_object({"w": bytes(256)}, "aarch64-linux-gnu")
    assert b".lrodata" not in data_object({"w": bytes(192)}, X86)


@pytest.mark.parametrize(
    "triple", ["x86_64-unknown-windows-gnu", "aarch64-apple-macosx13.0", "wasm32-unknown-wasi"]
)
def test_other_formats_are_refused(triple: str) -> None:
    with pytest.raises(UnsupportedError, match=triple):
        data_object(BLOBS, triple)


@pytest.mark.parametrize("text", [b"", b"MZ" + bytes(100), b"\x7fELF\x02\x02" + bytes(100)])
def test_what_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(BuildError, match="not a little-endian ELF object"):
        Object(bytearray(text))


SEVERAL = """
@shown = constant [4 x i8] c"abc\\00"
@hidden.data = hidden constant i32 7
declare i32 @elsewhere()
define internal i32 @inner() #0 { ret i32 1 }
define i32 @b.public() #0 {
  %a = call i32 @z.hidden()
  %b = call i32 @elsewhere()
  %c = load volatile i32, ptr @hidden.data
  %d = call i32 @inner()
  %e = add i32 %a, %b
  %f = add i32 %c, %d
  %g = add i32 %e, %f
  ret i32 %g
}
define hidden i32 @z.hidden() #0 { ret i32 2 }
define weak hidden i32 @weak.hidden() #0 { ret i32 3 }
define i32 @a.public() #0 {
  %a = call i32 @weak.hidden()
  ret i32 %a
}
attributes #0 = { noinline nounwind }
"""


def relocations(found: Object) -> list[tuple[int, str, int]]:
    """Place, symbol's name and kind of each relocation."""
    word, shift, mask = ("Q", 32, 0xFFFFFFFF) if found.format.bits == 64 else ("I", 8, 0xFF)
    symbols, listed = found.symbols(), []
    for section in found.sections:
        if section.type in (4, 9):
            for start in range(section.offset, section.offset + section.size, section.entry_size):
                place, info = struct.unpack_from(f"<2{word}", found.data, start)
                symbol = symbols[info >> shift]
                listed.append((place, found.name(symbol) or f"section {symbol.section}", info & mask))
    return listed


@pytest.mark.parametrize("triple", TRIPLES)
def test_localise_hides_hidden_symbols_and_nothing_else(triple: str) -> None:
    found = Object(bytearray(emit_object(SEVERAL, from_options({"triple": triple}), False)))
    before = relocations(found)
    assert {name for _, name, _ in before} >= {"elsewhere"}
    found.localise()
    again = Object(bytearray(found.data))
    assert relocations(again) == before
    assert sorted(again.public()) == ["a.public", "b.public", "shown"]
    assert again.undefined() == ["elsewhere"]
    binds = [symbol.info >> 4 for symbol in again.symbols()]
    first_global = again.sections[again.symbol_table].info
    assert not any(binds[:first_global]) and all(binds[first_global:])
    local = {again.name(symbol) for symbol in again.symbols()[:first_global]}
    assert {"z.hidden", "weak.hidden", "hidden.data", "inner"} <= local


@pytest.mark.parametrize("triple", TRIPLES)
def test_sections_are_aligned_to_powers_of_two(triple: str) -> None:
    for section in Object(bytearray(data_object(BLOBS, triple))).sections[1:]:
        assert section.alignment.bit_count() == 1
