"""Convolution layers."""

from __future__ import annotations

from typing import Any

from symgraph.dims import dim
from symgraph.errors import ArgumentError
from symgraph.graph.arguments import counts
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.sliding import pads_argument, steps_argument
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
        inputs, outputs, groups = counts("Conv2d", inputs=inputs, outputs=outputs, groups=groups)
        if inputs % groups or outputs % groups:
            raise ArgumentError(
                f"Conv2d: groups must divide both channel counts: "
                f"inputs={inputs}, outputs={outputs}, groups={groups}."
            )
        window = steps_argument("Conv2d", "kernel", kernel, 2)
        for what, given in (("stride", stride), ("dilation", dilation)):
            steps_argument("Conv2d", what, given, 2)
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


class FlattenedConv(Module):
    """Convolutions along one axis each in the place of a `Conv2d`: channels, columns, rows.

    A stage is a 1 x 1 convolution over the channels (lateral), then for each channel alone one of
    kh x 1 (vertical) and one of 1 x kw (horizontal), nothing but a bias after each. There are
    `stages` of them, one after the other; the last has the stride and the padding, all before keep
    the size, so that the result has the shape of a `Conv2d` with the same arguments. `padding` may
    also be "full": every place that sees the image at all. One stage without biases is a `Conv2d`
    whose filter o is the product lateral[o, c] vertical[o, i] horizontal[o, j].
    Jin, Dundar, Culurciello: "Flattened Convolutional Neural Networks for Feedforward
    Acceleration", 2014 (arXiv 1412.5474), where two stages replace a layer.

    Raises `ArgumentError` for counts, sizes and paddings that make no sense.

    >>> import symgraph as sg
    >>> sg.nn.FlattenedConv(128, 128, 5).count(), sg.nn.Conv2d(128, 128, 5).count()
    (36096, 409728)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stages: int = 2,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        weight: init.Initialiser | None = None,
        bias: init.Initialiser | None = init.ZEROS,
        inner_bias: init.Initialiser | None = init.ZEROS,
    ) -> None:
        name = "FlattenedConv"
        (count,) = counts(name, stages=stages)
        self.kernel = steps_argument(name, "kernel", kernel, 2)
        self.stride = steps_argument(name, "stride", stride, 2)
        self.dilation = steps_argument(name, "dilation", dilation, 2)
        if padding == "full":
            padding = tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilation))
        elif isinstance(padding, str) and padding not in ("same", "valid"):
            raise ArgumentError(
                f'{name}: padding must be "full", "same", "valid" or numbers, got {padding!r:.60}.'
            )
        elif not isinstance(padding, str):
            pads_argument(name, padding, (1, 1), self.kernel, self.stride, self.dilation)
        self.padding, self.groups = padding, groups
        # a chain of linear maps: each keeps the variance, the last leaves it to a relu
        own = weight or init.he(gain=1.0)
        self.lateral: list[Conv2d] = []
        self.vertical: list[Conv2d] = []
        self.horizontal: list[Conv2d] = []
        for stage in range(count):
            last = stage == count - 1
            steps, pads = (self.stride, padding) if last else ((1, 1), self.keeping)
            channels = outputs if stage else inputs
            lateral = Conv2d(channels, outputs, 1, groups=groups, weight=own, bias=inner_bias)
            self.lateral.append(lateral)
            for axis, held in enumerate((self.vertical, self.horizontal)):
                end = last and axis == 1
                one = _along(
                    axis, outputs, self.kernel, steps, pads, self.dilation,
                    weight or init.he() if end else own, bias if end else inner_bias,
                )  # fmt: skip
                held.append(one)

    @property
    def keeping(self) -> tuple[tuple[int, int], ...]:
        """The padding that keeps the size; of an even kernel the odd place is at the end."""
        before = [(k - 1) // 2 * d for k, d in zip(self.kernel, self.dilation)]
        return tuple((b, d * (k - 1) - b) for b, k, d in zip(before, self.kernel, self.dilation))

    @property
    def stages(self) -> tuple[tuple[Conv2d, Conv2d, Conv2d], ...]:
        """Lateral, vertical and horizontal of each stage."""
        return tuple(zip(self.lateral, self.vertical, self.horizontal))

    def input_shape(self) -> Shape | None:
        """(B, inputs, H, W)."""
        return self.lateral[0].input_shape()

    def dense_filters(self) -> Value:
        """Give the filters of a `Conv2d` that sees the same: all stages as one, without biases.

        (outputs, inputs, height, width): of two stages of 5 x 5 they are 9 x 9. With two stages or
        more a `Conv2d` by them differs at the borders of an image, where each stage pads by itself.
        """
        channels = self.lateral[0].weight.shape[1] * self.groups
        value = F.reshape(F.eye(channels, dtype=self.lateral[0].weight.dtype), (-1, channels, 1, 1))
        for lateral, vertical, horizontal in self.stages:  # a dot shows them, turned around
            value = F.conv2d(value, lateral.weight, groups=self.groups)
            for conv in (vertical, horizontal):
                gaps = steps_argument("FlattenedConv", "dilation", conv.dilation, 2)
                reach = [d * (k - 1) for k, d in zip(conv.weight.shape[2:], gaps)]
                value = F.conv2d(
                    value, conv.weight, padding=reach, dilation=gaps, groups=conv.groups
                )
        return F.permute_dims(F.flip(value, axis=(2, 3)), (1, 0, 2, 3))

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, inputs, H, W) -> (B, outputs, H', W')."""
        value: Value = x
        for stage in self.stages:
            for conv in stage:
                value = conv(value, train=train)
        return value


def _along(
    axis: int,
    channels: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...],
    weight: init.Initialiser,
    bias: init.Initialiser | None,
) -> Conv2d:
    """Make the part of a convolution that runs along one axis, each channel for itself."""

    def only(given: tuple[Any, ...], other: Any) -> Any:
        return (given[0], other) if axis == 0 else (other, given[1])

    if not isinstance(padding, str):
        each = padding if isinstance(padding, tuple | list) else (padding, padding)
        padding = only(tuple(each), 0)
    return Conv2d(
        channels, channels, only(kernel, 1), stride=only(stride, 1), padding=padding,
        dilation=only(dilation, 1), groups=channels, weight=weight, bias=bias,
    )  # fmt: skip
