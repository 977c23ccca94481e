"""A mutant: a place in a source file and what stands there instead; and the sources that tests guard."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SOURCES = {"core": "gcomp", "passes": "passes", "backends": "backends"}
"""Groups of sources by the folder that holds them."""


@dataclass(frozen=True)
class Mutant:
    """`new` in place of the bytes from `start` to `stop` of `file`; `note` says what that does."""

    group: str
    name: str
    file: str
    start: int
    stop: int
    new: str
    note: str

    @property
    def id(self) -> str:
        return f"{self.group}/{self.name}"

    @property
    def told(self) -> str:
        """What it is, in a line."""
        return f"{self.id} ({self.file}, line {self.lines().start}: {self.note})"

    def source(self, root: Path = ROOT) -> bytes:
        """The file as it should be."""
        return (root / self.file).read_bytes()

    def mutated(self, root: Path = ROOT) -> bytes:
        """The file with the fault in it."""
        source = self.source(root)
        return source[: self.start] + self.new.encode() + source[self.stop :]

    def lines(self, root: Path = ROOT) -> range:
        """The lines, counted from 1, that it touches."""
        source = self.source(root)
        first = source.count(b"\n", 0, self.start) + 1
        return range(first, source.count(b"\n", 0, self.stop) + 2)

    def key(self, root: Path = ROOT) -> str:
        """A hash of the definition with the fault in it, whatever the rest of the file and its format."""
        text = self.mutated(root).decode()
        node, _ = definition(ast.parse(text), self.lines(root).start)
        return hashlib.sha256(ast.unparse(node).encode()).hexdigest()[:12]


def definition(tree: ast.Module, line: int) -> tuple[ast.AST, str]:
    """The innermost function, else the innermost class's or module's statement, at a line, and its name."""
    node: ast.AST = tree
    names: list[str] = []
    while isinstance(node, ast.Module | ast.ClassDef):
        inner = next((part for part in node.body if first_line(part) <= line <= (part.end_lineno or 0)), None)
        if inner is None:
            break
        node = inner
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
    return node, ".".join(names)


def first_line(node: ast.stmt) -> int:
    """The line a statement begins on, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])
