"""Options that several verbs share, and what they say together: a model, its sizes, how to compile it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..precision import DEFAULT, PRECISIONS

if TYPE_CHECKING:
    from ..data import PortLike, Sample
    from ..ir import Graph
    from ..pipeline import Pass
    from ..target import Module

Command = TypeVar("Command", bound=Callable[..., Any])
Shape = tuple[int, ...]
Size = int | tuple[int, int]

DEFAULT_TARGET = "llvm"
TEXT_SUFFIX = ".gc"


def named_shape(text: str) -> tuple[str, Shape]:
    """Reads `x=1,3,224,224`; nothing after the sign for a scalar."""
    name, equals, sizes = text.rpartition("=")
    numbers = sizes.split(",") if sizes else []
    if not name or not equals or not all(number.strip().isdecimal() for number in numbers):
        raise click.BadParameter(f"{text!r} is not of the form x=1,3,224,224")
    return name, tuple(map(int, numbers))


def named_size(text: str) -> tuple[str, Size]:
    """Reads `batch=1`, and `batch=1..64` as a range."""
    name, _, size = text.rpartition("=")
    low, dots, high = size.partition("..")
    if not name or not low.isdecimal() or (dots and not high.isdecimal()):
        raise click.BadParameter(f"{text!r} is not of the form batch=1 or batch=1..64")
    return name, (int(low), int(high)) if dots else int(low)


@dataclass(frozen=True)
class Source:
    """A model file and the sizes it is to be taken at; where a verb can do without, its path may be empty."""

    path: Path
    shapes: Mapping[str, Shape]
    dims: Mapping[str, Size]

    @property
    def is_given(self) -> bool:
        return self.path != Path()

    @property
    def is_onnx(self) -> bool:
        return self.path.suffix != TEXT_SUFFIX

    def graph(self) -> Graph:
        """The graph as imported."""
        from ..compiler import as_graph
        from ..text import load_text

        return as_graph(self.path if self.is_onnx else load_text(self.path), self.shapes, self.dims)


@dataclass(frozen=True)
class Recipe:
    """How to compile a model. Loose passes run first, unless `passes` names them."""

    source: Source
    target: str
    threads: int
    precision: str
    passes: str | None
    files: tuple[Path, ...]
    check: bool = False

    @property
    def is_default(self) -> bool:
        """Whether it says nothing but which file."""
        return self == Recipe(Source(self.source.path, {}, {}), DEFAULT_TARGET, 1, DEFAULT, None, ())

    def compile(self, graph: Graph | None = None, name: str | None = None) -> Module:
        """The module for the source, or its graph if that is there already; `name` prefixes its symbols."""
        from ..compiler import compile

        source = self.source
        if self.check:
            with self._checking(graph := graph or source.graph()):
                return replace(self, check=False).compile(graph, name)
        known = graph is not None or not source.is_onnx
        return compile(
            (graph or source.graph()) if known else source.path,
            shapes=None if known else source.shapes,
            dims=None if known else source.dims,
            target=self.target,
            threads=self.threads,
            precision=self.precision,
            passes=self.pipeline(),
            name=name or source.path.stem,
        )

    @contextmanager
    def _checking(self, graph: Graph) -> Generator[None]:
        """Check mode within the block, and afterwards a word on what was checked, to standard error."""
        from ..diagnostics import InputError
        from ..testing import checked
        from ..verify import tolerance_for

        if open_sizes := graph.symbols():
            raise InputError(f"--check needs all sizes: bind {', '.join(open_sizes)} by --dim or --shape")
        with checked(tolerance_for(self.precision)) as done:
            yield
        click.echo(f"check: {done.held} replacements hold", err=True)
        for told in done.unchecked:
            click.echo(f"check: not checked: {told}", err=True)

    def pipeline(self) -> str | list[Pass] | None:
        """The passes to run; None for what the target wants without loose ones."""
        from ..pipeline import parse_pipeline
        from ..registry import load_pass_file

        if not self.files:
            return self.passes
        loose: dict[str, Pass] = {one.name: one for one in map(load_pass_file, self.files)}
        named = parse_pipeline(self._text(), loose)
        names = {one.name for one in named}
        return [*(one for name, one in loose.items() if name not in names), *named]

    def _text(self) -> str:
        from ..compiler import parse_target

        if self.passes is not None or not self.target:
            return self.passes or ""
        return parse_target(self.target).pipeline_for(self.precision)


@dataclass(frozen=True)
class Data:
    """Where inputs come from: a `.npz`, a folder of them, or a seed."""

    path: Path | None
    seed: int
    count: int = 1

    def samples(self, ports: list[PortLike], graph: Graph | None = None) -> list[Sample]:
        from ..data import load_samples, synthetic

        if self.path is not None:
            return load_samples(self.path, ports)
        return [synthetic(ports, self.seed + number, graph) for number in range(self.count)]


def takes_source(command: Command, required: bool = True) -> Command:
    """Adds MODEL, --shape and --dim, which arrive as `source`."""

    @click.argument("model", type=click.Path(path_type=Path), required=required)
    @click.option(
        "--shape",
        type=named_shape,
        metavar="NAME=SIZES",
        multiple=True,
        help="Shape of an input, as in x=1,3,224,224; repeatable.",
    )
    @click.option(
        "--dim",
        type=named_size,
        metavar="NAME=N[..M]",
        multiple=True,
        help="A symbolic size, or the range of its values, as in batch=1 or batch=1..64; repeatable.",
    )
    @wraps(command)
    def wrapped(
        model: Path | None, shape: list[tuple[str, Shape]], dim: list[tuple[str, Size]], **others: Any
    ) -> Any:
        return command(source=Source(model or Path(), dict(shape), dict(dim)), **others)

    return wrapped  # pyright: ignore[reportReturnType]


def takes_recipe(command: Command, required: bool = True) -> Command:
    """Adds what `takes_source` adds and the options of compilation; all of it arrives as `recipe`.

    Without `required`, MODEL may be missing.
    """

    @partial(takes_source, required=required)
    @click.option(
        "--target",
        default=DEFAULT_TARGET,
        show_default=True,
        help="What to compile for, with options in braces: llvm{cpu=haswell}. See `gcomp targets`.",
    )
    @click.option(
        "--threads",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Threads of one run; 1 for now.",
    )
    @click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=DEFAULT,
        show_default=True,
        help="strict: the same bits on every processor; bf16: products of weights in bf16.",
    )
    @click.option("--passes", help="Passes to run instead of the target's own: clean,layout{block=8},fuse.")
    @pass_files("A Python file with a pass. It runs first, or where --passes names it; repeatable.")
    @click.option("--check", is_flag=True, help="Run each rewrite through the reference.")
    @wraps(command)
    def wrapped(
        source: Source,
        target: str,
        threads: int,
        precision: str,
        passes: str | None,
        files: tuple[Path, ...],
        check: bool,
        **others: Any,
    ) -> Any:
        recipe = Recipe(source, target, threads, precision, passes, files, check)
        return command(recipe=recipe, **others)

    return wrapped  # pyright: ignore[reportReturnType]


def takes_data(command: Command) -> Command:
    """Adds --data and --seed, which arrive as `data`."""

    @click.option(
        "--data",
        "path",
        type=click.Path(path_type=Path),
        help="A .npz with an array per input, or a folder of such files.",
    )
    @click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of synthetic inputs."
    )
    @wraps(command)
    def wrapped(path: Path | None, seed: int, **others: Any) -> Any:
        return command(data=Data(path, seed), **others)

    return wrapped  # pyright: ignore[reportReturnType]


def pass_files(text: str) -> Callable[[Command], Command]:
    """Adds --pass, which arrives as `files`."""
    return click.option("--pass", "files", type=click.Path(path_type=Path), multiple=True, help=text)


def output(text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """Adds -o, which arrives as `output`."""
    return click.option("-o", "--output", type=click.Path(path_type=Path), required=required, help=text)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
