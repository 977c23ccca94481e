"""Object code kept between runs in a private folder, by the hash of all that went into it.

`GCOMP_CACHE` names the folder, or is `off`; the platform's cache folder otherwise.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gcomp.diagnostics import BuildError, warn
from gcomp.native import aligned
from gcomp.types import Array

LIMIT = 1 << 30
"""Bytes that the folder may hold; beyond it those entries go that have not been used for longest."""

_MAGIC = b"gcomp cache 1\n"
_DIGEST = hashlib.sha256().digest_size


def key(*parts: object) -> str:
    """The name of an entry: a hash of the parts, each taken by its `str` with its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def get(name: str) -> bytes | None:
    """The entry called `name`; None if there is none, the cache is off, or it is damaged, when it is removed.

    Raises `BuildError` if `GCOMP_CACHE` names a folder that cannot be used.
    """
    found = read(name)
    return None if found is None else found.tobytes()


def read(name: str) -> Array | None:
    """The entry as bytes in memory aligned to 64, without a copy. Raises as `get`."""
    store = _store(os.environ.get("GCOMP_CACHE"))
    return store.read(name) if store else None


def put(name: str, data: bytes | memoryview) -> None:
    """Keeps `data` as the entry `name`; processes may do so at once. Raises as `get`, warns if it cannot."""
    store = _store(os.environ.get("GCOMP_CACHE"))
    if store:
        store.put(name, data)


@dataclass
class Store:
    """Entries as files of a folder that only its owner may touch."""

    folder: Path
    limit: int = LIMIT
    _bytes: int | None = field(default=None, init=False)

    def get(self, name: str) -> bytes | None:
        found = self.read(name)
        return None if found is None else found.tobytes()

    def read(self, name: str) -> Array | None:
        path = self.folder / name
        try:
            with open(path, "rb") as file:
                head = file.read(len(_MAGIC) + _DIGEST)
                data = aligned(max(0, os.fstat(file.fileno()).st_size - len(head)))
                count = file.readinto(data.data)
        except OSError:
            return None
        if count != data.size or head != _MAGIC + hashlib.sha256(data.data).digest():
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # another process may have just removed it
            os.utime(path)  # the time of last use
        return data

    def put(self, name: str, data: bytes | memoryview) -> None:
        head = _MAGIC + hashlib.sha256(data).digest()
        try:
            handle, temporary = tempfile.mkstemp(prefix=".new-", dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(head)
                    file.write(data)
                os.replace(temporary, self.folder / name)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            warn(f"gcomp's cache {self.folder} cannot be written: {error}")
            return
        self._bytes = self._size() if self._bytes is None else self._bytes + len(head) + len(data)
        if self._bytes > self.limit:
            self._bytes = self._evict()

    def _size(self) -> int:
        return sum(size for _, size, _ in self._entries())

    def _entries(self) -> list[tuple[float, int, str]]:
        """Time of last use, size and path of every entry."""
        found: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:  # another process has just removed it
                    continue
                found.append((status.st_mtime, status.st_size, entry.path))
        return found

    def _evict(self) -> int:
        """Removes the oldest entries until a tenth of the limit is free; what is left, in bytes."""
        entries = sorted(self._entries())
        left = sum(size for _, size, _ in entries)
        for used, size, path in entries:
            if left <= self.limit * 9 // 10:
                break
            if os.path.basename(path).startswith(".new-") and used > time.time() - 3600:
                continue  # another process is writing it
            Path(path).unlink(missing_ok=True)
            left -= size
        return left


@cache
def _store(setting: str | None) -> Store | None:
    if setting and setting.lower() in ("off", "0"):
        return None
    if setting:
        folder = Path(setting).expanduser()
        if problem := _prepare(folder):
            raise BuildError(f"GCOMP_CACHE={setting}: {problem}; name another folder, or say GCOMP_CACHE=off")
        return Store(folder)
    try:
        folder = _default_folder()
        problem = _prepare(folder)
    except RuntimeError as error:  # there is no home folder
        folder, problem = None, str(error)
    if folder is None or problem:
        warn(f"gcomp compiles without a cache: {folder}: {problem}")
        return None
    return Store(folder)


def _default_folder() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "gcomp" / "objects"


def _prepare(folder: Path) -> str | None:
    """Makes the folder where needed; what is wrong with it, or None."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        return str(error)
    if not os.access(folder, os.W_OK | os.X_OK):
        return "it cannot be written"
    if sys.platform != "win32":
        if status.st_uid != os.getuid():
            return "it belongs to another user, whose code would be run"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return "others may write to it, so their code could be run; chmod go-w it"
    return None
