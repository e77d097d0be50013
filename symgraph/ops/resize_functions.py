"""What users call to resize: interpolation, pooling to a given size, and shuffles of pixels.

Axes are resized one after the other, the last one first; every axis that keeps its size is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from symgraph.dims import Size, equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import plain_size
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample
from symgraph.ops.adaptive_max import AdaptiveMax
from symgraph.ops.resize import Resize

_MODES = {
    "nearest": 0, "nearest-exact": 0, "area": 0, "linear": 0, "bilinear": 2, "trilinear": 3,
}  # fmt: skip
_LINEAR = ("linear", "bilinear", "trilinear")


def _spatial(name: str, x: Any, rank: int | None, floating: bool) -> Value:
    """Give x, or `ShapeError` unless it is (batch, channels) and `rank` sizes (1 to 3 if None)."""
    (value,) = common(name, x, floating=floating)
    found = value.ndim - 2
    if found == rank or (rank is None and 1 <= found <= 3):
        return value
    wanted = f"{rank + 2}" if rank is not None else "3, 4 or 5"
    raise ShapeError(
        f"{name}: `{value.label}` must have {wanted} axes, it has {value.ndim}.",
        details=operand_lines([value]),
        fix="axes are (batch, channels, sizes)",
    )


def _sizes(name: str, value: Value, size: Any) -> tuple[Size, ...]:
    """Give one size for each spatial axis, from one for all or a sequence; None keeps a size."""
    rank = value.ndim - 2
    several = size if isinstance(size, Sequence) else (size,) * rank
    if len(several) != rank:
        raise ArgumentError(
            f"{name}: size must be one number or {rank} of them, got {size!s:.60}.",
            fix="size=7, or one for each axis after the channels",
        )
    found = tuple(
        own if each is None else plain_size(name, "size", each)
        for own, each in zip(value.shape[2:], several)
    )
    if any(isinstance(each, int) and each < 1 for each in found):
        raise ArgumentError(f"{name}: sizes must be >= 1, got {size!s:.60}.", fix="size=7")
    return found


def _scaled(name: str, value: Value, factor: Any) -> tuple[Size, ...]:
    """Give floor(size * factor) for each spatial axis; a decimal number is taken as written."""
    rank = value.ndim - 2
    several = factor if isinstance(factor, Sequence) else (factor,) * rank
    if len(several) != rank:
        raise ArgumentError(
            f"{name}: scale_factor must be one number or {rank} of them, got {factor!s:.60}.",
            fix="scale_factor=2",
        )
    found: list[Size] = []
    for own, each in zip(value.shape[2:], several):
        if isinstance(each, bool) or not isinstance(each, int | float):
            raise ArgumentTypeError(
                f"{name}: scale_factor must be a number, got {type(each).__name__}.",
                fix="scale_factor=2",
            )
        if not 0 < each < math.inf:
            raise ArgumentError(
                f"{name}: scale_factor must be > 0, got {each}.", fix="scale_factor=2"
            )
        exact = Fraction(str(each))
        found.append(own * exact.numerator // exact.denominator)
    return tuple(found)


def _resized(value: Value, sizes: Sequence[Size], mode: str) -> Value:
    result = wide(value)
    for axis in reversed(range(2, value.ndim)):
        size = sizes[axis - 2]
        if equal(size, value.shape[axis]) is not True:
            result = make(Resize(axis, size, mode), result)
    return cast_to(result, value.dtype)


@composite(
    samples=[
        sample(lambda x: F.interpolate(x, scale_factor=2), arg(("B", 2, "W")), label="nearest"),
        sample(
            lambda x: F.interpolate(x, (5, 3), mode="bilinear"), arg((2, 1, "H", 7)),
            label="bilinear",
        ),
        sample(
            lambda x: F.interpolate(x, (7, x.shape[3]), mode="bilinear", align_corners=True),
            arg((1, 2, "H", "W")), label="corners",
        ),
        sample(
            lambda x: F.interpolate(x, scale_factor=(2, 0.5, 1.5), mode="trilinear"),
            arg((1, 1, 2, 4, 3)), label="trilinear",
        ),
        sample(lambda x: F.interpolate(x, 3, mode="area"), arg((0, 1, 5, 5)), label="none"),
    ],
    bad=[
        bad(lambda x: F.interpolate(x, 3), arg((2, 3)), match="must have 3, 4 or 5 axes"),
        bad(
            lambda x: F.interpolate(x), arg((1, 1, 4)), error=ArgumentError,
            match="either size or scale_factor",
        ),
        bad(
            lambda x: F.interpolate(x, 3, mode="cubic"), arg((1, 1, 4)), error=ArgumentError,
            match='mode must be "nearest"',
        ),
        bad(
            lambda x: F.interpolate(x, 3, mode="bilinear"), arg((1, 1, 4)), error=ArgumentError,
            match="is for 2 axes",
        ),
        bad(
            lambda x: F.interpolate(x, 3, align_corners=True), arg((1, 1, 4)),
            error=ArgumentError, match="align_corners is for",
        ),
        bad(
            lambda x: F.interpolate(x, (3, 3)), arg((1, 1, 4)), error=ArgumentError,
            match="size must be one number or 1",
        ),
        bad(
            lambda x: F.interpolate(x, scale_factor=0), arg((1, 1, 4)), error=ArgumentError,
            match="scale_factor must be > 0",
        ),
    ],
)  # fmt: skip
def interpolate(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Value:
    """Resize all axes after (batch, channels), 1 to 3 of them, to `size` or by `scale_factor`.

    "nearest" takes the place floor(p n / size) of n, "nearest-exact" floor((p + 1/2) n / size),
    "area" averages as `adaptive_avg_pool2d`; "linear" (also "bilinear", "trilinear") interpolates
    at (p + 1/2) n / size - 1/2, or with `align_corners` at p (n - 1) / (size - 1). Positions follow
    from the sizes alone, as exact fractions; a scaled size is floor(n * scale_factor).
    Raises `ShapeError`, or `ArgumentError` for other arguments.

    >>> interpolate([[[1.0, 2.0]]], 4, mode="linear").eval().tolist()
    [[[1.0, 1.25, 1.75, 2.0]]]
    """
    name = "interpolate"
    value = _spatial(name, x, None, floating=True)
    if mode not in _MODES:
        raise ArgumentError(
            f'{name}: mode must be "nearest", "nearest-exact", "area", "linear", "bilinear" or '
            f'"trilinear", got {mode!r:.40}.',
            fix='mode="linear" is for any number of axes',
        )
    if _MODES[mode] not in (0, value.ndim - 2):
        raise ArgumentError(
            f'{name}: "{mode}" is for {_MODES[mode]} axes after the channels, '
            f"there are {value.ndim - 2}.",
            fix='mode="linear"',
        )
    if align_corners and mode not in _LINEAR:
        raise ArgumentError(
            f'{name}: align_corners is for the linear modes, not "{mode}".', fix='mode="linear"'
        )
    if (size is None) == (scale_factor is None):
        raise ArgumentError(f"{name}: give either size or scale_factor.", fix="scale_factor=2")
    sizes = _scaled(name, value, scale_factor) if size is None else _sizes(name, value, size)
    rule = ("corners" if align_corners else "linear") if mode in _LINEAR else mode
    return _resized(value, sizes, rule)


@composite(
    samples=[
        sample(lambda x: F.upsample(x, scale_factor=3), arg(("B", 1, 2)), label="nearest"),
        sample(lambda x: F.upsample(x, 5, mode="bilinear"), arg((1, 1, "H", 2)), label="bilinear"),
    ],
    bad=[bad(lambda x: F.upsample(x), arg((1, 1, 4)), error=ArgumentError, match="either size or")],
)
def upsample(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Value:
    """Do what `interpolate` does: PyTorch's older name."""
    return F.interpolate(x, size, scale_factor, mode, align_corners)


