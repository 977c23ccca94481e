"""Passes, pipelines of them as text both ways, and running one with checks and timing between its passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_type_hints, runtime_checkable

from . import registry, watch
from .diagnostics import GcompError, InputError, ParseError, RewriteError, raised
from .ir import Graph, Value
from .timing import tell
from .wellformed import check as check_graph


@runtime_checkable
class Pass(Protocol):
    """Something that changes a graph in place and says whether it did.

    One with options is a frozen dataclass: its options are the fields that its constructor takes, each with
    a default.
    """

    @property
    def name(self) -> str: ...

    def run(self, graph: Graph) -> bool: ...


@dataclass(frozen=True)
class PassRun:
    """One pass that ran: its text, whether it changed the graph, its seconds, the operators it left."""

    text: str
    changed: bool
    seconds: float
    ops: int


Observer = Callable[[PassRun, Graph], None]
Check = Literal["structure", "text"]


def run_pipeline(
    graph: Graph, passes: Iterable[Pass], observer: Observer | None = None, check: Check = "structure"
) -> list[PassRun]:
    """Runs the passes on `graph` in place, `observer` after each.

    After each pass the graph is checked: it must be well-formed and its interface unchanged, and a pass that
    says "unchanged" must have left every operator as it was. With `check="text"`, the text too, and a second
    run must find nothing left to do; tests ask for that, as it takes time. Raises `RewriteError`, naming the
    pass and those before it.
    """
    runs: list[PassRun] = []
    ordered = list(passes)
    for number, one in enumerate(ordered):
        tell(f"pass {one.name}", number / len(ordered))
        if not watch.enters(print_pipeline([one]), graph):
            continue
        runs.append(_run(graph, one, runs, check))
        watch.leaves(runs[-1].text, graph, runs[-1].changed)
        if observer is not None:
            observer(runs[-1], graph)
    return runs


def _run(graph: Graph, one: Pass, before: Sequence[PassRun], check: Check) -> PassRun:
    interface, state, text = _interface(graph), _state(graph), str(graph) if check == "text" else ""
    start = time.perf_counter()
    try:
        changed = one.run(graph)
        seconds = time.perf_counter() - start
        check_graph(graph)
        _check_interface(interface, _interface(graph))
        if not changed and _state(graph) != state:
            raise RewriteError("says unchanged, but the graph changed")
        if text and not changed and str(graph) != text:
            raise RewriteError("says unchanged, but the text changed")
        if text and changed:
            _check_again(graph, one)
    except GcompError as error:
        raise _blamed(error, one, before) from error
    except Exception as error:  # whatever a stranger's pass raises is a fault of that pass
        raise _blamed(RewriteError(f"raises {raised(error)}"), one, before) from error
    return PassRun(print_pipeline([one]), changed, seconds, len(graph.ops))


def parse_pipeline(text: str, known: Mapping[str, Pass] | None = None) -> list[Pass]:
    """Reads `fold-constants,layout{block=16}`. Names are looked up in `known`, then in the registry.

    Raises `ParseError` for bad syntax, `InputError` for an unknown pass or option or an unfit value.
    """
    passes: list[Pass] = []
    for name, options in parse_names(text):
        one: Pass = (known or {}).get(name) or registry.find("passes", name)
        passes.append(with_options(one, options))
    return passes


def print_pipeline(passes: Iterable[Pass]) -> str:
    """What `parse_pipeline` reads: names, and options that are not as declared."""
    return ",".join(one.name + _print_options(one) for one in passes)


def pipeline_source(passes: Iterable[Pass], path: Callable[[Path], str]) -> str:
    """Python that reads the passes from their text; `path` gives that for where a loose file will be."""
    passes = list(passes)
    files = {one.name: file for one in passes if (file := registry.loose_file(one.name))}
    known = ", ".join(f"{name!r}: load_pass_file({path(file)})" for name, file in files.items())
    return f"parse_pipeline({print_pipeline(passes)!r}{f', {{{known}}}' if files else ''})"


def parse_names(text: str) -> list[tuple[str, dict[str, str]]]:
    """Reads `a,b{x=1,y=2}` as names with options; targets use the same form. Raises `ParseError`."""
    found: list[tuple[str, dict[str, str]]] = []
    for part in _split(text, text):
        name, brace, rest = part.partition("{")
        if not name.strip() or (brace and not rest.endswith("}")):
            raise ParseError(f"{part!r} is not a name with options, as in layout{{block=16}}", line=text)
        options: dict[str, str] = {}
        for option in _split(rest.removesuffix("}"), text):
            key, equals, value = option.partition("=")
            if not key.strip() or not equals or key.strip() in options:
                raise ParseError(f"{option!r} is not a new option, as in block=16", line=text)
            options[key.strip()] = value.strip()
        found.append((name.strip(), options))
    return found


def with_options(owner: Any, options: Mapping[str, str]) -> Any:
    """A copy of the frozen dataclass `owner` with options as given in text. Raises `InputError`."""
    if not options:
        return owner
    declared = option_types(owner)
    values: dict[str, Any] = {}
    for key, text in options.items():
        if key not in declared:
            known = ", ".join(f"{name}: {_type_name(type)}" for name, type in declared.items())
            raise InputError(f"{owner.name} has no option {key!r}; its options: {known or 'none'}")
        try:
            values[key] = _READ[declared[key]](text)
        except ValueError as error:
            raise InputError(
                f"{owner.name}: {key} takes {_type_name(declared[key])}, got {text!r}"
            ) from error
    return replace(owner, **values)


def option_types(owner: Any) -> dict[str, Any]:
    """The options of a pass or target and their types: its dataclass's fields with a default in text."""
    if not is_dataclass(owner):
        return {}
    hints = get_type_hints(type(owner))
    return {
        field.name: hints[field.name]
        for field in fields(owner)
        if field.init and field.default is not MISSING and hints[field.name] in _READ
    }


