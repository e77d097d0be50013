"""Random numbers: what users see as `sg.random`.

Every value is a pure function of (seed, step, node, element), with the same bits on every device;
see `Stream`. Names and laws are NumPy's.
"""

from __future__ import annotations

from symgraph.ops.random import Stream, bernoulli, default_stream, normal, seed, stream, uniform
from symgraph.ops.random_attempts import beta, dirichlet, gamma, poisson
from symgraph.ops.random_choices import (
    binomial,
    categorical,
    choice,
    multinomial,
    permutation,
    shuffle,
)
from symgraph.ops.random_laws import (
    cauchy,
    exponential,
    gumbel,
    integers,
    laplace,
    logistic,
    truncated_normal,
)

__all__ = [
    "Stream", "bernoulli", "beta", "binomial", "categorical", "cauchy", "choice", "default_stream",
    "dirichlet", "exponential", "gamma", "gumbel", "integers", "laplace", "logistic",
    "multinomial", "normal", "permutation", "poisson", "seed", "shuffle", "stream",
    "truncated_normal", "uniform",
]  # fmt: skip
