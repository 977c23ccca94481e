"""Inputs from seeds and from files."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

import gcomp
from gcomp.data import index_limits, load_samples, synthetic
from gcomp.port import Port
from gcomp.types import BF16, BOOL, F16, F32, F64, I8, I32, I64, STRING, U8, DType

X, Y = Port("x", F32, (2, 3)), Port("y", I64, (2,))


@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16, I8, U8, I32, I64, BOOL, STRING])
def test_synthetic_inputs_vary_and_follow_the_seed(dtype: DType) -> None:
    ports = [Port("a", dtype, (4, 16)), Port("b", dtype, (4, 16))]
    first, again, other = (synthetic(ports, seed) for seed in (1, 1, 2))
    for name in ("a", "b"):
        assert first[name].dtype == dtype.numpy and first[name].shape == (4, 16)
        assert (first[name] == again[name]).all()
        assert (first[name] != other[name]).any()
        assert len(set(first[name].ravel().tolist())) > 1
    assert (first["a"] != first["b"]).any()


def test_scalars_and_empty_inputs() -> None:
    drawn = synthetic([Port("s", F32, ()), Port("w", STRING, ()), Port("e", I64, (0, 3))])
    assert drawn["s"].shape == drawn["w"].shape == () and drawn["e"].shape == (0, 3)
    assert drawn["w"].dtype == object


def test_bytes_use_their_whole_range() -> None:
    drawn = synthetic([Port("u", U8, (4096,)), Port("i", I8, (4096,))])
    assert (drawn["u"].min(), drawn["u"].max()) == (0, 255)
    assert (drawn["i"].min(), drawn["i"].max()) == (-128, 127)


def test_indices_reach_all_that_is_indexed_and_no_more() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["ids", "axes"], ["wide"]),
        helper.make_node("Gather", ["table", "wide"], ["picked"]),
        helper.make_node("Cast", ["mask"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["picked", "factor"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "embedding",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, [64]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, [64, 1, 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("table", TensorProto.FLOAT, [9, 5], np.arange(45.0)),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    lifted = gcomp.lift(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert index_limits(lifted) == {"ids": 9}
    drawn = synthetic([Port("ids", I64, (64,)), Port("mask", I64, (64, 1, 1))], graph=lifted)
    assert set(drawn["ids"].tolist()) == set(range(9))
    assert set(drawn["mask"].ravel().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("shape", "complaint"), [(("batch", 3), "all sizes must be known"), ((1 << 40, 1 << 40), "too large")]
)
def test_sizes_that_cannot_be_drawn_are_refused(shape: tuple, complaint: str) -> None:
    with pytest.raises(gcomp.InputError, match=complaint):
        synthetic([Port("x", F32, shape)])


def test_a_file_is_cut_into_batches(tmp_path: Path) -> None:
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(6), other=np.zeros(9))
    samples = load_samples(tmp_path / "d.npz", [X, Y])
    assert len(samples) == 3
    np.testing.assert_array_equal(np.concatenate([sample["x"] for sample in samples]), x)
    np.testing.assert_array_equal(samples[1]["y"], [2, 3])


def test_an_open_batch_takes_the_whole_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((5, 3), np.float32), s=np.float32(2))
    (sample,) = load_samples(tmp_path / "d.npz", [Port("x", F32, ("n", 3)), Port("s", F32, ())])
    assert sample["x"].shape == (5, 3) and sample["s"] == 2


def test_a_folder_has_a_sample_per_file(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        np.savez(tmp_path / f"{number}.npz", y=np.full(2, number))
    assert [sample["y"][0] for sample in load_samples(tmp_path, [Y])] == [0, 1, 2]


def test_values_are_never_changed_by_conversion(tmp_path: Path) -> None:
    half = np.array([1.5, -2], ml_dtypes.bfloat16)
    np.savez(tmp_path / "d.npz", x=np.full((2, 3), 200, np.uint8), h=half)
    (sample,) = load_samples(tmp_path / "d.npz", [X, Port("h", BF16, (2,))])
    assert sample["x"].dtype == np.float32 and (sample["x"] == 200).all()
    np.testing.assert_array_equal(sample["h"], half)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x": np.zeros((2, 3), np.float32)}, "lacks y; it has x"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(2, np.int64)}, r"x is f32\[2,3\], the file holds f64\[2,3\]"),
        ({"x": np.zeros((3, 3), np.float32), "y": np.zeros(2, np.int64)}, r"holds f32\[3,3\]"),
        ({"x": np.zeros((0, 3), np.float32), "y": np.zeros(2, np.int64)}, r"holds f32\[0,3\]"),
        ({"x": np.zeros((2, 4), np.float32), "y": np.zeros(2, np.int64)}, r"holds f32\[2,4\]"),
        ({"x": np.zeros((4, 3), np.float32), "y": np.zeros(2, np.int64)}, "x: 2, y: 1"),
        ({"x": np.zeros((2, 3), np.complex64), "y": np.zeros(2, np.int64)}, "complex64"),
    ],
)
def test_unfit_files_are_refused(tmp_path: Path, arrays: dict, complaint: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(gcomp.InputError, match=complaint):
        load_samples(tmp_path / "d.npz", [X, Y])


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "single.npy", np.zeros(2))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], object), y=np.zeros(2, np.int64))
    (tmp_path / "empty").mkdir()
    for name in ("text.npz", "single.npy", "pickled.npz", "empty", "nothing.npz"):
        with pytest.raises(gcomp.InputError, match=name):
            load_samples(tmp_path / name, [X, Y])
