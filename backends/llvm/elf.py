"""ELF objects: writes blobs of data as one, and makes hidden symbols of one local."""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from gcomp.diagnostics import BuildError, UnsupportedError
from gcomp.native import ALIGNMENT
from gcomp.types import Array

from .architectures import ARCHITECTURES, architecture_of

LARGE = 1 << 30
"""From this many bytes on, x86-64 data goes to a section that linkers place beyond the reach of code."""

Blob = bytes | bytearray | memoryview | Array

_FLAGS = {"arm": 0x05000000, "thumb": 0x05000000, "riscv64": 0x5}  # EABI 5; compressed, double-float ABI
_ALLOCATE, _EXECUTABLE, _X86_64_LARGE = 0x2, 0x4, 0x10000000
_PROGBITS, _SYMTAB, _STRTAB, _RELA, _REL, _GROUP, _SHNDX = 1, 2, 3, 4, 9, 17, 18
_LOCAL, _GLOBAL, _OBJECT = 0, 1, 1
_VISIBILITY = {"default": 0, "hidden": 2}


class Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


class Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


@dataclass(frozen=True)
class Format:
    """The records of the 32-bit or the 64-bit little-endian form."""

    bits: Literal[32, 64]

    @property
    def header(self) -> struct.Struct:
        return struct.Struct("<16sHHIQQQIHHHHHH" if self.bits == 64 else "<16sHHIIIIIHHHHHH")

    @property
    def section(self) -> struct.Struct:
        return struct.Struct("<IIQQQQIIQQ" if self.bits == 64 else "<IIIIIIIIII")

    @property
    def symbol(self) -> struct.Struct:
        return struct.Struct("<IBBHQQ" if self.bits == 64 else "<IIIBBH")

    def pack_symbol(self, s: Symbol) -> bytes:
        fields = s if self.bits == 64 else (s.name, s.value, s.size, s.info, s.other, s.section)
        return self.symbol.pack(*fields)

    def unpack_symbol(self, fields: tuple[int, ...]) -> Symbol:
        if self.bits == 64:
            return Symbol(*fields)
        name, value, size, info, other, section = fields
        return Symbol(name, info, other, section, value, size)


def data_object(
    blobs: Mapping[str, Blob], triple: str, visibility: Literal["default", "hidden"] = "hidden"
) -> bytes:
    """An object whose read-only data holds the blobs, each aligned to 64 bytes under its symbol.

    Raises `UnsupportedError` for a triple whose objects are not ELF, or that cannot address the blobs.
    """
    file = io.BytesIO()
    write_data_object(file, blobs, triple, visibility)
    return file.getvalue()


