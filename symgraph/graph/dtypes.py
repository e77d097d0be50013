"""The dtypes of symgraph and the one table by which two of them meet.

Array-API rules, and four answers where that standard leaves the choice open: bool is the smallest
integer, an integer meets a float in the float's dtype and a complex number in its own, float16
meets bfloat16 in float32, and half precisions meet complex numbers in complex64.
Python numbers are weak: they take the dtype of what they meet.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from symgraph.config import config
from symgraph.errors import DTypeError

DType = str

BOOL = ("bool",)
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
INTEGERS = SIGNED + UNSIGNED
ALL = BOOL + INTEGERS + FLOATS + COMPLEX

_NUMPY: dict[DType, np.dtype[Any]] = {
    name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in ALL
}
_NAMES: dict[np.dtype[Any], DType] = {dtype: name for name, dtype in _NUMPY.items()}

#          rows meet columns; "-" has no common dtype
_TABLE = """
           bool       uint8      uint16     uint32     uint64     int8       int16      int32      int64      float16    bfloat16   float32    float64    complex64  complex128
bool       bool       uint8      uint16     uint32     uint64     int8       int16      int32      int64      float16    bfloat16   float32    float64    complex64  complex128
uint8      uint8      uint8      uint16     uint32     uint64     int16      int16      int32      int64      float16    bfloat16   float32    float64    complex64  complex128
uint16     uint16     uint16     uint16     uint32     uint64     int32      int32      int32      int64      float16    bfloat16   float32    float64    complex64  complex128
uint32     uint32     uint32     uint32     uint32     uint64     int64      int64      int64      int64      float16    bfloat16   float32    float64    complex64  complex128
uint64     uint64     uint64     uint64     uint64     uint64     -          -          -          -          float16    bfloat16   float32    float64    complex64  complex128
int8       int8       int16      int32      int64      -          int8       int16      int32      int64      float16    bfloat16   float32    float64    complex64  complex128
int16      int16      int16      int32      int64      -          int16      int16      int32      int64      float16    bfloat16   float32    float64    complex64  complex128
int32      int32      int32      int32      int64      -          int32      int32      int32      int64      float16    bfloat16   float32    float64    complex64  complex128
int64      int64      int64      int64      int64      -          int64      int64      int64      int64      float16    bfloat16   float32    float64    complex64  complex128
float16    float16    float16    float16    float16    float16    float16    float16    float16    float16    float16    float32    float32    float64    complex64  complex128
bfloat16   bfloat16   bfloat16   bfloat16   bfloat16   bfloat16   bfloat16   bfloat16   bfloat16   bfloat16   float32    bfloat16   float32    float64    complex64  complex128
float32    float32    float32    float32    float32    float32    float32    float32    float32    float32    float32    float32    float32    float64    complex64  complex128
float64    float64    float64    float64    float64    float64    float64    float64    float64    float64    float64    float64    float64    float64    complex128 complex128
complex64  complex64  complex64  complex64  complex64  complex64  complex64  complex64  complex64  complex64  complex64  complex64  complex64  complex128 complex64  complex128
complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128 complex128
"""  # noqa: E501 - a table looks like a table


def _parse(table: str) -> dict[tuple[DType, DType], DType]:
    header, *rows = [line.split() for line in table.strip().splitlines()]
    return {
        (row[0], column): cell for row in rows for column, cell in zip(header, row[1:], strict=True)
    }


PROMOTION = _parse(_TABLE)


def dtype_name(dtype: Any) -> DType:
    """Give the canonical name of anything that names a dtype.

    Raises `DTypeError` for a dtype that symgraph does not have.

    >>> dtype_name(np.float32), dtype_name(int), dtype_name("bfloat16")
    ('float32', 'int64', 'bfloat16')
    """
    if isinstance(dtype, str) and dtype in _NUMPY:
        return dtype
    if dtype is float:
        return default_float()
    if dtype is complex:
        return complex_dtype(default_float())
    if isinstance(dtype, Hashable):
        return _dtype_name(dtype)
    raise DTypeError(f"dtype: {dtype!r:.60} is not a dtype.", fix=_known())


@cache
def _dtype_name(dtype: Any) -> DType:
    try:
        found = np.dtype(dtype)
    except TypeError as problem:
        raise DTypeError(f"dtype: {dtype!r} is not a dtype.", fix=_known()) from problem
    name = _NAMES.get(found.newbyteorder("=") if found.byteorder == ">" else found)
    if name is None:
        raise DTypeError(f"dtype: {found} is not supported.", fix=_known())
    return name


def _known() -> str:
    return "use one of " + ", ".join(ALL)


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """Give the NumPy dtype of a canonical name (bfloat16 comes from ml_dtypes)."""
    return _NUMPY[dtype]


def default_float() -> DType:
    """Give the dtype of a Python float that meets no other float (`config.float_dtype`)."""
    return str(config.float_dtype)


def is_float(dtype: DType) -> bool:
    """Tell whether a dtype has fractions, and so gradients."""
    return dtype in FLOATS


def is_complex(dtype: DType) -> bool:
    """Tell whether a dtype has a real and an imaginary part."""
    return dtype in COMPLEX


def has_gradient(dtype: DType) -> bool:
    """Tell whether values of a dtype can be differentiated by: floats and complex numbers."""
    return dtype in FLOATS or dtype in COMPLEX


def real_dtype(dtype: DType) -> DType:
    """Give the dtype of the parts of a complex number; others as they are.

    >>> real_dtype("complex128"), real_dtype("float16")
    ('float64', 'float16')
    """
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


def complex_dtype(dtype: DType) -> DType:
    """Give the complex dtype whose parts hold numbers of a dtype.

    >>> complex_dtype("float64"), complex_dtype("int8")
    ('complex128', 'complex64')
    """
    return promote(dtype, "complex64")


def is_integer(dtype: DType) -> bool:
    """Tell whether a dtype is a signed or unsigned integer (bool is not)."""
    return dtype in INTEGERS


def itemsize(dtype: DType) -> int:
    """Give the bytes of one element."""
    return _NUMPY[dtype].itemsize


def promote(first: DType, *others: DType) -> DType:
    """Give the dtype in which values of these dtypes meet.

    Raises `DTypeError` where no dtype holds both (uint64 with a signed integer).

    >>> promote("uint8", "int8"), promote("int64", "float16"), promote("float16", "bfloat16")
    ('int16', 'float16', 'float32')
    """
    result = first
    for other in others:
        met = PROMOTION[result, other]
        if met == "-":
            raise DTypeError(
                f"promotion: no dtype holds both {result} and {other}.",
                fix='cast one of them first, e.g. x.cast("int64")',
            )
        result = met
    return result


def weak_dtype(number: bool | int | float | complex, meets: DType | None) -> DType:
    """Give the dtype that a Python number takes when it meets a value of dtype `meets`.

    A bool is a bool, an int takes any number's dtype, a float any float's or complex number's, a
    complex number the complex dtype of a float; where the other side is of a smaller kind the
    defaults int64 and `config.float_dtype` come in.
    Raises `DTypeError` when an int does not fit into the integer dtype it meets.
    """
    if isinstance(number, bool):
        return meets if meets is not None else "bool"
    if isinstance(number, int):
        dtype = meets if meets is not None and meets != "bool" else "int64"
        if is_integer(dtype):
            limits = np.iinfo(_NUMPY[dtype])
            if not int(limits.min) <= number <= int(limits.max):
                raise DTypeError(
                    f"promotion: {number} does not fit into {dtype} "
                    f"({limits.min} to {limits.max}).",
                    fix="cast the other value to a wider dtype first",
                )
        return dtype
    if isinstance(number, complex):
        return complex_dtype(
            meets if meets is not None and has_gradient(meets) else default_float()
        )
    return meets if meets is not None and has_gradient(meets) else default_float()
