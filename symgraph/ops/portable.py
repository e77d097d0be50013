"""Functions of the parameters of random numbers, with the same bits on every backend.

They are elementwise, but no operations for users: they hold for the operands that samplers give
them (positive normal numbers for a logarithm, say), have no formula, and no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import require_equal
from symgraph.errors import DTypeError, ShapeError
from symgraph.graph.dtypes import is_float
from symgraph.graph.index import Compute, axes, load, m
from symgraph.graph.laws import gamma_attempt, natural_exp, poisson_attempt, poisson_small
from symgraph.graph.leaves import common
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samplers import natural_log
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import NumpyMath, compute_dtype, widen
from symgraph.graph.types import TensorType

# kind -> a function of m, the dtype it computes in, and operands
BODIES: dict[str, Callable[..., Any]] = {
    "log": natural_log,
    "exp": natural_exp,
    "gamma": gamma_attempt,
    # below a shape of 1 a gamma number of shape + 1 is multiplied by the exponential of this
    "boost": lambda m, dtype, e, a: m.select(a < 1.0, -e / a, m.like(0, a)),
    "poisson": lambda m, dtype, *xs: _in_float64(m, dtype, poisson_attempt, xs),
    "poisson small": lambda m, dtype, *xs: _in_float64(m, dtype, poisson_small, xs),
}


def _in_float64(m: Any, dtype: str, body: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
    return m.cast(body(m, *(m.cast(each, "float64") for each in operands)), dtype)


@op
class Portable(Op):
    """One of the functions in `BODIES`, of operands of one shape and one float dtype."""

    kind: str
    variadic = True
    samples = (
        sample(lambda x: F.portable("log", x), arg(("B", 4), low=1e-3, high=9.0), label="log",
               gradient=()),
        sample(lambda x: F.portable("exp", x), arg(("B", 4), low=-90.0, high=9.0), label="exp",
               gradient=()),
        sample(lambda e, a: F.portable("boost", e, a), arg(("B", 4), low=0.1),
               arg(("B", 4), low=0.1), label="boost", gradient=()),
        sample(
            lambda a, x, e: F.portable("gamma", a, x, e), arg((17, 4), low=0.3, high=5.0),
            arg((17, 4)), arg((17, 4), low=0.0, high=3.0), label="gamma", gradient=(),
        ),
        sample(
            lambda lam, u, v: F.portable("poisson", lam, u, v),
            arg((33, 4), "float64", low=10.0, high=90.0), arg((33, 4), "float64", low=0, high=1),
            arg((33, 4), "float64", low=0, high=1), label="poisson", gradient=(),
        ),
        sample(
            lambda lam, u: F.portable("poisson small", lam, u),
            arg(("B", 33), "float64", low=0.0, high=9.5), arg(("B", 33), "float64", low=0, high=1),
            label="small", gradient=(),
        ),
    )  # fmt: skip
    bad = (
        bad(lambda x, y: make(Portable("gamma"), x, y), arg((3,)), arg((4,)), match="3 != 4"),
        bad(
            lambda x, y: make(Portable("gamma"), x, y), arg((3,)), arg((3,), "float64"),
            error=DTypeError, match="one float dtype",
        ),
    )  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        first = types[0]
        if not is_float(first.dtype) or any(type.dtype != first.dtype for type in types):
            raise DTypeError("all operands must have one float dtype.")
        for number, type in enumerate(types):
            if type.ndim != first.ndim:
                raise ShapeError(f"{{x0}} and {{x{number}}} must have one shape.")
            for size, other in zip(first.shape, type.shape):
                require_equal(size, other, f"{{x0}} and {{x{number}}} must have one shape")
        return first

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        wide = [widen(array) for array in arrays]
        with np.errstate(all="ignore"):
            found = BODIES[self.kind](NumpyMath(xp), str(wide[0].dtype), *wide)
        return xp.asarray(found).astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,) * len(xs)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out, dtype = axes(xs[0].shape), compute_dtype(xs[0].dtype)
        loads = [m.cast(load(number, x.dtype, *out), dtype) for number, x in enumerate(xs)]
        return Compute(out, m.cast(BODIES[self.kind](m, dtype, *loads), xs[0].dtype))


@function_of
def portable(kind: str, *operands: Any) -> Value:
    """Give one of the functions of `BODIES`, the same bits on every backend; without a gradient."""
    values = common("portable", *operands, floating=True)
    return make(Portable(kind), *values)
