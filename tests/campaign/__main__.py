"""`python -m tests.campaign`: long searches for faults that go on where they stopped; ledgers say how far."""

from __future__ import annotations

import click

from . import graphs
from .rules import command as rules


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Search for faults, for a while, from where the last search stopped."""


main.add_command(graphs.command)
main.add_command(rules.command)

if __name__ == "__main__":
    main()
