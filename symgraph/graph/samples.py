"""How an operation shows what it does: examples from which its tests are generated.

A `Sample` is a call on symbolic values with shapes, dtypes and ranges; sizes given by name become
named sizes of the graph, and the tests run them at the sizes the sample lists. A `Bad` is a call
that must fail while the graph is built, with a part of its message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

import numpy as np

from symgraph.errors import ShapeError, SymgraphError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import (
    complex_dtype,
    has_gradient,
    is_complex,
    is_float,
    numpy_dtype,
)


@frozen
class Arg:
    """One operand of a sample: its shape, dtype and the values drawn for it.

    Floats are drawn uniformly from [low, high), as are both parts of complex numbers, integers from
    low..high-1, bools evenly; `values` gives them literally; `distinct` draws a permutation, so
    that no two are equal.
    """

    shape: tuple[int | str, ...]
    dtype: str = "float32"
    low: float = -2.0
    high: float = 2.0
    values: tuple[Any, ...] | None = None
    distinct: bool = False

    def other(self, dtype: str | None) -> str:
        """Give its dtype where floats are `dtype`; a complex number has parts of it, or float32."""
        if dtype is None or not has_gradient(self.dtype):
            return self.dtype
        return complex_dtype(dtype) if is_complex(self.dtype) else dtype

    def draw(
        self, rng: np.random.Generator, sizes: Mapping[str, int], dtype: str | None = None
    ) -> np.ndarray[Any, Any]:
        """Draw an array; `dtype` replaces a float dtype (for checks in float64)."""
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)
        kind = self.other(dtype)
        target = numpy_dtype(kind)
        if self.values is not None:
            return np.resize(np.array(self.values, target), shape)
        if kind == "bool":
            return rng.integers(0, 2, shape).astype(target)
        if self.distinct:
            count = int(np.prod(shape))
            steps = rng.permutation(count).astype(np.float64) + rng.uniform(0.2, 0.8)
            return (
                (self.low + (self.high - self.low) * steps / max(count, 1))
                .reshape(shape)
                .astype(target)
            )
        if is_complex(kind):
            real, imaginary = (rng.uniform(self.low, self.high, shape) for _ in range(2))
            return np.asarray(real + 1j * imaginary).astype(target)
        if is_float(kind):
            return np.asarray(rng.uniform(self.low, self.high, shape)).astype(target)
        low = max(int(self.low), int(np.iinfo(target).min))
        high = min(int(self.high), int(np.iinfo(target).max))
        return rng.integers(low, max(high, low + 1), shape).astype(target)


def arg(shape: tuple[int | str, ...], dtype: str = "float32", **options: Any) -> Arg:
    """Write an operand of a sample briefly: `arg(("B", 3), low=0.1)`."""
    return Arg(tuple(shape), dtype, **options)


@frozen
class Sample:
    """A call that works: `call` takes symbolic values like `args` and returns one or several.

    `sizes` are concrete values of the named sizes, `gradient` tells which operands are checked
    against finite differences (all float ones when None).
    """

    call: Callable[..., Any]
    args: tuple[Arg, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    gradient: tuple[int, ...] | None = None
    label: str = ""


def sample(call: Callable[..., Any], *args: Arg, label: str = "", **options: Any) -> Sample:
    """Write a sample briefly: `sample(lambda x: F.sum(x, axis=1), arg(("B", 3)), sizes={"B": 4})`.

    Named sizes that are not given take 3, 4, 5, ... in the order in which they appear.
    """
    sizes: dict[str, int] = dict(options.pop("sizes", {}))
    for operand in args:
        for size in operand.shape:
            if isinstance(size, str) and size not in sizes:
                sizes[size] = 3 + len(sizes)
    return Sample(call, args, sizes, label=label, **options)


@frozen
class Bad:
    """A call that must raise `error`, its message matching the regular expression `match`."""

    call: Callable[..., Any]
    args: tuple[Arg, ...]
    error: type[SymgraphError] = ShapeError
    match: str = ""


def bad(
    call: Callable[..., Any],
    *args: Arg,
    error: type[SymgraphError] = ShapeError,
    match: str = "",
) -> Bad:
    """Write an error case briefly."""
    return Bad(call, args, error, match)
