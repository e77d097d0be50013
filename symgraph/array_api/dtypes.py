"""Functions about dtypes; of arrays and names, where the graph has them of values and names."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

from symgraph.array_api.array import Array, again, call, require_array, require_device
from symgraph.array_api.dtype import DType
from symgraph.array_api.kinds import is_scalar, meet, meet_scalar
from symgraph.errors import ArgumentTypeError, DTypeError
from symgraph.graph import dtype_info
from symgraph.graph.dtype_info import FloatInfo, IntegerInfo
from symgraph.graph.dtypes import dtype_name


def _dtype(given: Any) -> str:
    return dtype_name(given.dtype if isinstance(given, Array) else given)


def astype(x: Array, dtype: Any, /, *, copy: builtins.bool = True, device: Any = None) -> Array:
    """Convert to another dtype; to bool is whether an element is not 0.

    Raises `DTypeError` for complex numbers that shall become real ones.
    """
    require_device("astype", device)
    name = dtype_name(dtype)
    if name == require_array("astype", x).dtype:
        return again(x) if copy else x
    return call("cast", x, name)


def can_cast(from_: Any, to: Any, /) -> builtins.bool:
    """Tell whether what is of one dtype may become another by promotion.

    >>> can_cast("int8", "int16"), can_cast("int8", "float32")
    (True, False)
    """
    target = dtype_name(to)
    try:
        return meet("can_cast", _dtype(from_), target) == target
    except DTypeError:
        return False


def finfo(type: Any, /) -> FloatInfo:
    """Give the limits of a float dtype, or of an array's; of complex ones those of their parts."""
    found = dtype_info.finfo(_dtype(type))
    return replace(found, dtype=DType(found.dtype))


def iinfo(type: Any, /) -> IntegerInfo:
    """Give the limits of an integer dtype, or of an array's."""
    found = dtype_info.iinfo(_dtype(type))
    return replace(found, dtype=DType(found.dtype))


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Tell whether a dtype is another one, or of a kind, or of one of several."""
    return dtype_info.isdtype(dtype, kind)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """Give the dtype in which arrays, dtypes and Python numbers meet.

    Raises `DTypeError` where they do not, `ArgumentTypeError` unless one has a dtype.

    >>> result_type("float32", "float64"), result_type("int8", 3)
    (float64, int8)
    """
    dtypes = [_dtype(one) for one in arrays_and_dtypes if not is_scalar(one)]
    if not dtypes:
        raise ArgumentTypeError(
            "result_type: needs an array or a dtype.", fix="result_type(xp.int8)"
        )
    found = meet("result_type", *dtypes)
    for number in filter(is_scalar, arrays_and_dtypes):
        found = meet_scalar("result_type", number, found)
    return DType(found)
