"""Linear algebra under the names of the array API: `sg.linalg.solve(a, b)`.

Everything works on stacks: the last two axes are matrices. A matrix that has no result (singular,
not positive definite) gives NaN, as no exception can be raised in the middle of a step; the others
of its stack are not touched.
"""

from typing import Any

from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.ops.diagonals import cross, kron
from symgraph.ops.eigen import eigh, eigvalsh, svd, svdvals
from symgraph.ops.eigen_general import eig, eigvals
from symgraph.ops.factor import cholesky, lu, lu_factor, qr
from symgraph.ops.inverse import det, inv, pinv, slogdet
from symgraph.ops.linalg import matmul, matrix_transpose, outer, tensordot, vecdot
from symgraph.ops.matrix_functions import expm, matrix_power
from symgraph.ops.norms import condition_number as cond
from symgraph.ops.norms import matrix_norm, matrix_rank, norm, vector_norm
from symgraph.ops.solve import cho_solve, lstsq, lu_solve, solve, triangular_solve

__all__ = [
    "cho_solve", "cholesky", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals",
    "eigvalsh", "expm", "inv", "kron", "lstsq", "lu", "lu_factor", "lu_solve", "matmul",
    "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "norm", "outer", "pinv",
    "qr", "slogdet", "solve", "svd", "svdvals", "tensordot", "trace", "triangular_solve", "vecdot",
    "vector_norm",
]  # fmt: skip


def diagonal(x: Any, *, offset: int = 0) -> Value:
    """Take the diagonals of matrices: y[..., i] = x[..., i, i + offset].

    `sg.diagonal` is NumPy's, which takes those of the first two axes. Raises as that does.
    """
    return F.diagonal(x, offset, -2, -1)


def trace(x: Any, *, offset: int = 0, dtype: Any = None) -> Value:
    """Add up the diagonals of matrices: sum over i of x[..., i, i + offset].

    `sg.trace` is NumPy's, which takes those of the first two axes. Raises as that does.
    """
    return F.trace(x, offset, -2, -1, dtype=dtype)