def _read_bool(text: str) -> bool:
    words = {"on": True, "true": True, "off": False, "false": False}
    if text not in words:
        raise ValueError(text)
    return words[text]


_READ: dict[Any, Callable[[str], Any]] = {bool: _read_bool, int: int, float: float, str: str}
_TYPE_NAMES = {bool: "on or off", int: "an integer", float: "a number", str: "a word"}


def _type_name(type: Any) -> str:
    return _TYPE_NAMES[type]


def _print_options(one: Any) -> str:
    declared = option_types(one)
    options = {
        field.name: getattr(one, field.name)
        for field in (fields(one) if declared else ())
        if field.name in declared and getattr(one, field.name) != field.default
    }
    words = {True: "on", False: "off"}
    inside = ",".join(
        f"{key}={words[value] if isinstance(value, bool) else value}" for key, value in options.items()
    )
    return f"{{{inside}}}" if options else ""


def _split(text: str, whole: str) -> list[str]:
    """The parts between commas outside braces; none for blank text."""
    if not text.strip():
        return []
    parts, depth = [""], 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth not in (0, 1):
            raise ParseError("braces do not match", line=whole)
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    if depth:
        raise ParseError("braces do not match", line=whole)
    return [part.strip() for part in parts]


@dataclass(frozen=True)
class _Interface:
    inputs: tuple[tuple[str, Any], ...]
    outputs: tuple[tuple[str, Any], ...]


def _interface(graph: Graph) -> _Interface:
    return _Interface(
        tuple((value.name, value.type) for value in graph.inputs),
        tuple(zip(graph.output_names, (value.type for value in graph.outputs), strict=True)),
    )


def _check_interface(before: _Interface, after: _Interface) -> None:
    if before.inputs != after.inputs:
        raise RewriteError(f"inputs must stay {_listed(before.inputs)}, got {_listed(after.inputs)}")
    same = len(before.outputs) == len(after.outputs) and all(
        old_name == new_name and old.accepts(new)
        for (old_name, old), (new_name, new) in zip(before.outputs, after.outputs, strict=True)
    )
    if not same:
        raise RewriteError(f"outputs must stay {_listed(before.outputs)}, got {_listed(after.outputs)}")


def _state(graph: Graph) -> list[object]:
    """What a pass may change, cheap to take and to compare; arrays count as the objects that they are."""

    def held(value: object) -> object:
        if isinstance(value, Graph):
            return _state(value)
        return id(value) if hasattr(value, "dtype") else value

    state: list[object] = [graph.outputs.copy(), graph.metadata.copy(), *_names(graph.inputs)]
    for op in graph.ops:
        state += [op, op.origin, *_names(op.results)]
        state += [held(getattr(op, field.name)) for field in op.fields()]
    return state


def _names(values: Iterable[Value]) -> Iterator[object]:
    for value in values:
        yield from (value.name, value.type)


def _check_again(graph: Graph, one: Pass) -> None:
    """Checks that a second run of a pass does nothing, and says so."""
    again = graph.clone()
    state = _state(again)
    with watch.unwatched():
        changed = one.run(again)
    if changed or _state(again) != state:
        raise RewriteError("changes the graph again when it runs a second time")


def _listed(values: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{name}: {type}" for name, type in values) or "none"


def _blamed(error: GcompError, one: Pass, before: Sequence[PassRun]) -> RewriteError:
    """The error with the name of the pass and of those that ran before it."""
    message = error.message if error.message.startswith(one.name) else f"{one.name}: {error.message}"
    if before:
        message += f" (after {', '.join(run.text for run in before)})"
    return RewriteError(message, line=error.line, origin=error.origin)
