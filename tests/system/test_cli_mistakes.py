"""The command line, misused: what it says of bad models, options, data and places to write to."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.commands import fail, succeed, write

CRASHING_PASS = "import nowhere_to_be_found\n"


@pytest.fixture(scope="session")
def digits(repository: Path) -> str:
    return str(repository / "examples" / "digits.onnx")


def test_unknown_operators_are_all_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flurb", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Glorp", ["b"], ["y"], name="second"),
    ]
    told = fail("compile", write(tmp_path / "odd.onnx", nodes, ["x"], ["y"]), "-o", tmp_path / "o.so")
    assert all(word in told for word in ("Flurb", "Glorp", "first", "second")) and "Relu" not in told


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02 not a protobuf", "half"])
def test_a_damaged_file_is_refused(digits: str, tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "damaged.onnx"
    whole = Path(digits).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    assert "damaged.onnx" in fail("inspect", path)


def test_missing_external_data_is_named(digits: str, tmp_path: Path) -> None:
    path = tmp_path / "split.onnx"
    onnx.save(onnx.load(digits), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    succeed("inspect", path, "--summary")
    (tmp_path / "weights.bin").unlink()
    assert "weights.bin" in fail("inspect", path)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("run", "MODEL", "--dim", "batch=1", "--target", "llvmm"), "did you mean llvm?"),
        (("run", "MODEL", "--dim", "batch=1", "--target", "llvm{cpus=x}"), "no option 'cpus'"),
        (("inspect", "MODEL", "--passes", "fold-constant"), "did you mean fold-constants?"),
        (("inspect", "MODEL", "--passes", "clean{x"), "braces do not match"),
        (("inspect", "MODEL", "--dim", "bath=1"), "batch"),
        (("inspect", "MODEL", "--shape", "image=1,8,8"), "image"),
        (("inspect", "MODEL", "--shape", "img=1,1,8,8"), "image"),
        (("run", "MODEL"), "f32[batch,1,8,8]"),
        (("run", "MODEL", "--dim", "batch=1", "--threads", "2"), "threads=2"),
        (("run", "MODEL", "--dim", "batch=1", "--data", "nowhere.npz"), "nowhere.npz"),
        (("run", "MODEL", "--dim", "batch=1", "-o", "x.csv"), "outputs are written as .npz"),
        (("run", "nowhere.so"), "nowhere.so"),
        (("optimize", "MODEL", "-o", "x.onnx"), "--passes or --pass"),
        (("inspect", "MODEL", "--pass", "nowhere.py"), "nowhere.py"),
    ],
)
def test_mistakes_are_explained(digits: str, words: tuple[str, ...], complaint: str) -> None:
    assert complaint in fail(*(digits if word == "MODEL" else word for word in words))


def test_a_broken_pass_file_is_blamed(digits: str, tmp_path: Path) -> None:
    path = tmp_path / "crash.py"
    path.write_text(CRASHING_PASS)
    assert "nowhere_to_be_found" in fail("inspect", digits, "--pass", path)


@pytest.mark.parametrize(
    ("name", "complaint"), [("digits.xyz", ".xyz"), ("digits", "digits"), ("no/such/digits.so", "no/such")]
)
def test_what_cannot_be_written_is_refused(digits: str, tmp_path: Path, name: str, complaint: str) -> None:
    assert complaint in fail("compile", digits, "--dim", "batch=1", "-o", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_open_sizes_cannot_be_saved(digits: str, tmp_path: Path) -> None:
    assert "batch" in fail("compile", digits, "-o", tmp_path / "digits.so")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"picture": np.zeros((1, 1, 8, 8), np.float32)}, "lacks image; it has picture"),
        ({"image": np.zeros((1, 1, 8, 8))}, "the file holds f64[1,1,8,8]"),
        ({"image": np.zeros((1, 8, 8), np.float32)}, "the file holds f32[1,8,8]"),
        ({"image": np.zeros((3, 1, 8, 8), np.float32)}, "f32[2,1,8,8], the file holds f32[3,1,8,8]"),
    ],
)
def test_unfit_data_is_refused(digits: str, tmp_path: Path, arrays: dict, complaint: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert complaint in fail("run", digits, "--dim", "batch=2", "--data", tmp_path / "x.npz")
