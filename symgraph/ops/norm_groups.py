"""Normalisation over groups of channels of one example, and over each channel alone."""

from __future__ import annotations

from typing import Any

from symgraph.dims import equal
from symgraph.errors import ArgumentError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample

_CHANNELS = (arg((4,)), arg((4,)))


def _normalised(
    name: str, x: Any, groups: int | None, scale: Any, shift: Any, epsilon: float
) -> Value:
    """Normalise groups of channels (axis 1), or each channel where `groups` is None."""
    given = [each for each in (scale, shift) if each is not None]
    value, *parameters = common(name, x, *given, floating=True)
    least = 2 if groups is not None else 3
    if value.ndim < least:
        raise ShapeError(
            f"{name}: `{value.label}` must have at least {least} axes, it has {value.ndim}.",
            details=operand_lines([value]),
            fix="axes are (batch, channels, sizes)",
        )
    batch, channels, *rest = value.shape
    if groups is not None and equal(channels % groups, 0) is not True:
        raise ShapeError(
            f"{name}: groups must divide the channels of `{value.label}`: "
            f"{channels} channels, {groups} groups.",
            details=operand_lines([value]),
            fix="groups=1, or a divisor of the channels",
        )
    for parameter in parameters:
        if parameter.ndim != 1 or equal(parameter.shape[0], channels) is False:
            raise ShapeError(
                f"{name}: `{parameter.label}` must have one number for each of {channels} "
                f"channels, it is {parameter.type}.",
                details=operand_lines([value, parameter]),
                fix=f"give it the shape ({channels},)",
            )
    together = wide(value)
    if groups is not None:
        together = F.reshape(together, (batch, groups, channels // groups, *rest))
    over = tuple(range(2, together.ndim))
    result = F.reshape(F.layer_norm(together, axis=over, epsilon=epsilon), value.shape)
    column = (channels, *(1,) * len(rest))
    factors = [F.reshape(wide(parameter), column) for parameter in parameters]
    if scale is not None:
        result = result * factors[0]
    if shift is not None:
        result = result + factors[-1]
    return cast_to(result, value.dtype)


@composite(
    samples=[
        sample(lambda x, a, b: F.group_norm(x, 2, a, b), arg(("B", 4, "H", 3)), *_CHANNELS),
        sample(lambda x: F.group_norm(x, 1, epsilon=0.1), arg(("B", 4)), label="plain"),
        sample(lambda x, b: F.group_norm(x, 4, shift=b), arg((2, 4, 17)), arg((4,)), label="shift"),
        sample(lambda x: F.group_norm(x, 3), arg((0, 3, 2)), label="none"),
    ],
    bad=[
        bad(lambda x: F.group_norm(x, 3), arg((2, 4, 2)), match="4 channels, 3 groups"),
        bad(lambda x: F.group_norm(x, 1), arg((4,)), match="at least 2 axes"),
        bad(
            lambda x, a: F.group_norm(x, 2, a), arg((2, 4, 2)), arg((3,)),
            match="one number for each of 4",
        ),
        bad(
            lambda x: F.group_norm(x, 0), arg((2, 4)), error=ArgumentError,
            match="groups must be >= 1",
        ),
        bad(
            lambda x: F.group_norm(x, 2, epsilon=0), arg((2, 4)), error=ArgumentError,
            match="epsilon must be > 0",
        ),
    ],
)  # fmt: skip
def group_norm(
    x: Any, groups: int, scale: Any = None, shift: Any = None, epsilon: float = 1e-5
) -> Value:
    """Normalise each example over groups of its channels, then scale and shift each channel.

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift, mean and variance (divided by the
    count) over the channels of a group and all axes after them. Channels are axis 1. Raises
    `ShapeError` unless groups divide the channels, `ArgumentError` for groups or epsilon not > 0.
    Source: Wu, He: "Group normalization" (2018), equations 1, 2 and 6.
    """
    number = plain_int("group_norm", "groups", groups)
    if number < 1:
        raise ArgumentError(f"group_norm: groups must be >= 1, got {number}.", fix="groups=1")
    return _normalised("group_norm", x, number, scale, shift, epsilon)


@composite(
    samples=[
        sample(lambda x, a, b: F.instance_norm(x, a, b), arg(("B", 4, "H", 3)), *_CHANNELS),
        sample(lambda x: F.instance_norm(x, epsilon=0.1), arg((2, 1, 33)), label="plain"),
    ],
    bad=[
        bad(lambda x: F.instance_norm(x), arg((2, 4)), match="at least 3 axes"),
        bad(
            lambda x, a: F.instance_norm(x, a), arg((2, 4, 2)), arg((4, 1)),
            match="one number for each of 4",
        ),
    ],
)  # fmt: skip
def instance_norm(x: Any, scale: Any = None, shift: Any = None, epsilon: float = 1e-5) -> Value:
    """Normalise each channel of each example over the axes after it, then scale and shift it.

    Raises as `group_norm` does.
    Source: Ulyanov et al., "Instance normalization" (2016), equation 4.
    """
    return _normalised("instance_norm", x, None, scale, shift, epsilon)
