"""Each operator's samples as code for ARM processors, run under qemu, against the reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcomp.backends.llvm.cpu import from_options
from gcomp.backends.llvm.module import LLVMModule, compile_graph
from gcomp.diagnostics import OpenSizeError, RunError
from gcomp.evaluate import evaluate
from gcomp.op import Operator
from gcomp.specialise import bind, check_ranges
from gcomp.testing.samples import graph_of, native_samples, sample
from gcomp.tolerance import mismatch
from gcomp.types import Array
from tests.cross import TRIPLE, cross_program, emulate
from tests.symbolic import LARGEST, symbolic_sample

CHUNKS = 4
NARROW = {"f16", "bf16", "i8", "u8"}
"""The types for which the cortex-a76 has arithmetic that the cortex-a72 lacks."""

BATCH = LARGEST - 2

pytestmark = pytest.mark.arm


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_agrees_with_the_reference(chunk: int, tmp_path: Path) -> None:
    _compare(
        {f"{kind}_{n}": sample(kind, n) for kind, n in native_samples()[chunk::CHUNKS]},
        "cortex-a72",
        tmp_path,
    )


def test_narrow_types_agree_with_the_reference(tmp_path: Path) -> None:
    ops = {f"{kind}_{n}": sample(kind, n) for kind, n in native_samples()}
    narrow = {
        called: op
        for called, op in ops.items()
        if NARROW & {v.type.dtype.name for v in (*op.inputs, *op.results)}
    }
    _compare(narrow, "cortex-a76", tmp_path)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_symbolic_batches_agree_with_the_reference(chunk: int, tmp_path: Path) -> None:
    cpu = from_options({"triple": TRIPLE, "cpu": "cortex-a72"})
    models: list[tuple[LLVMModule, list[Array]]] = []
    samples: list[tuple[Operator, list[Array]]] = []
    for kind, n in native_samples()[chunk::CHUNKS]:
        found = symbolic_sample(sample(kind, n))
        if found is None:
            continue
        arrays = found.arrays(BATCH)
        try:
            check_ranges(found.graph)
            wanted = evaluate(bind(found.graph, {"batch": BATCH}), arrays)
            module = compile_graph(found.graph, cpu, f"{kind}_{n}", True)
        except (OpenSizeError, RunError):
            continue  # tests/targets/test_symbolic_samples.py holds which those are
        samples.append((found.op, wanted))
        models.append((module, arrays))
    assert len(models) > 100
    outcomes = emulate(cross_program(tmp_path, models, "o"), models, "cortex-a72")
    wrong: list[str] = []
    for (op, expected), (module, _), outcome in zip(samples, models, outcomes, strict=True):
        assert (outcome.init, outcome.run) == (0, 0), module.artefact.name
        for actual, wanted in zip(outcome.outputs, expected, strict=True):
            if why := mismatch(actual, wanted, op.tolerance):
                wrong.append(f"{module.artefact.name}: {why}")
    assert not wrong, "\n".join(wrong)


def _compare(ops: dict[str, Operator], name: str, folder: Path) -> None:
    """Runs all samples in one program, compiled for the processor that is emulated."""
    cpu = from_options({"triple": TRIPLE, "cpu": name})
    graphs = {called: graph_of(op) for called, op in ops.items()}
    models = [(compile_graph(graph, cpu, called, True), arrays) for called, (graph, arrays) in graphs.items()]
    found = emulate(cross_program(folder, models, "o"), models, name)
    wrong: list[str] = []
    for (called, op), outcome in zip(ops.items(), found, strict=True):
        assert (outcome.init, outcome.run) == (0, 0), called
        for actual, wanted in zip(outcome.outputs, evaluate(*graphs[called]), strict=True):
            if why := mismatch(actual, wanted, op.tolerance):
                wrong.append(f"{called}: {why}")
    assert not wrong, "\n".join(wrong)
