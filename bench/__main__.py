"""`python -m bench`: the standard models, beside the other engines; `python -m bench models FILE...` for others."""

from __future__ import annotations

import click

from bench.models import models


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Times gcomp."""
    if context.invoked_subcommand is None:
        context.invoke(models)


main.add_command(models)

if __name__ == "__main__":
    main(prog_name="python -m bench")
