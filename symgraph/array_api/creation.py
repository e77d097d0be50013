"""Arrays made of nothing, of numbers, and of arrays of other libraries."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.array_api.array import (
    Array,
    again,
    call,
    call_several,
    of_numbers,
    require_array,
    require_device,
)  # fmt: skip
from symgraph.array_api.kinds import is_scalar, meet
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError
from symgraph.graph.arrays import as_array, is_array
from symgraph.graph.dtypes import default_float, dtype_name, is_complex
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import constant
from symgraph.graph.node import Value

Shape = int | Sequence[int]


def asarray(
    obj: Any, /, *, dtype: Any = None, device: Any = None, copy: builtins.bool | None = None
) -> Array:
    """Make an array of a number, nested lists, an array of any library, or a symbolic value.

    Numbers of others are always copied. A value of the graph is computed, and must not depend on
    inputs. What is beyond the range of a float dtype is infinite, as with other libraries. Raises
    `ArgumentError` for `copy=False` where a copy is needed, `DTypeError` for what is no number, and
    for what does not fit into a whole dtype.
    """
    require_device("asarray", device)
    name = None if dtype is None else dtype_name(dtype)
    if isinstance(obj, Array):
        if name not in (None, obj.dtype):
            if copy is False:
                raise _copies(f"{obj.dtype} becomes {name}")
            return call("cast", obj, name)
        return obj if copy is False else again(obj)
    if copy is False:
        raise _copies("arrays here never change, and those of others may")
    if isinstance(obj, Value):
        (numbers,) = interpret([obj], {})
        return of_numbers(np.array(numbers), name)
    found = as_array("asarray: it", _without_arrays(obj), name, infinite=True)
    return of_numbers(np.array(found) if is_array(obj) else found)


def _copies(why: str) -> ArgumentError:
    return ArgumentError(f"asarray: copy=False, but {why}.", fix="copy=None")


def _without_arrays(given: Any) -> Any:
    """Put Python numbers in the place of arrays without axes in nested lists."""
    if isinstance(given, list | tuple):
        return [_without_arrays(one) for one in given]
    if isinstance(given, Array):
        return np.asarray(given)
    return given


def from_dlpack(x: Any, /, *, device: Any = None, copy: builtins.bool | None = None) -> Array:
    """Make an array of one of another library by DLPack; the numbers are copied.

    Raises `ArgumentError` for `copy=False`, unless it is an array of ours.
    """
    require_device("from_dlpack", device)
    if isinstance(x, Array):
        return asarray(x, copy=copy)
    if copy is False:
        raise ArgumentError("from_dlpack: numbers of others are copied.", fix="copy=None")
    if not hasattr(x, "__dlpack__"):
        raise ArgumentTypeError(
            f"from_dlpack: {type(x).__name__} has no `__dlpack__`.", fix="xp.asarray(it)"
        )
    return of_numbers(np.array(np.from_dlpack(x)))


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None,
    device: Any = None,
) -> Array:  # fmt: skip
    """Count: start + i * step while below `stop`; one argument is the stop.

    Ints give int64, floats the default float. Raises `ArgumentError` for a step of 0.
    """
    require_device("arange", device)
    return call("arange", start, stop, step, dtype=dtype)


def linspace(
    start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: Any = None,
    endpoint: builtins.bool = True,
) -> Array:  # fmt: skip
    """Give `num` numbers at equal distances from `start` to `stop`, which is the last one."""
    require_device("linspace", device)
    complex_ends = any(isinstance(end, complex) for end in (start, stop))
    name = default_float() if dtype is None else dtype_name(dtype)
    if not complex_ends and not is_complex(name):
        ends = [constant(float(end), "float64") for end in (start, stop)]
        return call("linspace", *ends, num, dtype=name, endpoint=endpoint)
    parts = [
        linspace(getattr(start, part), getattr(stop, part), num, dtype="float64",
                 endpoint=endpoint)
        for part in ("real", "imag")
    ]  # fmt: skip
    whole = call("complex", *parts)
    return call("cast", whole, name if is_complex(name) else "complex64")


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Array:
    """Give ones on the k-th diagonal, and zeros."""
    require_device("eye", device)
    return call("eye", n_rows, n_cols, k=k, dtype=dtype)


def zeros(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """Give zeros; the default float unless `dtype` says otherwise."""
    require_device("zeros", device)
    return call("zeros", shape, dtype)


def ones(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """Give ones; the default float unless `dtype` says otherwise."""
    require_device("ones", device)
    return call("ones", shape, dtype)


def empty(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """Give an array to be filled; its numbers are zeros."""
    require_device("empty", device)
    return call("zeros", shape, dtype)


def full(shape: Shape, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Fill a shape with one number, whose own dtype is the array's unless given.

    Raises `DTypeError` for a number that does not fit into the dtype.
    """
    require_device("full", device)
    name = None if dtype is None else dtype_name(dtype)
    if isinstance(fill_value, Array):
        number = np.asarray(fill_value).item()
        name = name or fill_value.dtype.name
    else:
        number = fill_value
    if not is_scalar(number):
        raise ArgumentTypeError(
            f"full: fills with one number, got {type(number).__name__}.",
            fix="xp.broadcast_to(x, shape)",
        )
    return call("full", shape, constant(as_array("full: the number", number, name)))


def zeros_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Give zeros of the shape and, unless given, the dtype of `x`."""
    return zeros(*_like("zeros_like", x), **_options(x, dtype, device))


def ones_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Give ones of the shape and, unless given, the dtype of `x`."""
    return ones(*_like("ones_like", x), **_options(x, dtype, device))


def empty_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Give an array to be filled, of the shape and, unless given, the dtype of `x`."""
    return empty(*_like("empty_like", x), **_options(x, dtype, device))


def full_like(x: Array, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Fill the shape of `x` with one number, in its dtype unless given."""
    return full(*_like("full_like", x), fill_value, **_options(x, dtype, device))


def _like(name: str, x: Any) -> tuple[tuple[int, ...]]:
    return (require_array(name, x).shape,)


def _options(x: Array, dtype: Any, device: Any) -> dict[str, Any]:
    return {"dtype": x.dtype if dtype is None else dtype, "device": device}


def meshgrid(*arrays: Array, indexing: str = "xy") -> list[Array]:
    """Give the coordinates of a grid: each vector along its own axis.

    Raises `ArgumentError` for an `indexing` that is neither "xy" nor "ij".
    """
    if not arrays:
        return []
    dtypes = [require_array("meshgrid", one).dtype for one in arrays]
    if len(set(dtypes)) > 1:
        meet("meshgrid", *dtypes)
        raise DTypeError(
            f"meshgrid: takes arrays of one dtype, got {', '.join(map(str, dtypes))}.",
            fix="convert them first: xp.astype(x, dtype)",
        )
    return list(call_several("meshgrid", *arrays, indexing=indexing))


def tril(x: Array, /, *, k: int = 0) -> Array:
    """Keep what is on the k-th diagonal and below, zeros above."""
    return call("tril", require_array("tril", x), k)


def triu(x: Array, /, *, k: int = 0) -> Array:
    """Keep what is on the k-th diagonal and above, zeros below."""
    return call("triu", require_array("triu", x), k)
