"""A compiled program as a file that Python runs: plan, kernels, weights, an example, and what starts them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gcomp import diagnostics
from gcomp.data import synthetic
from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.native import ErrorCode, Port
from gcomp.tolerance import allowance

from . import driver, launch
from .build import Program

TOLERANCE = "approximate"
"""How near a whole network's outputs have to be to the reference's."""

MAIN = f"""import sys
from pathlib import Path
from {launch.__name__} import main
sys.exit(main(sys.argv[1:], Path(__file__).parent))
"""


def pack(graph: Graph, program: Program, inputs: Sequence[Port], outputs: Sequence[Port]) -> bytes:
    """The bytes of a `.pyz`. The modules in it are those that run programs here, as they are.

    Raises `InputError` for an input that is too large to be made up, and what the reference raises.
    """
    example = synthetic(inputs, graph=graph)
    arrays = [*example.values(), *evaluate(graph, example)]
    manifest = program.manifest(inputs, outputs)
    for described, port in zip(manifest["outputs"], outputs, strict=True):
        described["bound"] = allowance(TOLERANCE, port.dtype)
    manifest["errors"] = {int(code): code.message for code in ErrorCode}
    files = {
        "__main__.py": MAIN.encode(),
        launch.PLAN: json.dumps(manifest, indent=1).encode(),
        launch.PTX: program.ptx.encode(),
        launch.EXAMPLE: b"".join(array.tobytes() for array in arrays),
        launch.WEIGHTS: program.weights.tobytes(),
    }
    return _zipped({**_modules(), **files})


def _modules() -> dict[str, bytes]:
    """The source of each module that a program needs, by its path, and empty packages around them."""
    found: dict[str, bytes] = {}
    for module in (diagnostics, driver, launch):
        path = Path(*module.__name__.split("."))
        found |= {str(folder / "__init__.py"): b"" for folder in path.parents if folder != Path()}
        found[str(path.with_suffix(".py"))] = Path(str(module.__file__)).read_bytes()
    return found


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """An archive, the same for the same files."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return memory.getvalue()
