"""The public face: its names, that it is lazy, and that the package's calls work together."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gcomp

PUBLIC = [
    *("compile", "load", "lift", "parse", "optimize", "profile", "quantize", "save_onnx", "InferenceSession"),
    *("bisect", "explain"),
    *("GcompError", "BuildError", "IllFormed", "InferenceError", "InputError", "ModelError", "ParseError"),
    *("RewriteError", "RunError", "UnsupportedError"),
    *("RewritePass", "rewrite", "made_by", "require", "either_order", "constant", "only_user"),
]

FOREIGN = ("onnx", "onnxruntime", "llvmlite", "numpy", "click", "rich", "networkx")


def fresh(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_these() -> None:
    assert set(gcomp.__all__) == {*PUBLIC, "__version__"}
    assert set(gcomp.__all__) <= set(dir(gcomp))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_loads_first_thing_in_a_process(name: str) -> None:
    assert fresh(f"from gcomp import {name}; print(callable({name}), {name}.__name__)") == f"True {name}"


def test_errors_are_one_family() -> None:
    errors = [getattr(gcomp, name) for name in PUBLIC if name.endswith("Error") or name == "IllFormed"]
    assert all(issubclass(error, gcomp.GcompError) for error in errors)


def test_unknown_names_are_missing_attributes() -> None:
    with pytest.raises(AttributeError, match="'gcomp' has no attribute 'compil'"):
        _ = gcomp.compil
    with pytest.raises(ImportError, match="compil"):
        exec("from gcomp import compil")


def test_importing_loads_nothing_foreign() -> None:
    loaded = f"print([name for name in {FOREIGN} if name in sys.modules])"
    assert fresh(f"import sys, gcomp; {loaded}") == "[]"
    assert fresh(f"import sys, gcomp; gcomp.load, gcomp.rewrite, gcomp.parse; {loaded}") == "['numpy']"


@pytest.mark.parametrize(
    "first",
    [
        "import gcomp.lift, gcomp.rewrite",
        "from gcomp.lift import lift",
        "from gcomp.rewrite import made_by",
        "pass",
    ],
)
def test_functions_are_not_hidden_by_modules_of_their_name(first: str) -> None:
    script = f"""
{first}
import sys, gcomp
from gcomp import lift, rewrite
assert lift is gcomp.lift is sys.modules["gcomp.lift"].lift
assert rewrite is gcomp.rewrite is sys.modules["gcomp.rewrite"].rewrite
"""
    fresh(script)


def test_the_version_is_the_projects(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    assert gcomp.__version__ == project["version"]


def test_from_model_to_library_and_back(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCOMP_CACHE", "off")
    model = repository / "examples" / "digits.onnx"
    data = np.load(repository / "examples" / "digits.npz")
    images = (data["test_images"][:32] / 16).astype(np.float32)
    module = gcomp.compile(model, shapes={"image": images.shape})
    (logits,) = module(images)
    assert (logits.argmax(axis=1) == data["test_labels"][:32]).mean() > 0.9
    assert min(module.timings.values()) > 0 and module.host_steps == []
    files = module.save(tmp_path / "digits.so")
    assert {path.name for path in files} == {"digits.so", "digits.h"}
    loaded = gcomp.load(tmp_path / "digits.so")
    np.testing.assert_array_equal(loaded.run({"image": images})["logits"], logits)

    graph = gcomp.optimize(gcomp.lift(model), "fold-batchnorm,clean")
    assert gcomp.parse(str(graph)) == graph
    gcomp.save_onnx(graph, tmp_path / "o.onnx")
    (again,) = gcomp.compile(tmp_path / "o.onnx", target="reference")(images)
    np.testing.assert_allclose(again, logits, rtol=1e-4, atol=1e-5)


def test_every_form_of_a_model_compiles_to_the_same(repository: Path) -> None:
    import onnx

    model = repository / "examples" / "digits.onnx"
    image = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    forms = (model, str(model), model.read_bytes(), onnx.load(model), gcomp.lift(model))
    results = [gcomp.compile(form, dims={"batch": 2})(image)[0] for form in forms]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_a_loaded_library_needs_neither_llvm_nor_onnx(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.so"
    gcomp.compile(repository / "examples" / "digits.onnx", dims={"batch": 1}).save(path)
    script = f"""
import sys
sys.modules["onnx"] = sys.modules["llvmlite"] = None
import gcomp, numpy as np
print(gcomp.load({str(path)!r})(np.zeros((1, 1, 8, 8), np.float32))[0].shape)
"""
    assert fresh(script) == "(1, 10)"


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ([np.zeros((1, 1, 8, 8))], r"image must be f32\[1,1,8,8\], got f64\[1,1,8,8\]"),
        ([np.zeros((1, 8, 8), np.float32)], r"image must be f32\[1,1,8,8\], got f32\[1,8,8\]"),
        ([], "takes 1 input"),
    ],
)
def test_calls_that_do_not_fit_are_refused(repository: Path, arrays: list, complaint: str) -> None:
    module = gcomp.compile(repository / "examples" / "digits.onnx", dims={"batch": 1})
    with pytest.raises(gcomp.InputError, match=complaint):
        module(*arrays)
    with pytest.raises(gcomp.InputError, match="image"):
        module.run({"picture": np.zeros((1, 1, 8, 8), np.float32)})


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"threads": 2}, gcomp.UnsupportedError, "threads=2"),
        ({"precision": "fp7"}, gcomp.GcompError, "fp7"),
        ({"target": "llvmm"}, gcomp.InputError, "did you mean llvm"),
        ({"passes": "foldconstants"}, gcomp.InputError, "did you mean fold-constants"),
        ({"dims": {"bath": 1}}, gcomp.InputError, "batch"),
        ({"shapes": {"image": (1, 1, 8, 9)}}, gcomp.InputError, "image"),
        ({"target": "llvm{cpu=z80}"}, gcomp.InputError, "cpu=z80"),
    ],
)
def test_wrong_options_are_refused(
    repository: Path, options: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    wanted: dict[str, Any] = {"dims": {"batch": 1}, **options}
    with pytest.raises(error, match=complaint):
        gcomp.compile(repository / "examples" / "digits.onnx", **wanted)


def test_sizes_of_a_graph_are_checked_alike(repository: Path) -> None:
    graph = gcomp.lift(repository / "examples" / "digits.onnx")
    with pytest.raises(gcomp.InputError, match=r"input image is f32\[batch,1,8,8\], got \(1, 8\)"):
        gcomp.compile(graph, shapes={"image": (1, 8)})
    with pytest.raises(gcomp.InputError, match=r"input image is f32\[batch,1,8,8\], got \(1, 1, 8, 9\)"):
        gcomp.compile(graph, shapes={"image": (1, 1, 8, 9)})
