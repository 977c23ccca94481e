"""Trains a small convolutional network on scikit-learn's handwritten digits and writes it as ONNX.

Run it from the repository's root, with torch, scikit-learn, onnx, onnxruntime, numpy and click installed:

    python -m examples.train_digits

It writes, beside itself unless told otherwise:

digits.onnx
    ``image`` float32 [batch, 1, 8, 8] to ``logits`` float32 [batch, 10]; BatchNormalization unfolded.
digits.npz
    ``test_images`` uint8 [797, 1, 8, 8] and ``test_labels`` uint8 [797], held out from training, and
    ``calibration`` uint8 [200, 1, 8, 8], a part of the training images.

The scans have grey levels 0 (paper) to 16 (ink). The network's input is ``pixels / 16``, in float32.
The recipe is fixed and seeded; nothing is selected on the held-out images. A second run on the same
machine and versions writes the same files.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import numpy.typing as npt
import onnx

from examples.networks import EPSILON, GraphBuilder

if TYPE_CHECKING:
    import torch  # pyright: ignore[reportMissingImports]

SEED = 7
TEST_IMAGES = 797
CALIBRATION_IMAGES = 200
LEVELS = 16
CHANNELS = (12, 24, 40)  # of the three convolutions
HIDDEN = 48
CLASSES = 10
EPOCHS = 150
BATCH = 50
LEARNING_RATE = 4e-3
MINIMUM_ACCURACY = 0.97

Weights = dict[str, npt.NDArray[np.float32]]
Pixels = npt.NDArray[np.uint8]


def scale(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Grey levels 0..16 to the network's input."""
    return pixels.astype(np.float32) / np.float32(LEVELS)


def load() -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Training images and labels, then test images and labels, split evenly over the classes."""
    from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]
    from sklearn.model_selection import train_test_split  # pyright: ignore[reportMissingImports]

    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    labels = digits.target.astype(np.uint8)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_IMAGES, random_state=SEED, stratify=labels
    )
    return images[train], labels[train], images[test], labels[test]


def augment(images: "torch.Tensor") -> "torch.Tensor":
    """Each image under a small random rotation, scaling, shear and shift."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]

    def spread(width: float) -> torch.Tensor:
        return (torch.rand(len(images)) * 2 - 1) * width

    angle, shear, width, height = spread(0.2), spread(0.15), 1 + spread(0.12), 1 + spread(0.12)
    right, down = spread(0.2), spread(0.2)  # in half widths of the image: 0.25 is one pixel
    rows = (
        torch.stack((width * angle.cos(), shear - angle.sin(), right), dim=1),
        torch.stack((angle.sin(), height * angle.cos(), down), dim=1),
    )
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", align_corners=False)


def train(images: Pixels, labels: Pixels) -> Weights:
    """The trained weights, under the names the ONNX graph uses."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    first, second, third = CHANNELS
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(1, first, 3, padding=1, bias=False))
    net.add_module("bn1", nn.BatchNorm2d(first, eps=EPSILON))
    net.add_module("relu1", nn.ReLU())
    net.add_module("conv2", nn.Conv2d(first, second, 3, padding=1, bias=False))
    net.add_module("bn2", nn.BatchNorm2d(second, eps=EPSILON))
    net.add_module("relu2", nn.ReLU())
    net.add_module("pool2", nn.MaxPool2d(2))
    net.add_module("conv3", nn.Conv2d(second, third, 3, padding=1, bias=False))
    net.add_module("bn3", nn.BatchNorm2d(third, eps=EPSILON))
    net.add_module("relu3", nn.ReLU())
    net.add_module("pool3", nn.MaxPool2d(2))
    net.add_module("flatten", nn.Flatten())
    net.add_module("drop", nn.Dropout(0.25))
    net.add_module("fc1", nn.Linear(third * 4, HIDDEN))
    net.add_module("relu4", nn.ReLU())
    net.add_module("fc2", nn.Linear(HIDDEN, CLASSES))

    x = torch.from_numpy(scale(images))
    y = torch.from_numpy(labels.astype(np.int64))
    steps = -(-len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * steps)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    net.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = criterion(net(augment(x[batch])), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        if (epoch + 1) % 25 == 0:
            click.echo(f"epoch {epoch + 1}: training loss {total / len(x):.4f}")
    return {name: value.numpy() for name, value in net.state_dict().items() if value.dtype == torch.float32}


def build(weights: Weights) -> onnx.ModelProto:
    """The network as an ONNX model in inference form."""
    net = GraphBuilder("digits")

    def parameters(name: str, *parts: str) -> list[str]:
        return [net.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in parts]

    x = "image"
    for i in (1, 2, 3):
        x = net.node(
            "Conv", f"conv{i}", x, *parameters(f"conv{i}", "weight"), kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )
        norm = parameters(f"bn{i}", "weight", "bias", "running_mean", "running_var")
        x = net.node("BatchNormalization", f"bn{i}", x, *norm, epsilon=EPSILON)
        x = net.node("Relu", f"relu{i}", x)
        if i > 1:
            x = net.node("MaxPool", f"pool{i}", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", "flatten", x, axis=1)
    x = net.node("Gemm", "fc1", x, *parameters("fc1", "weight", "bias"), transB=1)
    x = net.node("Relu", "relu4", x)
    net.node("Gemm", "fc2", x, *parameters("fc2", "weight", "bias"), transB=1)
    return net.model("image", ("batch", 1, 8, 8), "logits", ("batch", CLASSES))


def accuracy(model: onnx.ModelProto, images: Pixels, labels: Pixels) -> float:
    """The share of images that onnxruntime classifies correctly."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = np.asarray(session.run(["logits"], {"image": scale(images)})[0])
    return float(np.mean(logits.argmax(axis=1) == labels))


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(__file__).parent,
    help="Folder to write to; this script's own unless given.",
)
def main(out: Path) -> None:
    """Train the network, check it and write digits.onnx and digits.npz."""
    train_images, train_labels, test_images, test_labels = load()
    model = build(train(train_images, train_labels))
    onnx.checker.check_model(model, full_check=True)
    correct = accuracy(model, test_images, test_labels)
    click.echo(f"training images: {accuracy(model, train_images, train_labels):.2%} correct")
    click.echo(f"held-out images: {correct:.2%} correct of {len(test_labels)}")
    if correct < MINIMUM_ACCURACY:
        raise click.ClickException(f"accuracy is below {MINIMUM_ACCURACY:.0%}; nothing written")
    onnx.save(model, out / "digits.onnx")
    np.savez_compressed(
        out / "digits.npz",
        test_images=test_images,
        test_labels=test_labels,
        calibration=train_images[:CALIBRATION_IMAGES],
    )


if __name__ == "__main__":
    main()
