"""Operations on stacks of matrices that NumPy's LAPACK computes, and what their gradients share.

The last axes of an operand are a matrix (or a vector), all axes before them a stack. A matrix that
has no result (singular, not positive definite, not converged) gives NaN, the others of the stack
are not touched by it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from symgraph.dims import Size, product, require_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.dtypes import (
    DType,
    dtype_name,
    has_gradient,
    is_complex,
    numpy_dtype,
    real_dtype,
)
from symgraph.graph.elementwise import fit
from symgraph.graph.node import Value
from symgraph.graph.op import Array, Op
from symgraph.graph.registry import F
from symgraph.graph.scalar import compute_dtype, widen
from symgraph.graph.types import TensorType, TupleType, Type


class OfMatrices(Op):
    """What these operations share: `compute` gives the results of a whole stack.

    It works in float32 or wider, and may raise `LinAlgError`: then it is asked matrix by matrix.
    `core` has the axes of each operand that belong to one problem.
    """

    host = True
    takes_complex = True
    core: ClassVar[tuple[int, ...]] = (2,)

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        """Give the results for a stack."""
        raise NotImplementedError

    def ref(self, xp: ModuleType, *arrays: Array) -> Any:
        found = self.infer(*(TensorType(dtype_name(a.dtype), a.shape) for a in arrays))
        wide = [widen(array) for array in arrays]
        types = found.types if isinstance(found, TupleType) else (found,)
        with np.errstate(all="ignore"):
            try:
                made = self.compute(xp, *wide)
            except np.linalg.LinAlgError:
                made = self._one_by_one(xp, wide, types)
            several = made if isinstance(made, tuple) else (made,)
            results = tuple(
                xp.asarray(one).astype(numpy_dtype(type.dtype), copy=False)
                for one, type in zip(several, types, strict=True)
            )
        return results if isinstance(found, TupleType) else results[0]

    def _one_by_one(
        self, xp: ModuleType, arrays: list[Array], types: tuple[TensorType, ...]
    ) -> tuple[Array, ...]:
        leading = [a.shape[: a.ndim - core] for a, core in zip(arrays, self.core)]
        stack = np.broadcast_shapes(*leading)
        spread = [
            xp.broadcast_to(a, (*stack, *a.shape[a.ndim - core :]))
            for a, core in zip(arrays, self.core)
        ]
        results = tuple(xp.full(type.shape, _nothing(type.dtype)) for type in types)
        for place in np.ndindex(*stack):
            try:
                made = self.compute(xp, *(a[place] for a in spread))
            except np.linalg.LinAlgError:
                continue
            for whole, one in zip(results, made if isinstance(made, tuple) else (made,)):
                whole[place] = one
        return results


def _nothing(dtype: DType) -> Any:
    """Give what stands for no result, in the dtype in which results are computed."""
    if has_gradient(dtype):
        return np.full((), np.nan, numpy_dtype(compute_dtype(dtype)))
    return np.zeros((), numpy_dtype(dtype))


# -- types -----------------------------------------------------------------------------------------


def require_floats(*dtypes: DType) -> None:
    """Raise `DTypeError` unless all operands have one float dtype."""
    for dtype in dtypes:
        if not has_gradient(dtype):
            raise DTypeError(
                f"takes floats, not {dtype}.", fix='cast first, e.g. x.cast("float32")'
            )
        if dtype != dtypes[0]:
            raise DTypeError(
                f"operands must have one dtype, got {', '.join(dtypes)}.",
                fix="cast them to one dtype first",
            )


def real_type(type: TensorType) -> TensorType:
    """Give the type of what is real of numbers of a type: absolute values, singular values."""
    return type.with_dtype(real_dtype(type.dtype))


def require_matrix(type: TensorType, name: str = "x") -> tuple[Size, Size]:
    """Give rows and columns. Raises `ShapeError` for fewer than two axes."""
    if type.ndim < 2:
        raise ShapeError(
            f"{{{name}}} must have at least 2 axes (a matrix, or a stack of them), "
            f"it has {type.ndim}.",
            fix="use expand_dims to make a vector a matrix",
        )
    return type.shape[-2], type.shape[-1]


def require_square(type: TensorType, name: str = "x") -> Size:
    """Give the size of square matrices. Raises `ShapeError` for others."""
    rows, columns = require_matrix(type, name)
    require_equal(rows, columns, f"{{{name}}} must have square matrices: rows must equal columns")
    return columns


def is_array(rtol: Any) -> bool:
    """Whether relative tolerances are a value of the graph or an array of numbers."""
    return isinstance(rtol, Value | np.ndarray)


def rtol_argument(name: str, rtol: Any) -> float | None:
    """Give a relative tolerance as a float, or None."""
    if rtol is None:
        return None
    if isinstance(rtol, bool) or not isinstance(rtol, int | float | np.floating):
        raise ArgumentTypeError(
            f"{name}: rtol must be a number, got {rtol!r:.40}.", fix="rtol=1e-6"
        )
    if not float(rtol) >= 0:
        raise ArgumentError(f"{name}: rtol must be >= 0, got {rtol}.", fix="rtol=1e-6")
    return float(rtol)


def work(type: Type, *sizes: Size, times: int = 1, over: int = 1, core: int = 2) -> Size:
    """Give FLOPs: `times / over` of the product of sizes, for every matrix of a stack.

    Complex numbers count four times.
    """
    assert isinstance(type, TensorType)
    times = 4 * times if is_complex(type.dtype) else times
    return product((*type.shape[: type.ndim - core], times, *sizes)) // over


class OfSquare(OfMatrices):
    """An operation on square matrices of floats."""

    def infer(self, x: TensorType) -> Any:
        require_floats(x.dtype)
        require_square(x)
        return self.result(x)

    def result(self, x: TensorType) -> Any:
        """Give the type of the result."""
        return x

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        n = types[0].shape[-1]
        return work(types[0], n, n, n, times=2)


# -- what gradients are made of --------------------------------------------------------------------


def adjoint(x: Value) -> Value:
    """Give the conjugate transpose of matrices."""
    return F.matrix_transpose(F.conj(x))


def triangle(x: Value, *, lower: bool, diagonal: float = 1.0) -> Value:
    """Keep the lower or the upper triangle of matrices; the diagonal is multiplied by a number."""
    row = F.expand_dims(F.arange(x.shape[-2]), 1)
    column = F.expand_dims(F.arange(x.shape[-1]), 0)
    inside = F.greater(row, column) if lower else F.less(row, column)
    kept = F.where(inside, x, 0)
    if diagonal == 0:
        return kept
    scaled = x if diagonal == 1 else x * diagonal
    return F.where(F.equal(row, column), scaled, kept)


def on_diagonal(x: Value) -> Value:
    """Make vectors the diagonals of square matrices."""
    size = x.shape[-1]
    row, column = F.expand_dims(F.arange(size), 1), F.expand_dims(F.arange(size), 0)
    return F.where(F.equal(row, column), F.expand_dims(x, x.ndim), 0)


def symmetric(x: Value) -> Value:
    """Give the average of matrices and their conjugate transposes."""
    return (x + adjoint(x)) * 0.5


def squared(x: Value) -> Value:
    """Give |x|^2, which is real."""
    if not is_complex(x.dtype):
        return x * x
    return F.square(F.real(x)) + F.square(F.imag(x))


def summed_to(cotangent: Value, x: Value) -> Value:
    """Sum a cotangent over the stacks along which an operand was broadcast."""
    return fit(F, cotangent, x)
