"""The documents say what is there: the list of operators, the C program, files and pages that they name."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import gcomp
from tests.programs import build, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")], key=str
)
BESIDE = ("gcomp", "backends/llvm", "backends/llvm/templates", "tests", "examples")
"""Folders that a table may leave out where it names a file."""


def test_the_list_of_operators_is_that_of_the_classes() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "generate_operators.py"))
    written = (ROOT / "docs" / "operators.md").read_text("utf-8")
    assert written == generator["page"](), "stale: run `python docs/generate_operators.py`"


def test_the_list_of_operators_tells_versions_and_code() -> None:
    text = (ROOT / "docs" / "operators.md").read_text("utf-8")
    assert "| Softmax | 1, 13 | native | `gcomp/ops/softmax.py` |\n" in text
    assert "| com.microsoft.QLinearAdd | 1 | native | " in text
    listed, missing = text.split("## Not there yet")
    assert "LSTM" in missing and "LSTM" not in listed and "Relu" not in missing


def test_the_program_of_the_artefact_page_runs(tmp_path: Path) -> None:
    (program,) = re.findall(
        r"^```c\n(.*?)^```$", (ROOT / "docs" / "artefact.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    module = gcomp.compile(ROOT / "examples" / "digits.onnx", dims={"batch": 1}, name="digits")
    for suffix in ("a", "so", "o"):
        module.save(tmp_path / f"digits.{suffix}")
        printed = run(build(tmp_path, program, tmp_path / f"digits.{suffix}"))
        numbers = [float(line.split()[1]) for line in printed.splitlines()]
        expected = module(np.zeros((1, 1, 8, 8), np.float32))[0][0]
        np.testing.assert_allclose(numbers, expected, rtol=1e-5)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_links_of_a_page_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", plain):
        assert target.startswith("https://") or (page.parent / target).exists(), f"a link to {target}"
    for name in re.findall(r"`([\w./-]+\.py|[\w.-]+(?:/[\w.-]+)*/)`", plain):
        places = [ROOT / name, *(ROOT / folder / name for folder in BESIDE)]
        assert any(place.exists() for place in places), f"{name} is nowhere"
