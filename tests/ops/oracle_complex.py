"""Oracles of operations on complex numbers: mpmath, and Python's own complex numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

Array = Any


def exact(function: Callable[..., Any], dtype: Any = np.complex128) -> Callable[..., Array]:
    """Make a function of mpmath's numbers an oracle of arrays that are broadcast."""

    def oracle(op: Any, *arrays: Array) -> Array:
        spread = np.broadcast_arrays(*arrays)
        with mpmath.workdps(30):
            found = [
                complex(function(*(mpmath.mpc(complex(one)) for one in numbers)))
                for numbers in zip(*(each.reshape(-1) for each in spread))
            ]
        result = np.array(found, np.complex128).reshape(spread[0].shape)
        return result if dtype is np.complex128 else result.real.astype(dtype)

    return oracle


def rounded(x: Any) -> Any:
    """Round both parts, halves to the even number."""
    return mpmath.mpc(mpmath.nint(x.real), mpmath.nint(x.imag))


NUMBERS = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": operator.truediv, "pow": mpmath.power, "negative": operator.neg,
    "square": lambda x: x * x, "sqrt": mpmath.sqrt, "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "reciprocal": lambda x: 1 / x, "round": rounded, "stop_gradient": lambda x: x,
    "exp": mpmath.exp, "expm1": mpmath.expm1, "exp2": lambda x: mpmath.power(2, x),
    "log": mpmath.log, "log1p": mpmath.log1p, "log2": lambda x: mpmath.log(x, 2),
    "log10": mpmath.log10, "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan,
    "asin": mpmath.asin, "acos": mpmath.acos, "atan": mpmath.atan, "sinh": mpmath.sinh,
    "cosh": mpmath.cosh, "tanh": mpmath.tanh, "asinh": mpmath.asinh, "acosh": mpmath.acosh,
    "atanh": mpmath.atanh,
}  # fmt: skip
TESTS = {
    "equal": operator.eq, "not_equal": operator.ne, "isnan": mpmath.isnan, "isinf": mpmath.isinf,
    "isfinite": mpmath.isfinite,
}  # fmt: skip

ORACLES: dict[str, Callable[..., Any]] = {
    **{f"{name}:complex": exact(function) for name, function in NUMBERS.items()},
    **{f"{name}:complex": exact(function, bool) for name, function in TESTS.items()},
    "modulus": exact(abs, np.float64),
    "cast:to complex": lambda op, x: x.astype(np.complex128),
    "real": exact(lambda x: x.real, np.float64),
    "imag": exact(lambda x: x.imag, np.float64),
    "conj": exact(mpmath.conj),
    "complex": lambda op, x, y: x + 1j * y,
    "angle": lambda x: exact(mpmath.arg, np.float64)(None, x),
    "sum:complex": lambda op, x: np.sum(x, axis=op.axis),
    "prod:complex": lambda op, x: np.prod(x, axis=op.axis),
    "mean:complex": lambda x: np.mean(x, axis=0),
    "var:complex": lambda x: np.var(x, axis=1),
    "std:complex": lambda x: np.std(x),
    "vecdot:complex": lambda x, y: np.einsum("bi,bi->b", np.conj(x), y),
}
