"""What watchers of passes are told, and what becomes of a graph if they forbid a step."""

from collections.abc import Sequence

import numpy as np
import pytest

from gcomp.evaluate import evaluate
from gcomp.ir import Graph, Op
from gcomp.op import constant
from gcomp.ops import Abs, Add, BatchNormalization, Conv, Identity, Mul, Relu, Sqrt
from gcomp.pipeline import parse_pipeline, run_pipeline
from gcomp.types import parse_type
from gcomp.watch import Record, Step, Watcher, unwatched, watching

PIPELINE = "fold-constants,simplify,fold-batchnorm,clean,layout,fuse"


class Limit(Watcher):
    """Allows the first `limit` steps, and lists all that it is told."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit, self.made, self.told = limit, 0, list[str]()

    def enters(self, text: str, graph: Graph) -> bool:
        self.told.append(f"enter {text}")
        return True

    def leaves(self, text: str, graph: Graph, changed: bool) -> None:
        self.told.append(f"leave {text} {'changed' if changed else 'unchanged'}")

    def allows(self, step: Step) -> bool:
        assert step.root.parent is not None
        return self.made < self.limit

    def applied(self, step: Step, added: Sequence[Op]) -> None:
        self.made += 1
        self.told.append(f"{step.rule or 'by hand'} {step.root.kind}: {[op.kind for op in added]}")


def chain() -> Graph:
    """Identity(Identity(Abs(x)))"""
    graph = Graph()
    x = graph.add_input(parse_type("f32[4]"), "x")
    last = graph.add(Identity(Identity(Abs(x).result).result))
    graph.outputs, graph.output_names = [last.result], ["y"]
    return graph


def network() -> Graph:
    """Two convolutions with normalisation, some arithmetic on constants and a value computed twice."""
    random = np.random.default_rng(3)

    def weights(*shape: int) -> np.ndarray:
        return random.uniform(0.5, 1, shape).astype(np.float32)

    graph = Graph()
    x = graph.add_input(parse_type("f32[1,8,5,5]"), "x")
    for _ in range(2):
        x = Conv(x, constant(weights(8, 8, 3, 3)), pads=(1, 1, 1, 1)).result
        scale, offset, mean, variance = (constant(weights(8)) for _ in range(4))
        x = BatchNormalization(x, scale, offset, mean, variance).result
        x = Identity(Relu(x).result).result
    factor = Sqrt(constant(np.float32(2))).result
    last = graph.add(Add(Mul(Abs(x).result, factor).result, Mul(Abs(x).result, factor).result))
    graph.outputs, graph.output_names = [last.result], ["y"]
    return graph


def test_steps_are_told_in_order() -> None:
    graph, watcher = chain(), Limit()
    with watching(watcher):
        run_pipeline(graph, parse_pipeline("simplify,clean"))
    assert watcher.told == [
        "enter simplify",
        "drop_identity Identity: []",
        "drop_identity Identity: []",
        "leave simplify changed",
        "enter clean",
        "leave clean unchanged",
    ]


def test_nobody_is_told_after_the_block_or_while_something_is_tried_out() -> None:
    watcher = Limit()
    with watching(watcher), unwatched():
        run_pipeline(chain(), parse_pipeline("simplify"))
    run_pipeline(chain(), parse_pipeline("simplify"))
    assert watcher.told == []


def test_a_forbidden_step_leaves_the_graph_alone() -> None:
    graph = chain()
    text = str(graph)
    with watching(Limit(0)):
        (run,) = run_pipeline(graph, parse_pipeline("simplify"), check="text")
    assert str(graph) == text and not run.changed


def test_a_forbidden_pass_does_not_run() -> None:
    class Closed(Watcher):
        def enters(self, text: str, graph: Graph) -> bool:
            return text != "simplify"

    graph = chain()
    with watching(Closed()):
        runs = run_pipeline(graph, parse_pipeline("simplify,clean"))
    assert [run.text for run in runs] == ["clean"]


def test_all_watchers_have_to_agree_and_all_are_told() -> None:
    first, second = Limit(1), Limit(5)
    with watching(first), watching(second):
        run_pipeline(chain(), parse_pipeline("simplify"))
    assert first.made == second.made == 1


@pytest.mark.parametrize("limit", range(0, 30, 3))
def test_every_prefix_of_the_steps_means_the_same(limit: int) -> None:
    """Rules, whole-graph passes and those that change operators in place stop anywhere."""
    graph = network()
    image = np.random.default_rng(0).standard_normal(graph.inputs[0].type.static_shape, np.float32)
    (before,) = evaluate(graph, [image])
    watcher = Limit(limit)
    with watching(watcher):
        run_pipeline(graph, parse_pipeline(PIPELINE))
    (after,) = evaluate(graph, [image])
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert watcher.made <= limit


def test_each_kind_of_pass_makes_steps() -> None:
    made: dict[str, int] = {}

    class Counting(Watcher):
        def enters(self, text: str, graph: Graph) -> bool:
            self.current = text
            return True

        def applied(self, step: Step, added: Sequence[Op]) -> None:
            made[self.current] = made.get(self.current, 0) + 1

    with watching(Counting()):
        run_pipeline(network(), parse_pipeline(PIPELINE))
    assert set(made) == set(PIPELINE.split(","))
    assert sum(made.values()) > 10


def test_a_record_keeps_what_was_done() -> None:
    graph = chain()
    graph.ops[-1].origin = ("last",)
    record = Record()
    with watching(record):
        run_pipeline(graph, parse_pipeline("simplify"))
    assert [(one.rule, one.origin, one.after) for one in record.applications] == [
        ("drop_identity", (), ()),
        ("drop_identity", ("last",), ()),
    ]
    assert "Identity(%0)" in record.applications[0].line
    assert record.misses() == []


def test_a_record_shows_what_was_changed_in_place() -> None:
    graph = Graph()
    x = graph.add_input(parse_type("f32[1,2,4,4]"), "x")
    w = graph.add_input(parse_type("f32[3,2,1,1]"), "w")
    conv = graph.add(Conv(x, w))
    graph.outputs, graph.output_names = [conv.result], ["y"]
    record = Record()
    with watching(record):
        run_pipeline(graph, parse_pipeline("layout{block=4}"))
    (one,) = record.applications
    assert one.rule == "" and one.after == () and "Conv(" in one.line
