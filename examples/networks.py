"""Shared pieces of the example networks: an ONNX graph builder and randomly weighted layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 8
EPSILON = 1e-5

Dim = int | str


class GraphBuilder:
    """Collects the nodes and initializers of one single-input, single-output float graph."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: npt.NDArray[np.float32] | float) -> str:
        """Adds an initializer, once per name, and returns the name."""
        if name not in self.initializers:
            array = np.ascontiguousarray(value, dtype=np.float32).reshape(np.shape(value))
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, named after the node, and returns the output's name."""
        output = f"{name}_output"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def model(
        self, source: str, source_shape: Sequence[Dim], result: str, result_shape: Sequence[Dim]
    ) -> onnx.ModelProto:
        """The finished model; the last node's output takes the name ``result``."""
        self.nodes[-1].output[0] = result
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(source, TensorProto.FLOAT, list(source_shape))],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, list(result_shape))],
            list(self.initializers.values()),
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="gcomp-examples",
        )


class RandomNetwork(GraphBuilder):
    """A graph whose layers draw their weights from one seeded generator, in the order they are added.

    The weights are scaled for signals of about unit size through the whole depth. Every filter sums
    to zero, which takes out the positive mean that Relu leaves behind; without it
    the outputs of a deep random network hardly depend on its input.
    """

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name)
        self.random = np.random.default_rng(seed)

    def normal(self, shape: Sequence[int], deviation: float) -> npt.NDArray[np.float32]:
        """Normal values around zero."""
        return self.random.standard_normal(tuple(shape), dtype=np.float32) * np.float32(deviation)

    def uniform(self, size: int, low: float, high: float) -> npt.NDArray[np.float32]:
        """Uniform values in [low, high)."""
        return self.random.random(size, dtype=np.float32) * np.float32(high - low) + np.float32(low)

    def conv(
        self, x: str, name: str, channels: tuple[int, int], kernel: int, stride: int = 1, group: int = 1
    ) -> str:
        """A square convolution without bias, padded to keep the size at stride 1, He-scaled."""
        inputs, outputs = channels
        fan_in = inputs // group * kernel * kernel
        weight = self.normal((outputs, inputs // group, kernel, kernel), (2.0 / fan_in) ** 0.5)
        weight -= weight.mean(axis=(1, 2, 3), keepdims=True)
        return self.node(
            "Conv",
            name,
            x,
            self.constant(f"{name}.weight", weight),
            dilations=[1, 1],
            group=group,
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[stride, stride],
        )

    def batch_norm(self, x: str, name: str, channels: int, gain: float = 1.0) -> str:
        """A BatchNormalization in inference form; ``gain`` is the mean of its scale."""
        return self.node(
            "BatchNormalization",
            name,
            x,
            self.constant(f"{name}.weight", self.uniform(channels, 0.75 * gain, 1.25 * gain)),
            self.constant(f"{name}.bias", self.normal((channels,), 0.1)),
            self.constant(f"{name}.running_mean", self.normal((channels,), 0.1)),
            self.constant(f"{name}.running_var", self.uniform(channels, 0.7, 1.4)),
            epsilon=EPSILON,
        )

    def classifier(self, x: str, inputs: int, classes: int) -> str:
        """GlobalAveragePool, Flatten and a Gemm called ``fc``."""
        x = self.node("GlobalAveragePool", "avgpool", x)
        x = self.node("Flatten", "flatten", x, axis=1)
        weight = self.normal((classes, inputs), (1.0 / inputs) ** 0.5)
        weight -= weight.mean(axis=1, keepdims=True)
        return self.node(
            "Gemm",
            "fc",
            x,
            self.constant("fc.weight", weight * np.float32(4.0)),
            self.constant("fc.bias", self.normal((classes,), 0.1)),
            alpha=1.0,
            beta=1.0,
            transB=1,
        )
