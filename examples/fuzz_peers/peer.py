"""An engine in a child process, started anew where it crashes or hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Literal

from gcomp.diagnostics import UnsupportedError
from gcomp.types import Array

ENGINES = Path(__file__).with_name("engines.py")

SECONDS = 60
"""After so many an engine is taken to hang."""


@dataclass(frozen=True)
class Outcome:
    """What came of a model: outputs of two runs, or why there are none."""

    kind: Literal["ran", "refused", "crashed", "hung"]
    outputs: list[Array] = field(default_factory=list[Array])
    again: list[Array] = field(default_factory=list[Array])
    message: str = ""


class Peer:
    """The engine of a name in `engines.ENGINES`, by the Python of an environment that has it.

    Raises `UnsupportedError` where it cannot be imported.
    """

    def __init__(self, name: str, python: str | Path = sys.executable) -> None:
        self.name, self.python = name, python
        self.process: subprocess.Popen[bytes] | None = None
        self.version = ""
        self.start()

    def start(self) -> None:
        self.stop()
        self.pipe, child = Pipe()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the process
        command = [str(self.python), "-P", str(ENGINES), self.name, str(child.fileno())]
        self.process = subprocess.Popen(
            command, pass_fds=[child.fileno()], stdout=subprocess.DEVNULL, stderr=self.log
        )
        child.close()
        try:
            self.version = self.pipe.recv()
        except EOFError:
            raise UnsupportedError(
                f"{self.name} cannot be run by {self.python}: {self.last_words()}"
            ) from None

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.pipe.close()
            self.log.close()
            self.process = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def run(self, model: bytes, inputs: Mapping[str, Array], optimised: bool) -> Outcome:
        """What the engine makes of a serialised model and inputs by name."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        try:
            self.pipe.send((model, dict(inputs), optimised))
            if not self.pipe.poll(SECONDS):
                self.start()
                return Outcome("hung", message=f"no answer after {SECONDS} s")
            kind, *rest = self.pipe.recv()
        except (EOFError, ConnectionError):
            message = self.last_words()
            self.start()
            return Outcome("crashed", message=message)
        return Outcome("refused", message=rest[0]) if kind == "refused" else Outcome("ran", *rest)

    def last_words(self) -> str:
        """How the process ended, and the end of what it wrote."""
        if self.process is None:
            return ""
        status = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        ended = signal.Signals(-status).name if status < 0 else f"status {status}"
        return ": ".join([ended, *lines[-1:]])
