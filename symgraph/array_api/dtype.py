"""Dtypes as objects. The graph names them by strings, which the standard's kinds are as well."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from symgraph.graph.dtypes import dtype_name, numpy_dtype


class DType:
    """A dtype: equal to another of its name, and to the name; NumPy takes it as its own.

    >>> import symgraph.array_api as xp
    >>> xp.zeros(2).dtype == xp.float32, xp.float32 == "float32", xp.isdtype(xp.bool, "numeric")
    (True, True, False)
    """

    __slots__ = ("name",)

    name: str

    def __init__(self, name: Any) -> None:
        self.name = dtype_name(name)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype; `np.dtype(it)` asks for it."""
        return numpy_dtype(self.name)

    def __eq__(self, other: object) -> builtins.bool:
        if isinstance(other, DType | str):
            return self.name == str(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


bool = DType("bool")
int8, int16, int32, int64 = (DType(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (DType(f"uint{bits}") for bits in (8, 16, 32, 64))
float16, float32, float64 = (DType(f"float{bits}") for bits in (16, 32, 64))
bfloat16 = DType("bfloat16")
complex64, complex128 = DType("complex64"), DType("complex128")
