"""Flattened layers as their authors' code computes them: the scheme, written anew in NumPy.

Each image for itself; a product for the lateral convolution, and for a vertical or horizontal one a
pass over all planes for each tap, after one that fills in the bias. The gradient of depthwise
filters is what a library for dense convolutions gives: columns of shifted images, a dense product
of all channels by all, of which only the diagonal is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from harness import Contestant

Array = np.ndarray[Any, Any]
State = Mapping[str, Array]


class Depthwise:
    """A convolution of each channel by itself, along one axis of (channels, height, width)."""

    def __init__(self, weight: Array, bias: Array) -> None:
        self.axis = 1 if weight.shape[2] > 1 else 2
        self.taps, self.bias = weight.reshape(len(weight), -1), bias

    def shifted(self, x: Array) -> list[Array]:
        """Give the image as each tap sees it, zero outside."""
        count, size = self.taps.shape[1], x.shape[self.axis]
        widths = [(0, 0)] * 3
        widths[self.axis] = (count // 2, count - 1 - count // 2)
        padded = np.pad(x, widths)
        return [padded.take(range(k, k + size), self.axis) for k in range(count)]

    def forward(self, x: Array) -> Array:
        """Fill in the bias, then add a pass for each tap."""
        y = np.empty_like(x)
        y[:] = self.bias[:, None, None]
        for k, seen in enumerate(self.shifted(x)):
            y += self.taps[:, k, None, None] * seen
        return y

    def backward(self, x: Array, g: Array) -> tuple[Array, Array, Array]:
        """Give the gradients of the image, of the taps and of the bias."""
        turned = Depthwise(np.empty((len(x), 1, 1, 1), x.dtype), np.zeros(len(x), x.dtype))
        turned.axis, turned.taps = self.axis, self.taps[:, ::-1]
        columns = np.concatenate([one.reshape(len(x), -1) for one in self.shifted(x)])
        whole = g.reshape(len(g), -1) @ columns.T  # channels by taps x channels
        taps = whole.reshape(len(g), -1, len(x))[np.arange(len(g)), :, np.arange(len(x))]
        return turned.forward(g), taps, g.sum(axis=(1, 2))


class Lateral:
    """A product with the channels of every pixel."""

    def __init__(self, weight: Array, bias: Array) -> None:
        self.matrix, self.bias = weight[:, :, 0, 0], bias

    def forward(self, x: Array) -> Array:
        """Multiply, and add the bias."""
        y = self.matrix @ x.reshape(len(x), -1) + self.bias[:, None]
        return y.reshape(-1, *x.shape[1:])

    def backward(self, x: Array, g: Array) -> tuple[Array, Array, Array]:
        """Give the gradients of the image, of the matrix and of the bias."""
        flat = g.reshape(len(g), -1)
        back = (self.matrix.T @ flat).reshape(x.shape)
        return back, flat @ x.reshape(len(x), -1).T, flat.sum(axis=1)


def steps(state: State) -> list[tuple[str, Any]]:
    """List the convolutions in order, each layer ended by a relu (None)."""
    found: list[tuple[str, Any]] = []
    for layer in dict.fromkeys(name.split(".")[0] for name in state):
        for stage in range(sum(name.startswith(f"{layer}.lateral.") for name in state) // 2):
            for part in ("lateral", "vertical", "horizontal"):
                name = f"{layer}.{part}.{stage}"
                kind = Lateral if part == "lateral" else Depthwise
                found.append((name, kind(state[f"{name}.weight"], state[f"{name}.bias"])))
        found.append(("relu", None))
    return found


def contestants(state: State, images: Array, cotangent: Array, mode: str) -> list[Contestant]:
    """Make the contestant of the published scheme."""
    order = steps(state)

    def forward(x: Array, kept: list[Array] | None = None) -> Array:
        for _, step in order:
            if kept is not None:
                kept.append(x)
            x = np.maximum(x, 0) if step is None else step.forward(x)
        return x

    def train() -> dict[str, Array]:
        sums: dict[str, Array] = {name: np.zeros_like(one) for name, one in state.items()}
        sums["x"] = np.empty_like(images)
        for number, (x, g) in enumerate(zip(images, cotangent)):
            kept: list[Array] = []
            forward(x, kept)
            for (name, step), seen in zip(reversed(order), reversed(kept)):
                if step is None:
                    g = g * (seen > 0)
                    continue
                g, weight, bias = step.backward(seen, g)
                sums[f"{name}.weight"] += weight.reshape(sums[f"{name}.weight"].shape)
                sums[f"{name}.bias"] += bias
            sums["x"][number] = g
        return sums

    run = train if mode == "train" else lambda: np.stack([forward(x) for x in images])
    return [Contestant("published", run)]
