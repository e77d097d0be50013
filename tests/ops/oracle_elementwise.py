"""Oracles of the elementwise operations: NumPy, SciPy, mpmath, and Python's own integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.special

from tests.tolerances import is_floating

Array = Any


def named(function: Callable[..., Array]) -> Callable[..., Array]:
    """Make a function of arrays an oracle: without the operation, and without warnings."""

    def oracle(op: Any, *arrays: Array) -> Array:
        with np.errstate(all="ignore"):
            return function(*arrays)

    return oracle


def whole(
    integers: Callable[..., int], floats: Callable[..., Array] | None = None
) -> Callable[..., Array]:
    """Make an oracle that computes integers with Python's own and wraps them into the dtype."""

    def oracle(op: Any, *arrays: Array) -> Array:
        if is_floating(arrays[0].dtype):
            assert floats is not None
            with np.errstate(all="ignore"):
                return floats(*arrays)
        dtype = arrays[0].dtype
        limits = np.iinfo(dtype)
        turns = int(limits.max) - int(limits.min) + 1
        spread = np.broadcast_arrays(*arrays)
        found = [
            (integers(*map(int, numbers)) - int(limits.min)) % turns + int(limits.min)
            for numbers in zip(*(each.reshape(-1) for each in spread))
        ]
        return np.array(found, dtype).reshape(spread[0].shape)

    return oracle


def exact(function: Callable[[Any], Any], digits: int = 30) -> Callable[..., Array]:
    """Make a function of one mpmath number an oracle."""

    def oracle(op: Any, x: Array) -> Array:
        with mpmath.workdps(digits):
            found = [float(function(mpmath.mpf(float(one)))) for one in x.reshape(-1)]
        return np.array(found, np.float64).reshape(x.shape)

    return oracle


def _silu(x: Array) -> Array:
    return np.where(np.isneginf(x), 0.0, x * scipy.special.expit(x))


def _normal_share(x: Array) -> Array:
    return np.where(np.isneginf(x), 0.0, x * scipy.special.ndtr(x))


def _tanh_gelu(x: Any) -> Any:
    if mpmath.isnan(x):
        return mpmath.nan
    if abs(x) > 1000:  # tanh is -1 or 1 to more digits than there are
        return x if x > 0 else mpmath.mpf(0)
    inner = mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)
    return x / 2 * (1 + mpmath.tanh(inner))


def _gelu(op: Any, x: Array) -> Array:
    return exact(_tanh_gelu, 400)(op, x) if op.approximate else named(_normal_share)(op, x)


def _leaky_relu(op: Any, x: Array) -> Array:
    return np.where(x < 0, op.slope * x, x)


def _elu(op: Any, x: Array) -> Array:
    return np.where(x < 0, op.alpha * np.expm1(np.minimum(x, 0)), x)


def _cast(op: Any, x: Array) -> Array:
    if op.dtype == "bool":
        return x != 0
    if "int" not in op.dtype:
        return x
    limits = np.iinfo(op.dtype)
    turns = int(limits.max) - int(limits.min) + 1
    found = [(int(one) - int(limits.min)) % turns + int(limits.min) for one in x.reshape(-1)]
    return np.array(found, op.dtype).reshape(x.shape)


# fmt: off
ORACLES: dict[str, Callable[..., Any]] = {
    "add":           named(np.add),
    "subtract":      named(np.subtract),
    "multiply":      named(np.multiply),
    "divide":        named(np.true_divide),
    "floor_divide":  whole(lambda x, y: x // y if y else 0, np.floor_divide),
    "remainder":     whole(lambda x, y: x % y if y else 0, np.remainder),
    "pow":           whole(lambda x, y: x**y if y >= 0 else 0, np.power),
    "negative":      whole(lambda x: -x, np.negative),
    "positive":      lambda x: x,
    "abs":           whole(lambda x: x if x >= 0 else -x, np.fabs),
    "sign":          whole(lambda x: (x > 0) - (x < 0), np.sign),
    "square":        whole(lambda x: x * x, np.square),
    "sqrt":          named(np.sqrt),
    "rsqrt":         named(lambda x: np.where(x < 0, np.nan, np.copysign(np.abs(x) ** -0.5, x))),
    "reciprocal":    named(lambda x: np.true_divide(1.0, x)),
    "maximum":       named(np.maximum),
    "minimum":       named(np.minimum),
    "floor":         named(np.floor),
    "ceil":          named(np.ceil),
    "trunc":         named(np.trunc),
    "round":         named(np.round),
    "clip":          named(np.clip),
    "where":         named(np.where),
    "cast":          _cast,
    "stop_gradient": named(lambda x: x),

    "exp":       named(np.exp),
    "expm1":     named(np.expm1),
    "exp2":      named(np.exp2),
    "log":       named(np.log),
    "log1p":     named(np.log1p),
    "log2":      named(np.log2),
    "log10":     named(np.log10),
    "logaddexp": named(np.logaddexp),
    "sin":       named(np.sin),
    "cos":       named(np.cos),
    "tan":       named(np.tan),
    "asin":      named(np.arcsin),
    "acos":      named(np.arccos),
    "atan":      named(np.arctan),
    "atan2":     named(np.arctan2),
    "sinh":      named(np.sinh),
    "cosh":      named(np.cosh),
    "tanh":      named(np.tanh),
    "asinh":     named(np.arcsinh),
    "acosh":     named(np.arccosh),
    "atanh":     named(np.arctanh),
    "erf":       named(scipy.special.erf),
    "erfc":      named(scipy.special.erfc),

    "equal":         named(np.equal),
    "not_equal":     named(np.not_equal),
    "less":          named(np.less),
    "less_equal":    named(np.less_equal),
    "greater":       named(np.greater),
    "greater_equal": named(np.greater_equal),
    "isnan":         named(np.isnan),
    "isinf":         named(np.isinf),
    "isfinite":      named(np.isfinite),
    "logical_and":   named(np.logical_and),
    "logical_or":    named(np.logical_or),
    "logical_xor":   named(np.logical_xor),
    "logical_not":   named(np.logical_not),
    "bitwise_and":         named(np.bitwise_and),
    "bitwise_or":          named(np.bitwise_or),
    "bitwise_xor":         named(np.bitwise_xor),
    "bitwise_invert":      named(np.invert),
    "bitwise_left_shift":  whole(lambda x, y: x << min(y, 64)),
    "bitwise_right_shift": whole(lambda x, y: x >> min(y, 64)),

    "relu":       named(lambda x: np.maximum(x, x.dtype.type(0))),
    "leaky_relu": _leaky_relu,
    "elu":        _elu,
    "sigmoid":    named(scipy.special.expit),
    "softplus":   named(lambda x: np.logaddexp(0.0, x)),
    "silu":       named(_silu),
    "gelu":       _gelu,
}
# fmt: on
