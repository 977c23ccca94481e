"""What the code of a rule refers to: operators that it may look for, and all that makes it what it is."""

from __future__ import annotations

import ast
import hashlib
import inspect
import math
import textwrap
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

from ..ir import Op
from ..op import Constant, operators
from ..rewrite import Rule
from .fields import Literal

PLAIN = (bool, int, float, str, type(None))
"""Types of the constants that a digest takes in, and of the items of tuples."""


@cache
def grafts(rule: Rule) -> list[type[Op]]:
    """The operator classes that the code of a rule names: what it may look for without asking."""
    found: dict[type[Op], None] = {}
    known = operators()
    for function in functions_of(rule):
        for name in _names(function.__code__):
            value = function.__globals__.get(name)
            if isinstance(value, type) and known.get(value.__name__) is value and value is not Constant:
                found[cast("type[Op]", value)] = None
    return list(found)


@cache
def literals(rule: Rule) -> list[Literal]:
    """The numbers, words and tuples of integers in the code of a rule, and those of its module that it names.

    It may compare what it finds with them.
    """
    found: dict[Literal, None] = {}
    for function in functions_of(rule):
        named = [function.__globals__.get(name) for name in _names(function.__code__)]
        told = inspect.getdoc(function)
        for value in [*_constants(function.__code__), *named]:
            for item in cast("tuple[object, ...]", (value, *value) if isinstance(value, tuple) else (value,)):
                if _is_literal(item) and item != told:
                    found[cast("Literal", item)] = None
    return list(found)


def _is_literal(value: object) -> bool:
    match value:
        case bool():
            return False
        case int() | float():
            return math.isfinite(value)
        case str():
            return value.replace("_", "").isalnum()
        case tuple():
            items = cast("tuple[object, ...]", value)
            return bool(items) and all(type(item) is int for item in items)
        case _:
            return False


def _constants(code: CodeType) -> list[object]:
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return [*code.co_consts, *(const for one in inner for const in _constants(one))]


def functions_of(rule: Rule) -> list[FunctionType]:
    """The function of a rule and those of the same module that it calls."""
    found: dict[FunctionType, None] = {}

    def visit(function: Any) -> None:
        function = inspect.unwrap(function)
        if not isinstance(function, FunctionType) or function in found:
            return
        found[function] = None
        for name in _names(function.__code__):
            value = function.__globals__.get(name)
            if getattr(value, "__module__", None) == function.__module__ and not isinstance(
                value, ModuleType
            ):
                visit(value)

    visit(rule.function)
    return list(found)


def _names(code: CodeType) -> list[str]:
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return [*code.co_names, *(name for one in inner for name in _names(one))]


def digest(rule: Rule) -> str:
    """A hash of a rule's code: its function, those of its module that it calls, constants that they name.

    Layout and docstrings do not count. Raises `OSError` where the source is not to be had.
    """
    parts = [str(rule.tolerance)]
    for function in functions_of(rule):
        parts += _code(function).split()
        for name in sorted({*_names(function.__code__)}):
            value = function.__globals__.get(name)
            if name in function.__globals__ and _is_plain(value):
                parts.append(f"{name}={value!r}")
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def _code(function: FunctionType) -> str:
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    (definition,) = ast.parse("\n".join(lines)).body
    if isinstance(definition, ast.FunctionDef) and ast.get_docstring(definition) is not None:
        told = definition.body[0]
        del lines[told.lineno - 1 : told.end_lineno]
    return "\n".join(lines)


def _is_plain(value: object) -> bool:
    items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    return all(isinstance(item, PLAIN) for item in items)
