"""The pytest plugin, in a run of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = """
from gcomp.registry import find
from gcomp.testing import check_pass

def test_pass():
    check_pass(find("passes", "simplify").only("drop_identity"), examples=20)
    check_pass("fold-constants,clean", examples=20)
"""


def test_a_run_ends_with_what_was_checked(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "gcomp.testing.plugin",
        "-p",
        "no:cacheprovider",
        ".",
    ]
    found = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(words, cwd=tmp_path, env=found, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "checked by gcomp" in done.stdout
    assert "simplify: drop_identity: 20 cases, fired on 20 (100%)" in done.stdout
    assert re.search(
        r"^fold-constants,clean: 20 cases, fired on \d+ \(\d+%\): fold-constants \d+, clean \d+$",
        done.stdout,
        re.MULTILINE,
    )
