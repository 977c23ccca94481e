"""Builds MobileNetV2 (width 1.0, 224x224, 1000 classes) with seeded random weights as an ONNX model.

The graph is what an exporter leaves: BatchNormalization nodes unfolded, ReLU6 as Clip(0, 6), depthwise
convolutions as grouped Conv nodes. The weights mean nothing; the file serves timing and correctness
checks at a realistic size. Needs numpy, onnx and click; from the repository's root:

    python -m examples.mobilenet_v2 mobilenet_v2.onnx
"""

from pathlib import Path

import click
import onnx

from examples.networks import Dim, RandomNetwork

SIZE = 224
CLASSES = 1000
STEM = 32
HEAD = 1280
STAGES = (  # expansion, output channels, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def conv_bn_relu6(
    net: RandomNetwork,
    x: str,
    name: str,
    channels: tuple[int, int],
    kernel: int,
    stride: int = 1,
    group: int = 1,
) -> str:
    """Conv, BatchNormalization and Clip(0, 6)."""
    x = net.conv(x, f"{name}.conv", channels, kernel, stride, group)
    x = net.batch_norm(x, f"{name}.bn", channels[1])
    return net.node(
        "Clip", f"{name}.relu6", x, net.constant("relu6.min", 0.0), net.constant("relu6.max", 6.0)
    )


def inverted_residual(
    net: RandomNetwork, x: str, name: str, channels: tuple[int, int], expansion: int, stride: int
) -> str:
    """Expansion, depthwise convolution and linear projection, with a shortcut where the shapes allow it."""
    inputs, outputs = channels
    hidden = inputs * expansion
    y = x
    if expansion != 1:
        y = conv_bn_relu6(net, y, f"{name}.expand", (inputs, hidden), 1)
    y = conv_bn_relu6(net, y, f"{name}.depthwise", (hidden, hidden), 3, stride, hidden)
    y = net.conv(y, f"{name}.project.conv", (hidden, outputs), 1)
    y = net.batch_norm(y, f"{name}.project.bn", outputs)
    return net.node("Add", f"{name}.add", x, y) if stride == 1 and inputs == outputs else y


def build(seed: int = 0, batch: Dim = 1) -> onnx.ModelProto:
    """The model, from ``image`` [batch, 3, 224, 224] to ``logits`` [batch, 1000]; ``batch`` may be a name."""
    net = RandomNetwork("mobilenet_v2", seed)
    x = conv_bn_relu6(net, "image", "stem", (3, STEM), 3, 2)
    inputs = STEM
    for stage, (expansion, outputs, blocks, stride) in enumerate(STAGES, 1):
        for block in range(blocks):
            name = f"stage{stage}.{block}"
            x = inverted_residual(net, x, name, (inputs, outputs), expansion, stride if block == 0 else 1)
            inputs = outputs
    x = conv_bn_relu6(net, x, "head", (inputs, HEAD), 1)
    net.classifier(x, HEAD, CLASSES)
    return net.model("image", (batch, 3, SIZE, SIZE), "logits", (batch, CLASSES))


@click.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Seed of the random weights.")
@click.option("--batch", default="1", show_default=True, help="Batch size, or a name for a symbolic one.")
def main(output: Path, seed: int, batch: str) -> None:
    """Write MobileNetV2 with random weights to OUTPUT."""
    onnx.save(build(seed, int(batch) if batch.isdigit() else batch), output)


if __name__ == "__main__":
    main()
