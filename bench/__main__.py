"""`python -m bench NAME ...`: each module of this folder with a click command `main` is a subcommand."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import click

import bench


class Measurements(click.Group):
    """Finds subcommands by the modules of the folder, and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_"))
        return [name for name in names if self.get_command(ctx, name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in {m.name for m in pkgutil.iter_modules(bench.__path__)}:
            return None
        found = getattr(import_module(f"bench.{cmd_name}"), "main", None)
        return found if isinstance(found, click.Command) else None


@click.command(cls=Measurements)
def main() -> None:
    """Measurements of gcomp."""


if __name__ == "__main__":
    main(prog_name="python -m bench")
