"""Mutants drawn by a fixed seed from all that small mechanical changes of the sources give.

What is drawn hangs on the text of each statement and the names around it, not on its line: a change elsewhere
neither renames a mutant nor puts another in its place, unless it brings candidates that come earlier.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .mutant import ROOT, SOURCES, Mutant

SEED = "gcomp"
QUOTAS = {"core": 90, "passes": 40, "backends": 70}

UNTESTED = {
    "backends/tvm": "needs TVM, which the tests do not require",
    "backends/llvm/cuda/driver.py": "needs a GPU",
}
"""What is not drawn from, with the reason."""

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
AXES = {"shape", "static_shape", "strides", "physical"}
"""What is indexed by axes."""
SAMPLES = {"sample", "samples"}
"""Functions that give what tests draw from."""


@dataclass(frozen=True)
class Change:
    """One change: its kind, the node that goes, and the text that comes."""

    kind: str
    node: ast.expr | ast.stmt
    new: str


def drawn(root: Path = ROOT) -> list[Mutant]:
    """`QUOTAS` mutants of each group, of all kinds in turn, no two in one statement."""
    return [mutant for group, folder in SOURCES.items() for mutant in _drawn(group, folder, root)]


def _drawn(group: str, folder: str, root: Path) -> list[Mutant]:
    queues: dict[str, list[tuple[str, str, Mutant]]] = {}
    for path in sorted((root / folder).rglob("*.py")):
        file = path.relative_to(root).as_posix()
        inside_links = folder == "gcomp" and file.split("/")[1] in SOURCES
        if not inside_links and not any(file.startswith(left_out) for left_out in UNTESTED):
            for kind, statement, mutant in candidates(group, file, path.read_bytes()):
                queues.setdefault(kind, []).append((_hash(SEED + mutant.name), statement, mutant))
    for queue in queues.values():
        queue.sort(reverse=True)
    found: list[Mutant] = []
    taken: set[str] = set()
    while len(found) < QUOTAS[group]:
        for kind in sorted(queues):
            while queues[kind] and queues[kind][-1][1] in taken:
                queues[kind].pop()
            if queues[kind] and len(found) < QUOTAS[group]:
                _, statement, mutant = queues[kind].pop()
                taken.add(statement)
                found.append(mutant)
    return found


def candidates(group: str, file: str, source: bytes) -> Iterator[tuple[str, str, Mutant]]:
    """Every mutant of a file with its kind and the statement that it is in."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    seen: Counter[str] = Counter()
    for scope, statement, change in _changes(ast.parse(source), ()):
        node = change.node
        start = starts[node.lineno - 1] + node.col_offset
        stop = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        old, name = ast.unparse(node), ".".join(scope)
        place = f"{file}|{name}|{ast.unparse(statement).splitlines()[0]}"
        what = f"{place}|{change.kind}|{old}|{change.new}"
        seen[what] += 1
        before, after = (text if len(text) < 70 else f"{text[:70]}..." for text in (old, change.new))
        note = f"{change.kind} in {name or 'the module'}: `{before}` -> `{after}`"
        mutant = Mutant(group, _hash(f"{what}|{seen[what]}")[:8], file, start, stop, change.new, note)
        yield change.kind, place, mutant


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _changes(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.stmt, Change]]:
    """All changes below a node that holds statements, with the names of what is around them."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        if node.name in SAMPLES:
            return
        scope = (*scope, node.name)
    for statement in (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)):
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        if change := _dropped(statement, bool(scope)):
            yield scope, statement, change
        for change in _of_expressions(statement):
            yield scope, statement, change
        yield from _changes(statement, scope)
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.ExceptHandler | ast.match_case):
            yield from _changes(part, scope)


def _dropped(statement: ast.stmt, in_function: bool) -> Change | None:
    """`pass` in place of a statement, if names stay bound without it."""
    match statement:
        case (
            ast.Expr(value=ast.Call())
            | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
            | ast.AugAssign()
            | ast.Raise()
            | ast.Return()
            | ast.Continue()
            | ast.Break()
        ) if in_function:
            return Change("line", statement, "pass")
        case _:
            return None


def _of_expressions(statement: ast.stmt) -> Iterator[Change]:
    """The changes of a statement's own expressions: not of annotations, decorators and messages."""
    if isinstance(statement, ast.Raise | ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return
    if isinstance(statement, ast.AugAssign) and type(statement.op) in OPERATORS:
        other = ast.AugAssign(statement.target, OPERATORS[type(statement.op)](), statement.value)
        yield Change("operator", statement, ast.unparse(other))
    for name, field in ast.iter_fields(statement):
        for part in field if isinstance(field, list) else [field]:
            if isinstance(part, ast.expr) and name != "annotation":
                yield from _of_expression(part, "constant")
            elif isinstance(part, ast.withitem):
                yield from _of_expression(part.context_expr, "constant")


def _of_expression(node: ast.AST, role: str) -> Iterator[Change]:
    """The changes of an expression; `role` is the kind of a change of a number in it."""
    match node:
        case ast.JoinedStr():
            return
        case ast.Constant(value=bool() as value):
            yield Change("constant", node, str(not value))
        case ast.Constant(value=int() | float() as value):
            yield Change(role, node, repr(value + 1))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            yield Change(role, node, repr(1 - value))
            return
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield Change("operator", node, f"({ast.unparse(operand)})")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            other = ast.BinOp(left, OPERATORS[type(op)](), right)
            yield Change("operator", node, f"({ast.unparse(other)})")
        case ast.BoolOp(op=op, values=values):
            other = ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
            yield Change("operator", node, f"({ast.unparse(other)})")
        case ast.Compare(left=left, ops=[first, *rest], comparators=comparators):
            other = ast.Compare(left, [COMPARISONS[type(first)](), *rest], comparators)
            yield Change("comparison", node, f"({ast.unparse(other)})")
        case ast.Subscript(value=value, slice=index):
            yield from _of_expression(value, role)
            named = value.attr if isinstance(value, ast.Attribute) else ""
            yield from _of_expression(index, "axis" if named in AXES else "index")
            return
        case ast.keyword(arg="axis" | "axes" | "perm"):
            yield from _of_expression(node.value, "axis")
            return
        case _:
            pass
    for part in ast.iter_child_nodes(node):
        yield from _of_expression(part, role)
