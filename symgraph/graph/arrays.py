"""Arrays of what a user gives: numbers, lists and arrays become arrays of a dtype, or an error.

Python numbers, alone or in lists, are weak: they take the precision of the dtype that is asked for,
but a number that does not fit into it is refused. Arrays are converted only where nothing is lost,
unless a dtype was named. An array is what has `__array__`, `__array_interface__` or `__dlpack__`,
as those of PyTorch and JAX on the CPU. `subject` is whose array it is, the beginning of messages:
"shared: `w`".
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from symgraph.errors import DTypeError, SymgraphError
from symgraph.graph.dtypes import (
    DType,
    complex_dtype,
    default_float,
    dtype_name,
    has_gradient,
    is_complex,
    numpy_dtype,
)

Array = np.ndarray[Any, Any]
_WEAK = (bool, int, float, complex, list, tuple, range)


def as_array(subject: str, value: Any, dtype: Any = None, *, infinite: bool = False) -> Array:
    """Make an array of the named dtype, or of the value's own; Python floats get the default one.

    Raises `DTypeError` for what is no number, or does not fit into the dtype; with `infinite`,
    numbers beyond a float dtype are infinite in it.
    """
    array = _read(subject, value)
    if dtype is not None and array.dtype.kind in "USMm":
        raise _refused(subject, dtype_name(dtype), str(array.dtype))
    weak = not is_array(value)
    if dtype is not None:
        name = dtype_name(dtype)
    elif array.dtype == object:
        name = "int64"  # these are ints, and one of them is too large for it
    else:
        name = dtype_name(array.dtype)
        if weak and name in ("float64", "complex128"):
            name = default_float() if name == "float64" else complex_dtype(default_float())
    return (_fitting if weak else _converted)(subject, array, name, infinite)


def lossless(subject: str, given: Any, dtype: DType) -> Array:
    """Make an array of exactly this dtype where nothing is lost (uint8 to float32, 3 to int8).

    Python numbers take a float's precision. Raises `DTypeError`.
    """
    array = _read(subject, given)
    target = numpy_dtype(dtype)
    if isinstance(given, _WEAK) and not isinstance(given, np.generic):
        floats = "biufcO" if is_complex(dtype) else "biufO"
        kinds = "b" if dtype == "bool" else floats if has_gradient(dtype) else "biuO"
        if array.size and array.dtype.kind not in kinds:
            raise _refused(subject, dtype, str(array.dtype))
        return _fitting(subject, array, dtype)
    require_lossless(subject, array.dtype, dtype)
    return array if array.dtype == target else array.astype(target)


def require_lossless(subject: str, found: np.dtype[Any], dtype: DType) -> None:
    """Raise `DTypeError` where arrays of a dtype are not converted, since something could be lost.

    >>> require_lossless("it", np.dtype("uint8"), "float32")
    """
    wanted = numpy_dtype(dtype)
    if found == wanted:
        return
    number = found.kind in "biufc" or found.name == "bfloat16"
    if not number or not np.can_cast(found, wanted, "safe"):
        raise _refused(subject, dtype, str(found))


def is_array(given: Any) -> bool:
    """Tell whether something is an array of some library, whose dtype is meant."""
    return _reads(given) or any(
        hasattr(type(given), name) for name in ("__dlpack__", "__cuda_array_interface__")
    )


def _reads(given: Any) -> bool:
    """Tell whether NumPy reads something as the array that it is."""
    return isinstance(given, np.ndarray | np.generic) or any(
        hasattr(type(given), name)
        for name in ("__array__", "__array_interface__", "__array_struct__")
    )


def _read(subject: str, given: Any) -> Array:
    try:
        if hasattr(type(given), "__cuda_array_interface__") and hasattr(given, "get"):
            given = given.get()  # CuPy makes the trip to the host only when told to
        by_dlpack = hasattr(type(given), "__dlpack__") and not _reads(given)
        array = np.from_dlpack(given) if by_dlpack else np.asarray(given)
        if isinstance(given, list | tuple) and array.dtype == np.float64:
            array = _exact(given, array)
    except SymgraphError:  # of a symbolic value inside, which says so itself
        raise
    except (TypeError, BufferError, RuntimeError) as problem:  # an array that refuses to be read
        raise DTypeError(
            f"{subject} cannot be made an array: {problem}",
            fix="copy it to the host before, and detach it",
        ) from problem
    except ValueError as problem:
        raise DTypeError(
            f"{subject} cannot be made an array: {problem}",
            fix="give lists of equal lengths, or an array",
        ) from None
    if array.dtype == object and not all(
        isinstance(v, bool | int | float | complex) for v in array.flat
    ):
        raise DTypeError(
            f"{subject} cannot be made an array of numbers: {type(given).__name__} {given!r:.60}.",
            fix="give a number, a (nested) list of equal lengths, or an array",
        )
    return array


def _exact(given: Any, array: Array) -> Array:
    """Give whole numbers of lists as they are where NumPy rounds them: 1 beside 2**64 - 1."""
    if not (np.abs(array) >= 2.0**53).any():
        return array
    numbers = np.asarray(given, dtype=object)
    return numbers if all(type(number) is int for number in numbers.flat) else array


def _fitting(subject: str, array: Array, dtype: DType, infinite: bool = False) -> Array:
    """Give Python numbers in a dtype: rounded to a float's precision, exactly for integers."""
    if dtype == "bool" or array.size == 0 or has_gradient(dtype):
        return _converted(subject, array, dtype, infinite)
    if array.dtype.kind == "c":
        raise _refused(subject, dtype, str(array.dtype))
    limits = np.iinfo(numpy_dtype(dtype))
    for number in (array.min(), array.max()):
        if not int(limits.min) <= number <= int(limits.max):
            raise _too_large(subject, number, dtype, f"{limits.min} to {limits.max}")
    if array.dtype.kind == "f" and (array != np.trunc(array)).any():
        raise _refused(subject, dtype, f"{array.dtype} with fractions")
    return array.astype(numpy_dtype(dtype))


