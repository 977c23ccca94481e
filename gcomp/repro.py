"""A fault as files: a model of few operators, its inputs, and a script that shows what is wrong."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cut import workers
from .diagnostics import UnsupportedError
from .files import replacing
from .ir import Graph
from .lift import lift
from .reduce import Case
from .registry import loose_file
from .save import save_onnx
from .text import save_text
from .trial import Failure, Way

SCRIPT = '''\
"""{title}

Ends with status 1 while that is so.
"""

import sys
from pathlib import Path

{imports}

HERE = Path(__file__).parent
MODEL = {model}
inputs = gcomp.compile(MODEL, target="reference").inputs
[sample] = load_samples(HERE / "repro.npz", inputs)
expected = {truth}
actual = {suspect}
names = {names!r}
told = [
    compare(mine, its, {rung!r}, name, "what is right")
    for mine, its, name in zip(actual, expected, names, strict=True)
]
print(*told, sep="\\n")
sys.exit(not all(one.agrees for one in told))
'''


@dataclass(frozen=True)
class Repro:
    """The smallest case found, what it is that fails on it, and the two ways of running it that differ."""

    case: Case
    failure: Failure
    truth: Way
    suspect: Way
    rung: str
    title: str

    @property
    def nodes(self) -> int:
        """How many operators there are, constants left out."""
        return len(workers(self.case.graph))

    def save(self, folder: str | Path) -> list[Path]:
        """Writes `repro.onnx`, `repro.npz`, `repro.py` and pass files that this needs; gives their paths.

        A graph that ONNX cannot hold is written as text, `repro.gc`. Raises `BuildError`.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model, arrays, script = folder / "repro.onnx", folder / "repro.npz", folder / "repro.py"
        try:
            save_onnx(self.case.graph, model)
        except UnsupportedError:
            model = folder / "repro.gc"
            save_text(self.case.graph, model)
        with replacing(arrays) as file:
            np.savez(file, allow_pickle=False, **self.case.sample)
        with replacing(script) as file:
            file.write(self.script(model.suffix).encode())
        files = [file for one in getattr(self.suspect, "passes", ()) if (file := loose_file(one.name))]
        copies = [Path(shutil.copy(file, folder)) for file in files if file.parent != folder]
        return [model, arrays, script, *copies]

    def script(self, suffix: str = ".onnx") -> str:
        """A program that shows the fault on the files beside it."""
        path = f'HERE / "repro{suffix}"'
        ways = self.truth.text + self.suspect.text
        imports = [
            "import gcomp",
            "from gcomp.data import load_samples",
            *["from gcomp.peers import onnx_runtime"] * ("onnx_runtime(" in ways),
            *["from gcomp.pipeline import parse_pipeline"] * ("parse_pipeline(" in ways),
            *["from gcomp.registry import load_pass_file"] * ("load_pass_file(" in ways),
            *["from gcomp.text import load_text"] * (suffix != ".onnx"),
            "from gcomp.verify import compare",
        ]
        return SCRIPT.format(
            title=self.title.replace("\\", "/").replace('"""', "'''"),
            imports="\n".join(imports),
            model=path if suffix == ".onnx" else f"load_text({path})",
            truth=self.truth.text,
            suspect=self.suspect.text,
            names=self.case.graph.output_names,
            rung=self.rung,
        )


def stored(graph: Graph) -> Graph:
    """`graph` as it comes back from its file."""
    try:
        return lift(save_onnx(graph))
    except UnsupportedError:
        return graph
