"""The page about a compiled model: that it is whole, needs nothing else, and tells the truth."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gcomp
from gcomp.ir import Graph
from gcomp.op import constant
from gcomp.ops import Add, MatMul
from gcomp.page import HEIGHT, WIDTH, page
from gcomp.target import Module
from gcomp.types import F32, TensorType

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Collects tags with their attributes, the text, and what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def graph(repository: Path) -> Graph:
    return gcomp.lift(str(repository / "examples" / "digits.onnx"), dims={"batch": 1})


@pytest.fixture(scope="module")
def module(graph: Graph) -> Module:
    return gcomp.compile(graph)


@pytest.fixture(scope="module")
def text(graph: Graph, module: Module) -> str:
    return page(graph, module)


def test_the_page_is_whole_and_loads_nothing(text: str) -> None:
    read = Reader(text)
    assert read.open == []
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "link", "img", "iframe"})
    assert not re.search(r"https?://|@import|url\(", text)
    links = [attributes["href"] for tag, attributes in read.tags if tag == "a"]
    anchors = {attributes.get("id") for _, attributes in read.tags}
    assert links and all(link and link[1:] in anchors for link in links)


def test_each_node_has_its_place(text: str) -> None:
    rows = re.findall(r"<tr><td>([^<]*)</td><td>(\w+)</td><td>[^<]*</td><td>(.*?)</td></tr>", text)
    became = {name: re.sub(r"<[^>]*>", "", where) for name, _, where in rows}
    assert became["conv1"] == became["bn1"] == became["relu1"] == "step 0"
    assert became["pool3"] == "step 4, step 5"  # the latter restores the layout
    assert became["flatten"] == "needs no code"
    assert len(rows) == 15


def test_without_steps_nodes_become_operators(graph: Graph) -> None:
    text = page(graph, gcomp.compile(graph, target="reference", passes="fold-batchnorm,clean"))
    rows = re.findall(r"<tr><td>([^<]*)</td><td>(\w+)</td><td>[^<]*</td><td>(.*?)</td></tr>", text)
    became = {name: where for name, _, where in rows}
    assert became["conv1"] == became["bn1"] == "Conv" and became["relu1"] == "Relu"
    assert "<svg" not in text and Reader(text).open == []


def test_the_graph_is_there_before_and_after(text: str, graph: Graph, module: Module) -> None:
    shown = "".join(Reader(text).text)
    assert str(graph) in shown and str(module.graph) in shown


def test_the_drawing_shows_the_plan(text: str, module: Module) -> None:
    (drawing,) = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    boxes = ElementTree.fromstring(drawing).findall("rect")
    memory, count = module.memory(), len(module.steps())
    assert memory is not None and len(boxes) == len(memory.spans)
    for box, span in zip(boxes, memory.spans, strict=True):
        x, y, width, height = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x == pytest.approx(span.first * WIDTH / count, abs=0.01)
        assert x + width == pytest.approx((span.last + 1) * WIDTH / count, abs=0.02)
        bottom = HEIGHT - span.offset * HEIGHT / memory.arena_bytes
        assert y + height == pytest.approx(bottom, abs=0.02)
        assert f"{span.bytes:,} bytes at {span.offset:,}" in (box.findtext("title") or "")


def test_sizes_are_those_of_the_module(text: str, module: Module) -> None:
    assert f"{module.manifest['weights_bytes']:,} bytes" in text
    code = sum(step.code_bytes or 0 for step in module.steps())
    assert code > 0 and f"<td>{code:,} bytes</td>" in text


def test_names_of_a_model_cannot_break_the_page() -> None:
    graph = Graph("<b>&")
    x = graph.add_input(TensorType(F32, (2, 8)), "<script>x")
    first = graph.add(MatMul(x, constant(np.eye(8, dtype=np.float32))))
    second = graph.add(Add(first.result, x))
    first.origin = second.origin = ('</table><script>alert("1")</script>',)
    graph.outputs, graph.output_names = [second.result], ["y&"]
    text = page(graph, gcomp.compile(graph))
    read = Reader(text)
    assert read.open == [] and "script" not in {tag for tag, _ in read.tags}
    assert '</table><script>alert("1")</script>' in "".join(read.text)
