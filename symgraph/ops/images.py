"""Images cut, mirrored and centred as part of a graph, so that bytes travel and not floats."""

from __future__ import annotations

from typing import Any

from symgraph.dims import Size, equal, less_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import plain_size
from symgraph.graph.dtypes import is_float, is_integer
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample

BYTES = arg(("B", 3, 6, 7), "uint8", low=0, high=256)
TOPS, LEFTS = arg(("B",), "int32", low=0, high=3), arg(("B",), "int64", low=0, high=4)
TURNED = arg(("B",), "bool")


@composite(
    samples=[
        sample(lambda x, t, s, m: F.crop_mirror(x, 4, t, s, m), BYTES, TOPS, LEFTS, TURNED,
               label="plain"),
        sample(lambda x, t, s, m, mean: F.crop_mirror(x, 4, t, s, m, mean), BYTES, TOPS, LEFTS,
               TURNED, arg((3, 6, 7)), label="centred"),
        sample(lambda x, t, s, m: F.crop_mirror(x, (5, 1), t, s, m), BYTES,
               arg(("B",), "int8", low=0, high=2), arg(("B",), "uint8", low=0, high=7),
               TURNED, label="oblong"),
    ],
    bad=[
        bad(lambda x, t, s, m: F.crop_mirror(x, 8, t, s, m), BYTES, TOPS, LEFTS, TURNED,
            error=ArgumentError, match="crop_mirror: .* at most"),
        bad(lambda x, t, s, m: F.crop_mirror(x, 4, t, s, m), arg((2, 3, 6)), TOPS, LEFTS, TURNED,
            error=ShapeError, match="crop_mirror: .* 4 axes"),
        bad(lambda x, t, s, m: F.crop_mirror(x, 4, t, s, m), BYTES, arg(("B",)), LEFTS, TURNED,
            error=DTypeError, match="crop_mirror: `x1` .* whole"),
        bad(lambda x, t, s, m: F.crop_mirror(x, 4, t, s, m), BYTES, TOPS, LEFTS,
            arg(("B",), "int32"), error=DTypeError, match="crop_mirror: `x3` .* bool"),
        bad(lambda x, t, s, m, mean: F.crop_mirror(x, 4, t, s, m, mean), BYTES, TOPS, LEFTS, TURNED,
            arg((3, 6, 7), "int32"), error=DTypeError, match="crop_mirror: `x4` .* floats"),
        bad(lambda x, t, s, m, mean: F.crop_mirror(x, 4, t, s, m, mean), BYTES, TOPS, LEFTS, TURNED,
            arg((3, 7, 7)), error=ShapeError, match="crop_mirror: `x4` .* images' size"),
        bad(lambda x, t, s, m: F.crop_mirror(x, 4, t, s, m), BYTES, TOPS, arg((2, 2), "int32"),
            TURNED, error=ShapeError, match="crop_mirror: `x2` .* one axis"),
    ],
)  # fmt: skip
def crop_mirror(
    images: Any, crop: Size | tuple[Size, Size], top: Any, left: Any, mirror: Any, mean: Any = None
) -> Value:
    """Cut a window out of each image, mirror it where asked, and subtract the mean image.

    y[n] = flip_n((images[n] - mean)[:, top_n : top_n + high, left_n : left_n + wide])

    `images` are (batch, channels, height, width) of any dtype, `crop` is a side or (high, wide);
    `top`, `left` (whole numbers) and `mirror` (bool) have one element for each image, `mean` is
    (channels, height, width). The result is of the dtype of `mean`, else float32, and has the bits
    of `sg.data.crop_mirror`. A window that is not inside its image raises `IndexRangeError` in the
    call. Raises `ShapeError`, `DTypeError` or `ArgumentError` for other arguments.

    >>> import symgraph as sg
    >>> x, at = sg.tensor("x", (sg.dim("B"), 3, 256, 256), "uint8"), sg.constant([0])
    >>> str(sg.crop_mirror(x[:1], 227, at, at, at > 0).type)
    'float32[1, 3, 227, 227]'
    """
    value, rows, columns, turned = (as_value(one) for one in (images, top, left, mirror))
    if value.ndim != 4:
        raise ShapeError(
            f"crop_mirror: `{value.label}` must have 4 axes, it has {value.ndim}.",
            details=operand_lines([value]),
            fix="axes are (batch, channels, height, width)",
        )
    high, wide = _sides(crop, value)
    for one, wanted, fits in (
        (rows, "whole numbers", is_integer(rows.dtype)),
        (columns, "whole numbers", is_integer(columns.dtype)),
        (turned, "bool", turned.dtype == "bool"),
    ):
        if one.ndim != 1:
            raise ShapeError(
                f"crop_mirror: `{one.label}` must have one axis, the images, it has {one.ndim}.",
                details=operand_lines([one]),
            )
        if not fits:
            raise DTypeError(
                f"crop_mirror: `{one.label}` must hold {wanted}, not {one.dtype}.",
                details=operand_lines([one]),
            )
    along = F.arange(wide)
    steps = F.where(turned[:, None], wide - 1 - along, along)
    down = (_inside(rows, value.shape[2]) + F.arange(high))[:, :, None]
    across = (_inside(columns, value.shape[3]) + steps)[:, None, :]
    each = F.arange(value.shape[0])[:, None, None]
    found = F.permute_dims(value[each, :, down, across], (0, 3, 1, 2))
    if mean is None:
        return cast_to(found, "float32")
    middle = as_value(mean)
    if middle.ndim != 3:
        raise ShapeError(
            f"crop_mirror: `{middle.label}` must be one image, it has {middle.ndim} axes.",
            details=operand_lines([middle]),
        )
    if not is_float(middle.dtype):
        raise DTypeError(
            f"crop_mirror: `{middle.label}` must hold floats, not {middle.dtype}.",
            details=operand_lines([middle]),
            fix='.cast("float32")',
        )
    for size, own in zip(middle.shape, value.shape[1:]):
        if equal(size, own) is not True:
            raise ShapeError(
                f"crop_mirror: `{middle.label}` must be of the images' size, {value.shape[1:]}, "
                f"not {middle.shape}.",
                details=operand_lines([middle, value]),
            )
    return cast_to(found, middle.dtype) - F.permute_dims(middle[:, down, across], (1, 0, 2, 3))


def _inside(starts: Value, size: Size) -> Value:
    """Give starts as a column; one below zero, which would count from the end, is put outside."""
    wide = cast_to(starts, "int64")
    return F.where(wide < 0, size, wide)[:, None]


def _sides(crop: Size | tuple[Size, Size], images: Value) -> tuple[Size, Size]:
    """Give height and width of the windows."""
    pair = crop if isinstance(crop, tuple) else (crop, crop)
    if len(pair) != 2:
        raise ArgumentTypeError(
            f"crop_mirror: crop must be a side or (high, wide), got {crop!r:.60}.", fix="crop=227"
        )
    sides = tuple(plain_size("crop_mirror", "crop", one) for one in pair)
    for side, size in zip(sides, images.shape[2:]):
        if less_equal(side, size) is False:
            raise ArgumentError(
                f"crop_mirror: crop must be at most the size of `{images.label}`, {size}, "
                f"got {side}.",
                details=operand_lines([images]),
            )
    return sides[0], sides[1]
