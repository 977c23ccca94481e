"""Each operator's reference against ONNX Runtime, on the operator's own samples."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented

import gcomp
from gcomp import save_onnx
from gcomp.ir import Value
from gcomp.op import Argument, Constant, Operator, argument, constant_value, operators
from gcomp.ops import (
    BatchNormalization,
    Elu,
    Gemm,
    HardSigmoid,
    LayerNormalization,
    LeakyRelu,
    ThresholdedRelu,
)
from gcomp.testing.samples import array_for, graph_of
from gcomp.tolerance import mismatch
from gcomp.types import BF16, F64, TensorType, dtype_of

NEWEST = 21  # the opset that all of ONNX Runtime's kernels of the CPU know


RESULT_COUNTS = ("outputs", "num_outputs")  # fields that a node says by the number of its outputs


def beyond(op: Operator, arrays: dict[Value, np.ndarray]) -> str:
    """Why no other implementation can judge this sample; empty if one can."""
    values = list(arrays.values())
    floats = [array for array in values if array.dtype.kind == "f"]
    if any(value.type.dtype == BF16 for value in (*op.inputs, *op.results)):
        return "neither ONNX Runtime nor ONNX's evaluator takes arrays of bf16"
    if op.kind in ("Div", "Mod") and values[-1].dtype.kind in "iu" and np.isin(values[-1], (0, -1)).any():
        return "integers divided by zero, or the least by -1: defined here, but ONNX Runtime traps"
    if op.kind in ("Cast", "CastLike") and op.results[0].type.dtype.is_integer and floats:
        limits = np.iinfo(op.results[0].type.dtype.numpy)
        if not ((floats[0] > limits.min - 1.0) & (floats[0] < limits.max + 1.0)).all():
            return "floats beyond the range of the integers: saturated here, undefined in ONNX Runtime"
    if op.kind in ("ArgMax", "ArgMin") and any(np.isnan(array).any() for array in floats):
        return "the place of a NaN, which ONNX Runtime overlooks"
    if op.kind == "GlobalLpPool" and floats[0].dtype != np.float32:
        return "ONNX Runtime has the operator for f32 alone, and ONNX's evaluator has it not"
    if op.kind == "ConvInteger" and len(values) > 3 and values[3].size > 1:
        return "a zero point per filter, which ONNX Runtime has not"
    if op.kind == "QuantizeLinear" and op.attributes["block_size"] and values[1].size == 1:
        return "one scale beside a size of blocks, which ONNX Runtime refuses"
    return ""


def opset(cls: type[Operator]) -> int:
    """The newest opset in which a node of this name is this class."""
    if cls.domain:
        return NEWEST
    namesakes = [c.since for c in operators().values() if (c.domain, c.onnx) == (cls.domain, cls.onnx)]
    newest = min([max(NEWEST, cls.since), *(since - 1 for since in namesakes if since > cls.since)])
    while newest > cls.since and onnx.defs.get_schema(cls.onnx, newest).deprecated:
        newest -= 1
    return newest


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
        known = constant_value(value)
        if known is None:
            assert isinstance(value.owner, Argument), f"{op.kind} has the operand {value!r}"
            known = array_for(value.owner, rng)
        found[value] = known
    return found


def proto(array: np.ndarray, name: str) -> TensorProto:
    dtype = dtype_of(array)
    return helper.make_tensor(name, dtype.code, array.shape, np.ascontiguousarray(array).tobytes(), raw=True)


def node_attributes(op: Operator) -> dict[str, Any]:
    """The attributes that the schema knows; others must have their default."""
    cls, found = type(op), dict[str, Any]()
    known = None if cls.domain else onnx.defs.get_schema(cls.onnx, opset(cls)).attributes
    for field, value in op.attributes.items():
        name = cls.onnx_names.get(field, field)
        if field in RESULT_COUNTS and known is not None and name not in known:
            continue
        if value is not None and (known is None or name in known):
            found[name] = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        else:
            assert value is None or value == getattr(cls, field), f"{op.kind} has no attribute {name}"
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
    imports = [helper.make_opsetid("", opset(type(op))), helper.make_opsetid("com.microsoft", 1)]
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
        return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, feeds)]
    return [np.asarray(array) for array in session.run(None, feeds)]


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
    if beyond(op, arrays):
        return
    for array, theirs in zip(found, judged(*model_of(op, arrays)), strict=True):
        if array.dtype == np.float64:  # attributes are of f32, and so are some of their kernels inside
            array, theirs = array.astype(np.float32), theirs.astype(np.float32)
        assert not (wrong := mismatch(array, theirs, op.tolerance)), wrong


F64_VECTOR, F64_MATRIX = TensorType(F64, (3,)), TensorType(F64, (4, 3))
SCALED = {
    "LeakyRelu": LeakyRelu(argument(F64_MATRIX)),
    "HardSigmoid": HardSigmoid(argument(F64_MATRIX)),
    "Elu": Elu(argument(F64_MATRIX), alpha=0.3),
    "ThresholdedRelu": ThresholdedRelu(argument(F64_VECTOR, 0.1, 0.100000001), alpha=0.1),
    "Gemm": Gemm(argument(F64_MATRIX), argument(TensorType(F64, (3, 4))), alpha=0.1),
    "BatchNormalization": BatchNormalization(
        argument(F64_MATRIX),
        argument(F64_VECTOR),
        argument(F64_VECTOR),
        argument(F64_VECTOR),
        argument(F64_VECTOR, 0.0, 0.01),
        epsilon=1e-3,
    ),
    "LayerNormalization": LayerNormalization(argument(F64_MATRIX), argument(F64_VECTOR)),
}


@pytest.mark.parametrize("name", SCALED)
def test_a_float_attribute_has_single_precision_beside_doubles(name: str) -> None:
    """As ONNX holds it: 0.01 is 0.009999999776482582 there."""
    graph, arrays = graph_of(SCALED[name])
    model = save_onnx(graph)
    (expected,) = ReferenceEvaluator(model).run(None, dict(zip(graph.input_names, arrays, strict=True)))
    for target in ("reference", "llvm", "llvm{templates=off}"):
        (actual,) = gcomp.compile(model, target)(*arrays)
        assert not mismatch(actual, np.asarray(expected), "close"), target
