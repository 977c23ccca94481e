"""Each operator's samples compiled once for a range of leading sizes, against the reference at several."""

from __future__ import annotations

import re

import pytest

from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.module import LLVMModule, compile_graph
from gcomp.compiler import optimize
from gcomp.diagnostics import GcompError, OpenSizeError, RunError
from gcomp.evaluate import evaluate
from gcomp.specialise import bind, check_ranges
from gcomp.testing.samples import native_samples, sample
from gcomp.tolerance import mismatch
from tests.symbolic import LARGEST, SymbolicSample, symbolic_sample

SIZES = (1, 2, 5, LARGEST)
CHUNKS = 8
REASONS = re.compile(
    r"whether the size batch is 1|only the outermost axis in memory|the greatest value of the size|"
    r"do not have the same elements|^batch="
)
"""What may be undecided or unsupported for a symbolic size, as errors say it."""

NETWORKS = {
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "MaxPool",
    "Relu",
}
"""What networks for images are made of: a batch of any size has to be possible."""


@pytest.mark.parametrize("kind", sorted({*NETWORKS, "LayerNormalization", "MatMul", "Softmax"} - {"Flatten"}))
def test_strict_code_has_the_bits_of_a_fixed_size(kind: str) -> None:
    wrong, compared = list[str](), 0
    for place in (place for name, place in native_samples() if name == kind):
        found = symbolic_sample(sample(kind, place))
        if found is None:
            continue
        graph = optimize(found.graph, "precision{mode=strict}")
        try:
            check_ranges(graph)
            module = compile_graph(graph, host(), "symbolic", True)
        except OpenSizeError:
            continue  # the test below holds which those may be
        arrays = found.arrays(5)
        expected = compile_graph(bind(graph, {"batch": 5}), host(), "fixed", True)(*arrays)
        pairs = zip(module(*arrays), expected, strict=True)
        wrong += [f"{kind}-{place}" for mine, its in pairs if mine.tobytes() != its.tobytes()]
        compared += 1
    assert compared and not wrong


@pytest.mark.parametrize("templates", [True, False], ids=["templates", "nests"])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_agrees_with_the_reference(chunk: int, templates: bool) -> None:
    wrong: list[str] = []
    for kind, place in native_samples()[chunk::CHUNKS]:
        found = symbolic_sample(sample(kind, place))
        if found is None:
            continue
        try:
            check_ranges(found.graph)
            module = compile_graph(found.graph, host(), "symbolic", templates)
        except OpenSizeError as error:
            if not REASONS.search(error.message) or kind in NETWORKS:
                wrong.append(f"{kind}-{place}: {error}")
            continue
        wrong += [
            f"{kind}-{place}, batch {size}: {why}" for size in SIZES if (why := _wrong(found, module, size))
        ]
    assert not wrong, "\n".join(wrong)


def _wrong(found: SymbolicSample, module: LLVMModule, size: int) -> str:
    """What differs from the reference; where that refuses the values, the code has to as well."""
    arrays = found.arrays(size)
    graph = bind(found.graph, {"batch": size})
    try:
        expected = evaluate(graph, arrays)
    except RunError:
        expected = None
    try:
        results = module(*arrays)
    except GcompError as error:
        return "" if expected is None else str(error)
    if expected is None:
        return "an index out of range is not refused"
    complaints = (mismatch(*pair, found.op.tolerance) for pair in zip(results, expected, strict=True))
    return next((why for why in complaints if why), "")
