"""The command line: a verb per job, each in its own file, loaded when it is asked for."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any, cast

import click

from .. import __version__
from ..diagnostics import GcompError

VERBS = (
    *("compile", "run", "bench", "profile", "inspect"),
    *("optimize", "quantize", "prune", "verify", "bisect", "explain", "targets"),
)
"""In the order in which `--help` lists them."""


class Verbs(click.Group):
    """Finds a verb in the file of its name; an error that gcomp explains ends the program with status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return cast("click.Command", import_module(f".{cmd_name}", __name__).command)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GcompError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gcomp", message="%(prog)s %(version)s")
def commands() -> None:
    """Compiles ONNX models into native code that you can trust."""


def main() -> None:
    """Runs this process's command line. Exit status: 0 for success, 1 for an error, 2 for wrong usage."""
    warnings.showwarning = _show_warning
    commands(prog_name="gcomp")


def _show_warning(message: Warning | str, category: type[Warning], *_place: Any) -> None:
    click.echo(f"Warning: {message}", err=True)
