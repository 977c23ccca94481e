"""Builds ResNet-50 (v1.5, 224x224, 1000 classes) with seeded random weights as an ONNX model.

The graph is what an exporter leaves: BatchNormalization nodes unfolded, a stride of 2 on the 3x3
convolution of each downsampling block. The weights mean nothing; the file serves timing and
correctness checks at a realistic size. Needs numpy, onnx and click; from the repository's root:

    python -m examples.resnet50 resnet50.onnx
"""

from pathlib import Path

import click
import onnx

from examples.networks import Dim, RandomNetwork

SIZE = 224
CLASSES = 1000
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride of the first block
EXPANSION = 4
LAST_GAIN = 0.5  # scale of each block's last BatchNormalization, so that the residual sum grows slowly


def bottleneck(net: RandomNetwork, x: str, name: str, inputs: int, width: int, stride: int) -> str:
    """One residual block of 1x1, 3x3 and 1x1 convolutions."""
    outputs = width * EXPANSION
    y = net.conv(x, f"{name}.conv1", (inputs, width), 1)
    y = net.batch_norm(y, f"{name}.bn1", width)
    y = net.node("Relu", f"{name}.relu1", y)
    y = net.conv(y, f"{name}.conv2", (width, width), 3, stride)
    y = net.batch_norm(y, f"{name}.bn2", width)
    y = net.node("Relu", f"{name}.relu2", y)
    y = net.conv(y, f"{name}.conv3", (width, outputs), 1)
    y = net.batch_norm(y, f"{name}.bn3", outputs, LAST_GAIN)
    if stride != 1 or inputs != outputs:
        x = net.conv(x, f"{name}.downsample.conv", (inputs, outputs), 1, stride)
        x = net.batch_norm(x, f"{name}.downsample.bn", outputs)
    y = net.node("Add", f"{name}.add", y, x)
    return net.node("Relu", f"{name}.relu3", y)


def build(seed: int = 0, batch: Dim = 1) -> onnx.ModelProto:
    """The model, from ``image`` [batch, 3, 224, 224] to ``logits`` [batch, 1000]; ``batch`` may be a name."""
    net = RandomNetwork("resnet50", seed)
    x = net.conv("image", "conv1", (3, 64), 7, 2)
    x = net.batch_norm(x, "bn1", 64)
    x = net.node("Relu", "relu", x)
    x = net.node("MaxPool", "maxpool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    inputs = 64
    for stage, (width, blocks, stride) in enumerate(STAGES, 1):
        for block in range(blocks):
            x = bottleneck(net, x, f"layer{stage}.{block}", inputs, width, stride if block == 0 else 1)
            inputs = width * EXPANSION
    net.classifier(x, inputs, CLASSES)
    return net.model("image", (batch, 3, SIZE, SIZE), "logits", (batch, CLASSES))


@click.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Seed of the random weights.")
@click.option("--batch", default="1", show_default=True, help="Batch size, or a name for a symbolic one.")
def main(output: Path, seed: int, batch: str) -> None:
    """Write ResNet-50 with random weights to OUTPUT."""
    onnx.save(build(seed, int(batch) if batch.isdigit() else batch), output)


if __name__ == "__main__":
    main()
