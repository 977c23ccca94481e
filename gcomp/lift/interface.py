"""The inputs of a model: their types, with names for open sizes and the values that a user gives."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from onnx import ValueInfoProto

from ..diagnostics import InputError, ModelError, UnsupportedError
from ..dim import Dim, Range, symbol
from ..types import TensorType
from .tensors import element_type


class Interface:
    """Turns declared inputs into types; `dim_params` maps symbols to the model's names for them."""

    def __init__(self) -> None:
        self.dim_params: dict[str, str] = {}

    def declared_type(self, info: ValueInfoProto, shape: Sequence[int | None] | None = None) -> TensorType:
        """The type of an input as the model has it; an input of unknown rank takes that of `shape`."""
        kind = info.type.WhichOneof("value")
        if kind is None:
            raise ModelError(f"input {info.name!r} has no type")
        if kind != "tensor_type":
            what = kind.removesuffix("_type")
            raise UnsupportedError(f"input {info.name!r} is a {what}; gcomp takes tensors")
        tensor = info.type.tensor_type
        dtype = element_type(tensor.elem_type, f"input {info.name!r}")
        if not tensor.HasField("shape"):
            if shape is None:
                raise UnsupportedError(
                    f"input {info.name!r} has no shape; give one: shapes={{{info.name!r}: (...)}}"
                )
            return TensorType(dtype, tuple(self._symbol(f"{info.name}_{axis}") for axis in range(len(shape))))
        sizes: list[Dim] = []
        for axis, dim in enumerate(tensor.shape.dim):
            named = dim.dim_param if re.search(r"\w", dim.dim_param) else ""
            if dim.HasField("dim_value") and dim.dim_value >= 0:
                sizes.append(dim.dim_value)
            else:
                sizes.append(self._symbol(named or f"{info.name}_{axis}"))
        return TensorType(dtype, tuple(sizes))

    def _symbol(self, name: str) -> Dim:
        """An identifier for each name, the same for the same name and another for another."""
        clean = str(symbol(name))
        unique, number = clean, 1
        while self.dim_params.get(unique, name) != name:
            number += 1
            unique = f"{clean}_{number}"
        self.dim_params[unique] = name
        return symbol(unique)


def bound_types(
    declared: Mapping[str, TensorType],
    dim_params: Mapping[str, str],
    shapes: Mapping[str, Sequence[int | None]],
    dims: Mapping[str, int],
) -> dict[str, TensorType]:
    """The declared types with the sizes that `shapes` gives by input and `dims` by symbol.

    Raises `InputError` for unknown names, wrong lengths, and sizes that contradict the model or each other.
    """
    sizes: dict[str, int] = {}
    said: dict[str, str] = {}

    def settle(name: str, size: int, source: str) -> None:
        if isinstance(size, bool) or size < 0:
            raise InputError(f"{source}: a size is a whole number, not {size!r}")
        if sizes.setdefault(name, size) != size:
            raise InputError(f"the size {name!r} is {sizes[name]} by {said[name]}, but {size} by {source}")
        said.setdefault(name, source)

    for name, size in dims.items():
        settle(_clean(dim_params, name), size, f"dims[{name!r}]")
    for name, shape in shapes.items():
        if name not in declared:
            inputs = ", ".join(declared) or "none"
            raise InputError(f"shapes: the model has no input {name!r}; it has: {inputs}")
        if len(shape) != declared[name].rank:
            raise InputError(f"shapes[{name!r}]: {tuple(shape)} has {len(shape)} sizes for {declared[name]}")
        for axis, (dim, size) in enumerate(zip(declared[name].shape, shape, strict=True)):
            source = f"shapes[{name!r}]"
            if size is None:
                continue
            if not isinstance(dim, int):
                settle(str(dim), size, source)
            elif dim != size:
                raise InputError(f"{source}: axis {axis} is {dim} in the model, {declared[name]}, not {size}")
    return {name: type.substitute(sizes) for name, type in declared.items()}


def declared_ranges(
    dim_params: Mapping[str, str], ranges: Mapping[str, Range], symbols: Collection[str]
) -> dict[str, Range]:
    """The ranges by `symbols`, those that inputs still have. Raises `InputError` for others."""
    found: dict[str, Range] = {}
    for name, (low, high) in ranges.items():
        clean = _clean(dim_params, name)
        if clean not in symbols:
            raise InputError(f"dims[{name!r}]: {low}..{high} is a range, but shapes= gives the size itself")
        found[clean] = (low, high)
    return found


def _clean(dim_params: Mapping[str, str], name: str) -> str:
    """The symbol that is called so here or in the model. Raises `InputError`."""
    known = {raw: clean for clean, raw in dim_params.items()}
    if name not in dim_params and name not in known:
        symbols = ", ".join(dim_params) or "none"
        raise InputError(f"dims: the model has no symbolic size {name!r}; it has: {symbols}")
    return name if name in dim_params else known[name]
