"""The network that stands for an image: coordinates of a pixel in, its colour out.

Sitzmann et al.: "Implicit neural representations with periodic activation functions", 2020 (arXiv
2006.09661). Networks of many images lie in one array for each layer, with the image as first axis
and the pixels as last, so that a layer of all of them is one product, and its result is an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.errors import ArgumentError
from symgraph.frozen import frozen
from symgraph.graph.node import Value
from symgraph.graph.registry import F

Floats = npt.NDArray[np.float32]

COORDINATES, COLOURS = 2, 3
MAX_LAYERS, MAX_WIDTH = 64, 1024


@frozen
class Siren:
    """Sizes of a network: `layers` of `width` sines each, then one linear layer of three colours.

    h <- sin(omega (W h + b)), and the last layer without the sine.

    >>> Siren(layers=5, width=13).count
    809
    """

    layers: int = 5
    width: int = 13
    omega: float = 30.0

    def __post_init__(self) -> None:
        for name, bound in (("layers", MAX_LAYERS), ("width", MAX_WIDTH)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= bound:
                raise ArgumentError(f"Siren: {name} must lie in 1 .. {bound}, got {value!r:.40}.")
        known = isinstance(self.omega, int | float) and not isinstance(self.omega, bool)
        if not (known and math.isfinite(self.omega) and self.omega > 0):
            raise ArgumentError(f"Siren: omega must be a number above 0, got {self.omega!r:.40}.")

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The shape (outputs, inputs) of the matrix of each layer, the last one included."""
        inputs = [COORDINATES] + [self.width] * self.layers
        outputs = [self.width] * self.layers + [COLOURS]
        return list(zip(outputs, inputs, strict=True))

    @property
    def count(self) -> int:
        """How many numbers one image takes."""
        return sum(outputs * inputs + outputs for outputs, inputs in self.sizes)

    def flops(self, pixels: int) -> int:
        """How many additions and multiplications it takes to decode so many pixels."""
        return 2 * pixels * sum(outputs * inputs for outputs, inputs in self.sizes)

    def start(self, generator: np.random.Generator) -> tuple[list[Floats], list[Floats]]:
        """Draw weights (outputs, inputs) and biases (outputs,) to begin with, for one image."""
        weights, biases = [], []
        for layer, (outputs, inputs) in enumerate(self.sizes):
            limit = math.sqrt(6 / inputs) / self.omega if layer else 1 / inputs
            weights.append(generator.uniform(-limit, limit, (outputs, inputs)).astype(np.float32))
            biases.append(generator.uniform(-limit, limit, outputs).astype(np.float32))
        return weights, biases

    def graph(self, weights: Sequence[Any], biases: Sequence[Any], places: Any) -> Value:
        """Build the colours (B, 3, P), 0 .. 1 and a little beyond, at places (2, P).

        Weights are (B, outputs, inputs) and biases (B, outputs, 1), of one layer after another.
        One operation takes pixels through all layers, and back.
        """
        rows = [F.flatten(one, 1) for pair in zip(weights, biases, strict=True) for one in pair]
        return F.siren(F.concat(rows, axis=1), places, self.layers, self.width, float(self.omega))


def extent(height: int, width: int) -> tuple[float, float]:
    """Give how far an image reaches from its centre, (y, x): the longer side from -1 to 1.

    Pixels are as far apart from top to bottom as from left to right, whatever the sides.
    """
    longest = max(height, width, 2) - 1
    return (height - 1) / longest, (width - 1) / longest


def grid(height: int, width: int) -> Floats:
    """Give the places (2, height * width) of the pixels, y before x, row by row.

    >>> grid(1, 3).tolist()
    [[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]
    """
    down, across = extent(height, width)
    rows = np.linspace(-down, down, height) if height > 1 else np.zeros(1)
    columns = np.linspace(-across, across, width) if width > 1 else np.zeros(1)
    pair = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([axis.ravel() for axis in pair]).astype(np.float32)


def bytes_of(colours: Value) -> Value:
    """Build pixels as an image file has them, whole numbers 0 .. 255 as float32, of 0 .. 1."""
    return F.round(F.clip(colours, 0.0, 1.0) * 255.0)


def psnr(errors: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Give 10 log10(255^2 / error) in decibels, of mean squared errors in units of a byte.

    >>> psnr([65025.0, 650.25]).tolist()
    [0.0, 20.0]
    """
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / np.asarray(errors, np.float64))
