"""Holds the house together: floors, doors, small rooms and names, read from the source."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def floors(text: str) -> list[list[str]]:
    """The rooms of each floor, ground first, from the list under `## Floors` of CONTRIBUTING.md."""
    (block,) = re.findall(r"^## Floors\n.*?^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [re.findall(r"\w+", line) for line in block.splitlines()]


FLOORS = floors((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

# A foreign library -> the only modules that may import it, each with all below it.
DOORS = {
    "onnx": ("gcomp.lift", "gcomp.save"),
    "llvmlite": ("gcomp.backends.llvm",),
    "tvm": ("gcomp.backends.tvm",),
    "hypothesis": ("gcomp.testing",),
    "z3": ("gcomp.testing.proof",),
}

LONGEST = 400
JUNK_DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}
PRODUCT = ("gcomp", "passes", "backends")
HOUSE = (*PRODUCT, "tests", "bench", "examples")


@dataclass(frozen=True)
class Import:
    importer: str  # gcomp.passes.fuse
    imported: str  # gcomp.ir
    line: int
    only_typing: bool

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported}"


def sources(*folders: str) -> Iterator[Path]:
    """Python files of these folders; the links gcomp/passes and gcomp/backends are not followed."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {ROOT / "gcomp" / "passes", ROOT / "gcomp" / "backends"} & set(path.parents):
                yield path


def module_name(path: Path) -> str:
    """passes/fuse.py -> gcomp.passes.fuse; a package's __init__ goes by the package's name."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] != "gcomp":
        parts.insert(0, "gcomp")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sources(*PRODUCT)}


def room(module: str) -> str:
    """gcomp.passes.fuse -> passes; gcomp -> __init__"""
    return module.split(".")[1] if "." in module else "__init__"


def is_typing_guard(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def import_nodes(
    node: ast.AST, only_typing: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, only_typing
    elif isinstance(node, ast.If) and is_typing_guard(node.test):
        for child in node.body:
            yield from import_nodes(child, True)
        for child in node.orelse:
            yield from import_nodes(child, only_typing)
    else:
        for child in ast.iter_child_nodes(node):
            yield from import_nodes(child, only_typing)


def imports_in(text: str, importer: str, is_package: bool, known: frozenset[str]) -> Iterator[Import]:
    """Each imported module by its absolute name; `from gcomp import ir` counts as gcomp.ir."""
    for node, only_typing in import_nodes(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, node.lineno, only_typing)
            continue
        base = node.module or ""
        if node.level:
            up = node.level - 1 if is_package else node.level
            parents = importer.split(".")[: len(importer.split(".")) - up]
            base = ".".join([*parents, base] if base else parents)
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield Import(importer, inner if inner in known else base, node.lineno, only_typing)


@cache
def imports() -> tuple[Import, ...]:
    known = frozenset(modules()) | {"gcomp.passes", "gcomp.backends"}
    return tuple(
        found
        for name, path in modules().items()
        for found in imports_in(path.read_text("utf-8"), name, path.name == "__init__.py", known)
    )


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def floor_breach(found: Import) -> str | None:
    """What is wrong with an import between two modules of gcomp, or None."""
    if not inside(found.imported, "gcomp"):
        return None
    above, below = room(found.importer), room(found.imported)
    if above == below or above not in LEVEL or below not in LEVEL:  # the latter is a test of its own
        return None
    if {above, below} == {"passes", "backends"}:
        return f"{found}: passes and backends do not know each other"
    if below in ("passes", "backends"):
        return f"{found}: the core finds passes and targets by name, through gcomp.registry"
    if above == "passes" and below == "__init__":
        return None  # a pass may be written as users write theirs: `from gcomp import rewrite`
    if LEVEL[below] > LEVEL[above]:
        return f"{found}: {above} lies below {below}"
    return None


def door_breach(found: Import) -> str | None:
    doors = DOORS.get(found.imported.split(".")[0])
    if doors is None or any(inside(found.importer, door) for door in doors):
        return None
    return f"{found}: its door is {' or '.join(doors)}"


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """One circle of a directed graph, or None."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for other in sorted(graph.get(node, ())):
            if found := walk(other, [*path, node]):
                return found
        done.add(node)
        return None

    return next((found for start in sorted(graph) if (found := walk(start, []))), None)


def complain(breaches: Iterator[str | None]) -> None:
    told = [breach for breach in breaches if breach]
    assert not told, "\n" + "\n".join(told)


def test_every_module_has_a_floor() -> None:
    homeless = sorted({room(name) for name in modules()} - LEVEL.keys())
    complain(
        f"gcomp/{name}: say on which floor {name} lives, under Floors of CONTRIBUTING.md" for name in homeless
    )


def test_every_room_is_on_one_floor() -> None:
    rooms = [room for rooms in FLOORS for room in rooms]
    assert sorted(rooms) == sorted(set(rooms))
    assert LEVEL.keys() <= {room(name) for name in modules()}, "a listed room is not there"


def test_imports_go_down() -> None:
    complain(floor_breach(found) for found in imports())


def test_foreign_libraries_have_one_door() -> None:
    complain(door_breach(found) for found in imports())


