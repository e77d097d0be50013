"""Convolution layers."""

from __future__ import annotations

from typing import Any

from symgraph.dims import dim
from symgraph.errors import ArgumentError
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn import init
from symgraph.nn.module import Module


class Conv2d(Module):
    """2-D cross-correlation of (B, inputs, H, W) with kernels (outputs, inputs/groups, kh, kw).

    `padding` is an int, a pair, a pair of pairs, "same" or "valid"; `groups` splits the channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        weight: init.Initialiser | None = None,
        bias: init.Initialiser | None = init.ZEROS,
    ) -> None:
        if groups < 1 or inputs % groups or outputs % groups:
            raise ArgumentError(
                f"Conv2d: groups must divide both channel counts: "
                f"inputs={inputs}, outputs={outputs}, groups={groups}."
            )
        window = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        if len(window) != 2 or min(window) < 1:
            raise ArgumentError(
                f"Conv2d: the kernel must be a size >= 1 or two of them, got {kernel}."
            )
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (outputs, inputs // groups, *window)
        self.weight = self.parameter("weight", shape, weight or init.he())
        self.bias = None if bias is None else self.parameter("bias", (outputs,), bias)

    def input_shape(self) -> Shape:
        """(B, inputs, H, W)."""
        return dim("B"), self.weight.shape[1] * self.groups, dim("H"), dim("W")

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, inputs, H, W) -> (B, outputs, H', W')."""
        y: Value = F.conv2d(
            x,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        if self.bias is None:
            return y
        return y + F.reshape(self.bias, (self.bias.shape[0], 1, 1))
