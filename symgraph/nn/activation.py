"""Activations and dropout as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symgraph.errors import ArgumentTypeError
from symgraph.graph.arguments import counts, share
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.nn import init
from symgraph.nn.module import Module


class Activation(Module):
    """An elementwise function by its name: "relu", "gelu", "tanh", "sigmoid", ..."""

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise ArgumentTypeError(
                f"Activation: takes the name of a function, got {type(name).__name__}.",
                fix="put a function of a value into Sequential as it is",
            )
        self.name = name
        self.function: Callable[..., Value] = getattr(F, name)

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """Any shape -> the same shape."""
        return self.function(x)


class Dropout(Module):
    """Zero each element with probability `rate` while training.

    Inverted (default): survivors are divided by 1 - rate while training, nothing happens
    otherwise. Not inverted (as published for AlexNet): survivors stay, and otherwise everything is
    multiplied by 1 - rate.
    """

    def __init__(self, rate: float = 0.5, *, inverted: bool = True) -> None:
        self.rate, self.inverted = share("Dropout", "rate", rate), inverted

    def forward(self, x: Any, *, train: bool = False, rows: int = 0) -> Value:
        """Any shape -> the same shape; `rows` is the axis that counts the rows of the batch.

        What is zeroed in a row depends on its number, however workers divide the batch.
        """
        if not (train and rows):
            return F.dropout(x, self.rate, train=train, inverted=self.inverted)
        swapped = F.dropout(F.swapaxes(x, 0, rows), self.rate, train=train, inverted=self.inverted)
        return F.swapaxes(swapped, 0, rows)


class PReLU(Module):
    """x where it is positive, slope * x elsewhere, with trained slopes: one, or one a channel."""

    def __init__(self, channels: int = 1, *, slope: float = 0.25) -> None:
        (channels,) = counts("PReLU", channels=channels)
        self.slope = self.parameter("slope", (channels,), init.constant(slope))

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, ...) -> the same shape."""
        return F.prelu(x, self.slope)
