"""`check_gradient`: gradients beside finite differences, and whose gradient is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.errors import ArgumentError, ArgumentTypeError, GradError
from symgraph.frozen import frozen
from symgraph.graph.arguments import plain_int
from symgraph.graph.arrays import as_array
from symgraph.graph.dtypes import dtype_name, has_gradient, is_complex, is_float, numpy_dtype
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import items, tensor
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.registry import F
from symgraph.graph.types import TupleType
from symgraph.graph.walk import topological

Array = NDArray[Any]

STEP = 1e-3  # of x, relative where |x| > 1; errors go with its fourth power, rounding with 1 / it
ELEMENTS = 24  # of an argument that are moved alone: sums hide little errors
MOST_ORDER = 3


@frozen
class GradientDifference:
    """Where a gradient is not what differences say.

    `argument` is the number of the array, `index` the element that was moved, None where all were
    at once, `gradient` and `difference` the slopes. `blamed` is the first operation whose own
    gradient differs, None where each is right by itself.
    """

    argument: int
    index: tuple[int, ...] | None
    gradient: float
    difference: float
    order: int
    blamed: Value | None = None

    def __str__(self) -> str:
        at = "in a random direction" if self.index is None else f"at {list(self.index)}"
        lines = [
            f"argument {self.argument} {at}: the gradient of order {self.order} gives "
            f"{self.gradient:.6g}, differences give {self.difference:.6g}."
        ]
        if self.blamed is None:
            lines.append("  the gradient of every operation is right by itself")
        else:
            lines.append(f"  the gradient of {self.blamed.op!r} is not")
            lines += [f"  {line}" for line in operand_lines([self.blamed])]
        return "\n".join(lines)


def check_gradient(
    fn: Callable[..., Any], *arrays: Any, order: int = 1, rtol: float = 1e-6
) -> GradientDifference | None:
    """Hold the gradients of a function of values against differences; give the first that differs.

    `fn` gets one value for each array, of its shape; float arrays become float64 (complex ones
    complex128), and gradients by them are checked: in random directions, and by single elements.
    What is compared is a random weighted sum of all that `fn` gives; with `order` 2 or 3 also the
    gradient of that gradient. `rtol` is relative to the largest slope. Choose numbers away from
    kinks: differences across one are no gradient. None: nothing differs.

    Raises `ArgumentTypeError` where no array is of floats, `GradError` where `fn` gives none.

    >>> import symgraph as sg
    >>> sg.check_gradient(lambda x: sg.tanh(x) * x, [0.5, -2.0]) is None
    True
    """
    highest = plain_int("check_gradient", "order", order)
    if not 1 <= highest <= MOST_ORDER:
        raise ArgumentError(
            f"check_gradient: order must lie in 1 .. {MOST_ORDER}, got {highest}.", fix="order=1"
        )
    if not callable(fn) or isinstance(fn, Value):
        raise ArgumentTypeError(f"check_gradient: takes a function, got {type(fn).__name__}.")
    given = [_wide(as_array(f"check_gradient: argument {k}", one)) for k, one in enumerate(arrays)]
    inputs = [tensor(f"x{k}", one.shape, dtype_name(one.dtype)) for k, one in enumerate(given)]
    if not any(has_gradient(one.dtype) for one in inputs):
        raise ArgumentTypeError(
            "check_gradient: no argument is of floats.", fix="give arrays of floats"
        )
    rng = np.random.default_rng(0)
    found = fn(*inputs)
    results = [found] if isinstance(found, Value) else list(found)
    outputs = [one for one in results if isinstance(one, Value) and has_gradient(one.dtype)]
    if not outputs:
        raise GradError(
            "check_gradient: the function gives no value of floats.", fix="return an expression"
        )
    pairs = dict(zip(inputs, given))
    for now in range(1, highest + 1):
        problem, derivatives = _compared(outputs, pairs, rng, rtol, now)
        if problem is not None:
            place, index, slopes = problem
            blamed = _blamed(outputs, pairs, rng, rtol)
            return GradientDifference(place, index, *slopes, now, blamed)
        outputs = [one for one in derivatives if has_gradient(one.dtype)]
    return None


def _wide(array: Any) -> Array:
    name = dtype_name(str(array.dtype))
    if is_complex(name):
        return np.asarray(array, np.complex128)
    return np.asarray(array, np.float64) if is_float(name) else np.asarray(array)


Problem = tuple[int, tuple[int, ...] | None, tuple[float, float]]


def _compared(
    outputs: Sequence[Value], pairs: dict[Value, Array], rng: Any, rtol: float, order: int
) -> tuple[Problem | None, list[Value]]:
    """Give the first slope that differs, and the gradients."""
    weights = [F.constant(_drawn(rng, one), one.dtype) for one in outputs]
    numbers = interpret(weights, {})
    moved = [one for one in pairs if has_gradient(one.dtype)]
    pulled: Any = F.vjp(list(outputs), moved, weights, missing="zero")
    derivatives: list[Value] = list(pulled)
    slopes = interpret(derivatives, pairs)

    def total(input: Value, along: Array, far: float) -> float:
        found = interpret(outputs, {**pairs, input: pairs[input] + far * along})
        return sum(float(np.sum((np.conj(a) * w).real)) for a, w in zip(found, numbers))

    for input, slope in zip(moved, slopes):
        x = pairs[input]
        largest = float(np.max(np.abs(slope), initial=0.0))
        step = STEP * np.maximum(1.0, np.abs(x))
        for index, direction in _directions(rng, x):
            along = step * direction
            expected = _difference(partial(total, input, along))
            exact = float(np.sum((np.conj(slope) * along).real))
            scale = largest * float(np.sum(np.abs(along))) + float(np.max(np.abs(along), initial=0))
            if not abs(exact - expected) <= rtol * scale:  # or one is NaN
                size = float(np.max(np.abs(along)))
                place = next(k for k, one in enumerate(pairs) if one is input)
                return (place, index, (exact / size, expected / size)), derivatives
    return None, derivatives


def _difference(f: Callable[[float], float]) -> float:
    """Give the slope of f at 0 by differences of fourth order."""
    near, far = f(1.0) - f(-1.0), f(2.0) - f(-2.0)
    return (8 * near - far) / 12


def _directions(rng: Any, x: Array) -> Iterator[tuple[tuple[int, ...] | None, Array]]:
    """Give ways to move an array: all of it, twice, then single elements."""
    if not x.size:
        return
    for _ in range(2):
        yield None, _like(rng, x.shape, x.dtype)
    chosen = rng.permutation(x.size)[:ELEMENTS]
    for place in np.sort(chosen):
        direction = np.zeros(x.size, x.dtype)
        direction[place] = 1
        yield tuple(map(int, np.unravel_index(place, x.shape))), direction.reshape(x.shape)


def _drawn(rng: Any, value: Value) -> Array:
    return _like(rng, tuple(map(int, value.shape)), numpy_dtype(value.dtype))


def _like(rng: Any, shape: Sequence[int], dtype: Any) -> Array:
    found = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    if np.dtype(dtype).kind == "c":
        found = found + 1j * rng.uniform(-1, 1, shape)
    return np.asarray(found, dtype)


def _blamed(
    outputs: Sequence[Value], pairs: dict[Value, Array], rng: Any, rtol: float
) -> Value | None:
    """Find the first operation whose gradient differs from its own differences."""
    seen: dict[Value, Any] = {}
    interpret(outputs, pairs, watch=seen.__setitem__)
    for node in topological(outputs):
        if not node.inputs or not any(_has_slope(one) for one in node.inputs):
            continue
        own = {
            tensor(f"x{k}", one.shape, one.dtype): seen[one]
            for k, one in enumerate(node.inputs)
            if not isinstance(one.type, TupleType)
        }
        if len(own) != len(node.inputs):
            continue  # one result of several: that operation itself was looked at
        made = make(node.op, *own)
        results = items(made) if isinstance(made.type, TupleType) else (made,)
        floats = [one for one in results if has_gradient(one.dtype)]
        try:
            problem = _compared(floats, own, rng, rtol, 1)[0] if floats else None
        except GradError:  # it has none on purpose, and was not asked for it
            continue
        if problem is not None:
            return node
    return None


def _has_slope(value: Value) -> bool:
    return not isinstance(value.type, TupleType) and has_gradient(value.dtype)
