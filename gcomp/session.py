"""`InferenceSession`, which behaves as ONNX Runtime's does: its users change one import."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from .arguments import checked
from .compiler import compile
from .diagnostics import InputError, warn
from .port import Port
from .precision import DEFAULT
from .target import Target
from .types import Array, DType, dtype_of

PROVIDERS = ("CPUExecutionProvider",)

_ONNX_NAMES = {"f32": "float", "f64": "double", "f16": "float16", "bf16": "bfloat16", "str": "string"}


@dataclass(frozen=True)
class NodeArg:
    """An input or output: its name, a type such as `tensor(float)`, a shape of integers and names."""

    name: str
    type: str
    shape: list[int | str]


class InferenceSession:
    """A model ready to run, with the methods of `onnxruntime.InferenceSession`.

    Sizes left open by the model are compiled for when they first appear. Of the session options the number
    of threads within an operator counts; `providers` other than the CPU's are warned of and ignored. Sessions
    may be shared between threads. Raises `ModelError` and `UnsupportedError` for models it cannot take.
    """

    @checked
    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        sess_options: Any = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        *,
        target: str | Target = "llvm",
        precision: str = DEFAULT,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise InputError(f"InferenceSession has no option {', '.join(unknown)}")
        _warn_of_providers(providers or ())
        threads = int(getattr(sess_options, "intra_op_num_threads", 0)) or 1
        self._module = compile(path_or_bytes, target=target, precision=precision, threads=threads)
        self._inputs, self._outputs = self._module.inputs, self._module.outputs

    @checked
    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[Array]:
        """The outputs asked for by name, all of them for None, for the inputs by name.

        Raises `InputError` for missing or unknown names, and for arrays of another type, rank or size.
        """
        known = [port.name for port in self._outputs]
        wanted = list(output_names or known)
        if strangers := [name for name in wanted if name not in known]:
            raise InputError(f"Invalid output name: {', '.join(strangers)}; the model has {', '.join(known)}")
        given = self._arrays(input_feed)
        found = dict(zip(known, self._module(*given), strict=True))
        return [found[name] for name in wanted]

    def get_inputs(self) -> list[NodeArg]:
        return [_node_arg(port) for port in self._inputs]

    def get_outputs(self) -> list[NodeArg]:
        return [_node_arg(port) for port in self._outputs]

    def get_providers(self) -> list[str]:
        return list(PROVIDERS)

    def _arrays(self, feed: Mapping[str, Any]) -> list[Array]:
        names = [port.name for port in self._inputs]
        if missing := [name for name in names if name not in feed]:
            raise InputError(f"Required inputs ({missing}) are missing from input feed ({list(feed)}).")
        if strangers := [name for name in feed if name not in names]:
            raise InputError(f"Invalid input name: {', '.join(strangers)}; the model has {', '.join(names)}")
        return [_checked(port, feed[port.name]) for port in self._inputs]


def _checked(port: Port, given: Any) -> Array:
    """The array for an input, or `InputError` in ONNX Runtime's words."""
    array = _as_array(port, given)
    try:
        actual = _type_name(dtype_of(array))
    except KeyError:
        actual = str(array.dtype)
    expected = _type_name(port.dtype)
    if actual != expected:
        raise InputError(
            f"Unexpected input data type for {port.name}. Actual: ({actual}), expected: ({expected})"
        )
    if array.ndim != len(port.shape):
        raise InputError(
            f"Invalid rank for input: {port.name} Got: {array.ndim} Expected: {len(port.shape)} "
            "Please fix either the inputs/outputs or the model."
        )
    wrong = [
        f" index: {axis} Got: {got} Expected: {want}"
        for axis, (got, want) in enumerate(zip(array.shape, port.shape, strict=True))
        if isinstance(want, int) and got != want
    ]
    if wrong:
        raise InputError(
            f"Got invalid dimensions for input: {port.name} for the following indices\n" + "\n".join(wrong)
        )
    return array


def _as_array(port: Port, given: Any) -> Array:
    if isinstance(given, np.ndarray):
        return cast("Array", given)
    try:
        if hasattr(given, "__dlpack__"):
            return np.from_dlpack(given)
        return np.asarray(given, port.dtype.numpy)
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise InputError(
            f"input {port.name}: {type(given).__name__} cannot be read as an array: {error}"
        ) from error


def _node_arg(port: Port) -> NodeArg:
    return NodeArg(port.name, _type_name(port.dtype), list(port.shape))


def _type_name(dtype: DType) -> str:
    name = dtype.name
    if name not in _ONNX_NAMES and name[0] in "iu":
        return f"tensor({'u' if name[0] == 'u' else ''}int{name[1:]})"
    return f"tensor({_ONNX_NAMES.get(name, name)})"


def _warn_of_providers(providers: Sequence[Any]) -> None:
    for provider in providers:
        name = provider if isinstance(provider, str) else provider[0]
        if name not in PROVIDERS:
            warn(f"Specified provider {name!r} is not available; gcomp has {', '.join(PROVIDERS)}")