def _adaptive_avg(name: str, rank: int, x: Any, size: Any) -> Value:
    value = _spatial(name, x, rank, floating=True)
    return _resized(value, _sizes(name, value, size), "area")


def _adaptive_max(name: str, rank: int, x: Any, size: Any) -> Value:
    value = _spatial(name, x, rank, floating=False)
    if value.dtype == "bool":
        raise DTypeError(
            f"{name}: `{value.label}` must hold numbers, not bool.",
            details=operand_lines([value]),
            fix='.cast("int8")',
        )
    sizes = _sizes(name, value, size)
    for axis in reversed(range(2, value.ndim)):
        if equal(sizes[axis - 2], value.shape[axis]) is not True:
            value = make(AdaptiveMax(axis, sizes[axis - 2]), value)
    return value


def _errors(call: Any, ndim: int) -> list[Any]:
    shape = (1, 1, 4, 4, 4)[: ndim + 2]
    return [
        bad(call(2), arg(shape[1:]), match=f"must have {ndim + 2} axes"),
        bad(call(0), arg(shape), error=ArgumentError, match="sizes must be >= 1"),
        bad(call((1,) * 4), arg(shape), error=ArgumentError, match="size must be one number or"),
    ]


@composite(
    samples=[
        sample(lambda x: F.adaptive_avg_pool1d(x, 3), arg(("B", 2, "W")), sizes={"W": 7}),
        sample(lambda x: F.adaptive_avg_pool1d(x, 1), arg((1, 1, 17)), label="one"),
    ],
    bad=_errors(lambda size: lambda x: F.adaptive_avg_pool1d(x, size), 1),
)
def adaptive_avg_pool1d(x: Any, size: Any) -> Value:
    """Average (batch, channels, length) under `size` windows; see `adaptive_avg_pool2d`."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, x, size)


@composite(
    samples=[
        sample(lambda x: F.adaptive_avg_pool2d(x, (3, 2)), arg(("B", 2, "H", 5))),
        sample(lambda x: F.adaptive_avg_pool2d(x, (None, 4)), arg((1, 1, 3, 2)), label="grown"),
    ],
    bad=_errors(lambda size: lambda x: F.adaptive_avg_pool2d(x, size), 2),
)
def adaptive_avg_pool2d(x: Any, size: Any) -> Value:
    """Average images under so many windows that the result has a given size.

    Window p of an axis of n places goes from floor(p n / size) to below ceil((p + 1) n / size), so
    windows overlap where the size does not divide n. `size` is a number or one for each axis, None
    keeps an axis. Raises `ShapeError` unless there are 4 axes, `ArgumentError` for other sizes.

    >>> adaptive_avg_pool2d([[[[1.0, 2.0, 3.0]]]], (1, 2)).eval().tolist()
    [[[[1.5, 2.5]]]]
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, x, size)


