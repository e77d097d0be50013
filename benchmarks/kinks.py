"""Kinks: the right gradients of a step on the sides that someone took of relu and max_pool.

Of millions of activations a few are zero but for rounding, and of the windows of a pool a few have
two largest elements. Whoever rounds takes either side there, and either is right; a gradient on the
other side is another one, by far more than rounding. So errors are also measured with the sides
fixed: masks, zeros and places of maxima are constants then, and what is left is smooth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from oracle import Array, Job, Step

import symgraph as sg
from symgraph.nn import Activation, Dropout, MaxPool2d, Module


@dataclass(frozen=True)
class Sides:
    """Where each relu let its input through, and which element each window of a pool took."""

    positive: list[Array]
    places: list[Array]

    def differences(self, other: Sides) -> int:
        """Count the elements and the windows that differ."""
        relus = sum(int((a != b).sum()) for a, b in zip(self.positive, other.positive))
        return relus + sum(int((a != b).sum()) for a, b in zip(self.places, other.places))


def layers(net: Module) -> list[Any]:
    """List the layers of AlexNet in order."""
    parts: Any = net
    return [*parts.features.layers, *parts.classifier.layers]


def sides(net: Module, activations: Sequence[Array]) -> Sides:
    """Read the sides from what the relus gave, in order; each pool follows one of them."""
    positive: list[Array] = []
    places: list[Array] = []
    values = iter(activations)
    now: Any = None
    for layer in layers(net):
        if isinstance(layer, Activation):
            now = next(values)
            positive.append(now > 0)
        elif isinstance(layer, MaxPool2d):
            places.append(_places(now, layer))
    return Sides(positive, places)


def _places(x: Array, layer: MaxPool2d) -> Array:
    """Give the place of the first largest element of each window, in the flattened image.

    A window of zeros has its place too: nothing goes back through a relu there.
    """
    kernel, stride = _square(layer)
    step = (slice(None), slice(None), slice(None, None, stride), slice(None, None, stride))
    windows = sliding_window_view(x, (kernel, kernel), (2, 3))[step]
    best = windows.reshape(*windows.shape[:4], -1).argmax(-1)
    rows = np.arange(best.shape[2])[:, None] * stride + best // kernel
    columns = np.arange(best.shape[3]) * stride + best % kernel
    places: Array = (rows * x.shape[3] + columns).reshape(*best.shape[:2], -1)
    return places


def _square(layer: MaxPool2d) -> tuple[int, int]:
    if not isinstance(layer.kernel, int) or layer.padding or layer.ceil_mode:
        raise TypeError("square windows that end inside the image are all that is known here")
    stride = layer.stride or layer.kernel
    if not isinstance(stride, int):
        raise TypeError("windows move as far down as to the right")
    return layer.kernel, stride


class OnSides:
    """A step of the job with sides and dropped elements given, by the reference backend."""

    def __init__(self, job: Job) -> None:
        self.job = job
        batch = job.images.shape[0]
        given: list[sg.Value] = []

        def ask(name: str, shape: Sequence[Any], dtype: str) -> sg.Value:
            given.append(sg.tensor(f"{name}{len(given)}", (batch, *shape), dtype))
            return given[-1]

        self.order: list[type] = []
        value: Any = job.images
        for layer in layers(job.net):
            if isinstance(layer, Activation):
                value = value * sg.cast(ask("side", value.shape[1:], "bool"), job.dtype)
            elif isinstance(layer, Dropout):
                value = value * sg.cast(ask("kept", value.shape[1:], "bool"), job.dtype)
            elif isinstance(layer, MaxPool2d):
                value = _taken(value, layer, ask)
            else:
                value = layer(value, train=True)
                continue
            self.order.append(type(layer))
        loss = sg.nn.cross_entropy(value, job.labels).mean()
        gradients = sg.grad(loss, list(job.parameters.values()))
        self.function = sg.function(
            [job.images, job.labels, *given], [loss, *gradients], backend="reference"
        )

    def step(self, number: int, taken: Sides, masks: Sequence[Array]) -> Step:
        """Compute the step of a number."""
        kinds = {Activation: iter(taken.positive), MaxPool2d: iter(taken.places)}
        kinds[Dropout] = iter(masks)
        given = [next(kinds[kind]) for kind in self.order]
        batch = self.job.batch_of(number)
        images = batch.images.astype(self.job.dtype)
        loss, *gradients = self.function(images, batch.labels, *given)
        return Step(float(loss), dict(zip(self.job.parameters, gradients)))


def _taken(x: Any, layer: MaxPool2d, ask: Any) -> sg.Value:
    kernel, stride = _square(layer)
    batch, channels, *spatial = x.shape
    out = [(int(size) - kernel) // stride + 1 for size in spatial]
    flat = sg.reshape(x, (batch, channels, int(spatial[0]) * int(spatial[1])))
    places = ask("places", (channels, out[0] * out[1]), "int64")
    return sg.reshape(sg.take_along_axis(flat, places, 2), (batch, channels, *out))