def test_bare_passes_and_backends_are_never_imported() -> None:
    known = frozenset(modules())
    complain(
        f"{path.relative_to(ROOT)}, line {found.line}: say gcomp.{found.imported}"
        for path in sources(*HOUSE)
        for found in imports_in(path.read_text("utf-8"), "x.y.z", False, known)
        if found.imported.split(".")[0] in ("passes", "backends")
    )


def test_no_circles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for found in imports():
        if found.imported in graph and found.imported != found.importer and not found.only_typing:
            graph[found.importer].add(found.imported)
    found = circle(graph)
    assert found is None, "a circle: " + " -> ".join(found or [])


def test_rooms_are_small() -> None:
    def too_long(path: Path) -> str | None:
        text = path.read_text("utf-8")
        lines = text.count("\n")
        if lines <= LONGEST or re.search(r"Length:\s*\w+", ast.get_docstring(ast.parse(text)) or ""):
            return None
        where = path.relative_to(ROOT)
        return (
            f"{where} has {lines} lines: split it, or give the reason after `Length:` in its first docstring"
        )

    complain(too_long(path) for path in sources(*HOUSE))


def test_no_junk_drawers() -> None:
    complain(
        f"{path.relative_to(ROOT)}: name it after what is inside"
        for path in sources(*HOUSE)
        if JUNK_DRAWERS & {path.stem, *path.relative_to(ROOT).parts[:-1]}
    )


def test_modules_say_what_they_are_for() -> None:
    complain(
        f"{path.relative_to(ROOT)}: its first line should be a docstring with its purpose"
        for path in sources(*PRODUCT)
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    )


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    packages = {
        module_name(path.parent / "__init__.py")
        for path in sources(*PRODUCT)
        if "__pycache__" not in path.parts
    }
    assert packages == set(listed), "packages in pyproject.toml differ from the folders"
    complain(
        f"{name}: has no __init__.py"
        for name in sorted(packages)
        if not (package_folder(name) / "__init__.py").is_file()
    )


def package_folder(name: str) -> Path:
    return ROOT.joinpath(*name.split("."))  # goes through the links


@pytest.mark.parametrize("folder", ["passes", "backends"])
def test_links_lead_to_the_folders(folder: str) -> None:
    assert (ROOT / "gcomp" / folder).resolve() == ROOT / folder


def test_importing_gcomp_loads_no_pass_and_no_target() -> None:
    script = (
        "import sys, gcomp; "
        "print([m for m in sys.modules"
        " if m.split('.')[0] in ('passes', 'backends', 'onnx', 'llvmlite', 'tvm')"
        " or m.startswith(('gcomp.passes', 'gcomp.backends'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


KNOWN = frozenset({"gcomp.ir", "gcomp.passes.fuse", "gcomp.ops.linear"})


@pytest.mark.parametrize(
    ("importer", "statement", "complaint"),
    [
        ("gcomp.ir", "from gcomp.types import DType", None),
        ("gcomp.ir", "from .types import DType", None),
        ("gcomp.types", "from gcomp import ir", "types lies below ir"),
        ("gcomp.types", "def f():\n    from .ir import Graph", "types lies below ir"),
        ("gcomp.ir", "from gcomp import compile", "ir lies below __init__"),
        ("gcomp.compiler", "import gcomp.passes.fuse", "by name, through gcomp.registry"),
        ("gcomp.compiler", "from gcomp.passes import fuse", "by name, through gcomp.registry"),
        ("gcomp.passes.fuse", "from gcomp.backends.llvm import emit", "do not know each other"),
        ("gcomp.backends.llvm.emit", "from gcomp.passes import fuse", "do not know each other"),
        ("gcomp.passes.fuse", "from gcomp import rewrite", None),
        ("gcomp.passes.fuse", "from .clean import PASS", None),
        ("gcomp.passes.fuse", "import gcomp.compiler", "passes lies below compiler"),
    ],
)
def test_a_floor_breach_is_noticed(importer: str, statement: str, complaint: str | None) -> None:
    told = [floor_breach(found) for found in imports_in(statement, importer, False, KNOWN)]
    if complaint is None:
        assert told == [None]
    else:
        assert told[0] is not None and complaint in told[0]


@pytest.mark.parametrize(
    ("importer", "statement", "allowed"),
    [
        ("gcomp.lift", "import onnx", True),
        ("gcomp.compiler", "import onnx.helper", False),
        ("gcomp.backends.llvm.emit", "from llvmlite import binding", True),
        ("gcomp.backends.llvmish", "from llvmlite import binding", False),
        ("gcomp.testing.strategies", "import hypothesis", True),
        ("gcomp.testing.strategies", "import z3", False),
        ("gcomp.rewrite", "if x:\n    from hypothesis import given", False),
        ("gcomp.rewrite", "import onnxruntime", True),
    ],
)
def test_a_door_breach_is_noticed(importer: str, statement: str, allowed: bool) -> None:
    told = [door_breach(found) for found in imports_in(statement, importer, False, KNOWN)]
    assert (told == [None]) is allowed


def test_a_circle_is_noticed() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
