"""The engines, each with its optimisations off and on, as a program that answers on a pipe.

`python engines.py NAME FILE_DESCRIPTOR` runs in a process of its own, by an interpreter that has the engine:
it needs numpy, onnx and the engine, not gcomp.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

Arrays = list[Any]
Inputs = dict[str, Any]
Run = Callable[[Inputs], Arrays]
Opened = tuple[str, Callable[[bytes, bool], Run]]
"""An engine's version, and what opens a model, optimised or not."""

MEMORY = 8 << 30
"""Bytes of address space that an engine may take."""


def onnx_runtime() -> Opened:
    """ONNX Runtime on the CPU with all its graph optimisations, or none."""
    import onnxruntime

    def open_model(model: bytes, optimised: bool) -> Run:
        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda inputs: list(session.run(None, inputs))

    return onnxruntime.__version__, open_model


def openvino() -> Opened:
    """OpenVINO's CPU plug-in in f32; not optimised, the model as read, by its operators' own `evaluate`."""
    import openvino as vino  # pyright: ignore[reportMissingImports]

    core = vino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "INFERENCE_NUM_THREADS": 1,
    }

    def tensors(ports: list[set[str]], inputs: Inputs) -> list[Any]:
        if len(ports) == len(inputs):  # an input may have lost its name to its copy's
            return [vino.Tensor(array) for array in inputs.values()]
        return [vino.Tensor(inputs[name]) for names in ports for name in names & inputs.keys()]

    def open_model(model: bytes, optimised: bool) -> Run:
        read = core.read_model(model=model)  # drops inputs that nothing reads
        ports = [port.names for port in read.inputs]
        if optimised:
            request = core.compile_model(read, "CPU", settings).create_infer_request()
            outputs = range(len(read.outputs))

            def infer(inputs: Inputs) -> Arrays:
                request.infer(tensors(ports, inputs))
                return [np.array(request.get_output_tensor(place).data) for place in outputs]

            return infer

        def evaluate(inputs: Inputs) -> Arrays:
            found = [
                vino.Tensor(port.element_type, vino.Shape() if port.partial_shape.is_dynamic else port.shape)
                for port in read.outputs
            ]
            if not read.evaluate(found, tensors(ports, inputs)):
                raise NotImplementedError("evaluate")
            return [np.array(tensor.data) for tensor in found]

        return evaluate

    return vino.__version__.partition("-")[0], open_model


def tvm() -> Opened:
    """TVM's Relax on LLVM, with its default pipeline, or with no more of it than code needs."""
    import onnx
    import tvm  # pyright: ignore[reportMissingImports]
    from tvm import relax  # pyright: ignore[reportMissingImports]
    from tvm.relax.backend.cpu_generic import pipeline  # pyright: ignore[reportMissingImports]
    from tvm.relax.frontend.onnx import from_onnx  # pyright: ignore[reportMissingImports]

    target = tvm.target.Target("llvm")

    def open_model(model: bytes, optimised: bool) -> Run:
        module = from_onnx(onnx.load_from_string(model), keep_params_in_input=False)  # pyright: ignore[reportArgumentType]
        if optimised:
            executable = tvm.compile(module, target=target)
        else:
            needed = [
                *pipeline.library_dispatch_passes(target),
                relax.transform.LegalizeOps(),
                *pipeline.dataflow_lower_passes(target),
                *[p for p in pipeline.finalize_passes(target) if p.info.name != "StaticPlanBlockMemory"],
            ]
            with target, tvm.transform.PassContext(opt_level=0):
                executable = tvm.compile(
                    module, target=target, relax_pipeline=tvm.transform.Sequential(needed)
                )
        machine = relax.VirtualMachine(executable, tvm.cpu())  # pyright: ignore[reportArgumentType]
        names = [parameter.name for parameter in module["main"].params]

        def run(inputs: Inputs) -> Arrays:
            found = machine["main"](*(tvm.runtime.tensor(inputs[name]) for name in names))
            return [one.numpy() for one in ([found] if hasattr(found, "numpy") else found)]

        return run

    return tvm.__version__, open_model


def onnx_reference() -> Opened:
    """The reference evaluator of the onnx package, which optimises nothing."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    def open_model(model: bytes, optimised: bool) -> Run:
        evaluator = ReferenceEvaluator(onnx.load_from_string(model))

        def run(inputs: Inputs) -> Arrays:
            with np.errstate(all="ignore"):
                found = evaluator.run(None, inputs)
            return [np.asarray(one) for one in found]

        return run

    return onnx.__version__, open_model


ENGINES: dict[str, Callable[[], Opened]] = {
    "onnxruntime": onnx_runtime,
    "openvino": openvino,
    "tvm": tvm,
    "onnx": onnx_reference,
}


def answer(
    open_model: Callable[[bytes, bool], Run], model: bytes, inputs: Inputs, optimised: bool
) -> tuple[Any, ...]:
    """("ran", outputs, outputs of a second run), or ("refused", the error's text)."""
    try:
        run = open_model(model, optimised)
        return "ran", *(run({name: array.copy() for name, array in inputs.items()}) for _ in range(2))
    except Exception as error:  # engines raise whatever they like
        return "refused", f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str]) -> None:
    """Answers (model, inputs, optimised) with `answer`, after the version, until the pipe closes."""
    name, descriptor = arguments
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    version, open_model = ENGINES[name]()
    with Connection(int(descriptor)) as pipe:
        pipe.send(version)
        while True:
            try:
                request = pipe.recv()
            except EOFError:
                return
            pipe.send(answer(open_model, *request))


if __name__ == "__main__":
    main(sys.argv[1:])
