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


def siren_gradient(op: Any, numbers: Array, places: Array, gradients: Array) -> Array:
    """The chain rule, one image and one pixel at a time; sums of pixels are exact."""
    tiles = math.ceil(math.ceil(places.shape[1] / op.parts) / 64)
    terms: Any = {}
    for image, pixel in np.ndindex(len(numbers), places.shape[1]):
        row = [float(one) for one in numbers[image]]
        values, angles, matrices = [[float(one) for one in places[:, pixel]]], [], []
        for layer in range(op.layers + 1):
            size = op.width if layer < op.layers else 3
            matrices.append([[row.pop(0) for _ in values[-1]] for _ in range(size)])
            sums = [
                math.fsum([row.pop(0), *(w * x for w, x in zip(line, values[-1], strict=True))])
                for line in matrices[-1]
            ]
            angles.append([op.omega * s for s in sums])
            values.append([math.sin(angle) for angle in angles[-1]])
        back, found = [float(one) for one in gradients[image, :, pixel]], []
        for layer in range(op.layers, -1, -1):
            before = values[layer]
            found = [g * x for g in back for x in before] + back + found
            columns = zip(*matrices[layer], strict=True)
            back = [math.fsum(g * w for g, w in zip(back, c, strict=True)) for c in columns]
            if layer:
                turned = zip(back, angles[layer - 1], strict=True)
                back = [g * op.omega * math.cos(angle) for g, angle in turned]
        for place, value in enumerate(found):
            terms.setdefault((image, pixel // (64 * tiles), place), []).append(value)
    out = np.zeros((len(numbers), op.parts, numbers.shape[1]))
    for place, each in terms.items():
        out[place] = math.fsum(each)
    return out


ORACLES = {"siren": siren, "siren_gradient": siren_gradient}
