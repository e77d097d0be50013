"""Which dtypes a function takes and which of them meet: the standard's words, strictly.

What the standard leaves open is an error here (integers that meet floats, roots of integers), so
that a program that runs here runs with every library that conforms.
"""

from __future__ import annotations

import builtins
from typing import Any

from symgraph.array_api import dtype as dtype_objects
from symgraph.errors import DTypeError
from symgraph.graph.dtypes import BOOL, COMPLEX, FLOATS, INTEGERS, DType, promote, weak_dtype

Scalar = builtins.bool | int | float | complex
AnyDType = str | dtype_objects.DType

# the words of the standard
ANY = "any"
NUM = "numeric"
REAL = "real-valued"
FLOAT = "floating-point"
REAL_FLOAT = "real-valued floating-point"
COMPLEX_FLOAT = "complex floating-point"
INT = "integer"
BITS = "integer or boolean"
BOOLEAN = "boolean"
TAKES: dict[str, tuple[DType, ...]] = {
    ANY: BOOL + INTEGERS + FLOATS + COMPLEX,
    NUM: INTEGERS + FLOATS + COMPLEX,
    REAL: INTEGERS + FLOATS,
    FLOAT: FLOATS + COMPLEX,
    REAL_FLOAT: FLOATS,
    COMPLEX_FLOAT: COMPLEX,
    INT: INTEGERS,
    BITS: INTEGERS + BOOL,
    BOOLEAN: BOOL,
}
_WHO_MEET = (BOOL, INTEGERS, FLOATS + COMPLEX)


def is_scalar(given: Any) -> builtins.bool:
    """Tell whether something is a Python number, which takes the dtype of the array it meets."""
    return isinstance(given, builtins.bool | int | float | complex)


def require(name: str, takes: str, *dtypes: AnyDType) -> None:
    """Raise `DTypeError` unless a function takes arrays of these dtypes.

    >>> require("sin", "floating-point", "float32")
    """
    for dtype in map(str, dtypes):
        if dtype not in TAKES[takes]:
            raise DTypeError(
                f"{name}: takes {takes} arrays, this one is {dtype}.",
                fix="convert it first: xp.astype(x, dtype)",
            )


def meet(name: str, *dtypes: AnyDType) -> DType:
    """Give the dtype in which arrays meet; they must be of one kind, unlike in the graph.

    Raises `DTypeError` for bools or integers with others, and for uint64 with signed integers.

    >>> meet("add", "int8", "uint8"), meet("add", "float64", "complex64")
    ('int16', 'complex128')
    """
    first, *others = map(str, dtypes)
    kind = next(group for group in _WHO_MEET if first in group)
    for other in others:
        if other not in kind:
            raise DTypeError(
                f"{name}: {first} and {other} are of different kinds and do not meet.",
                fix="convert one of them first: xp.astype(x, dtype)",
            )
    try:
        return promote(first, *others)
    except DTypeError as problem:
        raise DTypeError(f"{name}: {problem.message}", fix=problem.fix) from None


def meet_scalar(name: str, number: Scalar, to: AnyDType) -> DType:
    """Give the dtype in which a Python number meets an array: the array's, or a complex one.

    Raises `DTypeError` for a number of a larger kind, or an int that the dtype does not hold.

    >>> meet_scalar("add", 2, "float32"), meet_scalar("add", 1j, "float32")
    ('float32', 'complex64')
    """
    dtype = str(to)
    fits = (
        dtype in BOOL
        if isinstance(number, builtins.bool)
        else dtype not in BOOL
        if isinstance(number, int)
        else dtype in FLOATS + COMPLEX
    )
    if not fits:
        raise DTypeError(
            f"{name}: a Python {type(number).__name__} does not meet an array of {dtype}.",
            fix="convert the array first: xp.astype(x, dtype)",
        )
    return promote(weak_dtype(number, dtype), dtype)
