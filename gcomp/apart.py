"""Runs something in a copy of this process, which may die of it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar, cast

from .diagnostics import CrashError

Given = TypeVar("Given")


def apart(run: Callable[[], Given]) -> Given:
    """What `run` returns in a copy of this process; where there are no copies, in this one.

    Raises what `run` raises, and `CrashError` if the process ends before it has said anything. What it
    returns or raises has to be picklable.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        return run()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(sender, run), daemon=True)
    process.start()
    sender.close()
    try:
        returned, told = receiver.recv()
    except EOFError:
        process.join()
        raise CrashError(f"the process died of {_cause(process.exitcode or 0)}") from None
    process.join()
    if not returned:
        raise cast(Exception, told)
    return cast(Given, told)


def _tell(sender: Connection, run: Callable[[], object]) -> None:
    """Sends whether `run` returned, and what it returned or raised."""
    try:
        told: tuple[bool, object] = True, run()
    except Exception as error:
        told = False, error
    sender.send(told)
    sender.close()


def _cause(code: int) -> str:
    """What a process ended with, in words."""
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
