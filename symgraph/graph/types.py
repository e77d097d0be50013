"""What a value is: a dtype and a shape of sizes; nothing about devices, layouts or broadcasting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from symgraph.dims import Dim, Size, product
from symgraph.errors import ArgumentTypeError, ShapeError
from symgraph.graph.dtypes import DType, dtype_name, itemsize

Shape = tuple[Size, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TensorType:
    """The type of an array: `dtype` and `shape`.

    >>> str(TensorType("float32", (2, 3)))
    'float32[2, 3]'
    """

    dtype: DType
    shape: Shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Size:
        """The number of elements."""
        return product(self.shape)

    @property
    def nbytes(self) -> Size:
        """The bytes of all elements."""
        return self.size * itemsize(self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        """Give the same shape with another dtype."""
        return TensorType(dtype, self.shape)

    def with_shape(self, shape: Iterable[Size]) -> TensorType:
        """Give the same dtype with another shape."""
        return TensorType(self.dtype, tuple(shape))

    def same(self, other: object) -> bool:
        """Tell whether both types are the same object by object: interned sizes by identity."""
        return (
            isinstance(other, TensorType)
            and self.dtype == other.dtype
            and len(self.shape) == len(other.shape)
            and all(same_size(a, b) for a, b in zip(self.shape, other.shape))
        )

    __eq__ = same

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape))

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]" if self.shape else self.dtype


@dataclass(frozen=True, slots=True)
class TupleType:
    """The type of a node with several results; users only ever see its items."""

    types: tuple[TensorType, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.types))})"


Type = TensorType | TupleType


def same_size(first: Size, second: Size) -> bool:
    """Tell whether two sizes are written the same, without asking a question of algebra."""
    if isinstance(first, Dim) or isinstance(second, Dim):
        return first is second
    return first == second


def tensor_type(dtype: Any, shape: Iterable[Any]) -> TensorType:
    """Make a type from what a user wrote, or raise `ShapeError` / `ArgumentTypeError`."""
    try:
        sizes = tuple(shape)
    except TypeError as problem:
        raise ArgumentTypeError(
            f"shape: must be a tuple of sizes, got {shape!r}.", fix="write (3,) for one axis"
        ) from problem
    return TensorType(dtype_name(dtype), tuple(_checked(size, sizes) for size in sizes))


def _checked(size: Any, shape: tuple[Any, ...]) -> Size:
    if isinstance(size, Dim):
        return size
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise ShapeError(
            f"shape: {size!r} in {shape!r} is not a size.",
            fix='use an int >= 0 or a named size: B = sg.dim("B")',
        )
    number = int(size.__index__())
    if number < 0:
        raise ShapeError(f"shape: {number} in {shape!r} is negative.", fix="sizes are >= 0")
    return number
