"""The smallest graph on which passes go wrong, and a script that shows it."""

from __future__ import annotations

from collections.abc import Sequence

from ..literal import INLINE, array_type
from ..pipeline import Pass, pipeline_source, print_pipeline
from ..rewrite import RewritePass
from ..text import large_constants
from ..types import Array, dtype_of
from .case import Case
from .meaning import Disagreement

_SCRIPT = '''\
"""Shows that {rule} of {name} is wrong."""

import numpy as np
from numpy import inf, nan

from gcomp.evaluate import evaluate
from gcomp.pipeline import parse_pipeline, run_pipeline
from gcomp.registry import load_pass_file
from gcomp.testing import same_meaning
from gcomp.text import parse
from gcomp.types import DTYPES

passes = {passes}
{case}

print(graph)
after = graph.clone()
run_pipeline(after, passes, check="text")
print(after)
for name, one, other in zip(
    graph.output_names, evaluate(graph, inputs), evaluate(after, inputs), strict=True
):
    print(name, "before:", one, "after:", other)
same_meaning(graph, after, inputs{tolerance})
'''

_CASE = '''\
{constants}
graph = parse("""\
{graph}
"""{given})
inputs = {{{inputs}}}'''


class Counterexample(Disagreement):
    """A case on which passes go wrong, run one after the other; `rule` is the one that does.

    It is the name of a rule where its pass was tried with that rule alone, else that of the pass after which
    it is wrong. `tolerance` is that of the trial: only where it is `exact` were infinite, huge and tiny
    inputs tried.
    """

    def __init__(
        self, passes: Sequence[Pass], rule: str, case: Case, complaint: str, tolerance: str | None
    ) -> None:
        self.passes, self.rule = tuple(passes), rule
        self.case = case if tolerance == "exact" else case.tame()
        self.complaint, self.tolerance = complaint, tolerance
        super().__init__(f"{self.name}: {rule} is wrong: {complaint}\n{described(self.case)}")

    @property
    def name(self) -> str:
        """The passes as text."""
        return print_pipeline(self.passes)

    def script(self) -> str:
        """A Python program that shows the fault; passes are those of their names, or of their loose files."""
        passes = pipeline_source(self.passes, lambda file: repr(str(file)))
        first, *others = self.passes
        if isinstance(first, RewritePass) and not others and [one.name for one in first.rules] == [self.rule]:
            passes = f"[one.only({self.rule!r}) for one in {passes}]"
        return _SCRIPT.format(
            rule=self.rule,
            name=self.name,
            passes=passes,
            case=case_source(self.case),
            tolerance=f", {self.tolerance!r}" if self.tolerance else "",
        )


def described(case: Case) -> str:
    """The graph and its inputs, as text."""
    return "\n".join([str(case.graph), *(f"{name} = {shown(array)}" for name, array in case.inputs.items())])


def case_source(case: Case) -> str:
    """Python that makes `graph` and `inputs`."""
    large = large_constants(case.graph)
    items = "".join(f"\n    {name!r}: {listed(array)}," for name, array in large.items())
    return _CASE.format(
        constants=f"constants = {{{items}\n}}" if large else "",
        graph=str(case.graph).strip(),
        given=", constants" if large else "",
        inputs=", ".join(f"{name!r}: {listed(array)}" for name, array in case.inputs.items()),
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
