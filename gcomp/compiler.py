"""From a model to a module: lift, the target's passes, build."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from . import registry
from .arguments import checked
from .diagnostics import InputError, ModelError, OpenSizeError, UnsupportedError, warn
from .dim import Range, split_ranges
from .hosted import HostedModule, operators_without_code
from .ir import Graph
from .pipeline import Pass, parse_names, parse_pipeline, run_pipeline, with_options
from .precision import DEFAULT, PRECISIONS, precision_of
from .specialise import bind, check_ranges, declare
from .specialised import SpecialisedModule
from .target import Module, Target
from .timing import phase
from .version import fingerprint
from .watch import Decisions, watching


@runtime_checkable
class ModelProto(Protocol):
    """An `onnx.ModelProto`, told by what it can do: its module takes long to load."""

    @property
    def graph(self) -> Any: ...

    def SerializeToString(self) -> bytes: ...


Model = str | os.PathLike[str] | bytes | ModelProto | Graph
"""A path, the bytes of an ONNX file, an `onnx.ModelProto`, or a `Graph`."""

EXTERNAL = b"location"
"""Is in every model with weights in other files, as the key of their names: its own bytes do not tell all."""


@checked
def compile(
    model: Model,
    target: str | Target = "llvm",
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    dims: Mapping[str, int | Range] | None = None,
    threads: int = 1,
    precision: str = DEFAULT,
    passes: str | Sequence[Pass] | None = None,
    host_steps: bool = True,
    name: str | None = None,
) -> Module:
    """Compiles a model: a path, bytes, an `onnx.ModelProto` or a `Graph`.

    `shapes` binds inputs by name, `dims` symbolic sizes by name: to a number, or to a range such as (1, 64),
    for which the module is compiled once where its target and operators allow, with a warning where not. What
    stays unbound is specialised for each shape that the module is called with. `precision` is `strict`,
    `fp32` or `bf16` (docs/precision.md). `passes` replaces the target's pipeline; the pass for the precision
    goes first. Operators without native code run on the host, with one warning, unless `host_steps` is False.
    Raises `GcompError`: a `ModelError` for a bad file, an `UnsupportedError` listing all that cannot be
    compiled, an `InputError` for arguments that do not fit.
    """
    if threads != 1:
        raise UnsupportedError(f"compile: threads={threads}: modules run on one thread; more will come")
    if precision not in PRECISIONS:
        raise InputError(f"compile: precision={precision!r} is none of {', '.join(PRECISIONS)}")
    chosen = parse_target(target) if isinstance(target, str) else target
    if reason := chosen.available():
        raise UnsupportedError(f"compile: target {chosen.name} cannot be used here: {reason}")
    _check_precision(chosen, precision)
    pipeline = pipeline_of(chosen, passes, precision)

    def identity() -> str:
        return _identity(model, chosen, shapes, dims, pipeline, name)

    def compiled() -> Module:
        return _compile(model, chosen, shapes, dims, threads, pipeline, host_steps, name)

    def again() -> Module:
        if identity() != key:
            raise ModelError(
                f"{_path(model)} has changed, or cannot be read, since this module was made of it"
            )
        return compiled()

    key = identity()
    if key and (restored := chosen.restore(key, again)):
        return restored
    module = compiled()
    if key and _is_whole(model) and identity() == key:  # else the file has changed meanwhile
        chosen.keep(key, module)
    return module


def _compile(
    model: Model,
    target: Target,
    shapes: Mapping[str, Sequence[int | None]] | None,
    dims: Mapping[str, int | Range] | None,
    threads: int,
    pipeline: str | Sequence[Pass],
    host_steps: bool,
    name: str | None,
) -> Module:
    timings: dict[str, float] = {}
    with phase(timings, "lift"):
        graph = as_graph(model, shapes, dims)
    name = name or model_name(model, graph)
    if target.is_native and (missing := operators_without_code(graph)):
        if not host_steps:
            raise UnsupportedError(_listing(missing))
        warn(_listing(missing))

    def part(graph: Graph, name: str) -> Module:
        _check_precision(target, precision_of(graph))
        return target.build(graph, name=name, threads=threads, host_steps=False)

    def build(bound: Graph, taken: dict[str, float]) -> Module:
        with phase(taken, "passes"), watching(Decisions()) as told:
            optimised = optimize(bound, pipeline)
        hosted = target.is_native and operators_without_code(optimised)
        if hosted and optimised.symbols():
            raise OpenSizeError("operators that run on the host are there")
        module = HostedModule(optimised, part, name) if hosted else part(optimised, name)
        module.timings = {**taken, **module.timings}
        module.decisions = told.found
        return module

    if target.is_native and not set(graph.symbols()) <= set(graph.ranges):
        return SpecialisedModule(graph, lambda sizes: build(bind(graph, sizes), dict(timings)))
    try:
        check_ranges(graph)
        return build(graph, timings)
    except OpenSizeError as error:
        listed = ", ".join(graph.symbols())
        warn(f"one code for all values of {listed} is not possible, each new one is compiled: {error}")
        return SpecialisedModule(graph, lambda sizes: build(bind(graph, sizes), dict(timings)), str(error))


def _identity(
    model: Model,
    target: Target,
    shapes: Mapping[str, Sequence[int | None]] | None,
    dims: Mapping[str, int | Range] | None,
    pipeline: str | Sequence[Pass],
    name: str | None,
) -> str:
    """All that decides what a module will be, as text; empty where that cannot be told from outside."""
    if not target.is_native or not isinstance(pipeline, str):
        return ""
    if not all(registry.is_own("passes", one) for one, _ in parse_names(pipeline)):
        return ""  # what another distribution's pass does, the text of the pipeline does not tell
    path = _path(model)
    if path is not None:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""  # what is wrong is said when it is lifted
    elif isinstance(model, bytes):
        digest = hashlib.sha256(model).hexdigest()
    else:
        return ""
    name = name or (path.stem if path else "")
    bound = [sorted((k, tuple(v)) for k, v in (shapes or {}).items()), sorted((dims or {}).items())]
    return repr((fingerprint(), digest, target, bound, pipeline, name))


def _is_whole(model: Model) -> bool:
    """Whether the bytes of a model tell all of it."""
    path = _path(model)
    return EXTERNAL not in (path.read_bytes() if path else cast(bytes, model))


def _check_precision(target: Target, precision: str) -> None:
    if reason := target.refuses(precision):
        raise UnsupportedError(f"compile: precision={precision}: target {target.name} cannot: {reason}")


def pipeline_of(
    target: Target, passes: str | Sequence[Pass] | None = None, precision: str = DEFAULT
) -> str | Sequence[Pass]:
    """What `compile` runs: the passes given, else the target's own, and the pass for the precision."""
    return target.pipeline_for(precision) if passes is None else with_precision(passes, precision)


