"""Networks that no rule of symgraph was written for: five kinds, one of them random from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import ours
from ours import Problem

import symgraph as sg
from symgraph.nn import (
    Activation,
    BatchNorm,
    Conv2d,
    Dense,
    GlobalAvgPool2d,
    LayerNorm,
    MaxPool2d,
    Module,
    Sequential,
    TransformerBlock,
)
from symgraph.nn.init import ZEROS, glorot, he

CLASSES, RATE = 10, 1e-3


def conv(inputs: int, outputs: int, kernel: int, act: str = "relu", **options: Any) -> list[Module]:
    """Convolution, batch norm and activation; the size stays but for a stride."""
    layer = Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=None, **options)
    return [layer, BatchNorm(outputs), Activation(act)]


def head(channels: int) -> list[Module]:
    """The mean of each channel, and a dense layer."""
    return [GlobalAvgPool2d(), Dense(channels, CLASSES)]


def mobile(quick: bool) -> Module:
    """Depthwise and pointwise convolutions in turn, as MobileNet has them."""
    width = 4 if quick else 32
    layers, channels = conv(3, width, 3, stride=2), width
    for outputs, stride in ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), (16, 1)):
        layers += conv(channels, channels, 3, stride=stride, groups=channels)
        layers += conv(channels, outputs * width, 1)
        channels = outputs * width
    return Sequential(*layers, *head(channels))


class Up(Module):
    """Transposed convolution that doubles the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.weight = self.parameter("weight", (inputs, outputs, 2, 2), he())

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """x: (B, inputs, H, W) -> (B, outputs, 2 H, 2 W)."""
        found: sg.Value = sg.conv_transpose2d(x, self.weight, stride=2)
        return found


class Level(Module):
    """Two convolutions, what is below at half the side, two on both joined: one U of a U-Net."""

    def __init__(self, inputs: int, channels: int, below: Module, inner: int) -> None:
        self.down = Sequential(*conv(inputs, channels, 3), *conv(channels, channels, 3))
        self.pool = MaxPool2d(2)
        self.below = below
        self.up = Up(inner, channels)
        self.join = Sequential(*conv(2 * channels, channels, 3), *conv(channels, channels, 3))

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """x: (B, inputs, H, W) -> (B, channels, H, W)."""
        here = self.down(x, train=train)
        below = self.up(self.below(self.pool(here), train=train), train=train)
        return self.join(sg.concat([here, below], axis=1), train=train)


def unet(quick: bool) -> Module:
    """Three levels; logits for each place of the image."""
    width = 4 if quick else 24
    bottom = Sequential(*conv(4 * width, 8 * width, 3), *conv(8 * width, 8 * width, 3))
    net: Module = bottom
    for factor, inputs in ((4, 2 * width), (2, width), (1, 3)):
        net = Level(inputs, factor * width, net, 2 * factor * width)
    return Sequential(net, Conv2d(width, CLASSES, 1))


class MeanOfSteps(Module):
    """(B, T, features) -> (B, features)."""

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """The mean over axis 1."""
        found: sg.Value = sg.mean(x, axis=1)
        return found


def transformer(quick: bool) -> Module:
    """An encoder of sequences, logits from the mean of its steps."""
    features, blocks = (8, 1) if quick else (192, 4)
    layers = [TransformerBlock(features, 2 if quick else 6) for _ in range(blocks)]
    return Sequential(*layers, LayerNorm(features), MeanOfSteps(), Dense(features, CLASSES))


class GRU(Module):
    """A gated recurrent unit over the steps, unrolled; gives the last state.

    r, z = sigmoid of (W x + b + U h + c), n = tanh(W x + b + r (U h + c)), h' = n + z (h - n).
    """

    def __init__(self, inputs: int, units: int, steps: int) -> None:
        self.units, self.steps = units, steps
        self.weight_x = self.parameter("weight_x", (inputs, 3 * units), glorot())
        self.weight_h = self.parameter("weight_h", (units, 3 * units), glorot())
        self.bias_x = self.parameter("bias_x", (3 * units,), ZEROS)
        self.bias_h = self.parameter("bias_h", (3 * units,), ZEROS)

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """x: (B, steps, inputs) -> (B, units)."""
        from_x = x @ self.weight_x + self.bias_x
        h = sg.zeros((x.shape[0], self.units))
        n = self.units
        for step in range(self.steps):
            here, back = from_x[:, step], h @ self.weight_h + self.bias_h
            r = sg.sigmoid(here[:, :n] + back[:, :n])
            z = sg.sigmoid(here[:, n : 2 * n] + back[:, n : 2 * n])
            new = sg.tanh(here[:, 2 * n :] + r * back[:, 2 * n :])
            h = new + z * (h - new)
        return h


