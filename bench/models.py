"""Whole models: gcomp in turn with ONNX Runtime and OpenVINO in one process, on one core and one thread."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import onnx

import gcomp
from examples import mobilenet_v2, resnet50
from gcomp.cli.bench import HEADER, rows
from gcomp.cli.options import named_size
from gcomp.cli.report import duration, progress, table
from gcomp.data import synthetic
from gcomp.peers import Race, race

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits.onnx"


@click.command("models")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--dim",
    "dims",
    type=named_size,
    metavar="NAME=N",
    multiple=True,
    help="A symbolic size, as in batch=1; repeatable.",
)
@click.option("--target", default="llvm", show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Time to spend on each model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def main(
    files: tuple[Path, ...] = (),
    dims: tuple[tuple[str, int], ...] = (),
    target: str = "llvm",
    seconds: float = 10.0,
    as_json: bool = False,
) -> None:
    """Time FILES, or else the digits network, MobileNetV2 and ResNet-50. Every unbound size is 1."""
    os.environ["GCOMP_CACHE"] = "off"  # compile times are those of the first time
    pin()
    facts: dict[str, Any] = {}
    with nullcontext(list(files)) if files else standard_models() as paths:
        for path in paths:
            with progress(f"timing {path.stem}"):
                compile_seconds, done = measure(path, dict(dims), target, seconds)
            facts[path.stem] = {
                "compile_seconds": compile_seconds,
                "engines": {name: asdict(timing) for name, timing in done.timings.items()},
                "ratios": {name: done.ratio(name) for name in done.timings},
                "differences": done.differences,
                "notes": done.notes,
            }
            if not as_json:
                click.echo(f"{path.stem}: compiled in {duration(compile_seconds)}")
                for line in (*table(HEADER, rows(done)), *done.notes, ""):
                    click.echo(line)
    if as_json:
        click.echo(json.dumps(facts, indent=2))


def measure(path: Path, dims: dict[str, int], target: str, seconds: float) -> tuple[float, Race]:
    """Seconds of compilation, first call included, and the race on synthetic inputs."""
    graph = gcomp.lift(path)
    unknown = [symbol for symbol in graph.symbols() if symbol not in dims]
    start = time.perf_counter()
    known = {symbol: size for symbol, size in dims.items() if symbol in graph.symbols()}
    module = gcomp.compile(path, target=target, dims={**dict.fromkeys(unknown, 1), **known})
    sample = synthetic(module.inputs, graph=graph)
    module.run(sample)
    return time.perf_counter() - start, race(module, path, sample, seconds=seconds)


def pin() -> None:
    """Keeps this process, and so every engine in it, on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@contextmanager
def standard_models() -> Generator[list[Path], None, None]:
    """The networks of the examples, built with random weights where they are not trained."""
    with tempfile.TemporaryDirectory() as folder:
        built = {"mobilenet_v2": mobilenet_v2.build(), "resnet50": resnet50.build()}
        for name, model in built.items():
            onnx.save(model, Path(folder, f"{name}.onnx"))
        yield [DIGITS, *(Path(folder, f"{name}.onnx") for name in built)]
