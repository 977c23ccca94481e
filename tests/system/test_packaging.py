"""What gets installed: the wheel's contents, the pins of its dependencies, the time of `import gcomp`."""

import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

IMPORT_SECONDS = 0.3
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} says:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this checkout, so that nothing is written into the checkout itself."""
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip(f"setuptools is {version('setuptools')}; the licence field of pyproject.toml needs 77")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("gcomp", "passes", "backends"):
        shutil.copytree(repository / name, copy / name, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, copy / name)
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", out, copy, cwd=out)
    (built,) = out.glob("gcomp-*.whl")
    return built


def test_the_wheel_holds_gcomp_and_nothing_beside_it(wheel: Path, repository: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gcomp"}
    assert "gcomp/py.typed" in names
    for folder in ("passes", "backends"):
        for path in (repository / folder).rglob("*.py"):
            assert f"gcomp/{path.relative_to(repository)}" in names


def test_an_installed_wheel_finds_its_own_passes(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(*PIP, "install", "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)
    script = f"""
import sys
sys.path.insert(0, {str(site)!r})
import gcomp, gcomp.passes, gcomp.backends
print(gcomp.__file__, gcomp.passes.__file__, gcomp.backends.__file__, sep="\\n")
"""
    found = [Path(line) for line in run(sys.executable, "-c", script, cwd=elsewhere).splitlines()]
    assert found == [site / "gcomp" / part / "__init__.py" for part in ("", "passes", "backends")]


def test_import_is_quick(repository: Path) -> None:
    def best_of_five(statement: str) -> float:
        def once() -> float:
            start = time.perf_counter()
            run(sys.executable, "-c", statement, cwd=repository)
            return time.perf_counter() - start

        return min(once() for _ in range(5))

    run(sys.executable, "-c", "import gcomp", cwd=repository)  # writes the byte code
    spent = best_of_five("import gcomp") - best_of_five("pass")
    assert spent < IMPORT_SECONDS, f"`import gcomp` takes {spent:.2f} s"


def pinned(text: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==[^ ]+ \\$", text, re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_-]", name)[0].lower().replace("_", "-") for name in requirements}


@pytest.mark.parametrize(
    ("file", "extra"), [("runtime", None), ("demo", None), ("test", "test"), ("bench", "bench")]
)
def test_pins_cover_the_dependencies(repository: Path, file: str, extra: str | None) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = names(project["dependencies"]) | {"setuptools", "wheel"}
    if extra:
        wanted |= names(project["optional-dependencies"][extra])
    assert wanted <= pinned((repository / "constraints" / f"{file}.txt").read_text("utf-8"))


def test_pins_are_exact_hashed_and_agree(repository: Path) -> None:
    versions: dict[str, str] = {}
    for path in sorted((repository / "constraints").glob("*.txt")):
        text = path.read_text("utf-8")
        assert "://" not in text and "\n-" not in text, f"{path.name} names an index or a place"
        for block in re.split(r"\n(?=\S)", text.strip()):
            head, *hashes = [line.strip(" \\") for line in block.splitlines()]
            name, _, chosen = head.partition("==")
            assert chosen and hashes, f"{path.name}: {head} needs an exact version and hashes"
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), (
                f"{path.name}: {head}"
            )
            assert versions.setdefault(name, chosen) == chosen, f"{name} has two versions"
