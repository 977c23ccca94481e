"""What users see of a compiled model and of long work: profiles, pages, progress."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.commands import invoke, succeed


@pytest.fixture(scope="session")
def digits(repository: Path) -> str:
    return str(repository / "examples" / "digits.onnx")


def test_profile_names_each_kernel(digits: str, tmp_path: Path) -> None:
    words = ("profile", digits, "--dim", "batch=1", "--seconds", "0.05")
    facts = json.loads(succeed(*words, "--trace", tmp_path / "t.json", "--json"))
    assert facts["steps"][0]["nodes"] == ["conv1", "bn1", "relu1"] and facts["steps"][0]["code"] == "conv"
    assert facts["trace"] == str(tmp_path / "t.json")
    trace = json.loads((tmp_path / "t.json").read_text())
    assert {one["name"] for one in trace["traceEvents"]} >= {"conv1, bn1, relu1", "fc2"}
    text = succeed(*words)
    assert re.search(r"^0 .* (compute|memory) +conv +Conv\+Relu +conv1, bn1, relu1$", text, re.MULTILINE)
    assert "GFLOP/s" in text and "GB/s" in text


def test_profile_times_the_operators_of_the_reference(digits: str) -> None:
    words = ("profile", digits, "--dim", "batch=1", "--seconds", "0.05", "--target", "reference")
    text = succeed(*words)
    assert re.search(r"^ 1 .* reference +BatchNormalization +bn1$", text, re.MULTILINE)
    assert json.loads(succeed(*words, "--json"))["limits"] is None


def test_a_trace_that_cannot_be_written_is_refused(digits: str, tmp_path: Path) -> None:
    words = ("profile", digits, "--dim", "batch=1", "--seconds", "0.01")
    result = invoke(*words, "--trace", tmp_path / "nowhere" / "t.json")
    assert result.exit_code == 1 and "cannot be written" in result.stderr and result.stdout == ""


def test_inspect_writes_a_page(digits: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    words = ("inspect", digits, "--dim", "batch=1", "--html", file)
    text = succeed(*words)
    assert f"# page written to {file}" in text and "Conv(" not in text
    page = file.read_text()
    assert page.startswith("<!DOCTYPE html>") and "BatchNormalization" in page and "<svg" in page
    assert json.loads(succeed(*words, "--json"))["html"] == str(file)
    assert "BatchNormalization" in succeed("inspect", digits, "--dim", "batch=1")
    reference = tmp_path / "reference.html"
    succeed("inspect", digits, "--dim", "batch=1", "--target", "reference", "--html", reference)
    assert "<svg" not in reference.read_text()


def test_a_page_needs_all_sizes(digits: str, tmp_path: Path) -> None:
    result = invoke("inspect", digits, "--html", tmp_path / "page.html")
    assert result.exit_code == 1 and "bind batch by --dim or --shape" in result.stderr
    assert not (tmp_path / "page.html").exists()


def at_terminal(words: list[str], repository: Path) -> tuple[str, str]:
    """What a command prints to standard output, and what it draws on a terminal as standard error."""
    master, slave = pty.openpty()
    drawn: list[bytes] = []
    environment = {
        **os.environ,
        "GCOMP_CACHE": "off",
        "PYTHONPATH": str(repository),
        "TERM": "xterm",
        "COLUMNS": "100",
    }
    command = [sys.executable, "-m", "gcomp", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=environment) as process:
        os.close(slave)
        reader = threading.Thread(target=read_all, args=(master, drawn))
        reader.start()
        assert process.stdout is not None
        printed = process.stdout.read().decode()
    reader.join()
    os.close(master)
    assert process.returncode == 0, b"".join(drawn)
    return printed, b"".join(drawn).decode()


def read_all(master: int, into: list[bytes]) -> None:
    """Reads a terminal until the other side is closed, which the system reports as an error."""
    with contextlib.suppress(OSError):
        while piece := os.read(master, 4096):
            into.append(piece)


@pytest.mark.parametrize(
    ("words", "news"),
    [
        (["compile"], ["lift", "pass fold-constants", "emit", "codegen"]),
        (["verify"], ["sample 1", "codegen"]),
        (["bench", "--seconds", "0.3"], ["runs", "codegen"]),
        (["profile", "--seconds", "0.3"], ["runs", "codegen"]),
    ],
)
def test_progress_is_drawn_at_a_terminal_only(
    repository: Path, digits: str, tmp_path: Path, words: list[str], news: list[str]
) -> None:
    words = [words[0], digits, "--dim", "batch=1", *words[1:], "--json"]
    words += ["-o", str(tmp_path / "digits.so")] if words[0] == "compile" else []
    printed, drawn = at_terminal(words, repository)
    assert isinstance(json.loads(printed), dict)
    assert all(one in drawn for one in news), drawn
    result = invoke(*words)
    assert result.exit_code == 0 and result.stderr == "" and json.loads(result.stdout)
