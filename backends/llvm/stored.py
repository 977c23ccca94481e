"""Whole artefacts in the cache, so that a model compiled before needs neither lifting nor packing again."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from gcomp.ir import Graph
from gcomp.native import Port, aligned
from gcomp.types import DTYPES

from . import cache
from .build import Program
from .cpu import Cpu
from .module import Artefact, LLVMModule

LARGEST = cache.LIMIT // 4
"""Bytes beyond which an artefact is not kept: it would drive everything else out."""


def keep(name: str, module: LLVMModule) -> None:
    """Puts the module's artefact into the cache."""
    artefact = module.artefact
    if artefact.weights.nbytes > LARGEST:
        return
    manifest = artefact.manifest
    head = json.dumps({"manifest": manifest, "objects": [len(data) for data in artefact.objects]}).encode()
    size = len(head).to_bytes(8, "little")
    cache.put(name, b"".join([size, head, *artefact.objects, artefact.weights.data]))


def restore(name: str, source: Callable[[], tuple[Graph, Program]]) -> LLVMModule | None:
    """The module kept under the name; None if there is none. `source` makes graph and program anew if they are asked for."""
    data = cache.get(name)
    if data is None:
        return None
    view = memoryview(data)
    at = 8 + int.from_bytes(view[:8], "little")
    head = json.loads(bytes(view[8:at]))
    objects: list[bytes] = []
    for size in head["objects"]:
        objects.append(bytes(view[at : at + size]))
        at += size
    manifest = head["manifest"]
    weights = aligned(manifest["weights_bytes"])
    weights[:] = np.frombuffer(view[at:], np.uint8)
    target = manifest["target"]
    cpu = Cpu(target["triple"], target["cpu"], tuple(target["features"]))
    inputs, outputs = (
        [Port(p["name"], DTYPES[p["dtype"]], tuple(p["shape"])) for p in manifest[side]]
        for side in ("inputs", "outputs")
    )
    artefact = Artefact(manifest["name"], cpu, inputs, outputs, manifest["arena_bytes"], objects, weights)
    return LLVMModule(artefact, source, {})
