"""Random numbers of further laws: each from one block of words, by the inverse of the distribution.

What holds in `random.py` holds here: pure functions of (seed, step, node, element), with the same
bits on every backend, and without a gradient, except by location and scale.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError
from symgraph.graph.arguments import plain_int, shape_argument
from symgraph.graph.dtypes import INTEGERS, default_float, dtype_name, is_float, numpy_dtype
from symgraph.graph.laws import integer_body, law_body
from symgraph.graph.node import Value, make
from symgraph.graph.op import op
from symgraph.graph.samplers import natural_log, normal_quantile, polynomial
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype
from symgraph.ops.random import DUMMY, STATE, Random, Stream, default_stream, moved
from symgraph.ops.special_tables import FAR

LAWS = ("exponential", "gumbel", "laplace", "logistic", "cauchy")
_FAR_FROM = {"float32": 4.7, "float64": 6.0}  # t = sqrt(-log tail)
_Y = (2 / (1 / 4.7 - 1 / 27.5), -(1 / 4.7 + 1 / 27.5) / (1 / 4.7 - 1 / 27.5))
_LEAST_TAIL = 1e-27


@op
class RandomLaw(Random):
    """Numbers of a standard law: exponential, gumbel, laplace, logistic or cauchy."""

    law: str
    samples = (
        *(
            sample(
                lambda s, x, law=law: make(RandomLaw(x.shape, "float32", 7, False, law), s),
                STATE, DUMMY, label=law,
            )
            for law in LAWS
        ),
        sample(
            lambda s: make(RandomLaw((17,), "float64", 1, True, "gumbel"), s), STATE,
            label="wide",
        ),
        sample(
            lambda s: make(RandomLaw((9,), "bfloat16", 1, False, "exponential"), s), STATE,
            label="half",
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda s: make(RandomLaw((2,), "float32", 0, False, "cauchy"), s), arg((3,), "int64"),
            match="must be uint64",
        ),
    )  # fmt: skip

    def body(self, m: Any, *words: Any) -> Any:
        return law_body(m, self.law, self.dtype, *words)


def _upper(z: float) -> float:
    """Give the probability of a standard normal number above z."""
    return 0.5 * math.erfc(z / math.sqrt(2))


@op
class RandomTruncated(Random):
    """Standard normal numbers from [low, high], by the inverse of their distribution."""

    low: float
    high: float
    samples = (
        sample(
            lambda s, x: make(RandomTruncated(x.shape, "float32", 7, False, -2.0, 2.0), s),
            STATE, DUMMY,
        ),
        sample(
            lambda s: make(RandomTruncated((17,), "float64", 1, True, 5.0, math.inf), s), STATE,
            label="tail",
        ),
        sample(
            lambda s: make(RandomTruncated((5,), "float16", 1, True, -3.0, -0.5), s), STATE,
            label="below",
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda s: make(RandomTruncated((2,), "float32", 0, False, 0.0, 1.0), s),
            arg((2,), "uint64"), match="must be uint64",
        ),
    )  # fmt: skip

    def body(self, m: Any, *words: Any) -> Any:
        wide = compute_dtype(self.dtype)
        if wide == "float64":
            first, second = (m.cast(word, "uint64") for word in words)
            even = (m.cast(((first >> 5) << 26) | (second >> 6), wide) + 0.5) * 2.0**-53
        else:
            even = (m.cast(words[0], wide) + 0.5) * 2.0**-32
        if self.low >= 0:
            tail = _upper(self.high) + even * (_upper(self.low) - _upper(self.high))
            value = _quantile(m, wide, tail)
        elif self.high <= 0:
            tail = _upper(-self.low) + even * (_upper(-self.high) - _upper(-self.low))
            value = -_quantile(m, wide, tail)
        else:
            p = _upper(-self.low) + even * (_upper(-self.high) - _upper(-self.low))
            above = p > 0.5
            least = m.like(_LEAST_TAIL, p)
            size = _quantile(m, wide, m.max(m.select(above, 1.0 - p, p), least))
            value = m.select(above, size, -size)
        low, high = m.like(self.low, value), m.like(self.high, value)
        return m.cast(m.min(m.max(value, low), high), self.dtype)


def _quantile(m: Any, dtype: str, tail: Any) -> Any:
    """Give z >= 0 with a tail above it, however small."""
    t = m.sqrt(-natural_log(m, dtype, tail))
    far = t * polynomial(FAR[dtype], _Y[0] / t + _Y[1])
    return m.select(t > _FAR_FROM[dtype], far, normal_quantile(m, dtype, tail))


@op
class RandomIntegers(Random):
    """Whole numbers from `low` to below `low` + `count`, all equally likely."""

    low: int
    count: int
    samples = (
        sample(lambda s, x: make(RandomIntegers(x.shape, "int64", 7, False, -3, 7), s), STATE,
               DUMMY),
        sample(lambda s: make(RandomIntegers((17,), "uint8", 1, True, 250, 6), s), STATE),
        sample(lambda s: make(RandomIntegers((9,), "int64", 2, True, -(2**62), 2**63 + 5), s),
               STATE, label="wide"),
        sample(lambda s: make(RandomIntegers((5,), "uint64", 3, True, 0, 2**64), s), STATE,
               label="all"),
    )  # fmt: skip
    bad = (
        bad(
            lambda s: make(RandomIntegers((2,), "int64", 0, False, 0, 2), s), arg((2,), "uint64"),
            match="must be uint64",
        ),
    )  # fmt: skip

    def words_each(self) -> int:
        return 2

    def body(self, m: Any, *words: Any) -> Any:
        return m.cast(integer_body(m, self.low, self.count, *words), self.dtype)


# -- what users call -------------------------------------------------------------------------------


def float_argument(name: str, dtype: Any) -> str:
    """Give a float dtype, `config.float_dtype` for None, or raise `DTypeError`."""
    found = default_float() if dtype is None else dtype_name(dtype)
    if not is_float(found):
        raise DTypeError(f"{name}: the dtype must be a float, not {found}.", fix='dtype="float32"')
    return found


def drawn(stream: Stream | None, operation: Any) -> Value:
    """Make the next random value of a stream, or of the default one."""
    return (default_stream() if stream is None else stream).draw(operation)


def law(name: str, shape: Any, kind: str, dtype: Any, by_row: bool, stream: Stream | None) -> Value:
    """Make numbers of a standard law."""
    found, sizes = float_argument(name, dtype), shape_argument(name, shape)
    return drawn(stream, lambda node: RandomLaw(sizes, found, node, bool(by_row), kind))


def _placed(
    name: str, shape: Any, location: Any, scale: Any, dtype: Any, by_row: bool,
    stream: Stream | None,
) -> Value:  # fmt: skip
    """Make location + scale * numbers of the law of that name."""
    value = law(name, shape, name, dtype, by_row, stream)
    return moved(name, value, ("location", location), ("scale", scale))


def exponential(
    shape: Any, scale: Any = 1.0, *, dtype: Any = None, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw numbers of the exponential law with mean `scale`, above 0 and up to 22 (37) scales.

    `scale` is a number or a value. With `by_row`, row i depends on `offset` + i of the stream.
    Raises `DTypeError` unless the dtype is a float.

    >>> exponential((2, 3)).type.shape
    (2, 3)
    """
    return _placed("exponential", shape, 0, scale, dtype, by_row, stream)


