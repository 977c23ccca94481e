"""What users call refuses arguments that are not as annotated: at each public entry, for each argument."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import gcomp
from gcomp.arguments import checked
from gcomp.backends.llvm.cuda.module import CudaModule
from gcomp.backends.llvm.module import LLVMModule
from gcomp.profile import Profile
from gcomp.specialised import SpecialisedModule
from gcomp.target import Module
from gcomp.testing import check_target, same_meaning
from gcomp.testing.targets import Miscompiled
from gcomp.text import load_text, save_text
from gcomp.types import Array

LOOKS = ("constant", "either_order", "made_by", "only_user", "require", "rewrite")
"""What rules are written with: the engine blames the rule for whatever comes of them."""


def entries() -> list[tuple[str, Callable[..., Any], str]]:
    """Each public function and class with each of its arguments that is not open to anything."""
    found: list[tuple[str, Callable[..., Any], str]] = []
    for name in gcomp.__all__:
        entry = getattr(gcomp, name)
        is_error = isinstance(entry, type) and issubclass(entry, Exception)
        if name in LOOKS or is_error or not callable(entry):
            continue
        function = entry.__init__ if isinstance(entry, type) else entry
        for parameter in inspect.signature(function).parameters.values():
            if parameter.annotation not in (inspect.Parameter.empty, "Any"):
                found.append((name, entry, parameter.name))
    return found


def test_all_entries_are_met() -> None:
    assert {name for name, _, _ in entries()} >= {
        "compile",
        "lift",
        "load",
        "InferenceSession",
        "RewritePass",
    }
    assert ("compile", gcomp.compile, "passes") in entries() and len(entries()) > 40


@pytest.mark.parametrize(("name", "entry", "parameter"), entries())
def test_each_entry_says_whose_what_and_what_instead(
    name: str, entry: Callable[..., Any], parameter: str
) -> None:
    told = rf"^{name}: {parameter} must be .*\w.*, got object <object object at"
    with pytest.raises(gcomp.InputError, match=told):
        entry(**{parameter: object()})


def test_arguments_by_position_are_met_too() -> None:
    with pytest.raises(gcomp.InputError, match=r"^optimize: graph must be a Graph, got str 'm.onnx'$"):
        gcomp.optimize("m.onnx", "fuse")  # pyright: ignore[reportArgumentType]
    with pytest.raises(gcomp.InputError, match=r"^RewritePass: rules\[0\] must be a Rule, got function <"):
        gcomp.RewritePass("double", [lambda x: x])  # pyright: ignore


METHODS = (
    *(Module.save, SpecialisedModule.save, LLVMModule.save, CudaModule.save, Profile.save_trace),
    *(gcomp.InferenceSession.run, Miscompiled.save, save_text, load_text, check_target, same_meaning),
)
"""What users call besides those, on what they were given, or in `gcomp.testing`."""


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__qualname__)
def test_methods_say_it_too(method: Callable[..., Any]) -> None:
    for parameter in list(inspect.signature(method).parameters.values()):
        if parameter.annotation in (inspect.Parameter.empty, "Any"):
            continue
        told = rf"^{method.__qualname__}: {parameter.name} must be .*\w.*, got object <object object at"
        with pytest.raises(gcomp.InputError, match=told):
            method(**{parameter.name: object()})


def test_a_file_to_save_to_is_a_path(repository: Path) -> None:
    module = gcomp.compile(repository / "examples" / "digits.onnx", dims={"batch": 1})
    with pytest.raises(gcomp.InputError, match=r"^LLVMModule.save: path must be a str or a path, got int 3$"):
        module.save(3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("model", [3, None, ["digits.onnx"]])
@pytest.mark.parametrize("entry", [gcomp.compile, gcomp.lift, gcomp.bisect, gcomp.explain, gcomp.profile])
def test_what_is_no_model_is_refused(entry: Callable[..., Any], model: object) -> None:
    with pytest.raises(gcomp.InputError, match=r"model must be .*a path, bytes.* a ModelProto.*, got "):
        entry(model)


def test_a_model_kept_from_an_earlier_run_is_refused_alike(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCOMP_CACHE", str(tmp_path))
    model = repository / "examples" / "digits.onnx"
    gcomp.compile(model, dims={"batch": 1})
    with pytest.raises(gcomp.InputError, match=r"^compile: passes must be .*, got int 7$"):
        gcomp.compile(model, dims={"batch": 1}, passes=7)  # pyright: ignore[reportArgumentType]


@checked
def sample(
    text: str | None = None,
    number: float = 0.0,
    sizes: Mapping[str, Sequence[int | None]] | None = None,
    many: Iterable[dict[str, Array]] = (),
    pair: int | tuple[int, int] = 0,
    word: Literal["a", "b"] = "a",
    path: str | Path = "",
    anything: Any = None,
    *rest: Any,
    **named: Any,
) -> str:
    """Every form of annotation that is read."""
    return "taken"


@pytest.mark.parametrize(
    "arguments",
    [
        {"text": "x", "number": 1, "sizes": {"x": (1, None)}, "pair": (1, 2), "word": "b", "path": Path()},
        {
            "sizes": {"x": [1]},
            "many": [{"x": np.zeros(3)}],
            "pair": 3,
            "anything": object(),
            "other": object(),
        },
        {"sizes": None, "many": (one for one in (1, 2)), "pair": True},
    ],
)
def test_what_fits_is_taken(arguments: dict[str, Any]) -> None:
    assert sample(**arguments) == "taken"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"text": b"x"}, "text must be a str or None, got bytes b'x'"),
        ({"number": "1"}, "number must be a number, got str '1'"),
        ({"sizes": {"x": 8}}, "sizes['x'] must be a sequence, got int 8"),
        ({"sizes": {"x": "8"}}, "sizes['x'] must be a sequence, got str '8'"),
        ({"sizes": {"x": [1, 2.5]}}, "sizes['x'][1] must be an int or None, got float 2.5"),
        ({"sizes": {3: [1]}}, "a key of sizes must be a str, got int 3"),
        ({"sizes": (1, 8)}, "sizes must be a dict or None, got tuple (1, 8)"),
        ({"many": [3]}, "many[0] must be a dict, got int 3"),
        ({"many": [{"x": 3}]}, "many[0]['x'] must be an array, got int 3"),
        ({"many": "x.npz"}, "many must be an iterable, got str 'x.npz'"),
        ({"pair": ("1", 2)}, "pair[0] must be an int, got str '1'"),
        ({"pair": None}, "pair must be an int or a tuple, got None"),
        ({"word": "c"}, "word must be 'a' or 'b', got str 'c'"),
        ({"path": 3}, "path must be a str or a path, got int 3"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(gcomp.InputError, match=f"^{re.escape('sample: ' + complaint)}$"):
        sample(**arguments)


def test_missing_and_unknown_arguments_are_pythons_to_refuse() -> None:
    with pytest.raises(TypeError, match=r"lift\(\) missing 1 required positional argument: 'model'"):
        gcomp.lift()  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match=r"parse\(\) got an unexpected keyword argument 'txt'"):
        gcomp.parse(txt="")  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("given", [3, ["image"], None])
@pytest.mark.parametrize("target", ["llvm", "reference"])
def test_a_call_by_name_takes_a_dict(repository: Path, target: str, given: Any) -> None:
    module = gcomp.compile(repository / "examples" / "digits.onnx", target)
    with pytest.raises(gcomp.InputError, match=r"takes arrays as a dict by input name, got "):
        module.run(given)


def test_warnings_point_at_who_called(repository: Path) -> None:
    with pytest.warns(UserWarning, match="Abacus") as caught:
        gcomp.InferenceSession(repository / "examples" / "digits.onnx", providers=["Abacus"])
    assert caught[0].filename == __file__
