"""PTX for kernels, from the cache or from a process that may die in the attempt."""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from gcomp.diagnostics import BuildError, UnsupportedError

from .. import cache as store
from ..jit import llvm_version
from .gpus import ARCHITECTURES
from .thread import THREADS, Thread

_KNOWN = re.compile(
    r"llvm\.(abs|ceil|fabs|floor|fma|masked\.load|maximum|minimum|roundeven|smax|smin|sqrt|trunc|umax|umin)\.\w+"
    r"(\.p0)?|llvm\.nvvm\.(read\.ptx\.sreg\.\w+\.x|barrier\.cta\.sync\.aligned\.all)"
)
"""What LLVM has code for on every GPU in `ARCHITECTURES`. For others (`llvm.exp`) it may end its process."""

_HEADER = re.compile(r"^\.(version|target|address_size) .*\n", re.MULTILINE)


def module_text(function: Thread, arch: str) -> str:
    """One kernel as a module of its own. Raises `UnsupportedError` for what GPUs have no code for."""
    for name in re.findall(r"@([\w.]+)\(", "\n".join(sorted(function.declarations))):
        if not _KNOWN.fullmatch(name):
            raise UnsupportedError(f"cuda: GPUs have no code for {name}")
    attributes = (
        f'attributes #0 = {{ nounwind "no-builtins" "target-cpu"="{arch}" '
        f'"target-features"="+{ARCHITECTURES[arch]}" "nvvm.maxntid"="{THREADS}" "nvvm.minctasm"="2" }}\n'
    )
    return "\n".join([*function.globals, str(function), *sorted(function.declarations), attributes])


def compiled(texts: Sequence[str], arch: str) -> list[str]:
    """The PTX of each module. Raises `BuildError` for one that LLVM has no code for."""
    keys = [store.key("ptx", llvm_version(), text, arch) for text in texts]
    known = {key: data.decode() for key in keys if (data := store.get(key)) is not None}
    for key, text in zip(keys, texts, strict=True):
        if key not in known:
            known[key] = _assembled(text, arch)
            store.put(key, known[key].encode())
    return [known[key] for key in keys]


def joined(parts: Sequence[str]) -> str:
    """Several modules' PTX as one."""
    header = "".join(match[0] for match in _HEADER.finditer(parts[0])) if parts else ""
    return header + "".join(_HEADER.sub("", part) for part in parts)


def _assembled(text: str, arch: str) -> str:
    with _LOCK:
        ptx = _worker(os.getpid()).assembled(text, arch)
    if calls := re.findall(r"^\.extern \.func .*?(\w+) *$", ptx, re.MULTILINE):
        raise BuildError(f"cuda: LLVM would call {', '.join(calls)}, which GPUs lack", line=_head(text))
    return ptx


_LOCK = threading.Lock()


@cache
def _worker(process: int) -> _Worker:
    """The one of this process; a fork has none of its own yet."""
    worker = _Worker()
    atexit.register(worker.end)
    return worker


class _Worker:
    """A process that compiles one text after the other, and is started anew where LLVM ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def assembled(self, text: str, arch: str) -> str:
        request = json.dumps({"cpu": arch, "features": f"+{ARCHITECTURES[arch]}", "text": text})
        process = self._process or self._start()
        self._process = None
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise BuildError("cuda: the process that compiles kernels has no pipes")
        answer = ""
        with suppress(BrokenPipeError):
            process.stdin.write(request + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if not answer:
            _, told = process.communicate()
            lines = [line for line in told.splitlines() if "LLVM ERROR" in line] or told.strip().splitlines()
            why = lines[-1] if lines else f"exit status {process.returncode}"
            raise BuildError(f"cuda: LLVM makes no code for {arch} of this: {why}", line=_head(text))
        self._process = process
        told = json.loads(answer)
        if "error" in told:
            raise BuildError(
                f"cuda: LLVM does not take the text made for it: {told['error']}", line=_head(text)
            )
        return str(told["ptx"])

    def end(self) -> None:
        if process := self._process:
            process.terminate()
            process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        program, pipe = Path(__file__).with_name("nvptx.py"), subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-P", str(program)]
        try:
            return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
        except OSError as error:
            raise BuildError(f"cuda: {sys.executable} cannot be started as a compiler: {error}") from error


def _head(text: str) -> str:
    return text.partition("\n")[0]
