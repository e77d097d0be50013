"""Half precisions compute in float32 and are rounded once: the helpers with which rules do so."""

from __future__ import annotations

from typing import Any

from symgraph.dims import Size, require_equal
from symgraph.errors import DTypeError, ShapeError
from symgraph.graph.dtypes import DType, is_float
from symgraph.graph.index import load, m
from symgraph.graph.leaves import cast_to
from symgraph.graph.node import Value
from symgraph.graph.scalar import Scalar, compute_dtype
from symgraph.graph.types import TensorType


def check_float(type: TensorType, name: str) -> None:
    """Raise `DTypeError` unless an operand, a parameter of `infer`, holds floats."""
    if not is_float(type.dtype):
        raise DTypeError(f"{{{name}}} must hold floats, not {type.dtype}.", fix='.cast("float32")')


def check_same_dtype(types: dict[str, TensorType]) -> None:
    """Raise `DTypeError` unless operands, given by name, all hold floats of one dtype."""
    first = next(iter(types))
    for name, type in types.items():
        check_float(type, name)
        if type.dtype != types[first].dtype:
            raise DTypeError(
                f"{{{name}}} must have the dtype of {{{first}}}: "
                f"{type.dtype} is not {types[first].dtype}."
            )


def check_bias(b: TensorType, dtype: DType, count: Size, of: str) -> None:
    """Raise unless {b} is a vector of `count` numbers, of `dtype` or as sums of it are added up."""
    if b.ndim != 1:
        raise ShapeError(f"{{b}} must have one axis, it has {b.ndim}.")
    if b.dtype not in (dtype, compute_dtype(dtype)):
        raise DTypeError(f"{{b}} must be {compute_dtype(dtype)}, not {b.dtype}.")
    require_equal(b.shape[0], count, f"{{b}} must have one number for each {of}")


def wide(value: Value) -> Value:
    """Give a value of a half precision in float32; others as they are."""
    return cast_to(value, compute_dtype(value.dtype))


def wide_load(operand: int, x: Value, *index: Any, guard: Scalar | None = None) -> Scalar:
    """Read an element of an operand in the dtype in which bodies compute; 0 outside the guard."""
    return m.cast(load(operand, x.dtype, *index, guard=guard), compute_dtype(x.dtype))
