"""The oracle of networks of sines: one image and one pixel at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any


def siren(op: Any, numbers: Array, places: Array) -> Array:
    out = np.empty((len(numbers), 3, places.shape[1]))
    for image, pixel in np.ndindex(len(numbers), places.shape[1]):
        row = [float(one) for one in numbers[image]]
        value = [float(one) for one in places[:, pixel]]
        for layer in range(op.layers + 1):
            size = op.width if layer < op.layers else 3
            matrix = [[row.pop(0) for _ in value] for _ in range(size)]
            sums = [
                math.fsum([row.pop(0), *(w * x for w, x in zip(line, value, strict=True))])
                for line in matrix
            ]
            value = [math.sin(op.omega * s) for s in sums] if layer < op.layers else sums
        out[image, :, pixel] = value
    return out


ORACLES = {"siren": siren}
