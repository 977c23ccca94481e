"""Pipelines as text both ways, what is checked between passes, and how passes are found."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from gcomp import registry
from gcomp.diagnostics import IllFormed, InputError, ParseError, RewriteError
from gcomp.ir import Graph
from gcomp.op import Constant, Operator
from gcomp.ops import Abs, Add, Conv, Exp, Identity, Neg, Relu, Sigmoid
from gcomp.pipeline import (
    Pass,
    option_types,
    parse_names,
    parse_pipeline,
    print_pipeline,
    run_pipeline,
)
from gcomp.types import TensorType, parse_type


@dataclass(frozen=True)
class Tuned:
    """Does nothing, with options of every type."""

    name: str = field(default="tuned", init=False)
    block: int = 16
    scale: float = 1.0
    eager: bool = False
    mode: str = "fast"
    said: bool = False

    def run(self, graph: Graph) -> bool:
        return self.said


@dataclass(frozen=True)
class Does:
    """A pass made of a function."""

    name: str
    action: Callable[[Graph], object]
    says: bool = True

    def run(self, graph: Graph) -> bool:
        self.action(graph)
        return self.says


KNOWN: dict[str, Pass] = {"tuned": Tuned(), "other": Does("other", print)}


def neg_graph() -> Graph:
    graph = Graph()
    x = graph.add_input(parse_type("f32[4]"), "x")
    neg = graph.add(Neg(x))
    neg.origin = ("negate",)
    graph.outputs, graph.output_names = [neg.result], ["y"]
    return graph


@pytest.mark.parametrize(
    "text",
    [
        "tuned",
        "other,tuned",
        "tuned{block=8}",
        "tuned{block=8,scale=0.5,eager=on,mode=slow},other,tuned{block=2}",
        "",
    ],
)
def test_text_and_passes_are_the_same(text: str) -> None:
    passes = parse_pipeline(text, KNOWN)
    assert print_pipeline(passes) == text
    assert parse_pipeline(print_pipeline(passes), KNOWN) == passes


def test_options_have_types() -> None:
    (one,) = parse_pipeline(" tuned{ block = 8 , scale=2, eager=true, mode=x } ", KNOWN)
    assert one == Tuned(block=8, scale=2.0, eager=True, mode="x")
    assert list(option_types(one)) == ["block", "scale", "eager", "mode", "said"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "tuned{blok=8}",
            InputError,
            "tuned has no option 'blok'; its options: block: an integer, scale: a n",
        ),
        ("other{x=1}", InputError, "other has no option 'x'; its options: says: on or off"),
        ("tuned{block=many}", InputError, "tuned: block takes an integer, got 'many'"),
        ("tuned{eager=maybe}", InputError, "tuned: eager takes on or off, got 'maybe'"),
        ("tuned{block=8", ParseError, "braces do not match"),
        ("tuned}", ParseError, "braces do not match"),
        ("tuned{a={b}}", ParseError, "braces do not match"),
        ("tuned,,other", ParseError, "'' is not a name with options, as in layout{block=16}"),
        ("tuned{block=8}x", ParseError, "'tuned{block=8}x' is not a name with options"),
        ("tuned{block}", ParseError, "'block' is not a new option, as in block=16"),
        ("tuned{block=1,block=2}", ParseError, "'block=2' is not a new option"),
    ],
)
def test_bad_text_is_refused(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_pipeline(text, KNOWN)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", registry.names("passes"))
def test_a_name_is_no_option(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} has no option 'name'"):
        parse_pipeline(f"{name}{{name=other}}")


def test_targets_share_the_form() -> None:
    assert parse_names("llvm{triple=aarch64-linux-gnu,cpu=cortex-a76}") == [
        ("llvm", {"triple": "aarch64-linux-gnu", "cpu": "cortex-a76"})
    ]


def test_each_pass_is_recorded_and_observed() -> None:
    seen: list[tuple[str, str]] = []
    graph = neg_graph()

    def add(graph: Graph) -> None:
        graph.add(Abs(graph.inputs[0]))

    runs = run_pipeline(
        graph, [Tuned(block=8), Does("grow", add)], lambda run, graph: seen.append((run.text, str(graph)))
    )
    assert [(run.text, run.changed, run.ops) for run in runs] == [
        ("tuned{block=8}", False, 1),
        ("grow", True, 2),
    ]
    assert all(run.seconds >= 0 for run in runs)
    assert [text for text, _ in seen] == ["tuned{block=8}", "grow"]
    assert "Abs" not in seen[0][1] and "Abs" in seen[1][1]


def test_a_broken_graph_is_blamed_on_its_pass() -> None:
    def retype(graph: Graph) -> None:
        graph.ops[0].result.type = parse_type("f32[5]")

    with pytest.raises(RewriteError) as caught:
        run_pipeline(neg_graph(), [Tuned(), Tuned(block=1), Does("retype", retype)])
    assert caught.value.message == (
        "retype: Neg has results f32[5], but its operands give f32[4] (after tuned, tuned{block=1})"
    )
    assert caught.value.origin == ("negate",)
    assert "Neg(" in caught.value.line
    assert isinstance(caught.value.__cause__, IllFormed)


def test_the_interface_stays() -> None:
    def widen(graph: Graph) -> None:
        graph.add_input(parse_type("f32[4]"), "z")

    def rename(graph: Graph) -> None:
        graph.output_names = ["z"]

    def drop(graph: Graph) -> None:
        graph.outputs, graph.output_names = [], []

    for action, complaint in (
        (widen, "bad: inputs must stay x: f32[4], got x: f32[4], z: f32[4]"),
        (rename, "bad: outputs must stay y: f32[4], got z: f32[4]"),
        (drop, "bad: outputs must stay y: f32[4], got none"),
    ):
        with pytest.raises(RewriteError) as caught:
            run_pipeline(neg_graph(), [Does("bad", action)])
        assert caught.value.message == complaint


def test_unchanged_means_unchanged() -> None:
    def grow(graph: Graph) -> None:
        graph.add(Abs(graph.inputs[0]))

    def rename(graph: Graph) -> None:
        graph.ops[0].results[0].name = "renamed"

    def retell(graph: Graph) -> None:
        graph.ops[0].origin = ()

    def note(graph: Graph) -> None:
        graph.metadata["doc"] = "changed"

    for action in (grow, rename, retell, note):
        with pytest.raises(RewriteError, match="silent: says unchanged, but the graph changed"):
            run_pipeline(neg_graph(), [Does("silent", action, says=False)])


def test_unchanged_means_unchanged_text_where_asked() -> None:
    graph = neg_graph()
    ones = graph.add(Constant(np.ones(4, np.float32)))

    def overwrite(graph: Graph) -> None:
        ones.value[0] = 2

    run_pipeline(graph, [Does("silent", overwrite, says=False)])
    ones.value[0] = 1
    with pytest.raises(RewriteError, match="silent: says unchanged, but the text changed"):
        run_pipeline(graph, [Does("silent", overwrite, says=False)], check="text")


def test_a_second_run_is_idle_where_asked() -> None:
    def grow(graph: Graph) -> None:
        graph.add(Abs(graph.inputs[0]))

    run_pipeline(neg_graph(), [Does("grow", grow)])
    with pytest.raises(RewriteError, match="grow: changes the graph again when it runs a second time"):
        run_pipeline(neg_graph(), [Does("grow", grow)], check="text")


def test_whatever_a_pass_raises_is_told_with_its_place() -> None:
    def fail(graph: Graph) -> None:
        raise KeyError("axis")

    with pytest.raises(RewriteError) as caught:
        run_pipeline(neg_graph(), [Tuned(), Does("bad", fail)])
    assert caught.value.message.startswith("bad: raises KeyError: 'axis' (")
    assert "test_pipeline.py, line " in caught.value.message
    assert caught.value.message.endswith("(after tuned)")
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_folder_is_the_register() -> None:
    files = {path.stem for path in (Path(__file__).parents[2] / "passes").glob("*.py")} - {"__init__"}
    assert set(registry.names("passes")) >= {file.replace("_", "-") for file in files}
    for name in registry.names("passes"):
        found = registry.find("passes", name)
        assert isinstance(found, Pass)
        assert found.name == name
        assert print_pipeline(parse_pipeline(name)) == name


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(InputError) as caught:
        parse_pipeline("fold-constant")
    message = caught.value.message
    assert message.startswith(
        "no pass is called 'fold-constant': did you mean fold-constants? there are clean, "
    )
    with pytest.raises(InputError, match=r"no target is called 'zzz'; there are "):
        registry.find("backends", "zzz")


def test_a_pass_may_come_from_another_distribution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(
        "class P:\n    name = 'tidy'\n    def run(self, graph): return False\nPASS = P()\n"
    )
    (tmp_path / "stumbling.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("tidy", "stranger", "gcomp.passes"),
        EntryPoint("bad", "stumbling", "gcomp.passes"),
        EntryPoint("gone", "nowhere_at_all", "gcomp.passes"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "gcomp.passes" else [])
    assert registry.find("passes", "tidy") is sys.modules["stranger"].PASS
    assert {"tidy", "gone", "clean"} <= set(registry.names("passes"))
    with pytest.raises(InputError, match="entry point gone = nowhere_at_all: No module named"):
        registry.find("passes", "gone")
    with pytest.raises(InputError, match="entry point bad = stumbling: RuntimeError: no licence"):
        registry.find("passes", "bad")


def test_a_loose_file_holds_a_pass(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("class P:\n    name = 'mine'\n    def run(self, graph): return False\nPASS = P()\n")
    loose = registry.load_pass_file(file)
    assert parse_pipeline("mine", {"mine": loose}) == [loose]
    for text, complaint in (
        ("x = 1\n", "a pass file defines PASS, an object with a name and run"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def f(:\n", "SyntaxError: "),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=complaint):
            registry.load_pass_file(file)
    with pytest.raises(InputError, match="a pass is a Python file, and there is none"):
        registry.load_pass_file(tmp_path / "absent.py")


def test_a_loose_file_may_hold_a_dataclass(tmp_path: Path) -> None:
    file = tmp_path / "whole.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass, field\n"
        "@dataclass(frozen=True)\n"
        "class Whole:\n"
        "    name: str = field(default='whole', init=False)\n"
        "    times: int = 1\n"
        "    def run(self, graph): return False\n"
        "PASS = Whole()\n"
    )
    (found,) = parse_pipeline("whole{times=3}", {"whole": registry.load_pass_file(file)})
    assert getattr(found, "times", None) == 3


class Holder(Operator):
    """Gives what its region gives."""

    body: Graph

    def infer(self) -> TensorType:
        return self.body.outputs[0].type


def test_passes_reach_into_regions_and_keep_what_these_capture() -> None:
    graph, body = Graph(), Graph("body")
    x = graph.add_input(parse_type("f32[1,16,4,4]"), "x")
    weights = Constant(np.ones((16, 16, 1, 1), np.float32)).result
    conv = graph.add(Conv(x, weights))
    shared = graph.add(Abs(conv.result))
    relu = body.add(Relu(Identity(shared.result).result))
    twice = body.add(Add(relu.result, Relu(shared.result).result))
    inner = body.add(Conv(twice.result, weights))
    body.add(Neg(graph.add(Exp(x)).result))  # dead, and all that Exp is for
    body.outputs, body.output_names = [body.add(Sigmoid(inner.result)).result], ["b"]
    holder = graph.add(Holder(body))
    graph.outputs, graph.output_names = [holder.result], ["y"]

    default = "fold-constants,simplify,fold-batchnorm,clean,layout{block=16},clean,fuse"
    run_pipeline(graph, parse_pipeline(default))

    assert [op.kind for op in graph.ops] == ["Constant", "Relayout", "Group", "Relayout", "Holder"]
    assert set(body.captured()) == {weights, graph.ops[3].results[0]}
    assert [op.kind for op in body.ops] == ["Group", "Relayout", "Group", "Relayout"]
    assert str(graph.outputs[0].type) == str(body.outputs[0].type) == "f32[1,16,4,4]"
