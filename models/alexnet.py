"""AlexNet with two-group convolutions and weight averaging in mind, as published for Theano.

Ding, Wang, Mao, Taylor: "Theano-based Large-Scale Visual Recognition with Multiple GPUs", 2014
(arXiv 1412.2302): the network, initial weights, update rule, schedule and data handling.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find `models` and `symgraph` in this checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symgraph as sg
from models.common.classifier import Classifier
from models.common.commandline import build_parser, exit_with
from models.common.trainer import command
from symgraph.graph.node import Value
from symgraph.nn import LRN, Activation, Conv2d, Dense, Dropout, Flatten, MaxPool2d, Sequential
from symgraph.nn.init import constant, normal

SIDE = 227  # pixels


class AlexNet(sg.nn.Module):
    """Five convolutions (three of them in two groups) and three dense layers.

    Images (B, 3, 227, 227) -> logits (B, classes); 60,965,224 parameters for 1,000 classes.
    """

    def __init__(self, classes: int = 1000) -> None:
        def conv(inputs: int, outputs: int, kernel: int, bias: float, **options: Any) -> Conv2d:
            weight = normal(0.01)
            return Conv2d(inputs, outputs, kernel, weight=weight, bias=constant(bias), **options)

        def dense(inputs: int, outputs: int, std: float, bias: float) -> Dense:
            return Dense(inputs, outputs, weight=normal(std), bias=constant(bias))

        def relu() -> Activation:
            return Activation("relu")

        self.features = Sequential(
            conv(3, 96, 11, 0.0, stride=4), relu(), MaxPool2d(3, 2), LRN(),
            conv(96, 256, 5, 0.1, padding=2, groups=2), relu(), MaxPool2d(3, 2), LRN(),
            conv(256, 384, 3, 0.0, padding=1), relu(),
            conv(384, 384, 3, 0.1, padding=1, groups=2), relu(),
            conv(384, 256, 3, 0.0, padding=1, groups=2), relu(), MaxPool2d(3, 2),
        )  # fmt: skip
        self.classifier = Sequential(
            Flatten(),
            dense(9216, 4096, 0.005, 0.1), relu(), Dropout(0.5, inverted=False),
            dense(4096, 4096, 0.005, 0.1), relu(), Dropout(0.5, inverted=False),
            dense(4096, classes, 0.01, 0.0),
        )  # fmt: skip

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """Images (B, 3, 227, 227) -> logits (B, classes)."""
        return self.classifier(self.features(x, train=train), train=train)

    @property
    def filters(self) -> Value:
        """The first layer's filters, (96, 3, 11, 11)."""
        weight: Value = self.features[0].weight  # type: ignore[union-attr]
        return weight


def optimizer(net: sg.nn.Module, lr: float) -> sg.optim.SGD:
    """Momentum 0.9; weights decay by 5e-4; biases do not, and learn twice as fast."""
    return sg.optim.SGD(
        [
            sg.optim.Group(net.parameters("weight"), decay=5e-4),
            sg.optim.Group(net.parameters("bias"), rate=2.0, decay=0.0),
        ],
        lr,
        momentum=0.9,
    )


def schedule(lr: float) -> sg.optim.Schedule:
    """The released model's: a tenth of the rate after 25 epochs, a hundredth after 45."""
    return sg.optim.Steps(lr, at=(25, 45), factor=0.1)


MODEL = Classifier(
    name="alexnet",
    crop=SIDE,
    build=AlexNet,
    optimizer=optimizer,
    schedule=schedule,
    first_layer=lambda net: net.filters,  # type: ignore[attr-defined]
)

NOTES = """\
without --data the images are the 1,797 handwritten digits that ship with scikit-learn, enlarged to
256 x 256, cropped to 227 x 227; four epochs take minutes on two cores.
prepare images of your own (a folder for each class) with
  python -m symgraph data prepare PHOTOS prepared/photos
the published settings for ImageNet are --batch 256 --epochs 65 --learning-rate 0.01.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = build_parser("alexnet", "Train AlexNet, as published for Theano in 2014.", NOTES)
    parser.train.set_defaults(epochs=4, batch=16, learning_rate=0.01, average="params")
    return command(MODEL, parser.parse_args(arguments))


if __name__ == "__main__":
    exit_with(main)
