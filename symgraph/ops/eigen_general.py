"""Eigenvalues of square matrices that need not be symmetric; they are complex.

Source of the gradient: Boeddeker et al. 2019, "On the computation of complex-valued gradients with
application to statistically optimum beamforming", arXiv:1701.00392.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from symgraph.errors import DTypeError
from symgraph.graph.dtypes import complex_dtype, is_complex
from symgraph.graph.leaves import as_value, items
from symgraph.graph.matrices import OfSquare, adjoint, on_diagonal
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, TupleType


def _apart(x: Any) -> Any:
    """Give a matrix of samples whose eigenvalues are well apart."""
    size, real = x.shape[-1], F.real(x).dtype
    return x + 6 * F.eye(size, dtype=real) * F.arange(size, dtype=real)


def _real(g: Value, x: Value) -> Value:
    """Give a cotangent of the operand's dtype: a real operand has only real changes."""
    return g if is_complex(x.dtype) else F.cast(F.real(g), x.dtype)


def _unless_nan(xp: ModuleType, x: Array, function: Any) -> Any:
    """Refuse numbers that are not finite as LAPACK does not, matrix by matrix."""
    if not xp.isfinite(x).all():
        raise np.linalg.LinAlgError("not finite")
    return function(x)


def _bad(name: str, build: Any) -> tuple[Any, ...]:
    return (
        bad(build, arg((2, 3)), match=f"{name}: .*square.* 2 != 3"),
        bad(build, arg((3,)), match="at least 2 axes"),
        bad(build, arg((2, 2), "int32"), error=DTypeError, match="takes floats, not int32"),
    )


@op
class Eig(OfSquare):
    """Eigenvalues and eigenvectors (columns of length 1), in LAPACK's order."""

    samples = (
        sample(lambda x: [F.abs(one) for one in F.eig(_apart(x))], arg(("B", 3, 3), low=-1, high=1),
               label="real"),
        sample(lambda x: [F.abs(one) for one in F.eig(_apart(x))],
               arg((3, 3), "complex64", low=-1, high=1), label="complex"),
        sample(lambda x: F.eig(x)[0], arg((2, 2), values=(0.0, 1.0, -1.0, 0.5)), label="turning"),
        sample(lambda x: F.eig(x), arg(("N", "N")), sizes={"N": 0}, gradient=(), label="empty"),
    )  # fmt: skip
    bad = _bad("eig", lambda x: F.eig(x))

    def result(self, x: TensorType) -> TupleType:
        whole = x.with_dtype(complex_dtype(x.dtype))
        return TupleType((whole.with_shape(x.shape[:-1]), whole))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return tuple(_unless_nan(xp, arrays[0], xp.linalg.eig))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        values, vectors = y
        turned = adjoint(vectors)
        inner: Value | None = None
        if g[1] is not None:
            along = F.matmul(turned, g[1])
            # vectors keep their length: what is along them is taken out
            lengths = F.real(F.sum(along * F.eye(values.shape[-1], dtype=along.dtype), axis=-2))
            along = along - F.matmul(turned, vectors) * F.expand_dims(lengths, -2)
            apart = F.expand_dims(values, -2) - F.expand_dims(values, -1)
            same = F.equal(apart, 0)
            inner = along * F.conj(F.where(same, 0, 1 / F.where(same, 1, apart)))
        if g[0] is not None:
            own = on_diagonal(g[0])
            inner = own if inner is None else inner + own
        assert inner is not None  # one of the two is there
        found = F.solve(turned, F.matmul(inner, turned))
        return (_real(found, xs[0]),)


@function_of
def eig(x: Any) -> tuple[Value, Value]:
    """Give complex eigenvalues and eigenvectors (columns of length 1): x @ v = v * w.

    The phase of a vector is not determined: only what does not depend on it has a gradient. Pairs
    of equal eigenvalues are left out of it, and matrices without a basis of eigenvectors have none.
    Raises `ShapeError` unless matrices are square, `DTypeError` for integers.

    >>> eig([[0.0, 1.0], [-1.0, 0.0]])[0].eval().tolist()
    [1j, -1j]
    """
    values, vectors = items(make(Eig(), as_value(x)))
    return values, vectors


@composite(
    samples=[
        sample(lambda x: F.eigvals(x), arg(("B", 3, 3)), label="real"),
        sample(
            lambda x: F.eigvals(_apart(x)),
            arg((3, 3), "complex64", low=-1, high=1),
            label="complex",
        ),
        sample(lambda x: F.eigvals(x), arg((1, 1)), label="single"),
    ],
    bad=_bad("eigvals", lambda x: F.eigvals(x)),
)
def eigvals(x: Any) -> Value:
    """Give the complex eigenvalues of square matrices, in the order of `eig`; otherwise as there.

    The vectors are computed too: without them LAPACK's order may be another, and the gradient needs
    to know which vector belongs to which value.
    """
    return F.eig(x)[0]
