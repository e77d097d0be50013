"""Flattened convolutional networks, and the dense ones that they are compared with.

Jin, Dundar, Culurciello: "Flattened Convolutional Neural Networks for Feedforward Acceleration",
2014 (arXiv 1412.5474): three layers of 96, 128 and 256 filters of 5 x 5, each followed by a
rectifier and pooling over 2 x 2, then a perceptron; flattened, each layer is two stages of lateral,
vertical and horizontal convolutions. Padding keeps the size. Not published, and so our own: the
width of the perceptron, dropout, the rate and its course.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find `models` and `symgraph` in this checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symgraph as sg
from models.common.classifier import Classifier
from models.common.commandline import (
    ModelParser,
    build_parser,
    exit_with,
    positive_int,
)
from models.common.trainer import command
from symgraph.errors import ArgumentError
from symgraph.graph.node import Value
from symgraph.nn import (
    Activation,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    FlattenedConv,
    MaxPool2d,
    Module,
    Sequential,
)

FILTERS, KERNEL, POOL = (96, 128, 256), 5, 2
KINDS = ("flattened", "dense")
HIDDEN = 256
CROP, SMALL_CROP = 28, 16  # pixels; of the digits, 8 x 8 by themselves
MAX_CROP, MAX_STAGES, MAX_EPOCHS = 256, 16, 1 << 30
# Pixels less their mean lie in -255 .. 255: as they are the rate would have to be tiny.
SCALE = 1 / 64


class FlattenedNet(Module):
    """Three convolutional layers with pooling, and a perceptron of two layers.

    Images (B, 3, crop, crop) of pixels less their mean -> logits (B, classes). The convolutions
    have 1,134,080 parameters if `kind` is "dense", and 148,960 if it is "flattened", with two
    stages.

    Raises `ArgumentError` for another kind, a crop that pooling leaves nothing of, and stages
    outside 1 .. 16.
    """

    def __init__(
        self, kind: str = "flattened", classes: int = 10, *, crop: int = CROP, stages: int = 2
    ) -> None:
        if kind not in KINDS:
            raise ArgumentError(
                f"FlattenedNet: kind must be one of {', '.join(KINDS)}, got {kind!r:.40}."
            )
        side = crop // POOL ** len(FILTERS)
        if side < 1 or crop > MAX_CROP:
            raise ArgumentError(
                f"FlattenedNet: crop must lie in {POOL ** len(FILTERS)} .. {MAX_CROP}, got {crop}."
            )
        if not 1 <= stages <= MAX_STAGES:
            raise ArgumentError(
                f"FlattenedNet: stages must lie in 1 .. {MAX_STAGES}, got {stages}."
            )
        layers: list[Module] = []
        for inputs, outputs in zip((3, *FILTERS), FILTERS):
            layers += [
                Conv2d(inputs, outputs, KERNEL, padding=KERNEL // 2) if kind == "dense"
                else FlattenedConv(inputs, outputs, KERNEL, padding=KERNEL // 2, stages=stages),
                Activation("relu"),
                MaxPool2d(POOL, POOL),
            ]  # fmt: skip
        self.features = Sequential(*layers)
        self.classifier = Sequential(
            Flatten(), Dense(FILTERS[-1] * side**2, HIDDEN), Activation("relu"), Dropout(0.5),
            Dense(HIDDEN, classes),
        )  # fmt: skip

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """Images (B, 3, crop, crop) -> logits (B, classes)."""
        return self.classifier(self.features(x * SCALE, train=train), train=train)

    @property
    def filters(self) -> Value:
        """The filters of the first layer: (96, 3, 5, 5), of two flattened stages (96, 3, 9, 9)."""
        first = self.features[0]
        assert isinstance(first, Conv2d | FlattenedConv)
        return first.weight if isinstance(first, Conv2d) else first.dense_filters()


def optimizer(net: Module, lr: float) -> sg.optim.SGD:
    """Momentum 0.9; weights decay by 5e-4, biases do not."""
    groups = [
        sg.optim.Group(net.parameters("weight")),
        sg.optim.Group(net.parameters("bias"), decay=0.0),
    ]
    return sg.optim.SGD(groups, lr, momentum=0.9, weight_decay=5e-4, clip_norm=5.0)


def classifier(
    kind: str = "flattened", crop: int = CROP, stages: int = 2, epochs: int = 30
) -> Classifier:
    """One of the family; the digits are enlarged to nine eighths of `crop`, to be cropped."""
    if not 1 <= crop <= MAX_CROP:
        raise ArgumentError(f"flattened: crop must lie in 1 .. {MAX_CROP}, got {crop}.")
    if not 1 <= epochs <= MAX_EPOCHS:
        raise ArgumentError(f"flattened: epochs must lie in 1 .. {MAX_EPOCHS}, got {epochs}.")
    return Classifier(
        name="flattened",
        crop=crop,
        build=lambda classes: FlattenedNet(kind, classes, crop=crop, stages=stages),
        optimizer=optimizer,
        schedule=lambda lr: sg.optim.Cosine(lr, epochs),
        first_layer=lambda net: net.filters,  # type: ignore[attr-defined]
        size=-(-9 * crop // 8),
        settings={"kind": kind, "crop": crop, "stages": stages, "epochs": epochs},
        variant=classifier,
    )


MODEL = classifier()

NOTES = """\
without --data the images are the 1,797 handwritten digits that ship with scikit-learn, enlarged to
18 x 18 and cropped to 16 x 16.
--data takes CIFAR-10, CIFAR-100 and MNIST as they are published, too:
  python models/flattened.py --data cifar-10-binary.tar.gz --epochs 150
  python models/flattened.py --data mnist --crop 28
where mnist is the folder with train-images-idx3-ubyte.gz and its three neighbours.
--kind dense is the network to compare with: the same layers, not flattened.
the rate falls to zero over --epochs: another number of them is another course from the beginning.
"""


def make_parser() -> ModelParser:
    """Make the command line."""
    text = "Train a flattened convolutional network, as published in 2014."
    parser = build_parser("flattened", text, NOTES)
    add = parser.add_model_argument
    add("--kind", choices=KINDS, default=KINDS[0], help="flattened, or dense, to compare with")
    add(
        "--stages", type=positive_int, default=2, metavar="N",
        help="lateral, vertical and horizontal convolutions of a layer, one after the other",
    )  # fmt: skip
    add(
        "--crop", type=positive_int, metavar="N",
        help=f"side of the network's input, cut from larger images (default: {SMALL_CROP} for the "
        f"digits, else {CROP})",
    )  # fmt: skip
    parser.train.set_defaults(epochs=15, batch=32, learning_rate=0.02)
    return parser


def settle(chosen: argparse.Namespace) -> None:
    """Choose the crop that suits the images, where not given."""
    if chosen.crop is None:
        chosen.crop = SMALL_CROP if chosen.data == "digits" else CROP


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return command(MODEL, make_parser().parse_args(arguments), settle)


if __name__ == "__main__":
    exit_with(main)