def _converted(subject: str, array: Array, dtype: DType, infinite: bool = False) -> Array:
    """Convert to a dtype that was named; only numbers beyond its range are refused."""
    target = numpy_dtype(dtype)
    if array.dtype.kind == "c" and not is_complex(dtype):
        raise _refused(subject, dtype, str(array.dtype))
    if array.dtype == target:
        return array.astype(target, copy=False)  # the same numbers in native byte order
    try:
        with np.errstate(over="ignore" if infinite else "raise", invalid="raise"):
            wide = array.astype(np.float64) if array.dtype == object else array
            return wide.astype(target)
    except (FloatingPointError, OverflowError):
        raise _too_large(subject, max(array.flat, key=abs), dtype, "it would overflow") from None


def _too_large(subject: str, number: Any, dtype: DType, reason: str) -> DTypeError:
    return DTypeError(
        f"{subject} is {dtype}, it was given {number!s:.30}, which does not fit ({reason}).",
        fix="use a wider dtype" + (', or float("inf") for no bound' if has_gradient(dtype) else ""),
    )


def _refused(subject: str, dtype: DType, found: str) -> DTypeError:
    return DTypeError(
        f"{subject} is {dtype}, it was given {found}.",
        fix="take its real part: array.real"
        if found.startswith("complex")
        else f'convert it: array.astype("{dtype}")',
    )


def add_at(xp: ModuleType, total: Any, key: Any, updates: Any) -> None:
    """Add updates at places, in `total`; where a place comes twice, both are added."""
    if total.dtype.kind == "c":  # CuPy adds real numbers only
        xp.add.at(total.real, key, updates.real)
        xp.add.at(total.imag, key, updates.imag)
    else:
        xp.add.at(total, key, updates)
