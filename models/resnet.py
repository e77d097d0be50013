"""ResNet-18, -34 and -50, as published, with the strides where PyTorch's models have them.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015 (arXiv 1512.03385): the
networks (table 1), projection shortcuts where the shape changes (option B), batch norm after every
convolution, update rule. One thing is newer: where a bottleneck halves the image, its 3 x 3
convolution has the stride and not its first 1 x 1. This form is called v1.5; torchvision has it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
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
from models.common.lowrank import add_strategy_flags, with_strategy
from models.common.trainer import command
from symgraph.errors import ArgumentError
from symgraph.graph.node import Value
from symgraph.nn import (
    Activation,
    BatchNorm,
    Conv2d,
    Dense,
    GlobalAvgPool2d,
    MaxPool2d,
    Module,
    Sequential,
)

#         blocks of each stage, and whether they are bottlenecks
STAGES = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}
STEMS = ("imagenet", "small")
CROP = {"imagenet": 224, "small": 28}  # pixels
EXPANSION = 4  # of the channels in a bottleneck
MAX_WIDTH, MAX_CROP = 1024, 4096


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[Module, Module]:
    """A convolution that keeps the size but for its stride, and batch norm instead of a bias."""
    conv = Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=None)
    return conv, BatchNorm(outputs)


class Residual(Module):
    """y = relu(branch(x) + shortcut(x)); the shortcut is x itself where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, branch: Sequential) -> None:
        self.branch = branch
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, inputs, H, W) -> (B, outputs, H / stride, W / stride), rounded up."""
        across = x if self.shortcut is None else self.shortcut(x, train=train)
        return sg.relu(self.branch(x, train=train) + across)


def basic(inputs: int, channels: int, stride: int) -> Residual:
    """Two 3 x 3 convolutions: the block of ResNet-18 and -34."""
    first = convolution(inputs, channels, 3, stride)
    branch = Sequential(*first, Activation("relu"), *convolution(channels, channels, 3))
    return Residual(inputs, channels, stride, branch)


def bottleneck(inputs: int, channels: int, stride: int) -> Residual:
    """1 x 1 to fewer channels, 3 x 3, 1 x 1 to four times as many: the block of ResNet-50."""
    outputs = EXPANSION * channels
    branch = Sequential(
        *convolution(inputs, channels, 1), Activation("relu"),
        *convolution(channels, channels, 3, stride), Activation("relu"),
        *convolution(channels, outputs, 1),
    )  # fmt: skip
    return Residual(inputs, outputs, stride, branch)


class ResNet(Module):
    """A stem, four stages of residual blocks, and one dense layer on the mean of each channel.

    Images (B, 3, H, W) -> logits (B, classes). A stage has twice the channels of the one before,
    from `width` on, and half its side. The stem is the published one, 7 x 7 with stride 2 and
    pooling, or a `small` one, 3 x 3, for images of few pixels: as the paper's own for CIFAR-10.
    For 1,000 classes, 18, 34 and 50 layers have 11,689,512, 21,797,672 and 25,557,032 parameters.

    Raises `ArgumentError` for another depth or stem, and a width outside 1 .. 1024.
    """

    def __init__(
        self, depth: int = 18, classes: int = 1000, *, stem: str = "imagenet", width: int = 64
    ) -> None:
        _check("depth", depth, STAGES)
        _check("stem", stem, STEMS)
        if not 1 <= width <= MAX_WIDTH:
            raise ArgumentError(f"ResNet: width must lie in 1 .. {MAX_WIDTH}, got {width}.")
        if stem == "imagenet":
            first, pool = convolution(3, width, 7, 2), [MaxPool2d(3, 2, padding=1)]
        else:
            first, pool = convolution(3, width, 3), []
        self.stem = Sequential(*first, Activation("relu"), *pool)
        blocks, bottlenecks = STAGES[depth]
        make, expansion = (bottleneck, EXPANSION) if bottlenecks else (basic, 1)
        self.stages: list[Sequential] = []
        inputs = width
        for stage, count in enumerate(blocks):
            channels = width << stage
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            made = []
            for stride in strides:
                made.append(make(inputs, channels, stride))
                inputs = expansion * channels
            self.stages.append(Sequential(*made))
        self.head = Sequential(GlobalAvgPool2d(), Dense(inputs, classes))

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """Images (B, 3, H, W) -> logits (B, classes)."""
        value = self.stem(x, train=train)
        for stage in self.stages:
            value = stage(value, train=train)
        return self.head(value, train=train)

    @property
    def filters(self) -> Value:
        """The first layer's filters: (width, 3, 7, 7) or, of the small stem, (width, 3, 3, 3)."""
        weight: Value = self.stem[0].weight  # type: ignore[union-attr]
        return weight


