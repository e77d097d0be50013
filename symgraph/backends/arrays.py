"""Arrays at concrete sizes, as libraries of operations are told of them, on any device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from symgraph.dims import Dim
from symgraph.frozen import frozen
from symgraph.graph.dtypes import itemsize
from symgraph.graph.types import TensorType, TupleType, Type
from symgraph.lower.program import Operand, number


@frozen
class Array:
    """An operand at concrete sizes."""

    dims: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """Whether it has no elements."""
        return 0 in self.dims

    @property
    def size(self) -> int:
        """The bytes of its elements."""
        return math.prod(self.dims) * itemsize(self.dtype)

    @property
    def key(self) -> Array:
        """What tells arrays apart that lie otherwise."""
        return self


Arrays = tuple[Array, ...]


def concrete_array(one: Operand, env: Mapping[Dim, int]) -> Array:
    """Give an operand of a library call at concrete sizes."""
    dims, strides = (
        tuple(number(size, env) for size in sizes) for sizes in (one.shape, one.strides)
    )
    return Array(dims, one.buffer.dtype, strides)


def number_types(arrays: Sequence[Array], results: Sequence[Array]) -> tuple[Type, ...]:
    """Give the types of the operands of an operation, and of its result, at concrete sizes."""
    given, made = ([TensorType(one.dtype, one.dims) for one in each] for each in (arrays, results))
    return (*given, made[0] if len(made) == 1 else TupleType(tuple(made)))
