"""Channels that become pixels, and back."""

from __future__ import annotations

from typing import Any

from symgraph.dims import Size, equal
from symgraph.errors import ArgumentError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample


def _images(name: str, x: Any, factor: Any) -> tuple[Value, int]:
    value, times = as_value(x), plain_int(name, "factor", factor)
    if times < 1:
        raise ArgumentError(f"{name}: factor must be >= 1, got {times}.", fix="factor=2")
    if value.ndim < 3:
        raise ShapeError(
            f"{name}: `{value.label}` must have at least 3 axes, it has {value.ndim}.",
            details=operand_lines([value]),
            fix="the last axes are (channels, height, width)",
        )
    return value, times


def _divided(name: str, value: Value, axis: int, by: int) -> Size:
    """Give a size divided by a number, or `ShapeError` where that leaves a rest."""
    size = value.shape[axis]
    if equal(size % by, 0) is not True:
        raise ShapeError(
            f"{name}: {by} must divide axis {axis} of `{value.label}`, which is {size}.",
            details=operand_lines([value]),
            fix="choose sizes that are multiples, e.g. 2 * sg.dim('H')",
        )
    return size // by


@composite(
    samples=[
        sample(lambda x: F.pixel_shuffle(x, 2), arg(("B", 8, 2, "W"))),
        sample(lambda x: F.pixel_shuffle(x, 3), arg((9, "H", 1), "int32"), label="int"),
        sample(lambda x: F.pixel_shuffle(x, 1), arg((0, 3, 2, 2)), label="none"),
    ],
    bad=[
        bad(lambda x: F.pixel_shuffle(x, 2), arg((1, 6, 2, 2)), match="4 must divide axis 1"),
        bad(lambda x: F.pixel_shuffle(x, 2), arg((4, 4)), match="at least 3 axes"),
        bad(
            lambda x: F.pixel_shuffle(x, 0), arg((1, 4, 2, 2)), error=ArgumentError,
            match="factor must be >= 1",
        ),
    ],
)  # fmt: skip
def pixel_shuffle(x: Any, factor: int) -> Value:
    """Make images `factor` times as large: (..., C r^2, H, W) to (..., C, H r, W r).

    y[..., c, h r + i, w r + j] = x[..., c r^2 + i r + j, h, w]. Raises `ShapeError` unless r^2
    divides the channels, `ArgumentError` unless r >= 1.
    Source: Shi et al., "Real-time single image and video super-resolution" (2016), equation 4.
    """
    value, r = _images("pixel_shuffle", x, factor)
    lead, (high, wide) = value.ndim - 3, value.shape[-2:]
    channels = _divided("pixel_shuffle", value, lead, r * r)
    before = value.shape[:lead]
    parts = F.reshape(value, (*before, channels, r, r, high, wide))
    order = (*range(lead), lead, lead + 3, lead + 1, lead + 4, lead + 2)
    return F.reshape(F.permute_dims(parts, order), (*before, channels, high * r, wide * r))


@composite(
    samples=[
        sample(
            lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), arg(("B", 4, 2, "W")),
            label="inverse",
        ),
        sample(lambda x: F.pixel_unshuffle(x, 3), arg((2, 3, 6), "int32"), label="int"),
    ],
    bad=[
        bad(lambda x: F.pixel_unshuffle(x, 2), arg((1, 6, 3, 2)), match="2 must divide axis 2"),
        bad(
            lambda x: F.pixel_unshuffle(x, -1), arg((1, 4, 2, 2)), error=ArgumentError,
            match="factor must be >= 1",
        ),
    ],
)  # fmt: skip
def pixel_unshuffle(x: Any, factor: int) -> Value:
    """Undo `pixel_shuffle`: (..., C, H r, W r) to (..., C r^2, H, W).

    Raises `ShapeError` unless r divides height and width, `ArgumentError` unless r >= 1.
    """
    value, r = _images("pixel_unshuffle", x, factor)
    lead, channels = value.ndim - 3, value.shape[-3]
    high, wide = (_divided("pixel_unshuffle", value, lead + d, r) for d in (1, 2))
    before = value.shape[:lead]
    parts = F.reshape(value, (*before, channels, high, r, wide, r))
    order = (*range(lead), lead, lead + 2, lead + 4, lead + 1, lead + 3)
    return F.reshape(F.permute_dims(parts, order), (*before, channels * r * r, high, wide))
