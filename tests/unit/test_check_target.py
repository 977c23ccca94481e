"""check_target: a right target holds; a wrong one is found and its graph made small; crashes are caught."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import gcomp
from gcomp import registry
from gcomp.diagnostics import UnsupportedError
from gcomp.evaluate import evaluate
from gcomp.ir import Graph
from gcomp.ops import Softmax
from gcomp.target import Module, Target, ports
from gcomp.testing import Miscompiled, check_target
from gcomp.types import Array
from tests.commands import fail, invoke, succeed

TRAITS = ("empty", "broadcasting", "symbolic", "regions")


class FaultyModule(Module):
    """The reference, but for what `fault` says."""

    def __init__(self, graph: Graph, fault: str) -> None:
        self.graph, self.fault = graph, fault
        self.inputs, self.outputs = ports(graph)
        self.host_steps: list[str] = []
        self.timings: dict[str, float] = {}

    def __call__(self, *arrays: Any) -> list[Array]:
        found = evaluate(self.graph, arrays)
        if self.fault == "loses NaN":
            return [np.where(a != a, np.zeros_like(a), a) if a.dtype.kind == "f" else a for a in found]
        if self.fault == "dies" and any(isinstance(op, Softmax) for op in self.graph.walk()):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        arrays = self(*(inputs[name] for name in self.graph.input_names))
        return dict(zip(self.graph.output_names, arrays, strict=True))


@dataclass(frozen=True)
class Faulty(Target):
    name: ClassVar[str] = "faulty"
    is_native: ClassVar[bool] = False
    fault: str = ""

    @property
    def pipeline(self) -> str:
        return "clean"

    def build(self, graph: Graph, *, name: str, threads: int, host_steps: bool) -> Module:
        if self.fault == "refuses" and graph.symbols():
            raise UnsupportedError("symbols")
        if self.fault == "raises" and len(graph.ops) > 1:
            raise KeyError("a bug")
        return FaultyModule(graph, self.fault)


def test_native_code_holds() -> None:
    report = check_target("llvm", examples=20)
    assert report.held == 20 and not report.refused
    assert str(report).startswith("llvm: 20 whole graphs of ")


def test_graphs_that_a_target_refuses_are_counted() -> None:
    report = check_target(Faulty("refuses"), examples=30)
    assert report.refused and report.held == 30 - len(report.refused)
    assert not report.traits["symbolic"]


def test_a_wrong_answer_is_found_and_made_small(tmp_path: Path) -> None:
    with pytest.raises(Miscompiled, match=r"loses NaN\}: y\d+: .* where nan is wanted") as found:
        check_target(Faulty("loses NaN"))
    assert len(found.value.case.operators) <= 3
    model, arrays, script = found.value.save(tmp_path)
    graph = gcomp.lift(model) if model.suffix == ".onnx" else gcomp.parse(model.read_text())
    assert any(np.isnan(array).any() for array in evaluate(graph, dict(np.load(arrays))))
    assert "faulty{fault=loses NaN}" in script.read_text()


def test_what_a_target_raises_is_a_fault() -> None:
    with pytest.raises(Miscompiled, match="KeyError: 'a bug'") as found:
        check_target(Faulty("raises"), examples=5)
    assert found.value.failure.kind == "KeyError"


def test_code_that_ends_the_process_is_found() -> None:
    with pytest.raises(Miscompiled, match="SIGKILL") as found:
        check_target(Faulty("dies"), examples=400)
    assert [op.kind for op in found.value.case.operators] == ["Softmax"]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target `faulty` by its name, as of an installed distribution."""
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda kind, name: Faulty if name == "faulty" else find(kind, name))


def test_the_command_line_tries_a_target() -> None:
    facts = json.loads(succeed("verify", "--target", "llvm", "--graphs", "10", "--seed", "7", "--json"))
    assert facts["target"] == "llvm" and facts["holds"] and facts["held"] == 10 and not facts["refused"]
    assert sum(facts["operators"].values()) >= 30 and facts["traits"].keys() <= {*TRAITS}
    assert succeed("verify", "--target", "reference", "--graphs", "5").startswith("reference: 5 whole graphs")


@pytest.mark.usefixtures("faulty")
def test_the_command_line_shows_what_a_target_gets_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show = tmp_path / "show.py"
    words = ("verify", "--target", "faulty{fault=loses NaN}", "--script", show)
    result = invoke(*words, "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 1 and facts["holds"] is False and facts["kind"] == "differs"
    assert facts["complaint"] in invoke(*words).stdout and "graph" in facts["graph"]
    with pytest.raises(SystemExit, match=re.escape(facts["complaint"])):
        runpy.run_path(str(show))
    assert "by the reference: " in capsys.readouterr().out


def test_options_that_do_not_apply_to_a_target_are_refused() -> None:
    for option, value in (("--tolerance", "close"), ("--precision", "bf16"), ("--dim", "n=3")):
        told = fail("verify", "--target", "llvm", option, value, status=2)
        assert f"{option} does not go with a target on random graphs" in told
    told = fail("verify", "--target", "llvm", "--passes", "clean", status=2)
    assert "--target does not go with passes on random graphs" in told


def test_a_target_that_cannot_be_used_is_named() -> None:
    class Absent(Faulty):
        def available(self) -> str | None:
            return "it is not there"

    with pytest.raises(UnsupportedError, match="faulty cannot be used here: it is not there"):
        check_target(Absent())
