"""Each operator's reference against ONNX Runtime, on the operator's own samples."""

from __future__ import annotations

from itertools import islice

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented

from gcomp.ir import Value
from gcomp.op import Argument, Constant, Operator, operators
from gcomp.tolerance import mismatch
from gcomp.types import dtype_of

NEWEST = 21  # the opset that all of ONNX Runtime's kernels of the CPU know

# Samples that ONNX Runtime does not run or runs otherwise than the standard says: (operator, place) -> why.
BEYOND: dict[tuple[str, int], str] = {}


def opset(cls: type[Operator]) -> int:
    """The newest opset in which a node of this name is this class."""
    namesakes = [c.since for c in operators().values() if (c.domain, c.onnx) == (cls.domain, cls.onnx)]
    later = [since for since in namesakes if since > cls.since]
    return min([NEWEST, *(since - 1 for since in later)]) if cls.since <= NEWEST else cls.since


def cases() -> list[object]:
    found: list[object] = []
    for name, cls in sorted(operators().items()):
        if cls.onnx and cls is not Constant:
            for place, _ in enumerate(cls.samples()):
                found.append(pytest.param(name, place, id=f"{name}-{place}"))
    return found


def values_for(op: Operator, seed: int) -> dict[Value, np.ndarray]:
    """Seeded arrays for the operands that come from nowhere, the arrays of the constants."""
    rng = np.random.default_rng(seed)
    found: dict[Value, np.ndarray] = {}
    for value in op.inputs:
        owner = value.owner
        if isinstance(owner, Constant):
            found[value] = owner.value
        elif isinstance(owner, Argument):
            dtype = value.type.dtype
            spread = rng.uniform(owner.low, owner.high, value.type.static_shape)
            if dtype.name == "bool":
                found[value] = spread > (owner.low + owner.high) / 2
            else:
                found[value] = (np.floor(spread) if dtype.is_integer else spread).astype(dtype.numpy)
        else:
            raise TypeError(f"{op.kind} has the operand {value!r}")
    return found


def proto(array: np.ndarray, name: str) -> TensorProto:
    dtype = dtype_of(array)
    return helper.make_tensor(name, dtype.code, array.shape, np.ascontiguousarray(array).tobytes(), raw=True)


def node_attributes(op: Operator) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in op.attributes.items():
        if value is not None:
            is_array = isinstance(value, np.ndarray)
            found[type(op).onnx_names.get(name, name)] = numpy_helper.from_array(value) if is_array else value
    return found


def model_of(op: Operator, arrays: dict[Value, np.ndarray]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of the one node, and what to feed it."""
    feeds: dict[str, np.ndarray] = {}
    inputs, initialisers, names = [], [], dict[Value, str]()
    for value in dict.fromkeys(op.inputs):
        names[value] = name = f"x{len(names)}"
        if isinstance(value.owner, Constant):
            initialisers.append(proto(arrays[value], name))
        else:
            inputs.append(helper.make_tensor_value_info(name, value.type.dtype.code, value.type.static_shape))
            feeds[name] = arrays[value]
    outputs = [f"y{index}" for index in range(len(op.results))]
    given = ["" if value is None else names[value] for value in op.operands]
    while given and not given[-1]:
        given.pop()
    node = helper.make_node(
        type(op).onnx,
        given,
        outputs,
        domain=type(op).domain,
        **node_attributes(op),
    )
    graph = helper.make_graph(
        [node],
        "one",
        inputs,
        [
            helper.make_tensor_value_info(name, value.type.dtype.code, None)
            for name, value in zip(outputs, op.results, strict=True)
        ],
        initialisers,
    )
    imports = [helper.make_opsetid("", opset(type(op)) if not type(op).domain else NEWEST)]
    if type(op).domain:
        imports.append(helper.make_opsetid(type(op).domain, 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=10), feeds


def judged(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime makes of the model or, where it has no kernel for the types, ONNX's own evaluator."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except NotImplemented as missing:
        if "Could not find an implementation" not in str(missing):
            raise
        return ReferenceEvaluator(model).run(None, feeds)
    return session.run(None, feeds)


@pytest.mark.parametrize(("name", "place"), cases())
def test_reference_agrees_with_onnxruntime(name: str, place: int) -> None:
    op = next(islice(operators()[name].samples(), place, None))
    arrays = values_for(op, place)
    found = op.reference(*(None if value is None else arrays[value] for value in op.operands))
    found = found if isinstance(found, tuple) else (found,)
    assert len(found) == len(op.results)
    for array, value in zip(found, op.results, strict=True):
        assert dtype_of(array) == value.type.dtype
        assert array.shape == value.type.static_shape
    if (name, place) in BEYOND:
        return
    for array, theirs in zip(found, judged(*model_of(op, arrays)), strict=True):
        assert not (wrong := mismatch(array, theirs, op.tolerance)), wrong
