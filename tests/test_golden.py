"""What each pass does to a graph, by example: cases in `tests/golden/<pass>.gc`, each with RUN and CHECK.

    # why this case is here
    # RUN: simplify
    graph ... before
    # CHECK
    graph ... after, or `# ERROR: ` and a message

Lines of `# ---` separate cases. `--update-golden` rewrites what follows CHECK; read the difference.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from gcomp import registry
from gcomp.diagnostics import RewriteError
from gcomp.pipeline import parse_pipeline, run_pipeline
from gcomp.text import parse, print_graph

FOLDER = Path(__file__).parent / "golden"
BETWEEN = "# ---\n"


@dataclass(frozen=True)
class Case:
    """One example: the text up to CHECK, with the pipeline and the graph, and what is expected."""

    head: str
    expected: str

    @property
    def pipeline(self) -> str:
        (line,) = [line for line in self.head.splitlines() if line.startswith("# RUN:")]
        return line.removeprefix("# RUN:").strip()


def cases(text: str) -> list[Case]:
    found: list[Case] = []
    for part in text.split(BETWEEN):
        head, check, expected = part.partition("# CHECK\n")
        if not check:
            raise ValueError(f"no CHECK in {part!r}")
        found.append(Case(head, expected.strip() + "\n"))
    return found


def outcome(case: Case) -> str:
    graph = parse(case.head)
    try:
        run_pipeline(graph, parse_pipeline(case.pipeline), check="text")
    except RewriteError as error:
        return f"# ERROR: {error.message}\n"
    assert parse(print_graph(graph)) == graph
    return print_graph(graph).strip() + "\n"


def examples() -> list[tuple[str, int]]:
    return [
        (file.stem, index)
        for file in sorted(FOLDER.glob("*.gc"))
        for index in range(len(cases(file.read_text("utf-8"))))
    ]


@pytest.mark.parametrize(("name", "index"), examples(), ids=lambda part: str(part))
def test_golden(name: str, index: int, update_golden: bool) -> None:
    file = FOLDER / f"{name}.gc"
    all_cases = cases(file.read_text("utf-8"))
    found = outcome(all_cases[index])
    if update_golden:
        all_cases[index] = Case(all_cases[index].head, found)
        file.write_text(BETWEEN.join(f"{c.head}# CHECK\n{c.expected}" for c in all_cases), "utf-8")
    assert found == all_cases[index].expected


@pytest.mark.parametrize("name", registry.names("passes"))
def test_every_pass_has_an_example(name: str) -> None:
    file = FOLDER / f"{name}.gc"
    assert file.is_file(), f"write {file.name}: RUN, a graph, CHECK"
    assert any(name in case.pipeline for case in cases(file.read_text("utf-8")))
