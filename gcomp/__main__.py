"""The command `gcomp`, which is also `python -m gcomp`."""

from __future__ import annotations


def main() -> None:
    from .cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
