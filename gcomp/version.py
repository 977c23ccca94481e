"""Which gcomp this is."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__version__ = "0.1.0"

LIBRARIES = ("ml_dtypes", "numpy", "onnx")
"""What a model is read and its constants are computed with: another version may make another module of it."""


@cache
def fingerprint() -> str:
    """A hash that changes with the version, in a checkout with any of its files, and with `LIBRARIES`."""
    root = Path(__file__).parent
    folders = [root, root / "passes", root / "backends"]
    files = sorted({file for folder in folders for file in folder.rglob("*.py")})
    facts = [
        (str(file.relative_to(root)), (status := file.stat()).st_mtime_ns, status.st_size) for file in files
    ]
    libraries = [_version_of(name) for name in LIBRARIES]
    return hashlib.sha256(repr((__version__, facts, libraries)).encode()).hexdigest()


def _version_of(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
