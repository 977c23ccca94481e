"""Reads the text form of graphs back, checking every printed type against inference."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn, cast

import numpy as np

from . import dim as dims
from .arguments import checked
from .diagnostics import GcompError, ParseError
from .ir import Graph, Op, Value
from .literal import array_type, element, float_from_bits, known_array, quoted
from .op import operators
from .printer import BARE
from .types import DTYPES, STRING, Array, TensorType, parse_layout, parse_type

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_NUMBER = re.compile(r"-?(?:inf|nan|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?![\w.\[<])", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_TYPE = re.compile(r"\w+\[[^\]\n]*\]")
_ELEMENT = re.compile(r"[-+\w.]+")
_ANGLED = re.compile(r"(layout|dim|float)<([^>\n]*)>")
_DIGITS = re.compile(r"\d{1,18}", re.ASCII)
_RANGE = re.compile(r"([A-Za-z_]\w*)=(\d{1,10})\.\.(\d{1,10})", re.ASCII)
_DIGEST = re.compile(r"@sha256:([0-9a-f]{64})")

_type = lru_cache(4096)(parse_type)

Scope = dict[str | int, Value]


@checked
def parse(text: str, constants: Mapping[str, Array] | None = None) -> Graph:
    """The graph that `print_graph` wrote.

    `constants` finds the large ones by digest, before those alive in this process. Types may be left out;
    those that are there must equal what inference gives, layouts aside, which are taken from the text. Raises
    `ParseError` with line and column.
    """
    parser = _Parser(text, constants or {})
    try:
        graph = parser.graph({})
    except RecursionError:
        parser.fail("regions or tuples are nested too deeply")
    parser.end()
    return graph


class _Parser:
    def __init__(self, text: str, constants: Mapping[str, Array]) -> None:
        self.text, self.constants, self.at = text, constants, 0
        self.operators = operators()
        self.skip()

    # words

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def try_match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
            self.skip()
        return match

    def match(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        return self.try_match(pattern) or self.fail(f"{what} is expected here")

    def accept(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        self.skip()
        return True

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            self.fail(f"{mark!r} is expected here")

    def word(self, what: str) -> str:
        return self.match(_WORD, what)[0]

    def string(self, what: str) -> str:
        start = self.at
        return self.decoded(self.match(_STRING, what)[0], start)

    def decoded(self, text: str, start: int) -> str:
        try:
            return json.loads(text)
        except ValueError:
            self.fail("a string is escaped as in JSON", start)

    def end(self) -> None:
        if self.at < len(self.text):
            self.fail("nothing may follow the graph")

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        at = self.at if at is None else at
        line = self.text.count("\n", 0, at) + 1
        start = self.text.rfind("\n", 0, at) + 1
        stop = self.text.find("\n", at)
        shown = self.text[start : stop if stop >= 0 else len(self.text)]
        column, left = at - start, max(0, at - start - 70)
        excerpt = ("..." if left else "") + shown[left : left + 110]
        caret = " " * (column - left + (3 if left else 0)) + "^"
        raise ParseError(f"line {line}, column {column + 1}: {message}\n  {excerpt}\n  {caret}")

    # graphs and operators

    def graph(self, outer: Scope) -> Graph:
        if self.word("`graph`") != "graph":
            self.fail("a graph begins with `graph`")
        graph, scope = Graph(self.string("the graph's name")), dict(outer)
        self.expect("(")
        while not self.accept(")"):
            start = self.at
            name = self.name()
            self.expect(":")
            self.define(scope, name, graph.add_input(self.type(), _kept(name)), start)
            self.separate(")")
        self.expect("->")
        self.expect("(")
        outputs: list[tuple[str, int]] = []
        while not self.accept(")"):
            start = self.at
            outputs.append((self.name(), start))
            graph.output_names.append(self.string("the output's name"))
            self.separate(")")
        if self.accept("where "):
            self.ranges(graph)
        self.expect("{")
        if self.text.startswith("metadata", self.at):
            self.at += len("metadata")
            self.skip()
            graph.metadata = self.metadata()
        while not self.accept("}"):
            self.operator(graph, scope)
        graph.outputs = [self.look_up(scope, name, start) for name, start in outputs]
        return graph

    def ranges(self, graph: Graph) -> None:
        while True:
            name, low, high = self.match(_RANGE, "a range such as n=1..64").groups()
            graph.ranges[name] = (int(low), int(high))
            if not self.accept(","):
                return

    def metadata(self) -> dict[str, Any]:
        start = self.at
        try:
            found, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
        except (ValueError, RecursionError) as error:
            self.fail(f"metadata is a JSON object: {error}")
        self.skip()
        if not isinstance(found, dict):
            self.fail("metadata is a JSON object", start)
        return cast("dict[str, Any]", found)

    def operator(self, graph: Graph, scope: Scope) -> None:
        start = self.at
        names: list[tuple[str, int]] = []
        while self.text.startswith("%", self.at):
            names.append((self.name(), start if not names else self.at))
            if not self.accept(","):
                self.expect("=")
                break
        kind_at = self.at
        kind = self.word("an operator")
        cls = self.operators.get(kind) or self.fail(f"no operator is called {kind}", kind_at)
        given = self.operands(cls, scope)
        given |= self.attributes(cls, scope)
        try:
            op = cls(**given)
        except GcompError as error:
            self.fail(error.message, kind_at)
        if len(op.results) != len(names):
            self.fail(f"{kind} has {len(op.results)} results, {len(names)} are named", start)
        if self.accept(":"):
            for index, value in enumerate(op.results):
                if index:
                    self.expect(",")
                type_at, type = self.at, self.type()
                if type.with_layout(None) != value.type.with_layout(None):
                    self.fail(f"{kind} gives {value.type}, not {type}", type_at)
                value.type = type
        if self.text.startswith("from", self.at):
            self.at += len("from")
            self.skip()
            op.origin = (self.string("a node's name"),)
            while self.accept(","):
                op.origin += (self.string("a node's name"),)
        graph.add(op)
        for (name, name_at), value in zip(names, op.results, strict=True):
            value.name = _kept(name)
            self.define(scope, name, value, name_at)

    def operands(self, cls: type[Op], scope: Scope) -> dict[str, Any]:
        given: dict[str, Any] = {}
        fields = [field for field in cls.fields() if field.kind in ("operand", "optional", "variadic")]
        if not self.accept("("):
            self.expect("(") if fields else None
            return given
        for field in fields:
            if field.kind == "variadic":
                bracketed = field is not fields[-1] and self.accept("[")
                if bracketed or field is fields[-1]:
                    given[field.name] = self.variadic(scope, "]" if bracketed else ")")
                else:
                    given[field.name] = ()
            elif not self.text.startswith(")", self.at):
                given[field.name] = None if self.accept("_") else self.use(scope)
                self.separate(")")
        self.expect(")")
        return given

    def variadic(self, scope: Scope, end: str) -> tuple[Value | None, ...]:
        values: list[Value | None] = []
        while not self.text.startswith(end, self.at):
            values.append(None if self.accept("_") else self.use(scope))
            self.separate(end)
        if end == "]":
            self.expect(end)
            self.separate(")")
        return tuple(values)

    def attributes(self, cls: type[Op], scope: Scope) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if not self.accept("{"):
            return given
        kinds = {field.name: field.kind for field in cls.fields()}
        while not self.accept("}"):
            start, name = self.at, self.word("an attribute")
            if kinds.get(name) not in ("attribute", "region"):
                self.fail(f"{cls.__name__} has no attribute {name}", start)
            if name in given:
                self.fail(f"{name} is given twice", start)
            self.expect("=")
            given[name] = self.graph(scope) if kinds[name] == "region" else self.value()
            self.separate("}")
        return given

    def separate(self, end: str) -> None:
        """A comma, unless the list is at its end."""
        if not self.accept(",") and not self.text.startswith(end, self.at):
            self.fail(f"',' or {end!r} is expected here")

    # names

    def name(self) -> str:
        """A value's name as printed, without the `%`."""
        if not self.text.startswith("%", self.at):
            self.fail("a value is expected here, such as %x")
        self.at += 1
        if self.text.startswith('"', self.at):
            start = self.at
            return quoted(self.decoded(self.match(_STRING, "a name")[0], start))
        match = self.try_match(BARE) or self.try_match(_DIGITS)
        return match[0] if match else self.fail("after % comes a name, a number or a name in quotes")

    def use(self, scope: Scope) -> Value:
        start = self.at
        return self.look_up(scope, self.name(), start)

    def look_up(self, scope: Scope, name: str, start: int) -> Value:
        return scope.get(_key(name)) or self.fail(f"%{name} is not defined before this use", start)

    def define(self, scope: Scope, name: str, value: Value, start: int) -> None:
        if _key(name) in scope:
            self.fail(f"%{name} is defined twice", start)
        scope[_key(name)] = value

    # types and attribute values

    def type(self) -> TensorType:
        start = self.at
        text = self.match(_TYPE, "a type, such as f32[n,3],")[0]
        try:
            return _type(text)
        except (ValueError, MemoryError) as error:
            self.fail(str(error) or "a type too deeply nested", start)

    def value(self) -> Any:
        start = self.at
        if self.accept("("):
            items: list[Any] = []
            while not self.accept(")"):
                items.append(self.value())
                self.separate(")")
            return tuple(items)
        if self.text.startswith('"', start):
            return self.string("a string")
        if match := self.try_match(_NUMBER):
            return self.number(match[0], start)
        if match := self.try_match(_ANGLED):
            return self.angled(match[1], match[2], start)
        if _TYPE.match(self.text, start):
            return self.array(self.type(), start)
        word = self.word("a value")
        if word in ("true", "false", "none"):
            return {"true": True, "false": False, "none": None}[word]
        return DTYPES.get(word) or self.fail(f"{word} is no value", start)

    def number(self, text: str, start: int) -> int | float:
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError as error:
            self.fail(str(error), start)

    def angled(self, kind: str, inside: str, start: int) -> Any:
        try:
            readers = {"layout": parse_layout, "dim": dims.parse, "float": float_from_bits}
            return readers[kind](inside)
        except ValueError as error:
            self.fail(str(error), start)

    def array(self, type: TensorType, start: int) -> TensorType | Array:
        """The array of which the type is the beginning, or the type itself."""
        if match := self.try_match(_DIGEST):
            return self.large(match[1], type, start)
        if not self.accept("dense<"):
            return type
        if not type.is_static:
            self.fail("an array has no symbolic sizes", start)
        items: list[Any] = []
        while not self.accept(">"):
            at = self.at
            if type.dtype is STRING:
                items.append(self.string("a string"))
            else:
                try:
                    items.append(element(self.match(_ELEMENT, f"{type.dtype}")[0], type.dtype))
                except (ValueError, OverflowError) as error:
                    self.fail(str(error), at)
            self.separate(">")
        if len(items) != type.size:
            self.fail(f"{type} has {type.size} elements, not {len(items)}", start)
        array = np.empty(len(items), type.dtype.numpy)
        array[:] = items
        array = array.reshape(type.static_shape)
        array.setflags(write=False)
        return array

    def large(self, digest: str, type: TensorType, start: int) -> Array:
        array = self.constants.get(digest)
        array = known_array(digest) if array is None else array
        if array is None:
            self.fail(
                "this constant is neither beside the text nor alive in this process; "
                "save_text writes it and load_text finds it",
                start,
            )
        if array_type(array) != type:
            self.fail(f"the constant with this digest is {array_type(array)}, not {type}", start)
        return array


def _key(printed: str) -> str | int:
    """The name behind a printed one; nameless values have a number."""
    if printed[0].isdigit():
        return int(printed)
    return json.loads(printed) if printed.startswith('"') else printed


def _kept(printed: str) -> str:
    """The name that a value keeps."""
    key = _key(printed)
    return key if isinstance(key, str) else ""
