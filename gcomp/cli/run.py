"""`gcomp run`: runs a model, or a library that was compiled from one, once for each sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Data, Recipe, as_json, output, takes_data, takes_recipe
from .report import progress, report

if TYPE_CHECKING:
    from ..data import Sample
    from ..types import Array

LISTED = 64
"""Elements of an output up to which JSON holds all of them."""


@click.command()
@takes_recipe
@takes_data
@output("A .npz for the outputs; of several samples they are joined along the leading axis.")
@as_json
def command(recipe: Recipe, data: Data, output: Path | None, as_json: bool) -> None:
    """Run MODEL on given or synthetic inputs.

    MODEL is .onnx or .gc, or a .so that `gcomp compile` wrote.
    """
    from ..timing import counted

    samples, run = _runner(recipe, data)
    with progress(f"running {recipe.source.path}"):
        results = [run(sample) for sample in counted("sample", samples)]
    if output is not None:
        _save(output, results)
    facts = [{name: _facts(array) for name, array in result.items()} for result in results]
    lines = [line for result in results for name, array in result.items() for line in _lines(name, array)]
    if data.path is None:
        lines.insert(0, f"inputs are synthetic, of seed {data.seed}")
    report(as_json, {"seed": data.seed if data.path is None else None, "outputs": facts}, lines)


def _runner(recipe: Recipe, data: Data) -> tuple[list[Sample], Callable[[Sample], dict[str, Array]]]:
    """The samples, and what runs one of them."""
    if recipe.source.path.suffix == ".so":
        from ..diagnostics import InputError
        from ..native import load

        if not recipe.is_default:
            raise InputError(
                f"{recipe.source.path}: compiled already; of the options it takes --data and --seed"
            )
        library = load(recipe.source.path)
        return data.samples(list(library.inputs)), library.run
    from ..target import ports

    graph = recipe.source.graph()
    samples = data.samples(list(ports(graph)[0]), graph)
    return samples, recipe.compile(graph).run


def _save(path: Path, results: list[dict[str, Array]]) -> None:
    import numpy as np

    from ..diagnostics import InputError
    from ..files import replacing

    if path.suffix != ".npz":
        raise InputError(f"{path}: outputs are written as .npz")
    if len(results) == 1:
        arrays = results[0]
    else:
        arrays = {name: np.concatenate([np.atleast_1d(one[name]) for one in results]) for name in results[0]}
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _facts(array: Array) -> dict[str, Any]:
    from ..types import dtype_of

    facts: dict[str, Any] = {"dtype": dtype_of(array).name, "shape": list(array.shape)}
    if array.size and array.dtype != object:
        facts |= {"min": array.min().item(), "max": array.max().item(), "mean": float(array.mean())}
    return facts | ({"values": array.ravel().tolist()} if array.size <= LISTED else {})


def _lines(name: str, array: Array) -> list[str]:
    import numpy as np

    facts = _facts(array)
    with np.printoptions(precision=5, threshold=LISTED, edgeitems=3, linewidth=100):
        return [f"{name}: {facts['dtype']}[{','.join(map(str, array.shape))}]", str(array)]
