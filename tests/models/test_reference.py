"""Trained models, lifted and run by the references, against ONNX Runtime's recorded outputs."""

from pathlib import Path

import numpy as np
import pytest

from gcomp.evaluate import evaluate
from gcomp.lift import lift
from gcomp.text import parse, print_graph
from gcomp.wellformed import check
from tests.models.model_rule import NAMES, TrainedModel, trained_model


@pytest.mark.parametrize("name", NAMES)
def test_references_agree_with_onnx_runtime(models_dir, name):
    model = trained_model(models_dir, name)
    graph = lift(model.path)
    check(graph)
    for inputs, expected in model.samples():
        actual = evaluate(graph, inputs)
        assert model.mismatches(actual, graph.output_names, expected) == []


@pytest.mark.parametrize("name", NAMES)
def test_lifted_models_have_a_text_form(models_dir, name):
    graph = lift(trained_model(models_dir, name).path)
    text = print_graph(graph)
    again = parse(text)
    check(again)
    assert print_graph(again) == text
    assert again == graph


MODEL = TrainedModel(
    "m", Path(), {"y": {"nudged": 1e-6, "scale": 1.0, "max_abs": 1e-3}, "k": {"mismatches": 1}}, False, 0
)
QUANTIZED = TrainedModel("q", Path(), MODEL.noise, True, 0)


@pytest.mark.parametrize(
    ("model", "error", "fits"),
    [(MODEL, 1.9e-5, True), (MODEL, 2.1e-5, False), (QUANTIZED, 1.9e-3, True), (QUANTIZED, 2.1e-3, False)],
)
def test_the_rule_for_floats(model, error, fits):
    expected = np.zeros(3)
    assert (model.mismatch("y", expected + error, expected) == "") is fits
    assert model.mismatch("y", np.full(3, np.nan), expected) != ""
    assert model.mismatch("y", np.zeros(3, np.float32), expected) != ""


def test_the_rule_for_integers():
    expected = np.arange(5)
    assert MODEL.mismatch("k", np.array([9, 9, 2, 3, 4]), expected) == ""
    assert MODEL.mismatch("k", np.array([9, 9, 9, 3, 4]), expected) != ""
