"""The cache of object code."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from gcomp.backends.llvm import cache
from gcomp.backends.llvm.cache import Store
from gcomp.diagnostics import BuildError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kept"
    monkeypatch.setenv("GCOMP_CACHE", str(path))
    return path


def test_what_is_put_is_got(folder: Path) -> None:
    name = cache.key("kernel", b"text", 3)
    assert cache.get(name) is None
    cache.put(name, b"object code")
    assert cache.get(name) == b"object code"
    assert [path.name for path in folder.iterdir()] == [name]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_key_depends_on_each_part_and_where_it_ends() -> None:
    keys = [
        cache.key(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", ""), (b"ab", "d"))
    ]
    assert len(set(keys)) == len(keys)
    assert cache.key("a", 1) == cache.key("a", 1)


@pytest.mark.parametrize("damage", [b"", b"short", None, "flip"])
def test_a_damaged_entry_counts_as_absent(folder: Path, damage: bytes | str | None) -> None:
    name = cache.key("x")
    cache.put(name, b"object code")
    path = folder / name
    text = path.read_bytes()
    if damage is None:
        path.write_bytes(text[:-1])
    elif isinstance(damage, str):
        path.write_bytes(text[:-1] + bytes([text[-1] ^ 1]))
    else:
        path.write_bytes(damage)
    assert cache.get(name) is None
    assert not path.exists()
    cache.put(name, b"object code")
    assert cache.get(name) == b"object code"


def test_off_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GCOMP_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    cache.put(cache.key("x"), b"data")
    assert cache.get(cache.key("x")) is None
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_entries_go_first(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=2000)
    for number in range(4):
        store.put(f"entry{number}", bytes(400))
        os.utime(tmp_path / f"entry{number}", (number + 1, number + 1))
    assert store.get("entry0") is not None  # used just now, so entry1 is the oldest
    store.put("entry4", bytes(400))
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["entry0", "entry2", "entry3", "entry4"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1800


def test_entries_up_to_the_limit_stay(tmp_path: Path) -> None:
    Store(tmp_path, limit=10_000).put("entry", bytes(400))
    size = (tmp_path / "entry").stat().st_size
    store = Store(tmp_path, limit=3 * size)
    for name in ("second", "third"):
        store.put(name, bytes(400))
    assert len(list(tmp_path.iterdir())) == 3


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    (tmp_path / ".new-other").write_bytes(bytes(5000))
    Store(tmp_path, limit=2000).put("entry", bytes(400))
    assert (tmp_path / ".new-other").exists()
    os.utime(tmp_path / ".new-other", (1, 1))  # left behind by a process that died
    Store(tmp_path, limit=2000).put("entry", bytes(400))
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_processes_write_the_same_entries_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from gcomp.backends.llvm.cache import Store\n"
        "store = Store(Path(sys.argv[1]), limit=20000)\n"
        "for n in range(200):\n"
        "    name = f'entry{n % 5}'\n"
        "    store.put(name, name.encode() * 1000)\n"
        "    found = store.get(name)\n"
        "    assert found in (None, name.encode() * 1000), found\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".new-")]


def test_a_named_folder_that_is_not_private_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(BuildError, match="others may write to it"):
        cache.get("x")


def test_a_named_folder_that_cannot_be_made_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GCOMP_CACHE", str(tmp_path / "file" / "inside"))
    with pytest.raises(BuildError, match="GCOMP_CACHE="):
        cache.put("x", b"")


def test_a_platform_folder_that_cannot_be_used_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("GCOMP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache._store.cache_clear()
    with pytest.warns(UserWarning, match="compiles without a cache"):
        assert cache.get("x") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("x", b"data")
    cache._store.cache_clear()
