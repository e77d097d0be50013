"""Fully connected layers."""

from __future__ import annotations

from typing import Any

from symgraph.dims import dim
from symgraph.graph.arguments import counts
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn import init
from symgraph.nn.module import Module


class Dense(Module):
    """y = x W + b, with W of shape (inputs, outputs), on the last axis of x."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        weight: init.Initialiser | None = None,
        bias: init.Initialiser | None = init.ZEROS,
    ) -> None:
        inputs, outputs = counts("Dense", inputs=inputs, outputs=outputs)
        self.weight = self.parameter("weight", (inputs, outputs), weight or init.glorot())
        self.bias = None if bias is None else self.parameter("bias", (outputs,), bias)

    def input_shape(self) -> Shape:
        """(B, inputs)."""
        return dim("B"), self.weight.shape[0]

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (..., inputs) -> (..., outputs)."""
        y: Value = x @ self.weight
        return y if self.bias is None else y + self.bias


class Flatten(Module):
    """Join all axes from `start` on into one."""

    def __init__(self, start: int = 1) -> None:
        self.start = start

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, ...) -> (B, product)."""
        return F.flatten(x, self.start)
