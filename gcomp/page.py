"""One self-contained page about a compiled model: what became of it, where values lie, how large it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .ir import Graph, Op
from .op import Constant
from .steps import Memory, StepFacts, nodes_of, operators_of
from .target import Module

WIDTH, HEIGHT = 960, 320
"""Of the drawing of the working memory, in pixels."""

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse }
td, th { padding: .15em .8em .15em 0; text-align: left; vertical-align: top }
th { border-bottom: 1px solid #999 } td.n, th.n { text-align: right } tr:target { background: #ffeeba }
pre { overflow-x: auto; background: #f5f5f5; padding: .8em; font-size: 12px }
summary { cursor: pointer } svg { background: #f5f5f5; width: 100%; height: auto }
rect { stroke: #fff; stroke-width: .5 } rect:hover { stroke: #000 } text { font-size: 11px; fill: #555 }
"""


def page(before: Graph, module: Module) -> str:
    """HTML about `module`, compiled from the graph `before`, that loads nothing else."""
    after, steps, memory = module.graph, module.steps(), module.memory()
    title = (
        f"{before.name}: {len(_computing(before))} operators, {len(steps) or len(_computing(after))} steps"
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        _sizes(module, steps, memory),
        _steps(steps) if steps else "",
        _drawing(memory, steps) if memory is not None and memory.spans else "",
        _nodes(before, after, steps),
        _fused(after),
        _text("Before the passes", before),
        _text("After the passes", after),
    ]
    head = f'<meta charset="utf-8"><title>{escape(before.name)}</title><style>{STYLE}</style>'
    return (
        f"<!DOCTYPE html>\n<html lang=en><head>{head}</head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _sizes(module: Module, steps: Sequence[StepFacts], memory: Memory | None) -> str:
    rows = [("input " + port.name, str(port)) for port in module.inputs]
    rows += [("output " + port.name, str(port)) for port in module.outputs]
    if memory is not None:
        rows += [
            ("weights", f"{memory.weights_bytes:,} bytes"),
            ("working memory", f"{memory.arena_bytes:,} bytes, {memory.scratch_bytes:,} of them scratch"),
            ("sum of all values in it", f"{sum(span.bytes for span in memory.spans):,} bytes"),
        ]
    if any(step.code_bytes for step in steps):
        rows.append(("code of all steps", f"{sum(step.code_bytes or 0 for step in steps):,} bytes"))
    if module.host_steps:
        rows.append(("on the host", ", ".join(module.host_steps)))
    return _table(("", ""), [tuple(map(escape, row)) for row in rows])


def _steps(steps: Sequence[StepFacts]) -> str:
    header = (
        "step",
        "operators",
        "ONNX nodes",
        "code",
        "#flop",
        "#weight bytes",
        "#data bytes",
        "#code bytes",
    )
    rows = [
        (
            str(number),
            escape(" + ".join(step.operators)),
            escape(", ".join(step.nodes)),
            escape(step.code),
            *map(_number, (step.flops, step.weight_bytes, step.data_bytes, step.code_bytes)),
        )
        for number, step in enumerate(steps)
    ]
    return "<h2>Steps</h2>" + _table(header, rows, "step")


def _drawing(memory: Memory, steps: Sequence[StepFacts]) -> str:
    """Who lies where in the working memory, and when: steps from left to right, offsets upwards."""
    count = max(len(steps), 1 + max(span.last for span in memory.spans))
    across, up = WIDTH / count, HEIGHT / max(memory.arena_bytes, 1)
    boxes: list[str] = []
    for number, span in enumerate(memory.spans):
        made = steps[span.first].title if span.first < len(steps) else ""
        told = f"{made}: {span.bytes:,} bytes at {span.offset:,}, steps {span.first} to {span.last}"
        boxes.append(
            f'<rect x="{span.first * across:.2f}" y="{HEIGHT - (span.offset + span.bytes) * up:.2f}" '
            f'width="{(span.last - span.first + 1) * across:.2f}" height="{max(span.bytes * up, 0.5):.2f}" '
            f'fill="hsl({number * 137 % 360} 55% 62%)"><title>{escape(told)}</title></rect>'
        )
    return (
        "<h2>Working memory</h2><p>Steps from left to right, addresses upwards; a box is a value, from the "
        "step that makes it to the last that reads it. Point at a box to see whose it is.</p>"
        f'<svg viewBox="0 -14 {WIDTH} {HEIGHT + 28}" role="img" aria-label="working memory over the steps">'
        f'<text x="2" y="-3">{memory.arena_bytes:,} bytes</text>{"".join(boxes)}'
        f'<text x="2" y="{HEIGHT + 12}">step 0</text>'
        f'<text x="{WIDTH - 2}" y="{HEIGHT + 12}" text-anchor="end">step {count - 1}</text></svg>'
    )


def _nodes(before: Graph, after: Graph, steps: Sequence[StepFacts]) -> str:
    """Where each ONNX node went: to steps or, where those are not planned, to operators; or away."""
    homes: dict[str, list[str]] = {}
    for number, step in enumerate(steps):
        for name in step.nodes:
            homes.setdefault(name, []).append(f'<a href="#step{number}">step {number}</a>')
    for op in () if steps else _computing(after):
        for name in nodes_of(op):
            homes.setdefault(name, []).append(escape(" + ".join(operators_of(op))))
    kept = {name for op in after.walk() for name in op.origin}
    rows: list[tuple[str, ...]] = []
    for op in _computing(before):
        names = nodes_of(op)
        found = list(dict.fromkeys(home for name in names for home in homes.get(name, [])))
        if not found:
            found = ["needs no code" if kept.intersection(names) else "gone"]
        rows.append(
            (
                escape(", ".join(names)),
                escape(op.kind),
                escape(", ".join(str(value.type) for value in op.results)),
                ", ".join(found),
            )
        )
    table = _table(("ONNX node", "operator", "result", "became"), rows)
    return (
        f"<h2>What became of the model</h2><details><summary>{len(rows)} operators</summary>{table}</details>"
    )


def _fused(after: Graph) -> str:
    """What each group of several operators consists of."""
    groups = [op for op in after.ops if op.regions]
    if not groups:
        return ""
    items = [
        f"<li>{escape(' + '.join(operators_of(op)))}<br><small>{escape(', '.join(nodes_of(op)))}</small></li>"
        for op in groups
    ]
    title = f"{len(groups)} groups of operators that run as one"
    return f"<h2>Fused</h2><details><summary>{title}</summary><ol>{''.join(items)}</ol></details>"


def _text(title: str, graph: Graph) -> str:
    count = len(_computing(graph))
    text = escape(str(graph))
    return f"<h2>{title}</h2><details><summary>{count} operators as text</summary><pre>{text}</pre></details>"


def _computing(graph: Graph) -> list[Op]:
    return [op for op in graph.ops if not isinstance(op, Constant)]


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], anchor: str = "") -> str:
    """Cells are HTML already; headings that begin with # are over numbers. `anchor` prefixes rows' ids."""
    kinds = [" class=n" if name.startswith("#") else "" for name in header]
    top = "".join(f"<th{k}>{escape(n.removeprefix('#'))}</th>" for n, k in zip(header, kinds, strict=True))
    body: list[str] = []
    for number, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True))
        name = f' id="{anchor}{number}"' if anchor else ""
        body.append(f"<tr{name}>{cells}</tr>")
    head = f"<tr>{top}</tr>" if any(header) else ""
    return f"<table>{head}{''.join(body)}</table>"
