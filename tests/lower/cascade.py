"""One stage of a flattened convolution and its gradients in NumPy: sums of shifted slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Line:
    """How the filters of one axis slide: the axis, taps, stride, padding and dilation."""

    axis: int
    taps: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1

    def padded(self, x: Array) -> Array:
        """Give x with zeros at both ends."""
        pads = [(0, 0)] * x.ndim
        pads[self.axis] = self.padding
        return np.pad(x, pads)

    def seen(self, x: Array, tap: int) -> Array:
        """Give what one tap sees of an array that is padded."""
        reach = (self.taps - 1) * self.dilation
        start = tap * self.dilation
        index = [slice(None)] * x.ndim
        index[self.axis] = slice(start, x.shape[self.axis] - reach + start, self.stride)
        return x[tuple(index)]

    def forward(self, x: Array, w: Array) -> Array:
        """Convolve each channel by itself: w is (channels, taps)."""
        held = self.padded(x)
        return sum(w[:, tap, None, None] * self.seen(held, tap) for tap in range(self.taps))

    def by_input(self, x: Array, w: Array, g: Array) -> Array:
        """Give the gradient of the input."""
        held = self.padded(np.zeros_like(x))
        for tap in range(self.taps):
            self.seen(held, tap)[...] += w[:, tap, None, None] * g
        index = [slice(None)] * x.ndim
        index[self.axis] = slice(self.padding[0], self.padding[0] + x.shape[self.axis])
        return held[tuple(index)]

    def by_filters(self, x: Array, g: Array) -> Array:
        """Give the gradient of the filters."""
        held = self.padded(x)
        taps = [(self.seen(held, tap) * g).sum((0, 2, 3)) for tap in range(self.taps)]
        return np.stack(taps, axis=1)


def gradients(
    x: Array, weights: Mapping[str, Array], vertical: Line, horizontal: Line, g: Array
) -> dict[str, Array]:
    """Give the result `y` of a stage, and the gradients of sum(y * g) by name, in float64."""
    x, g = x.astype(np.float64), g.astype(np.float64)
    w = {name: one.astype(np.float64) for name, one in weights.items()}

    def biased(name: str, value: Array) -> Array:
        return value + w[f"{name}.bias"][:, None, None]

    mixing = w["lateral.weight"][:, :, 0, 0]
    down = w["vertical.weight"][:, 0, :, 0]
    across = w["horizontal.weight"][:, 0, 0, :]
    first = biased("lateral", np.einsum("oc,ncyx->noyx", mixing, x))
    second = biased("vertical", vertical.forward(first, down))
    slope = horizontal.by_input(second, across, g)
    below = vertical.by_input(first, down, slope)
    return {
        "y": biased("horizontal", horizontal.forward(second, across)),
        "x": np.einsum("oc,noyx->ncyx", mixing, below),
        "lateral.weight": np.einsum("noyx,ncyx->oc", below, x)[:, :, None, None],
        "lateral.bias": below.sum((0, 2, 3)),
        "vertical.weight": vertical.by_filters(first, slope)[:, None, :, None],
        "vertical.bias": slope.sum((0, 2, 3)),
        "horizontal.weight": horizontal.by_filters(second, g)[:, None, None, :],
        "horizontal.bias": g.sum((0, 2, 3)),
    }


def mixed(name: str, a: Array, b: Array) -> Array:
    """Compute a convolution of 1 x 1 over the channels, or one of its gradients, by its name."""
    if name == "conv":
        return np.einsum("ncyx,oc->noyx", a, b[:, :, 0, 0])
    if name == "conv_input":
        return np.einsum("noyx,oc->ncyx", a, b[:, :, 0, 0])
    return np.einsum("ncyx,noyx->oc", a, b)[:, :, None, None]