def recurrent(quick: bool) -> Module:
    """A GRU over 24 steps, logits from its last state."""
    inputs, units, steps = (5, 6, 3) if quick else (64, 256, 24)
    return Sequential(GRU(inputs, units, steps), Dense(units, CLASSES))


class Sum(Module):
    """x + branch(x)."""

    def __init__(self, branch: Module) -> None:
        self.branch = branch

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """Any shape that the branch keeps."""
        found: sg.Value = x + self.branch(x, train=train)
        return found


class Join(Module):
    """What two branches make of x, joined along the channels."""

    def __init__(self, left: Module, right: Module) -> None:
        self.left, self.right = left, right

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """x: (B, C, H, W) -> (B, left's + right's, H, W)."""
        parts = [self.left(x, train=train), self.right(x, train=train)]
        found: sg.Value = sg.concat(parts, axis=1)
        return found


def random_net(seed: int, quick: bool) -> Module:
    """Draw a network: convolutions of many kinds, pooling, sums and joins of branches."""
    rng = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    unit, channels, side = (2 if quick else 16), (4 if quick else 32), (16 if quick else 64)
    acts = ("relu", "gelu", "silu", "tanh")
    layers = conv(3, channels, 3)
    for _ in range(4 if quick else 12):
        kind = pick("conv", "conv", "grouped", "sum", "join", "smaller")
        outputs = unit * pick(2, 3, 4, 6)
        if kind == "smaller" and side >= 8:
            side //= 2
            shrink = pick("pool", "stride")
            layers += [MaxPool2d(2)] if shrink == "pool" else conv(
                channels, channels, 3, pick(*acts), stride=2
            )  # fmt: skip
        elif kind == "sum":
            layers.append(Sum(Sequential(*conv(channels, channels, pick(1, 3), pick(*acts)))))
        elif kind == "join":
            left = Sequential(*conv(channels, outputs, pick(1, 3, 5), pick(*acts)))
            right = Sequential(*conv(channels, outputs, 1, pick(*acts)))
            layers.append(Join(left, right))
            channels = 2 * outputs
        else:
            groups = 2 if kind == "grouped" else 1
            layers += conv(channels, outputs, pick(1, 3, 5), pick(*acts), groups=groups)
            channels = outputs
    return Sequential(*layers, *head(channels))


#             batch, shape of an example
SHAPES = {
    "mobile":      (32, (3, 96, 96)),
    "unet":        (8, (3, 64, 64)),
    "transformer": (16, (64, 192)),
    "recurrent":   (32, (24, 64)),
    "random":      (32, (3, 64, 64)),
}  # fmt: skip
QUICK = {
    "mobile": (3, (3, 32, 32)),
    "unet": (2, (3, 16, 16)),
    "transformer": (3, (4, 8)),
    "recurrent": (3, (3, 5)),
    "random": (3, (3, 16, 16)),
}
MAKERS = {"mobile": mobile, "unet": unet, "transformer": transformer, "recurrent": recurrent}


def problem(name: str, seed: int, quick: bool) -> Problem:
    """Make a network with SGD and a batch; `seed` draws the random one."""
    sg.seed(1)
    net = random_net(seed, quick) if name == "random" else MAKERS[name](quick)
    batch, shape = (QUICK if quick else SHAPES)[name]
    places = shape[1:] if name == "unet" else ()
    data = ours.draw((batch, *shape), CLASSES, places)
    optimizer = sg.optim.SGD(net.parameters(), RATE, momentum=0.9, weight_decay=1e-4)
    return Problem(net, optimizer, *data, axis=1)
