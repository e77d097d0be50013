"""Oracles of Fourier transforms: products with the matrix of their definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any
FORWARD, INVERSE = -1, 1
POWER = {"backward": (0, 1), "ortho": (0.5, 0.5), "forward": (1, 0)}


def transformed(x: Array, axes: Sequence[int], norm: str, sign: int) -> Array:
    """Multiply with exp(sign 2 pi i j k / n) along axes, one after the other."""
    for axis in axes:
        n = x.shape[axis]
        turns = np.outer(np.arange(n), np.arange(n)) % n
        matrix = np.exp(sign * 2j * np.pi * turns / n) / n ** POWER[norm][sign == INVERSE]
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ matrix, -1, axis)
    return x


def half(x: Array, axis: int) -> Array:
    """Give the first n // 2 + 1 places of an axis."""
    return np.take(x, np.arange(x.shape[axis] // 2 + 1), axis)


def mirrored(x: Array, axis: int, size: int) -> Array:
    """Give all places of a spectrum of real numbers from the first ones, along one axis."""
    rows = np.moveaxis(x, axis, -1)
    found = np.zeros((*rows.shape[:-1], size), np.complex128)
    for k in range(size // 2 + 1):
        found[..., k] = rows[..., k]
        if 0 < k < size - k:
            found[..., size - k] = np.conj(rows[..., k])
        elif k in (0, size - k):
            found[..., k] = rows[..., k].real
    return np.moveaxis(found, -1, axis)


def inverted(x: Array, axes: Sequence[int], norm: str, size: int) -> Array:
    """Transform along all axes but the last, complete that, and transform it to real numbers."""
    x = transformed(x, axes[:-1], norm, INVERSE)
    return transformed(mirrored(x, axes[-1], size), axes[-1:], norm, INVERSE).real


def called(function: Callable[..., Array], *args: Any, **options: Any) -> Callable[[Array], Array]:
    """Make NumPy's function of the same name an oracle."""
    return lambda x: function(x, *args, **options)


def one(name: str) -> dict[str, Callable[..., Array]]:
    """Give the oracles of the samples of a function of one axis."""
    function = getattr(np.fft, name)
    return {
        f"{name}:last": called(function),
        f"{name}:longer": called(function, 6, 0, norm="ortho"),
        f"{name}:shorter": called(function, 5, norm="forward"),
    }


def several(name: str) -> dict[str, Callable[..., Array]]:
    """Give the oracles of the samples of a function of several axes."""
    function = getattr(np.fft, name)
    return {
        f"{name}:all": called(function),
        f"{name}:resized": called(function, (4, 5), (2, 0), norm="ortho"),
    }


ORACLES: dict[str, Callable[..., Any]] = {}
for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
    ORACLES |= one(name)
for name in ("fftn", "ifftn", "rfftn", "irfftn"):
    ORACLES |= several(name)
ORACLES |= {
    "dft": lambda op, x: transformed(x, op.axes, op.norm, INVERSE if op.inverse else FORWARD),
    "real_dft": lambda op, x: half(transformed(x, op.axes, op.norm, FORWARD), op.axes[-1]),
    "inverse_real_dft": lambda op, x: inverted(x, op.axes, op.norm, op.size),
    "fftfreq:even": lambda x: np.fft.fftfreq(len(x)),
    "fftfreq:odd": lambda x: np.fft.fftfreq(5, 0.25),
    "rfftfreq:even": lambda x: np.fft.rfftfreq(len(x)),
    "rfftfreq:odd": lambda x: np.fft.rfftfreq(5, 0.25),
    "fftshift:all": np.fft.fftshift,
    "fftshift:one": lambda x: np.fft.fftshift(x, axes=1),
    "ifftshift": np.fft.ifftshift,
}
