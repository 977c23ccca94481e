"""Which opsets a graph needs to be written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from onnx import defs

from ..diagnostics import UnsupportedError
from ..ir import Op
from ..op import Operator, operator_for
from ..types import DType
from .protos import onnx_name

NEVER = 1 << 30
"""The opset of what ONNX does not have."""


def choose_opsets(ops: Sequence[Op], source: Mapping[str, int], fixed: int | None) -> dict[str, int]:
    """The opset of each domain: that of the source, raised where an operator needs it.

    `fixed` is the opset to use for the standard operators. Raises `UnsupportedError` that lists all operators
    which ONNX does not have, or not in that opset.
    """
    written = [op for op in ops if isinstance(op, Operator) and op.onnx]
    opsets = {"": source[""] if fixed is None else fixed}
    for domain in {op.domain for op in written}:
        opsets.setdefault(domain, source.get(domain, 1))
    needed: list[int] = []
    before: dict[str, int] = {}
    while before != opsets:  # what one operator needs may change what another can do
        before = dict(opsets)
        needed = [needed_opset(op, before[op.domain]) for op in written]
        for op, version in zip(written, needed, strict=True):
            if version != NEVER:
                opsets[op.domain] = max(opsets[op.domain], version)
    pairs = list(zip(written, needed, strict=True))
    foreign = [op for op in ops if not (isinstance(op, Operator) and op.onnx)]
    foreign += [op for op, version in pairs if operator_for(op.domain, op.onnx, version) is not type(op)]
    foreign += [op for op, version in pairs if version == NEVER]
    if foreign:
        what = f"{len(foreign)} operators have" if len(foreign) > 1 else "1 operator has"
        raise UnsupportedError(
            f"{what} no form in ONNX: {', '.join(dict.fromkeys(map(_described, foreign)))}",
            origin=dict.fromkeys(name for op in foreign for name in op.origin),
        )
    if fixed is not None and opsets[""] > fixed:
        alone = [(op, needed_opset(op, fixed)) for op in written if op.domain == ""]
        late = {f"{op.kind} ({version})" for op, version in alone if version > fixed}
        raise UnsupportedError(f"opset {fixed} is too old for: {', '.join(sorted(late))}")
    return opsets


def is_expressible(op: Op) -> bool:
    """Whether some opset has the operator, for its operands, their types and its attributes."""
    if not isinstance(op, Operator) or not op.onnx:
        return False
    version = needed_opset(op, op.since)
    return version != NEVER and operator_for(op.domain, op.onnx, version) is type(op)


def needed_opset(op: Operator, opset: int) -> int:
    """The first version of the operator's domain, from `opset` on, that knows its operands, dtypes and
    attributes.

    `NEVER` if none does.
    """
    opset = max(opset, op.since)
    schemas = [schema for schema in _history(op.onnx, op.domain) if not schema.deprecated]
    known_then = [schema for schema in schemas if schema.since_version <= opset]
    later = [schema for schema in schemas if schema.since_version > opset]
    for schema in (*known_then[-1:], *later):
        if _fits(op, schema):
            return max(opset, schema.since_version)
    return NEVER if schemas else opset


def _fits(op: Operator, schema: defs.OpSchema) -> bool:
    operands = op.operands
    while operands and operands[-1] is None:
        operands.pop()
    if len(operands) > schema.max_input:
        return False
    allowed = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
    for place, value in enumerate(operands):
        declared = schema.inputs[min(place, len(schema.inputs) - 1)].type_str
        if value is not None and _type_name(value.type.dtype) not in allowed.get(declared, [declared]):
            return False
    return all(name in schema.attributes for name in _attributes_that_count(op))


def _attributes_that_count(op: Operator) -> list[str]:
    """The ONNX names of attributes, as far as any opset has them, that are not at their default."""
    newest = _history(op.onnx, op.domain)[-1]
    names = {field: onnx_name(op, field, newest) for field in op.attributes}
    equal_parts = len({value.type for value in op.results}) == 1
    return [
        names[field]
        for field, value in op.attributes.items()
        if value is not None
        and names[field] in newest.attributes
        and not (hasattr(type(op), field) and value == getattr(type(op), field))
        and not (field == "num_outputs" and equal_parts)  # told by the number of outputs
    ]


@cache
def _history(name: str, domain: str) -> list[defs.OpSchema]:
    """All versions of an operator, oldest first."""
    newest = defs.onnx_opset_version() if domain == "" else NEVER  # some are drafts of the next opset
    found = [
        schema
        for schema in defs.get_all_schemas_with_history()
        if (schema.name, schema.domain) == (name, domain) and schema.since_version <= newest
    ]
    return sorted(found, key=lambda schema: schema.since_version)


def _type_name(dtype: DType) -> str:
    name = {
        "bool": "bool",
        "str": "string",
        "f32": "float",
        "f64": "double",
        "bf16": "bfloat16",
        "f16": "float16",
    }
    return f"tensor({name.get(dtype.name) or dtype.numpy.name})"


def _described(op: Op) -> str:
    types = ", ".join(dict.fromkeys(str(value.type.dtype) for value in op.inputs))
    return f"{op.kind} of {types}" if isinstance(op, Operator) and op.onnx else op.kind
