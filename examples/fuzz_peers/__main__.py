"""`python -m examples.fuzz_peers hunt ENGINE`: what an engine gets wrong; see docs/peers.md."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from . import findings
from .cases import SOURCES
from .hunt import hunt
from .page import PAGE, note, page
from .peer import Peer
from .records import Record


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Runs other ONNX engines on random models."""


@main.command("hunt")
@click.argument("engine")
@click.option("--python", default=sys.executable, type=Path, help="The Python that has the engine.")
@click.option("--source", type=click.Choice(list(SOURCES)), default="operator", show_default=True)
@click.option("--cases", default=1000, show_default=True)
@click.option("--seconds", default=1e9, help="Stop after so many.")
def hunt_command(engine: str, python: Path, source: str, cases: int, seconds: float) -> None:
    """Goes on with the search where the last run ended, and tells what is new."""
    with Peer(engine, python) as peer:
        record = Record.read(engine, peer.version)
        hunt(peer, record, source, cases, seconds, click.echo)
        click.echo(f"{engine} {peer.version}: {dict(record.cases)} {dict(record.kinds)}")


@main.command("list")
@click.argument("engine")
def list_command(engine: str) -> None:
    """Lists what was found: the number that `keep` takes, how often it was seen, the smallest model."""
    for cluster in sorted(Record.last(engine).clusters.values(), key=lambda one: (one.kind, one.key)):
        click.echo(f"{cluster.number} ({cluster.count} times, {cluster.seed}): {cluster.key}")
        click.echo(f"  {cluster.told[:300]}\n{cluster.text}")


@main.command("keep")
@click.argument("engine")
@click.argument("number", type=int)
@click.argument("name")
def keep_command(engine: str, number: int, name: str) -> None:
    """Keeps a finding; its title and the reason are then to be written into findings.toml."""
    findings.keep(Record.last(engine), number, name)


@main.command("page")
@click.argument("engines", nargs=-1)
def page_command(engines: tuple[str, ...]) -> None:
    """Writes docs/peers.md, after noting what was run of ENGINES."""
    for engine in engines:
        note(Record.last(engine))
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
