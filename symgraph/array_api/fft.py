"""Fourier transforms: `xp.fft.rfft(x)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.array_api.array import Array, call, require_array, require_device
from symgraph.array_api.kinds import FLOAT, REAL_FLOAT, require

__all__ = [
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft",
    "irfftn", "rfft", "rfftfreq", "rfftn",
]  # fmt: skip

Axes = Sequence[int] | None


def _along(name: str, takes: str, x: Array, points: Any, axes: Any, norm: str) -> Array:
    require(name, takes, require_array(name, x).dtype)
    return call(name, x, points, axes, norm)


def fft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Array:
    """Transform along an axis; `norm` says where 1/n stands: "backward", "forward", "ortho"."""
    return _along("fft", FLOAT, x, n, axis, norm)


def ifft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Array:
    """Transform back along an axis."""
    return _along("ifft", FLOAT, x, n, axis, norm)


def fftn(x: Array, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Array:
    """Transform along several axes, all by default."""
    return _along("fftn", FLOAT, x, s, axes, norm)


def ifftn(x: Array, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Array:
    """Transform back along several axes, all by default."""
    return _along("ifftn", FLOAT, x, s, axes, norm)


def rfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Array:
    """Transform real numbers along an axis; what is not given follows by symmetry."""
    return _along("rfft", REAL_FLOAT, x, n, axis, norm)


def irfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Array:
    """Transform back to real numbers along an axis."""
    return _along("irfft", FLOAT, x, n, axis, norm)


def rfftn(x: Array, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Array:
    """Transform real numbers along several axes, all by default."""
    return _along("rfftn", REAL_FLOAT, x, s, axes, norm)


def irfftn(x: Array, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Array:
    """Transform back to real numbers along several axes, all by default."""
    return _along("irfftn", FLOAT, x, s, axes, norm)


def hfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Array:
    """Transform numbers that are symmetric, as Hermite's, to real ones along an axis."""
    return _along("hfft", FLOAT, x, n, axis, norm)


def ihfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Array:
    """Transform real numbers back to symmetric ones, as Hermite's, along an axis."""
    return _along("ihfft", REAL_FLOAT, x, n, axis, norm)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Array:
    """Give the frequencies that `fft` of n points, d apart, has."""
    require_device("fftfreq", device)
    return call("fftfreq", n, d, dtype=dtype)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Array:
    """Give the frequencies that `rfft` of n points, d apart, has."""
    require_device("rfftfreq", device)
    return call("rfftfreq", n, d, dtype=dtype)


def fftshift(x: Array, /, *, axes: int | Axes = None) -> Array:
    """Move the frequency 0 to the middle."""
    return call("fftshift", require_array("fftshift", x), axes)


def ifftshift(x: Array, /, *, axes: int | Axes = None) -> Array:
    """Move the frequency 0 from the middle to the front."""
    return call("ifftshift", require_array("ifftshift", x), axes)
