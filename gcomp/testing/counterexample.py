"""The smallest graph on which a pass goes wrong, and a script that shows it."""

from __future__ import annotations

from pathlib import Path

from ..literal import INLINE, array_type
from ..pipeline import Pass, print_pipeline
from ..rewrite import RewritePass
from ..text import large_constants
from ..types import Array, dtype_of
from .case import Case
from .meaning import Disagreement

_SCRIPT = '''\
"""Shows that {rule} of {name} is wrong."""

import numpy as np
from numpy import inf, nan

import gcomp
from gcomp.evaluate import evaluate
from gcomp.testing import same_meaning
from gcomp.text import parse
from gcomp.types import DTYPES

{loaded}
{constants}
before = parse("""\\
{graph}
"""{given})
inputs = {{{inputs}}}

print(before)
after = gcomp.optimize(before, [PASS])
print(after)
for name, one, other in zip(
    before.output_names, evaluate(before, inputs), evaluate(after, inputs), strict=True
):
    print(name, "before:", one, "after:", other)
same_meaning(before, after, inputs{tolerance})
'''


class Counterexample(Disagreement):
    """A case on which a pass goes wrong; `rule` is the one that does, or the pass itself.

    `tolerance` is that of the trial: only where it is `exact` were infinite, huge and tiny inputs tried.
    """

    def __init__(self, one: Pass, rule: str, case: Case, complaint: str, tolerance: str | None) -> None:
        self.one, self.rule = one, rule
        self.case = case if tolerance == "exact" else case.tame()
        self.complaint, self.tolerance = complaint, tolerance
        super().__init__(f"{one.name}: {rule} is wrong: {complaint}\n{self.description()}")

    def description(self) -> str:
        """The graph and its inputs, as text."""
        lines = [str(self.case.graph)]
        lines += [f"{name} = {shown(array)}" for name, array in self.case.inputs.items()]
        return "\n".join(lines)

    def script(self, file: Path | None = None) -> str:
        """A Python program that shows the fault; the pass is that of `file`, else the one of its name."""
        if file is not None:
            loaded = f"from gcomp.registry import load_pass_file\n\nPASS = load_pass_file({str(file)!r})"
        else:
            text = print_pipeline([self.one])
            loaded = f"from gcomp.pipeline import parse_pipeline\n\n(PASS,) = parse_pipeline({text!r})"
        if isinstance(self.one, RewritePass):
            loaded += f"\nPASS = PASS.only({self.rule!r})"
        large = large_constants(self.case.graph)
        items = "".join(f"\n    {name!r}: {listed(array)}," for name, array in large.items())
        return _SCRIPT.format(
            rule=self.rule,
            name=self.one.name,
            loaded=loaded,
            constants=f"constants = {{{items}\n}}" if large else "",
            graph=str(self.case.graph).strip(),
            given=", constants" if large else "",
            inputs=", ".join(f"{name!r}: {listed(array)}" for name, array in self.case.inputs.items()),
            tolerance=f", {self.tolerance!r}" if self.tolerance else "",
        )


def shown(array: Array) -> str:
    """An array for people: large ones by their type alone."""
    return (
        listed(array)
        if array.size <= INLINE
        else f"{array_type(array)}, {array.ravel()[:4].tolist()} and so on"
    )


def listed(array: Array) -> str:
    """An array as Python, bit by bit but for the payload of NaN."""
    elements = array.tolist() if array.dtype.kind in "biuO" else array.astype(float).tolist()
    text = f"np.array({elements}, DTYPES[{dtype_of(array).name!r}].numpy)"
    return f"{text}.reshape({array.shape})" if array.size == 0 else text
