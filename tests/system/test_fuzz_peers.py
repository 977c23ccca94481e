"""The ledger of what other engines get wrong: its models are valid, gcomp is right, the page is current."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import gcomp
from examples.fuzz_peers import left_open
from examples.fuzz_peers.findings import LARGEST, Finding, read
from examples.fuzz_peers.judge import expected, judged
from examples.fuzz_peers.page import PAGE, page
from examples.fuzz_peers.peer import Peer
from gcomp.diagnostics import UnsupportedError
from gcomp.testing.case import Case

FINDINGS = read()
KEPT = pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.name)


@pytest.fixture(scope="module")
def peers():
    """Running engines by name; None for those that this Python does not have."""
    running: dict[str, Peer | None] = {}

    def peer(name: str) -> Peer | None:
        if name not in running:
            try:
                running[name] = Peer(name)
            except UnsupportedError:
                running[name] = None
        return running[name]

    yield peer
    for one in running.values():
        if one is not None:
            one.stop()


@KEPT
def test_a_kept_model_is_small_and_valid(finding: Finding) -> None:
    assert finding.path.stat().st_size <= LARGEST
    onnx.checker.check_model(onnx.load(finding.path), full_check=True)
    assert finding.title and finding.why


@KEPT
def test_gcomp_gives_the_stated_answer(finding: Finding) -> None:
    wanted = expected(finding.case)
    names = finding.case.graph.output_names
    assert not wanted.complaint([finding.outputs[name] for name in names], names)
    assert all(stable.all() for stable in wanted.stable)
    for target in ("llvm", "llvm{templates=off}"):
        found = gcomp.compile(finding.path, target).run(finding.inputs)
        assert not wanted.complaint([found[name] for name in names], names), target


@KEPT
def test_the_engine_still_disagrees(finding: Finding, peers) -> None:
    peer = peers(finding.engine)
    if peer is None or peer.version != finding.version:
        pytest.skip(f"{finding.engine} {finding.version} is not installed here")
    verdict = judged(peer, finding.case)
    assert verdict is not None and (verdict.kind, verdict.detail) == (finding.kind, finding.detail)


def test_the_page_is_that_of_the_records() -> None:
    assert PAGE.read_text("utf-8") == page(), "stale: run `python -m examples.fuzz_peers page`"


def test_no_engine_is_blamed_for_right_answers(peers) -> None:
    case = case_of('graph "g" (%x: f32[2]) -> (%0 "y") {\n  %0 = Sqrt(%x) : f32[2]\n}\n', [4.0, -1.0])
    assert judged(peers("onnxruntime"), case) is None
    assert judged(peers("onnx"), case) is None


@pytest.mark.parametrize(
    ("operator", "inputs", "reason"),
    [
        ("Relu(%x) : f32[2]", [1.0, np.nan], "nan_compared"),
        ("Relu(%x) : f32[2]", [1.0, np.inf], None),
        ("Cast(%x) {to=6} : i32[2]", [1.0, 3e9], "float_beyond_integer"),
        ("Cast(%x) {to=6} : i32[2]", [1.0, 2e9], None),
        ("Exp(%x) : f32[2]", [1.0, 1e30], "order_of_sums"),
        ("Neg(%x) : f32[2]", [1.0, 1e30], None),
        ("Clip(%x) : f32[2]", [1.0, np.inf], "infinity_in_clip"),
    ],
)
def test_what_the_standard_leaves_open_is_known(
    operator: str, inputs: list[float], reason: str | None
) -> None:
    case = case_of(f'graph "g" (%x: f32[2]) -> (%0 "y") {{\n  %0 = {operator}\n}}\n', inputs)
    found = [left_open.OPEN[text].__name__ for text in left_open.reasons(case)]
    assert found == ([reason] if reason else [])


def case_of(text: str, elements: list[float]) -> Case:
    return Case(gcomp.parse(text), {"x": np.array(elements, np.float32)})