def with_precision(passes: str | Sequence[Pass], precision: str) -> str | Sequence[Pass]:
    """The passes after the one that a precision asks for, unless they name it or it asks for none."""
    is_text = isinstance(passes, str)
    names = [name for name, _ in parse_names(passes)] if is_text else [one.name for one in passes]
    if precision == DEFAULT or "precision" in names:
        return passes
    first = f"precision{{mode={precision}}}"
    return f"{first},{passes}" if is_text else [*parse_pipeline(first), *passes]


@checked
def optimize(graph: Graph, passes: str | Sequence[Pass]) -> Graph:
    """A copy of `graph` after the passes, given as text or objects. Raises `GcompError`."""
    copy = graph.clone()
    run_pipeline(copy, parse_pipeline(passes) if isinstance(passes, str) else passes)
    return copy


def parse_target(text: str) -> Target:
    """The target that `llvm{cpu=haswell}` names. Raises `InputError`, `ParseError`."""
    ((name, options),) = parse_names(text)
    return with_options(registry.find("backends", name)(), options)


def as_graph(
    model: Model,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    dims: Mapping[str, int | Range] | None = None,
) -> Graph:
    """The graph of a model, with sizes bound. Raises `ModelError`, `InputError`, `UnsupportedError`."""
    if not isinstance(model, Graph):
        from .lift import lift  # brings in onnx, which modules from the cache do without

        return lift(cast(Any, model), shapes=shapes, dims=dims)
    values, ranges = split_ranges(dims or {})
    for name, shape in (shapes or {}).items():
        value = next((value for value in model.inputs if value.name == name), None)
        if value is None:
            raise InputError(f"shapes: no input {name!r}; inputs: {', '.join(model.input_names)}")
        if len(shape) != value.type.rank:
            raise InputError(f"shapes: input {name} is {value.type}, got {tuple(shape)}")
        for declared, given in zip(value.type.shape, shape, strict=True):
            if isinstance(given, int) and not isinstance(declared, int):
                values[str(declared)] = given
            elif given not in (None, declared):
                raise InputError(f"shapes: input {name} is {value.type}, got {tuple(shape)}")
    model = declare(model, ranges) if ranges else model
    return bind(model, values) if values else model


def model_name(model: Model, graph: Graph) -> str:
    """What symbols of the artefact begin with, unless told: the file's stem, else the graph's name."""
    path = _path(model)
    text = graph.name if path is None else path.stem
    return re.sub(r"\W", "_", text) or "model"


def _path(model: Model) -> Path | None:
    """Where the model lies, if it is given by its path."""
    if not isinstance(model, (str, os.PathLike)):
        return None
    return Path(model)


def _listing(missing: Sequence[str]) -> str:
    return "no native code yet for these operators, which run on the host:\n  " + "\n  ".join(missing)
