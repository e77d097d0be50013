"""Questions about dtypes in the array API's words, and its constants; none of them builds graph."""

from __future__ import annotations

import builtins
import math
from typing import Any

import ml_dtypes
import numpy as np

from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import (
    BOOL,
    COMPLEX,
    FLOATS,
    INTEGERS,
    SIGNED,
    UNSIGNED,
    DType,
    complex_dtype,
    default_float,
    dtype_name,
    is_float,
    is_integer,
    itemsize,
    numpy_dtype,
    promote,
    real_dtype,
    weak_dtype,
)
from symgraph.graph.node import Value

pi = math.pi
e = math.e
inf = math.inf
nan = math.nan
newaxis = None

bool = "bool"
int8, int16, int32, int64 = SIGNED
uint8, uint16, uint32, uint64 = UNSIGNED
float16, bfloat16, float32, float64 = FLOATS
complex64, complex128 = COMPLEX

__all__ = [
    "__array_namespace_info__", "bfloat16", "bool", "can_cast", "complex128", "complex64", "e",
    "finfo", "float16", "float32", "float64", "iinfo", "inf", "int16", "int32", "int64", "int8",
    "isdtype", "nan", "newaxis", "pi", "result_type", "uint16", "uint32", "uint64", "uint8",
]  # fmt: skip

KINDS: dict[str, tuple[DType, ...]] = {
    "bool": BOOL,
    "signed integer": SIGNED,
    "unsigned integer": UNSIGNED,
    "integral": INTEGERS,
    "real floating": FLOATS,
    "complex floating": COMPLEX,
    "numeric": INTEGERS + FLOATS + COMPLEX,
}


STANDARD = BOOL + INTEGERS + ("float32", "float64") + COMPLEX


@frozen
class FloatInfo:
    """The limits of a float dtype."""

    dtype: Any  # its name; an object in `symgraph.array_api`
    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float


@frozen
class IntegerInfo:
    """The limits of an integer dtype."""

    dtype: Any  # its name; an object in `symgraph.array_api`
    bits: int
    max: int
    min: int


@frozen
class NamespaceInfo:
    """What a namespace of the array API has; what its `__array_namespace_info__()` gives."""

    device: str | None  # the only one; None where values have none
    shapes_from_data: builtins.bool  # whether numbers may decide about shapes

    def capabilities(self) -> dict[str, Any]:
        """Say whether masks and sets work, and how many axes there may be."""
        return {
            "boolean indexing": self.shapes_from_data,
            "data-dependent shapes": self.shapes_from_data,
            "max dimensions": 64,
        }

    def default_device(self) -> str | None:
        """Give the device of new arrays."""
        return self.device

    def devices(self) -> list[str | None]:
        """List the devices."""
        return [self.device]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """Give the dtypes of numbers without one; floats follow `config.float_dtype`."""
        self._require("default_dtypes", device)
        floating = default_float()
        return {
            "real floating": floating,
            "complex floating": complex_dtype(floating),
            "integral": "int64",
            "indexing": "int64",
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """Give the standard's dtypes by name, those of a kind or of several.

        Raises `ArgumentTypeError` for a kind that is no word.
        """
        self._require("dtypes", device)
        if kind is not None and not isinstance(kind, str | tuple):
            raise ArgumentTypeError(
                f"dtypes: a kind is a word or several, got {type(kind).__name__}.",
                fix='kind="real floating"',
            )
        return {name: name for name in STANDARD if kind is None or isdtype(name, kind)}

    def _require(self, name: str, device: Any) -> None:
        if device is not None and device != self.device:
            raise ArgumentError(
                f"{name}: there is no device {device!r:.40} here.", fix=f"device={self.device!r}"
            )


def __array_namespace_info__() -> NamespaceInfo:  # noqa: N807 - the standard's name
    """Tell what the graph has of the array API: dtypes, and that values have no device.

    >>> __array_namespace_info__().default_dtypes()["real floating"]
    'float32'
    """
    return NamespaceInfo(device=None, shapes_from_data=True)


def _dtype_of(what: Any) -> DType:
    return what.dtype if isinstance(what, Value) else dtype_name(getattr(what, "dtype", what))


def finfo(dtype: Any) -> FloatInfo:
    """Give the limits of a float dtype, or of a value's: bits, eps, max, min, smallest_normal.

    Of complex dtypes they are those of the parts. Raises `DTypeError` for other dtypes.

    >>> finfo("bfloat16").eps
    0.0078125
    """
    name = real_dtype(_dtype_of(dtype))
    if not is_float(name):
        raise DTypeError(f"finfo: {name} is no float.", fix="use iinfo for integers")
    limits = ml_dtypes.finfo(numpy_dtype(name))  # type: ignore[no-untyped-call] # NumPy lacks bfloat16
    numbers = (limits.eps, limits.max, limits.min, limits.smallest_normal)
    return FloatInfo(name, 8 * itemsize(name), *map(float, numbers))


def iinfo(dtype: Any) -> IntegerInfo:
    """Give the limits of an integer dtype, or of a value's: bits, max, min.

    Raises `DTypeError` for other dtypes.

    >>> iinfo("int8").min
    -128
    """
    name = _dtype_of(dtype)
    if not is_integer(name):
        raise DTypeError(f"iinfo: {name} is no integer.", fix="use finfo for floats")
    limits = np.iinfo(numpy_dtype(name))
    return IntegerInfo(name, 8 * itemsize(name), int(limits.max), int(limits.min))


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Tell whether a dtype is another one, or of a kind, or of one of several.

    Kinds are "bool", "signed integer", "unsigned integer", "integral", "real floating",
    "complex floating" and "numeric". Raises `ArgumentError` for another word.

    >>> isdtype("uint8", "integral"), isdtype("float32", ("bool", "float64"))
    (True, False)
    """
    name = dtype_name(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(name, one) for one in kind)
    if isinstance(kind, str) and kind in KINDS:
        return name in KINDS[kind]
    try:
        return name == dtype_name(kind)
    except DTypeError:
        raise ArgumentError(
            f"isdtype: {kind!r:.60} is neither a dtype nor a kind.",
            fix=f"use one of {', '.join(KINDS)}",
        ) from None


def can_cast(given: Any, to: Any) -> builtins.bool:
    """Tell whether the dtype of something meets another in that one, by the promotion table.

    >>> can_cast("uint8", "int16"), can_cast("float64", "float32")
    (True, False)
    """
    target = dtype_name(to)
    try:
        return promote(_dtype_of(given), target) == target
    except DTypeError:
        return False


def result_type(*given: Any) -> DType:
    """Give the dtype in which values, arrays, dtypes and Python numbers meet.

    Raises `DTypeError` where none holds all, `ArgumentTypeError` for nothing.

    >>> result_type("int8", "uint8"), result_type("float16", 1.5)
    ('int16', 'float16')
    """
    if not given:
        raise ArgumentTypeError("result_type: needs a dtype or a value.", fix='result_type("int8")')
    weak_types = (builtins.bool, int, float, complex)
    numbers = [one for one in given if type(one) in weak_types]
    others = [one for one in given if type(one) not in weak_types]
    met = promote(*map(_dtype_of, others)) if others else None
    for number in numbers:
        weak = weak_dtype(number, met)
        met = weak if met is None else promote(met, weak)
    return str(met)
