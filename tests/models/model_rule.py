"""The trained models, and how near to their recorded outputs an answer has to be.

An output has to lie within 20 times what a disturbance of all weights in the last place makes of it
(`nudged`), or 1e-5 of its largest magnitude (`scale`), the larger; in models with QuantizeLinear also within
twice what ONNX Runtime's own optimisations make of it (`max_abs`), for they round differently. Integer
outputs are equal, but for twice the elements in which ONNX Runtime differs from itself (`mismatches`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAMES = (
    "mnist_cnn",
    "mnist_mlp",
    "superres_core",
    "kws_fp32",
    "kws_qdq",
    "magika_v3_3",
    "lgbm_classifier",
    "ultraface_rfb320",
    "basic_pitch",
    "yolox_nano",
)
"""The models on which everything has to work."""

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class TrainedModel:
    """A model with inputs, ONNX Runtime's outputs for them, and what is known of their exactness."""

    name: str
    path: Path
    noise: dict[str, dict[str, float]]
    quantized: bool
    sample_count: int

    def samples(self) -> Iterator[tuple[Arrays, Arrays]]:
        """Inputs and expected outputs by name."""
        with np.load(self.path.with_suffix(".npz")) as stored:
            for place in range(self.sample_count):
                yield (
                    {key.removeprefix(f"in_{place}_"): stored[key] for key in _keys(stored, f"in_{place}_")},
                    {
                        key.removeprefix(f"out_{place}_"): stored[key]
                        for key in _keys(stored, f"out_{place}_")
                    },
                )

    def mismatch(self, output: str, actual: np.ndarray, expected: np.ndarray) -> str:
        """Why `actual` breaks the rule for this output; empty if it does not."""
        if (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
            wanted = f"{expected.dtype}{list(expected.shape)}"
            return f"{output}: {actual.dtype}{list(actual.shape)} instead of {wanted}"
        noise = self.noise[output]
        if expected.dtype.kind not in "fV":
            wrong, allowed = int((actual != expected).sum()), 2 * noise.get("mismatches", 0)
            return f"{output}: {wrong} elements differ, {allowed} may" if wrong > allowed else ""
        bound = max(20 * noise["nudged"], 1e-5 * noise["scale"])
        if self.quantized:
            bound = max(bound, 2 * noise["max_abs"])
        error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        error[np.isnan(actual) & np.isnan(expected)] = 0
        if (error <= bound).all():
            return ""
        return f"{output}: off by {error.max():.3g}, {bound:.3g} is allowed"

    def mismatches(self, actual: Sequence[np.ndarray], names: Sequence[str], expected: Arrays) -> list[str]:
        """What is wrong with the outputs called `names`."""
        assert set(names) == set(expected)
        told = (self.mismatch(name, array, expected[name]) for name, array in zip(names, actual, strict=True))
        return [text for text in told if text]


def trained_model(folder: Path, name: str) -> TrainedModel:
    """The model of this name in the folder of trained models."""
    (entry,) = (model for model in _listed(folder) if model["name"] == name)
    return TrainedModel(
        name,
        folder / entry["file"],
        entry["noise_floor"],
        "QuantizeLinear" in entry["ops"],
        entry["samples"],
    )


def _listed(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "models.json").read_text("utf-8"))["models"]


def _keys(stored: Any, prefix: str) -> list[str]:
    return [key for key in stored.files if key.startswith(prefix)]
