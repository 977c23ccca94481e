"""Whole artefacts in the cache, so that a model compiled before needs neither lifting nor packing again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from gcomp.diagnostics import BuildError
from gcomp.ir import Graph
from gcomp.port import Port, Symbol
from gcomp.target import Module
from gcomp.types import DTYPES
from gcomp.watch import Decision

from . import cache
from .build import Program
from .cpu import Cpu
from .jit import llvm_version
from .module import Artefact, LLVMModule

LARGEST = cache.LIMIT // 4
"""Bytes beyond which an artefact is not kept: it would drive everything else out."""


def keep(name: str, cpu: Cpu, module: Module) -> None:
    """Puts the artefact of a module for `cpu` into the cache; hosted modules have none."""
    if not isinstance(module, LLVMModule) or module.artefact.weights.nbytes > LARGEST:
        return
    artefact = module.artefact
    sizes = [len(data) for data in artefact.objects]
    told = [asdict(decision) for decision in module.decisions]
    head = json.dumps({"manifest": artefact.manifest, "objects": sizes, "decisions": told}).encode()
    code = b"".join([len(head).to_bytes(8, "little"), head, *artefact.objects])
    cache.put(_key("weights", name, cpu), artefact.weights.data)
    cache.put(_key("module", name, cpu), code)


def restore(name: str, cpu: Cpu, again: Callable[[], Module]) -> LLVMModule | None:
    """The module for `cpu` kept under the name; None if there is none.

    `again` compiles it anew where somebody asks for its graph or its program.
    """

    def source() -> tuple[Graph, Program]:
        module = again()
        if not isinstance(module, LLVMModule):
            raise BuildError(f"{name}: compiled again it runs on the host in part; clear the cache")
        return module.graph, module.program

    data, weights = cache.get(_key("module", name, cpu)), cache.read(_key("weights", name, cpu))
    if data is None or weights is None:
        return None
    view = memoryview(data)
    at = 8 + int.from_bytes(view[:8], "little")
    head = json.loads(bytes(view[8:at]))
    objects: list[bytes] = []
    for size in head["objects"]:
        objects.append(bytes(view[at : at + size]))
        at += size
    manifest = head["manifest"]
    target = manifest["target"]
    made_for = Cpu(target["triple"], target["cpu"], tuple(target["features"]))
    inputs, outputs = (
        [Port(p["name"], DTYPES[p["dtype"]], tuple(p["shape"])) for p in manifest[side]]
        for side in ("inputs", "outputs")
    )
    artefact = Artefact(
        manifest["name"],
        made_for,
        inputs,
        outputs,
        manifest["arena_bytes"],
        objects,
        weights,
        [Symbol(**symbol) for symbol in manifest["symbols"]],
    )
    restored = LLVMModule(artefact, source, {})
    restored.decisions = [Decision(**told) for told in head["decisions"]]
    return restored


def _key(part: str, name: str, cpu: Cpu) -> str:
    return cache.key(part, llvm_version(), name, cpu)
