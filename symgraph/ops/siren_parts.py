"""What `siren` and its gradient share: sizes, matrices of a row of numbers, values of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.dims import Size, equal, require_equal
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.dtypes import is_float
from symgraph.graph.node import Value
from symgraph.graph.registry import Functions
from symgraph.graph.types import TensorType

COLOURS = 3
LARGEST_OMEGA = 1e30
MAX_WIDTH = 64  # of the kernels: what fits into registers and the first cache

Parts = list[tuple[Any, Any]]


def sizes_of(layers: int, width: int) -> list[tuple[int, int]]:
    """Give (outputs, inputs) of each layer, the last one included."""
    return list(zip([width] * layers + [COLOURS], [2] + [width] * layers, strict=True))


def count_of(layers: int, width: int) -> int:
    """Give how many numbers a network has."""
    return sum(outputs * (inputs + 1) for outputs, inputs in sizes_of(layers, width))


def checked_sizes(name: str, layers: Any, width: Any, omega: Any) -> tuple[int, int, float]:
    """Give the attributes of a network, or raise what is wrong with them."""
    layers, width = (
        plain_int(name, what, value) for what, value in (("layers", layers), ("width", width))
    )
    if layers < 1 or width < 1:
        raise ArgumentError(f"{name}: layers and width must be at least 1, got {layers}, {width}.")
    number = isinstance(omega, int | float | np.floating | np.integer) and not isinstance(
        omega, bool
    )
    if not number or not abs(omega) <= LARGEST_OMEGA:
        raise ArgumentError(
            f"{name}: omega must be a finite number, got {omega!r:.40}.",
            fix=f"at most {LARGEST_OMEGA:g}: products with it are numbers of the network's dtype",
        )
    return layers, width, float(omega)


def check_types(layers: int, width: int, numbers: TensorType, places: TensorType) -> None:
    """Raise what is wrong with rows of numbers (B, n) and places (2, P)."""
    count = count_of(layers, width)
    if not is_float(numbers.dtype) or places.dtype != numbers.dtype:
        raise DTypeError(f"{{numbers}} and {{places}} must be floats of one dtype, not {places}.")
    if numbers.ndim != 2 or equal(numbers.shape[1], count) is False:
        raise ShapeError(f"{{numbers}} must be (B, {count}), not {numbers}.")
    if places.ndim != 2 or equal(places.shape[0], 2) is False:
        raise ShapeError(f"{{places}} must be (2, P), not {places}.")
    # kernels take both as given: of another size they would read what lies behind
    require_equal(numbers.shape[1], count, f"axis 1 of {{numbers}} must be {count}")
    require_equal(places.shape[0], 2, "axis 0 of {places} must be 2")


def matrices(layers: int, width: int, numbers: Any, reshape: Any, extra: int = 0) -> Parts:
    """Cut rows of numbers into weights (B, o, i) and biases (B, o, 1), `extra` axes behind B."""
    found, begin = [], 0
    batch = (numbers.shape[0], *[1] * extra)
    for outputs, inputs in sizes_of(layers, width):
        middle, end = begin + outputs * inputs, begin + outputs * (inputs + 1)
        weight = reshape(numbers[:, begin:middle], (*batch, outputs, inputs))
        found.append((weight, reshape(numbers[:, middle:end], (*batch, outputs, 1))))
        begin = end
    return found


def values_of(F: Functions, parts: Parts, places: Value, omega: float) -> list[Value]:
    """Build what goes into each layer, and the result."""
    values = [places]
    for layer, (weight, bias) in enumerate(parts, 1):
        value = F.matmul(weight, values[-1]) + bias
        values.append(F.sin(omega * value) if layer < len(parts) else value)
    return values


def backwards(
    F: Functions, parts: Parts, values: Sequence[Value], g: Value, omega: float
) -> list[Value]:
    """Build the cotangents of the places, and of what each layer gives before its sine."""
    axes = (*range(g.ndim - 2), g.ndim - 1, g.ndim - 2)
    found = [g]
    for layer in range(len(parts) - 1, -1, -1):
        g = F.matmul(F.permute_dims(parts[layer][0], axes), g)
        if layer:
            weight, bias = parts[layer - 1]
            inside = F.matmul(weight, values[layer - 1]) + bias
            g = g * (omega * F.cos(omega * inside))
        found.append(g)
    return found[::-1]


def slice_of(pixels: Size, parts: int, tile: int) -> Size:
    """Give how many pixels are a part of so many: whole tiles, the last ones may be fewer."""
    across = (pixels + (parts - 1)) // parts
    return (across + (tile - 1)) // tile * tile
