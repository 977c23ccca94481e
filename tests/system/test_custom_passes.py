"""The page about passes of one's own runs block by block; the example plug-in is installed and found."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import succeed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "custom-passes.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation")


def run(command: list[str], folder: Path, *paths: Path) -> str:
    path = os.pathsep.join(map(str, paths))
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def typed(words: list[str], folder: Path, site: Path, repository: Path) -> str:
    """What a line of the page prints; what it installs goes to `site`."""
    match words:
        case ["gcomp", *rest]:
            return succeed(*rest)
        case ["pip", "install", *rest]:
            told = run([*PIP, "install", *OFFLINE, "--upgrade", "--target", str(site), *rest], folder)
            importlib.invalidate_caches()
            return told
        case ["python", *rest]:
            return run([sys.executable, *rest], folder, repository)
        case _:
            raise AssertionError(f"nobody knows how to run {words}")


def test_the_page_runs_block_by_block(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, site = tmp_path / "reader", tmp_path / "site"
    folder.mkdir()
    site.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    told: list[str] = []
    for language, text in BLOCKS:
        if language == "sh":
            told += [
                typed(shlex.split(line, comments=True), folder, site, repository)
                for line in text.splitlines()
            ]
            continue
        name = text.partition("\n")[0].removeprefix("# ")
        assert Path(name).suffix == {"python": ".py", "toml": ".toml"}[language]
        (folder / name).write_text(text)
        if language == "python":
            run([sys.executable, name], folder, repository)
    whole = "\n".join(told)
    assert re.search(
        r'fired on %\w+ = Add\(%x, %\w+\) : f32\[n,4\] from "sum"\n +gives .*Sub\(%x, %y\)', whole
    )
    assert "1 passed" in whole and "all agree" in whole and "unroll{most=2}: changed nothing" in whole
    assert {path.name for path in folder.glob("*.onnx")} >= {"installed.onnx", "products.onnx"}


@pytest.fixture(scope="module")
def plugin(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example plug-in is installed, from its own wheel."""
    source, wheels, site = (tmp_path_factory.mktemp(name) for name in ("plugin", "wheels", "site"))
    shutil.copytree(repository / "examples" / "plugin", source, dirs_exist_ok=True)
    run([*PIP, "wheel", *OFFLINE, "-w", str(wheels), "."], source)
    (wheel,) = wheels.glob("gcomp_cancel_negations-*.whl")
    run([*PIP, "install", *OFFLINE, "--target", str(site), str(wheel)], wheels)
    return site


def test_an_installed_plug_in_is_found_by_name(plugin: Path, repository: Path, tmp_path: Path) -> None:
    text = "\n  %0 = Neg(%x) : f32[2]\n  %1 = Add(%x, %0) : f32[2]\n"
    (tmp_path / "sum.gc").write_text(f'graph "g" (%x: f32[2]) -> (%1 "y") {{{text}}}\n')
    words = ["optimize", "sum.gc", "--passes", "cancel-negations,clean", "-o", "difference.gc"]
    run([sys.executable, "-m", "gcomp", *words], tmp_path, plugin, repository)
    assert "Sub(%x, %x)" in (tmp_path / "difference.gc").read_text()


def test_the_tests_of_the_plug_in_pass(plugin: Path, repository: Path, tmp_path: Path) -> None:
    tests = shutil.copytree(repository / "examples" / "plugin" / "tests", tmp_path / "tests")
    told = run([sys.executable, "-m", "pytest", "-q", str(tests)], tmp_path, plugin, repository)
    assert "2 passed" in told
