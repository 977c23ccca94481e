"""Shows what gcomp does: a trained network, a network of real size beside ONNX Runtime, and a C program.

python -m examples.demo
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import onnx

import gcomp
from examples import resnet50
from examples.train_digits import scale
from gcomp.cli.report import duration, progress, size, table
from gcomp.data import Sample, synthetic
from gcomp.peers import onnx_runtime, race
from gcomp.target import Module

HERE = Path(__file__).resolve().parent
DIGITS = HERE / "digits.onnx"
SECONDS = 10.0


@dataclass
class Row:
    """One model of the table at the end."""

    model: str
    compile_seconds: float
    gcomp_seconds: float
    runtime_seconds: float
    difference: float
    library: Path

    def cells(self) -> tuple[str, ...]:
        return (
            self.model,
            duration(self.compile_seconds),
            duration(self.gcomp_seconds),
            duration(self.runtime_seconds),
            f"{self.runtime_seconds / self.gcomp_seconds:.2f}",
            f"{self.difference:.1e}",
            size(self.library.stat().st_size) if self.library.exists() else "no linker",
        )


HEADER = ("", "compile", "gcomp", "ONNX Runtime", "speed-up", "difference", "library")


@click.command()
def main() -> None:
    """Compile, check, time and link the example models."""
    os.environ["GCOMP_CACHE"] = "off"  # to show what compilation costs the first time
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one thread each, on the same core
    with tempfile.TemporaryDirectory(prefix="gcomp-demo-") as name:
        folder = Path(name)
        click.echo("Handwritten digits, a trained network")
        show_accuracy()
        digits = measure("digits, batch 1", DIGITS, folder / "digits.so", {"batch": 1}, SECONDS / 5)
        click.echo("\nThe same in a C program")
        show_c_program(folder)
        click.echo("\nOne thread, beside ONNX Runtime in the same process, medians of calls in turn")
        model = folder / "resnet50.onnx"
        with progress("building ResNet-50"):
            onnx.save(resnet50.build(), model)
        rows = [digits, measure("ResNet-50, batch 1", model, folder / "resnet50.so", {}, SECONDS)]
        for line in table(HEADER, [row.cells() for row in rows]):
            click.echo(line)
        click.echo(
            "(difference: the greatest from ONNX Runtime's outputs, over the greatest magnitude there)"
        )


def show_accuracy() -> None:
    """Classifies the held-out images natively and in ONNX Runtime."""
    data = np.load(HERE / "digits.npz")
    images, labels = scale(data["test_images"]), data["test_labels"]
    sample: Sample = {"image": images}
    with progress("compiling digits"):
        module = gcomp.compile(DIGITS, shapes={"image": images.shape})
        ours = module(images)[0]
    for engine, logits in (("gcomp", ours), ("ONNX Runtime", onnx_runtime(DIGITS)(sample)[0])):
        right = int((logits.argmax(axis=1) == labels).sum())
        click.echo(f"{engine:>12}: {right} of {len(labels)} held-out images right, {right / len(labels):.2%}")


def measure(title: str, model: Path, library: Path, dims: dict[str, int], seconds: float) -> Row:
    """Compiles a model to `library` and times it beside ONNX Runtime."""
    with progress(f"compiling {title}"):
        start = time.perf_counter()
        module: Module = gcomp.compile(model, dims=dims)
        sample = synthetic(module.inputs)
        module.run(sample)
        compile_seconds = time.perf_counter() - start
        try:
            module.save(library)
        except gcomp.BuildError as error:
            click.echo(f"  no library: {error}")
    with progress(f"timing {title}"):
        done = race(module, model, sample, seconds=seconds)
    return Row(
        title,
        compile_seconds,
        done.timings["gcomp"].median,
        done.timings["ONNX Runtime"].median,
        done.differences["ONNX Runtime"],
        library,
    )


def show_c_program(folder: Path) -> None:
    """Builds digits.c against the library and header in `folder`, if there is a C compiler, and runs it."""
    compiler = c_compiler()
    if not (folder / "digits.so").exists():
        click.echo("  left out: there is no library to link with")
        return
    if compiler is None:
        click.echo("  left out: there is no C compiler here (gcc, cc, clang, or the Python package ziglang)")
        return
    shutil.copy(HERE / "digits.c", folder)
    command = [*compiler, "-O2", "-std=c11", "-I.", "digits.c", "./digits.so", "-o", "digits_demo"]
    click.echo("  " + " ".join([Path(compiler[0]).name, *command[1:]]))
    for words in (command, ["./digits_demo"]):
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(
                f"{words[0]} ends with status {done.returncode}:\n{done.stdout}{done.stderr}"
            )
    for line in done.stdout.splitlines():
        click.echo(f"  {line}")


def c_compiler() -> list[str] | None:
    """The words that begin a C compiler's command line, or None if there is no compiler."""
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    return [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") else None


if __name__ == "__main__":
    main()