def _check(name: str, value: Any, choices: Collection[Any]) -> None:
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise ArgumentError(f"ResNet: {name} must be one of {listed}, got {value!r}.")


def optimizer(net: Module, lr: float) -> sg.optim.SGD:
    """Momentum 0.9; everything decays by 1e-4, as published."""
    return sg.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=1e-4)


def schedule(lr: float) -> sg.optim.Schedule:
    """A tenth of the rate after 30 epochs, a hundredth after 60: about where the paper's error
    stopped falling, and what torchvision does."""
    return sg.optim.Steps(lr, at=(30, 60), factor=0.1)


def classifier(
    depth: int = 18, stem: str = "imagenet", width: int = 64, crop: int = 224
) -> Classifier:
    """One of the family; the digits are enlarged to eight sevenths of `crop`, as 256 is of 224."""
    if not 1 <= crop <= MAX_CROP:
        raise ArgumentError(f"ResNet: crop must lie in 1 .. {MAX_CROP}, got {crop}.")
    return Classifier(
        name="resnet",
        crop=crop,
        build=lambda classes: ResNet(depth, classes, stem=stem, width=width),
        optimizer=optimizer,
        schedule=schedule,
        first_layer=lambda net: net.filters,  # type: ignore[attr-defined]
        size=-(-8 * crop // 7),
        settings={"depth": depth, "stem": stem, "width": width, "crop": crop},
        variant=classifier,
    )


MODEL = with_strategy(classifier())

NOTES = """\
without --data the images are the 1,797 handwritten digits that ship with scikit-learn, enlarged to
32 x 32 and cropped to 28 x 28, and the stem is the small one; the rest of the network is as
published. five epochs take about five minutes on two cores and reach 99 %.
prepare images of your own (a folder for each class) with
  python -m symgraph data prepare PHOTOS prepared/photos
where they are as small as those of CIFAR-10, prepare with --size 32 and train with --stem small.
torchvision's settings for ImageNet are --depth 50 --batch 256 --epochs 90 --learning-rate 0.1.
"""


def make_parser() -> ModelParser:
    """Make the command line."""
    parser = build_parser("resnet", "Train ResNet-18, -34 or -50, as published in 2015.", NOTES)
    add = parser.add_model_argument
    add("--depth", type=int, choices=tuple(STAGES), default=18, help="layers with weights")
    add(
        "--stem",
        choices=STEMS,
        help="the first layer: 7 x 7 with stride 2 and pooling, or 3 x 3 for images of up to about "
        "64 pixels (default: small for the digits, else imagenet)",
    )
    add(
        "--width",
        type=positive_int,
        default=64,
        metavar="N",
        help="channels of the first stage; another width than 64 is not the published network",
    )
    add(
        "--crop",
        type=positive_int,
        metavar="N",
        help="side of the network's input, cut from larger images (default: 224, or 28 with the "
        "small stem)",
    )
    add_strategy_flags(parser)
    parser.train.set_defaults(epochs=5, batch=32, learning_rate=0.005)
    return parser


def settle(chosen: argparse.Namespace) -> None:
    """Choose the stem that suits the images, and the crop that suits the stem, where not given."""
    if chosen.stem is None:
        chosen.stem = "small" if chosen.data == "digits" else "imagenet"
    if chosen.crop is None:
        chosen.crop = CROP[chosen.stem]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return command(MODEL, make_parser().parse_args(arguments), settle)


if __name__ == "__main__":
    exit_with(main)