@composite(
    samples=[
        sample(lambda x: F.adaptive_avg_pool3d(x, 2), arg(("B", 1, 3, "H", 2))),
    ],
    bad=_errors(lambda size: lambda x: F.adaptive_avg_pool3d(x, size), 3),
)
def adaptive_avg_pool3d(x: Any, size: Any) -> Value:
    """Average volumes under windows of a given number; see `adaptive_avg_pool2d`."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, x, size)


@composite(
    samples=[
        sample(lambda x: F.adaptive_max_pool1d(x, 3), arg(("B", 2, "W"), distinct=True)),
        sample(lambda x: F.adaptive_max_pool1d(x, 1), arg((1, 1, 17), "int32"), label="int"),
    ],
    bad=[
        *_errors(lambda size: lambda x: F.adaptive_max_pool1d(x, size), 1),
        bad(
            lambda x: F.adaptive_max_pool1d(x, 2), arg((1, 1, 3), "bool"), error=DTypeError,
            match="not bool",
        ),
    ],
)  # fmt: skip
def adaptive_max_pool1d(x: Any, size: Any) -> Value:
    """Give the largest of (batch, channels, length) under windows; see `adaptive_max_pool2d`."""
    return _adaptive_max("adaptive_max_pool1d", 1, x, size)


@composite(
    samples=[
        sample(
            lambda x: F.adaptive_max_pool2d(x, (3, 2)), arg(("B", 2, "H", 5), distinct=True)
        ),
        sample(
            lambda x: F.adaptive_max_pool2d(x, (None, 4)), arg((1, 1, 3, 2), distinct=True),
            label="grown",
        ),
    ],
    bad=_errors(lambda size: lambda x: F.adaptive_max_pool2d(x, size), 2),
)  # fmt: skip
def adaptive_max_pool2d(x: Any, size: Any) -> Value:
    """Give the largest element of images under so many windows that the result has a given size.

    Windows and errors are those of `adaptive_avg_pool2d`. A NaN wins; the gradient goes to the
    first largest element in row-major order.
    """
    return _adaptive_max("adaptive_max_pool2d", 2, x, size)


@composite(
    samples=[
        sample(
            lambda x: F.adaptive_max_pool3d(x, (2, 2, 1)),
            arg(("B", 1, 3, "H", 2), distinct=True),
        ),
    ],
    bad=_errors(lambda size: lambda x: F.adaptive_max_pool3d(x, size), 3),
)
def adaptive_max_pool3d(x: Any, size: Any) -> Value:
    """Give the largest element of volumes under windows; see `adaptive_max_pool2d`."""
    return _adaptive_max("adaptive_max_pool3d", 3, x, size)