def gumbel(
    shape: Any, location: Any = 0.0, scale: Any = 1.0, *, dtype: Any = None, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw location - scale * log(-log u), the Gumbel law; otherwise as `exponential`."""
    return _placed("gumbel", shape, location, scale, dtype, by_row, stream)


def laplace(
    shape: Any, location: Any = 0.0, scale: Any = 1.0, *, dtype: Any = None, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw numbers with density exp(-|x - location| / scale) / (2 scale); as `exponential`."""
    return _placed("laplace", shape, location, scale, dtype, by_row, stream)


def logistic(
    shape: Any, location: Any = 0.0, scale: Any = 1.0, *, dtype: Any = None, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw location + scale * log(u / (1 - u)), u even in (0, 1); otherwise as `exponential`."""
    return _placed("logistic", shape, location, scale, dtype, by_row, stream)


def cauchy(
    shape: Any, location: Any = 0.0, scale: Any = 1.0, *, dtype: Any = None, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw location + scale * tan(pi (u - 1/2)), u even in (0, 1); otherwise as `exponential`."""
    return _placed("cauchy", shape, location, scale, dtype, by_row, stream)


def truncated_normal(
    shape: Any, low: float = -2.0, high: float = 2.0, mean: Any = 0.0, std: Any = 1.0,
    *, dtype: Any = None, by_row: bool = False, stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw mean + std * z, z a standard normal number under the condition low <= z <= high.

    `low` and `high` are numbers, in deviations from the mean, and may be infinite. Raises
    `ArgumentError` unless low < high and z is between them with a probability above 1e-27.
    """
    name = "truncated_normal"
    found, sizes = float_argument(name, dtype), shape_argument(name, shape)
    for what, bound in (("low", low), ("high", high)):
        if isinstance(bound, bool) or not isinstance(bound, int | float | np.number):
            raise ArgumentTypeError(
                f"{name}: {what} must be a number, got {type(bound).__name__}.", fix=f"{what}=2.0"
            )
    first, last = float(low), float(high)
    if not first < last:
        raise ArgumentError(f"{name}: low must be below high, got {low} and {high}.", fix="low=-2")
    if first >= 0 or last <= 0:
        near, far = (first, last) if first >= 0 else (-last, -first)
        share = _upper(near) - _upper(far)
    else:
        share = 1.0
    if not share > _LEAST_TAIL:
        raise ArgumentError(
            f"{name}: from {low} to {high} lies less than {_LEAST_TAIL} of all normal numbers.",
            fix="low and high are in deviations from the mean",
        )
    value = drawn(
        stream, lambda node: RandomTruncated(sizes, found, node, bool(by_row), first, last)
    )
    return moved(name, value, ("mean", mean), ("std", std))


def integers(
    low: int, high: int | None = None, shape: Any = (), *, dtype: Any = "int64",
    by_row: bool = False, stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw whole numbers from low to high - 1, evenly; one bound is `high`, and low is then 0.

    A number's probability differs by at most 2**-64 from that of another. With `by_row`, row i
    depends on `offset` + i of the stream. Raises `ArgumentError` for an empty range or one that
    the dtype does not hold, `DTypeError` unless the dtype is an integer.

    >>> sorted(set(integers(3, shape=(99,), stream=Stream(1)).eval().tolist()))
    [0, 1, 2]
    """
    name = "integers"
    first, end = (0, low) if high is None else (low, high)
    least, bound = plain_int(name, "low", first), plain_int(name, "high", end)
    kind = dtype_name(dtype)
    if kind not in INTEGERS:
        raise DTypeError(f"{name}: the dtype must be an integer, not {kind}.", fix='dtype="int64"')
    limits = numpy_limits(kind)
    if not least < bound:
        raise ArgumentError(
            f"{name}: low must be below high, got {least} and {bound}.", fix="high is not included"
        )
    if least < limits[0] or bound - 1 > limits[1]:
        raise ArgumentError(
            f"{name}: {kind} does not hold all from {least} to {bound - 1}.", fix='dtype="int64"'
        )
    sizes = shape_argument(name, shape)
    return drawn(
        stream,
        lambda node: RandomIntegers(sizes, kind, node, bool(by_row), least, bound - least),
    )


def numpy_limits(dtype: str) -> tuple[int, int]:
    """Give the least and the largest number of an integer dtype."""

    info = np.iinfo(numpy_dtype(dtype))
    return int(info.min), int(info.max)


def number_argument(name: str, what: str, value: Any, low: float = 0.0) -> None:
    """Raise unless an argument is a value, or a number above `low`."""
    if isinstance(value, Value):
        return
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise ArgumentTypeError(
            f"{name}: {what} must be a number or a value, got {type(value).__name__}."
        )
    if not low < float(value) < math.inf:
        raise ArgumentError(f"{name}: {what} must be > {low:g} and finite, got {value}.")