def write_data_object(
    file: BinaryIO,
    blobs: Mapping[str, Blob],
    triple: str,
    visibility: Literal["default", "hidden"] = "hidden",
) -> None:
    """Writes what `data_object` makes, without a copy of the blobs in memory. Raises as it, and `OSError`."""
    arch = architecture_of(triple)
    machine = machine_of(triple)
    form = Format(64 if ARCHITECTURES[arch].pointer_bytes == 8 else 32)
    views = {name: _view(blob) for name, blob in blobs.items()}
    offsets: list[int] = []
    size = 0
    for view in views.values():
        offsets.append(size)
        size += _rounded(len(view))
    large = arch == "x86_64" and size >= LARGE
    if size >= 1 << (form.bits - 1):
        raise UnsupportedError(f"{size} bytes of weights are more than a program for {triple} can address")

    names = _Strings()
    symbols = [Symbol(0, 0, 0, 0, 0, 0)]
    for (name, view), offset in zip(views.items(), offsets, strict=True):
        info = _GLOBAL << 4 | _OBJECT
        symbols.append(Symbol(names.add(name), info, _VISIBILITY[visibility], 1, offset, len(view)))
    table = b"".join(map(form.pack_symbol, symbols))

    titles = _Strings()
    start = _rounded(form.header.size)
    ends = start + size
    contents = [table, bytes(names.text)]
    data_title = titles.add(".lrodata" if large else ".rodata")
    flags = _ALLOCATE | (_X86_64_LARGE if large else 0)
    sections = [
        Section(0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        Section(data_title, _PROGBITS, flags, 0, start, size, 0, 0, ALIGNMENT, 0),
        Section(titles.add(".note.GNU-stack"), _PROGBITS, 0, 0, ends, 0, 0, 0, 1, 0),
        Section(titles.add(".symtab"), _SYMTAB, 0, 0, ends, len(table), 4, 1, 8, form.symbol.size),
        Section(titles.add(".strtab"), _STRTAB, 0, 0, ends + len(table), len(names.text), 0, 0, 1, 0),
    ]
    own = titles.add(".shstrtab")
    ends += sum(map(len, contents))
    sections.append(Section(own, _STRTAB, 0, 0, ends, len(titles.text), 0, 0, 1, 0))
    contents.append(bytes(titles.text))
    ends += len(titles.text)
    contents.append(bytes(-ends % 8))
    ends += -ends % 8

    ident = b"\x7fELF" + bytes([form.bits // 32, 1, 1]) + bytes(9)
    lengths = (form.header.size, 0, 0, form.section.size, len(sections), len(sections) - 1)
    file.write(form.header.pack(ident, 1, machine, 1, 0, 0, ends, _FLAGS.get(arch, 0), *lengths))
    file.write(bytes(start - form.header.size))
    for view in views.values():
        file.write(view)
        file.write(bytes(_rounded(len(view)) - len(view)))
    for content in contents:
        file.write(content)
    for section in sections:
        file.write(form.section.pack(*section))


def machine_of(triple: str) -> int:
    """ELF's number for the triple's processor. Raises `UnsupportedError` where objects are not ELF."""
    arch = ARCHITECTURES.get(architecture_of(triple))
    if arch is None or not arch.machine or any(s in triple for s in ("windows", "apple", "darwin", "macos")):
        raise UnsupportedError(f"{triple}: only ELF objects can be linked here; save .s or .ll instead")
    return arch.machine


def machine_in(start: bytes) -> int:
    """ELF's number for the processor, from the first 20 bytes of an object. Raises `BuildError`."""
    if len(start) < 20 or start[:4] != b"\x7fELF" or start[4] not in (1, 2) or start[5] != 1:
        raise BuildError("not a little-endian ELF object")
    return int.from_bytes(start[18:20], "little")


def code_bytes(data: bytes) -> int | None:
    """The size of the machine code in an object; None where it is not ELF."""
    if data[:4] != b"\x7fELF":
        return None
    return sum(section.size for section in Object(bytearray(data)).sections if section.flags & _EXECUTABLE)


class _Strings:
    """A string table under construction."""

    def __init__(self) -> None:
        self.text = bytearray(1)

    def add(self, name: str) -> int:
        place = len(self.text)
        self.text += name.encode() + b"\0"
        return place


def _view(blob: Blob) -> memoryview:
    """The bytes of a blob, without a copy where it is contiguous."""
    array = np.asarray(blob if isinstance(blob, np.ndarray) else np.frombuffer(blob, np.uint8))
    return array.reshape(-1).view(np.uint8).data


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Object:
    """A relocatable ELF object in a buffer, which may be a mapped file.

    Raises `BuildError` for anything else.
    """

    def __init__(self, data: bytearray | mmap.mmap) -> None:
        self.machine = machine_in(bytes(data[:20]))
        self.data, self.format = data, Format(64 if data[4] == 2 else 32)
        header = self.format.header.unpack_from(data)
        self._offset, count = header[6], header[12]
        if header[1] != 1:
            raise BuildError("not a relocatable ELF object")
        size = self.format.section.size
        self.sections = [
            Section(*self.format.section.unpack_from(data, self._offset + n * size)) for n in range(count)
        ]
        self.symbol_table = next((n for n, s in enumerate(self.sections) if s.type == _SYMTAB), 0)

    def symbols(self) -> list[Symbol]:
        table = self.sections[self.symbol_table]
        if not table.size:
            return []
        text = self.data[table.offset : table.offset + table.size]
        return [self.format.unpack_symbol(fields) for fields in self.format.symbol.iter_unpack(text)]

    def name(self, symbol: Symbol) -> str:
        start = self.sections[self.sections[self.symbol_table].link].offset + symbol.name
        return self.data[start : self.data.find(b"\0", start)].decode()

    def public(self) -> list[str]:
        """The names that other objects can refer to."""
        return [
            self.name(s) for s in self.symbols() if s.info >> 4 != _LOCAL and s.section and not s.other & 3
        ]

    def undefined(self) -> list[str]:
        """The names that other objects must define."""
        return [self.name(s) for s in self.symbols()[1:] if s.section == 0 and s.info >> 4 != _LOCAL]

    def localise(self) -> None:
        """Makes every hidden symbol that is defined here local, in place: no other object can see it."""
        table, old = self.sections[self.symbol_table], self.symbols()
        changed = [
            s._replace(info=s.info & 15, other=s.other & ~3) if s.section and s.other & 3 else s for s in old
        ]
        order = sorted(range(len(old)), key=lambda n: changed[n].info >> 4 != _LOCAL)  # stable
        moved = {before: after for after, before in enumerate(order)}
        text = b"".join(self.format.pack_symbol(changed[n]) for n in order)
        self.data[table.offset : table.offset + table.size] = text
        self._update(self.symbol_table, info=sum(s.info >> 4 == _LOCAL for s in changed))
        for number, section in enumerate(self.sections):
            if section.link != self.symbol_table:
                continue
            if section.type in (_RELA, _REL):
                self._renumber(section, moved)
            elif section.type == _GROUP:
                self._update(number, info=moved[section.info])
            elif section.type == _SHNDX:
                words = struct.unpack_from(f"<{len(old)}I", self.data, section.offset)
                struct.pack_into(f"<{len(old)}I", self.data, section.offset, *(words[n] for n in order))

    def _update(self, number: int, *, info: int) -> None:
        self.sections[number] = self.sections[number]._replace(info=info)
        place = self._offset + number * self.format.section.size
        self.format.section.pack_into(self.data, place, *self.sections[number])

    def _renumber(self, section: Section, moved: Mapping[int, int]) -> None:
        """Gives relocations their symbols' new numbers."""
        word, shift = (struct.Struct("<Q"), 32) if self.format.bits == 64 else (struct.Struct("<I"), 8)
        start = section.offset + word.size
        for place in range(start, start + section.size, section.entry_size):
            (info,) = word.unpack_from(self.data, place)
            number, kind = info >> shift, info & (1 << shift) - 1
            word.pack_into(self.data, place, moved[number] << shift | kind)
