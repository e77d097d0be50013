"""Arguments that many functions share: axes, shapes and switches, checked and in one form.

Every check raises an error that names the function, what must hold, the value, and a fix.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from symgraph.dims import Dim, Size
from symgraph.errors import ArgumentError, ArgumentTypeError, ShapeError
from symgraph.graph.types import Shape


def normal_axis(name: str, axis: Any, ndim: int) -> int:
    """Give an axis as 0 <= axis < ndim; negative ones count from the end.

    Raises `ArgumentTypeError` for anything but an int and `ArgumentError` outside of the range.

    >>> normal_axis("sum", -1, 3)
    2
    """
    number = plain_int(name, "axis", axis)
    if not -ndim <= number < ndim:
        raise ArgumentError(
            f"{name}: axis {number} does not exist: there are {ndim} axes.",
            fix=f"use {-ndim} to {ndim - 1}" if ndim else "a scalar has no axes",
        )
    return number % ndim


def normal_axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Give axes in ascending order: None means all of them, an int is one.

    Raises `ArgumentError` when one is named twice, else as `normal_axis`.

    >>> normal_axes("sum", (-1, 0), 3)
    (0, 2)
    """
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted(distinct_axes(name, axis, ndim)))


def distinct_axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Give one axis or several in the order given, each only once; raises as `normal_axes`."""
    given = tuple(axis) if isinstance(axis, Iterable) and not hasattr(axis, "__index__") else axis
    several = given if isinstance(given, tuple) else (given,)
    found = tuple(normal_axis(name, one, ndim) for one in several)
    if len(set(found)) != len(found):
        raise ArgumentError(f"{name}: an axis is named twice in {axis!r}.", fix="name each once")
    return found


def plain_int(name: str, what: str, value: Any) -> int:
    """Give a Python int from an int or a NumPy integer, or raise `ArgumentTypeError`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or isinstance(value, Dim):
        raise ArgumentTypeError(
            f"{name}: {what} must be an int, got {type(value).__name__} {value!s:.60}.",
            fix="give a plain number; it is part of the program, not of the data",
        )
    try:
        return operator.index(value)
    except TypeError as problem:
        raise ArgumentTypeError(
            f"{name}: {what} must be an int, got {value!s:.60}.", fix="give a plain number"
        ) from problem


def counts(name: str, **given: Any) -> tuple[int, ...]:
    """Give ints of which each must be >= 1, or raise `ArgumentTypeError` or `ArgumentError`.

    >>> counts("Dense", inputs=3, outputs=2)
    (3, 2)
    """
    found = tuple(plain_int(name, what, value) for what, value in given.items())
    for what, number in zip(given, found):
        if number < 1:
            raise ArgumentError(f"{name}: {what} must be >= 1, got {number}.")
    return found


def share(name: str, what: str, value: Any, details: Sequence[str] = ()) -> float:
    """Give a share of what is there, from 0 up to 1, as a float, or raise as `counts`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(
            f"{name}: {what} must be a number, got {type(value).__name__} {value!s:.60}.",
            details=details,
        )
    number = float(value)
    if not 0 <= number < 1:
        raise ArgumentError(
            f"{name}: {what} must be in [0, 1), got {value}.", details=details, fix=f"{what}=0.5"
        )
    return number


def plain_size(name: str, what: str, value: Any) -> Size:
    """Give an int or a symbolic size, of either sign, or raise `ArgumentTypeError`."""
    if hasattr(value, "tensor"):  # a value of the graph
        raise ArgumentTypeError(
            f"{name}: {what} must be an int or a size, got the value {value!s:.60}.",
            fix="sg.as_size(n) makes a size of an integer value; sg.jit(static=...) keeps numbers",
        )
    return value if isinstance(value, Dim) else plain_int(name, what, value)


def no_device(name: str, device: Any) -> None:
    """Raise `ArgumentError` for a device: values have none, the array API's `device` is None."""
    if device is not None:
        raise ArgumentError(
            f"{name}: device={device!r:.40}, but a value of the graph has no device.",
            fix="leave it out; what a function runs on is said when it is compiled: backend=...",
        )


def shape_argument(name: str, shape: Any, *, unknown: bool = False) -> Shape:
    """Give a shape as a tuple of sizes; an int or a size is a shape with one axis.

    With `unknown`, -1 may stand for one size. Raises `ShapeError` for negative sizes.
    """
    single = isinstance(shape, Dim) or not isinstance(shape, Iterable)
    sizes: Sequence[Any] = (shape,) if single else tuple(shape)
    found = tuple(plain_size(name, "a size of the shape", size) for size in sizes)
    for size in found:
        if isinstance(size, int) and size < (-1 if unknown else 0):
            raise ShapeError(
                f"{name}: {size} in {_text(found)} is negative.",
                fix="sizes are >= 0" + ("; one may be -1" if unknown else ""),
            )
    if unknown and sum(isinstance(size, int) and size == -1 for size in found) > 1:
        raise ShapeError(
            f"{name}: {_text(found)} has more than one -1.", fix="only one size can be worked out"
        )
    return found


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
