"""The steps of random programs: how symgraph builds each, what NumPy or SciPy says it is, and when
it is defined. Oracles are named functions of NumPy and SciPy, never an operation's own reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from scipy import special

import symgraph as sg

Array = Any
MARGIN = 1e-3  # how far floats stay away from jumps, kinks and poles
_margins = [MARGIN]


class Refused(Exception):  # noqa: N818 - not an error: the step is not taken
    """These operands do not suit this step."""


@dataclass(frozen=True)
class Step:
    """One kind of step. `kinds` are the NumPy kinds that each operand may have."""

    name: str
    kinds: tuple[str, ...]
    build: Callable[..., Any]
    numpy: Callable[..., Array]
    check: Callable[..., None]
    attributes: tuple[Callable[..., Any], ...]  # chance, operand arrays -> value
    smooth: bool
    aligned: bool  # operands broadcast against each other
    dtype: str | None  # of a float result; None: that of the float operands
    prepare: Callable[..., tuple[tuple[Any, ...], str]] | None  # of a block: attributes, dtype
    halves: bool  # whether float16 and bfloat16 are exact enough for it

    def __repr__(self) -> str:
        return self.name


STEPS: dict[str, Step] = {}


def step(
    name: str,
    kinds: Sequence[str],
    build: Callable[..., Any],
    numpy: Callable[..., Array],
    *attributes: Callable[..., Any],
    when: Callable[..., Any] = lambda *args: True,
    smooth: bool = False,
    aligned: bool = True,
    dtype: str | None = None,
    prepare: Callable[..., tuple[tuple[Any, ...], str]] | None = None,
    halves: bool = True,
    group: dict[str, Step] | None = None,
) -> None:
    """Add a step; `when` tells for operands and attributes whether it is defined and safe."""

    def check(*args: Any) -> None:
        with np.errstate(all="ignore"):
            if not np.all(when(*args)):
                raise Refused

    made = Step(
        name, tuple(kinds), build, numpy, check, attributes, smooth, aligned, dtype, prepare, halves
    )  # fmt: skip
    (STEPS if group is None else group)[name] = made


# -- what attributes are drawn from ---------------------------------------------------------------


def an_axis(chance: Random, x: Array, *others: Array) -> Any:
    """Any axis, from the front or the back."""
    if not x.ndim:
        raise Refused
    return chance.randint(-x.ndim, x.ndim - 1)


def some_axes(chance: Random, x: Array, *others: Array) -> Any:
    """All axes, one, or several."""
    if not x.ndim or chance.randint(0, 2) == 0:
        return None
    if chance.randint(0, 1):
        return chance.randint(-x.ndim, x.ndim - 1)
    return tuple(chance.sample(range(x.ndim), chance.randint(0, x.ndim)))


def a_flag(chance: Random, *arrays: Array) -> Any:
    """True or false."""
    return bool(chance.randint(0, 1))


def a_place(chance: Random, x: Array, *others: Array) -> Any:
    """Where a new axis can go."""
    return chance.randint(0, x.ndim)


def a_number(chance: Random, *arrays: Array) -> Any:
    """A Python float that every float dtype holds exactly."""
    return chance.choice([1.0, 0.5, -1.5, 2.0, -0.25])


def a_whole(chance: Random, *arrays: Array) -> Any:
    """A small Python int."""
    return chance.choice([1, 2, -1, 3])


def an_order(chance: Random, x: Array, *others: Array) -> Any:
    """A permutation of the axes."""
    return tuple(chance.sample(range(x.ndim), x.ndim))


def a_slice(chance: Random, x: Array, *others: Array) -> Any:
    """A slice of the first axis."""
    if not x.ndim:
        raise Refused
    edges = [None, 0, 1, 2, -1, -2]
    return slice(chance.choice(edges), chance.choice(edges), chance.choice([None, 1, 2, -1, -2]))


def an_index(chance: Random, x: Array, *others: Array) -> Any:
    """A place on the first axis, from the front or the back."""
    if not x.ndim or not x.shape[0]:
        raise Refused
    return chance.randint(-x.shape[0], x.shape[0] - 1)


# -- when steps are defined -----------------------------------------------------------------------


@contextmanager
def margin(least: float) -> Iterator[None]:
    """Inside, floats stay away from jumps by so much at least: their own error is larger."""
    _margins.append(max(_margins[-1], least))
    try:
        yield
    finally:
        _margins.pop()


def away(*distances: Array) -> Any:
    """Whether all distances are clearly not 0."""
    return np.all([np.all(np.abs(distance) > _margins[-1]) for distance in distances])


def apart(x: Array, y: Array, *rest: Any) -> Any:
    """Whether floats differ clearly, or are the same number of the same array."""
    if x.dtype.kind != "f" and y.dtype.kind != "f":
        return True
    try:
        difference = np.subtract(x, y, dtype=np.float64)
    except ValueError:
        raise Refused from None
    return away(difference)


def no_tie(x: Array, axis: Any, *rest: Any) -> Any:
    """Whether numbers along an axis differ clearly, so that places and halves are decided."""
    if x.dtype.kind != "f":
        return full(x, axis)
    flat = x.reshape(-1) if axis is None else np.moveaxis(x, axis, -1)
    return full(x, axis) and away(np.diff(np.sort(flat, axis=-1), axis=-1))


def full(x: Array, axis: Any, *rest: Any) -> Any:
    """Whether there is something along the axes."""
    axes = range(x.ndim) if axis is None else np.atleast_1d(np.asarray(axis, int))
    return all(x.shape[a] for a in axes)


def fits(x: Array, y: Array, *rest: Any) -> Any:
    """Whether shapes broadcast."""
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        raise Refused from None
    return True


def both(*checks: Callable[..., Any]) -> Callable[..., Any]:
    """Join checks."""
    return lambda *args: all(np.all(check(*args)) for check in checks)


def whole_away(x: Array, *rest: Any) -> Any:
    """Whether floats are clearly neither whole nor half."""
    return away(2 * x - np.rint(2 * x))


F, I, B = ("f",), ("i",), ("b",)

# -- elementwise, one operand ---------------------------------------------------------------------

for _name, _oracle, _when in [
    ("sin", np.sin, None), ("cos", np.cos, None), ("tanh", np.tanh, None), ("exp", np.exp, None),
    ("expm1", np.expm1, None), ("atan", np.arctan, None), ("erf", special.erf, None),
    ("sigmoid", special.expit, None), ("softplus", lambda x: np.logaddexp(0, x), None),
    ("sinh", np.sinh, None), ("asinh", np.arcsinh, None),
    ("silu", lambda x: x * special.expit(x), None),
    ("gelu", lambda x: x * special.ndtr(x), None),
    ("square", np.square, None), ("negative", np.negative, None),
    ("relu", lambda x: np.maximum(x, 0), away), ("abs", np.abs, away),
    ("sqrt", np.sqrt, lambda x: x > 0.01), ("rsqrt", lambda x: 1 / np.sqrt(x), lambda x: x > 0.01),
    ("log", np.log, lambda x: x > 0.01), ("log1p", np.log1p, lambda x: x > -0.9),
    ("reciprocal", np.reciprocal, lambda x: np.abs(x) > 0.1),
]:  # fmt: skip
    step(_name, F, getattr(sg, _name), _oracle, when=_when or (lambda x: True), smooth=True)
step("floor", F, sg.floor, np.floor, when=whole_away)
step("round", F, sg.round, np.rint, when=whole_away)
step("sign", F, sg.sign, np.sign, when=away)
step("isnan", F, sg.isnan, np.isnan)
step("int_negative", I, sg.negative, np.negative)
step("int_abs", I, sg.abs, np.abs)
step("int_square", I, sg.square, np.square)
step("logical_not", B, sg.logical_not, np.logical_not)
step("bitwise_invert", ("ib",), sg.bitwise_invert, np.invert)

# -- elementwise, more operands -------------------------------------------------------------------

for _name, _oracle, _when in [
    ("add", np.add, fits), ("subtract", np.subtract, fits), ("multiply", np.multiply, fits),
    ("maximum", np.maximum, both(fits, apart)), ("minimum", np.minimum, both(fits, apart)),
]:  # fmt: skip
    step(_name, ("f", "f"), getattr(sg, _name), _oracle, when=_when, smooth=True)
    step(f"mixed_{_name}", ("fi", "fi"), getattr(sg, _name), _oracle, when=_when)
step("divide", ("f", "f"), sg.divide, np.divide, smooth=True,
     when=both(fits, lambda x, y: np.abs(y) > 0.1))  # fmt: skip
step("logaddexp", ("f", "f"), sg.logaddexp, np.logaddexp, when=fits, smooth=True)
step("atan2", ("f", "f"), sg.atan2, np.arctan2, smooth=True,
     when=both(fits, lambda x, y: away(x) and away(y)))  # fmt: skip
step("floor_divide", ("i", "i"), sg.floor_divide, np.floor_divide,
     when=both(fits, lambda x, y: y != 0))  # fmt: skip
step("remainder", ("i", "i"), sg.remainder, np.remainder, when=both(fits, lambda x, y: y != 0))
for _name, _oracle in [
    ("less", np.less), ("less_equal", np.less_equal), ("greater", np.greater),
    ("greater_equal", np.greater_equal), ("equal", np.equal), ("not_equal", np.not_equal),
]:  # fmt: skip
    step(_name, ("fi", "fi"), getattr(sg, _name), _oracle, when=both(fits, apart))
for _name, _oracle in [
    ("logical_and", np.logical_and), ("logical_or", np.logical_or), ("logical_xor", np.logical_xor)
]:  # fmt: skip
    step(_name, ("b", "b"), getattr(sg, _name), _oracle, when=fits)
for _name, _oracle in [
    ("bitwise_and", np.bitwise_and), ("bitwise_or", np.bitwise_or), ("bitwise_xor", np.bitwise_xor)
]:  # fmt: skip
    step(_name, ("i", "i"), getattr(sg, _name), _oracle, when=fits)


def _three(c: Array, x: Array, y: Array) -> Any:
    return fits(x, y) and fits(c, x) and fits(c, y)


step("where", ("b", "f", "f"), sg.where, np.where, when=_three, smooth=True)
step("mixed_where", ("b", "fi", "fi"), sg.where, np.where, when=_three)
step("where_positive", ("f", "f"), lambda x, y: sg.where(x > 0, x, y),
     lambda x, y: np.where(x > 0, x, y), when=both(fits, lambda x, y: away(x)),
     smooth=True)  # fmt: skip
step("add_number", F, lambda x, n: x + n, lambda x, n: x + n, a_number, smooth=True)
step("number_minus", F, lambda x, n: n - x, lambda x, n: n - x, a_number, smooth=True)
step("times_number", F, lambda x, n: n * x, lambda x, n: n * x, a_number, smooth=True)
step("add_whole", ("fi",), lambda x, n: x + n, lambda x, n: x + n, a_whole)
step("power", F, lambda x, n: x**n, lambda x, n: x**n, a_whole, smooth=True,
     when=lambda x, n: n > 0 or np.all(np.abs(x) > 0.1))  # fmt: skip
step("clip", F, lambda x: sg.clip(x, -1, 0.5), lambda x: np.clip(x, -1, 0.5), smooth=True,
     when=lambda x: away(x + 1, x - 0.5))  # fmt: skip
step("times_size", F, lambda x, a: x * x.shape[a], lambda x, a: x * x.shape[a], an_axis,
     smooth=True)  # fmt: skip
step("np_add", ("f", "f"), lambda x, y: np.add(x, y), np.add, when=fits, smooth=True)

# -- dtypes ---------------------------------------------------------------------------------------

for _name, _kinds, _dtype in [
    ("float_of_int", I, "float64"), ("float_of_bool", B, "float64"), ("int_of_bool", B, "int64"),
    ("int32_of_int", I, "int32"), ("bool_of_int", I, "bool"),
]:  # fmt: skip
    step(_name, _kinds, lambda x, d=_dtype: x.cast(d), lambda x, d=_dtype: x.astype(d),
         dtype=_dtype)  # fmt: skip
step("int_of_float", F, lambda x: x.cast("int64"), lambda x: x.astype(np.int64), when=whole_away)

# -- reductions -----------------------------------------------------------------------------------

for _name, _when, _smooth in [
    ("sum", lambda *_: True, True), ("prod", lambda *_: True, True), ("mean", full, True),
    ("max", no_tie, True), ("min", no_tie, True), ("var", full, True),
]:  # fmt: skip
    one_axis = _name in ("max", "min")
    step(
        _name, F,
        lambda x, a, k, name=_name: getattr(sg, name)(x, a, keepdims=k),
        lambda x, a, k, name=_name: getattr(np, name)(x, axis=a, keepdims=k),
        an_axis if one_axis else some_axes, a_flag, when=_when, smooth=_smooth,
    )  # fmt: skip
for _name in ("sum", "max", "min"):
    step(
        f"int_{_name}", I,
        lambda x, a, k, name=_name: getattr(sg, name)(x, a, keepdims=k),
        lambda x, a, k, name=_name: getattr(np, name)(x, axis=a, keepdims=k),
        some_axes, a_flag, when=full if _name != "sum" else (lambda *_: True),
    )  # fmt: skip
for _name in ("any", "all"):
    step(
        _name, B,
        lambda x, a, k, name=_name: getattr(sg, name)(x, a, keepdims=k),
        lambda x, a, k, name=_name: getattr(np, name)(x, axis=a, keepdims=k),
        some_axes, a_flag,
    )  # fmt: skip
step("argmax", F, lambda x, a: sg.argmax(x, a), lambda x, a: np.argmax(x, a), an_axis, when=no_tie)
step("argmin", I, lambda x, a: sg.argmin(x, a), lambda x, a: np.argmin(x, a), an_axis, when=full)
step("logsumexp", F, lambda x, a: sg.logsumexp(x, a), lambda x, a: special.logsumexp(x, a),
     an_axis, when=full, smooth=True)  # fmt: skip
step("softmax", F, lambda x, a: sg.softmax(x, a), lambda x, a: special.softmax(x, a),
     an_axis, when=full, smooth=True)  # fmt: skip
step("log_softmax", F, lambda x, a: sg.log_softmax(x, a), lambda x, a: special.log_softmax(x, a),
     an_axis, when=full, smooth=True)  # fmt: skip

# -- shapes ---------------------------------------------------------------------------------------

ANY = ("fib",)


def _merged(x: Any, a: int) -> tuple[Any, ...]:
    return (*x.shape[:a], x.shape[a] * x.shape[a + 1], *x.shape[a + 2 :])


def _flat(x: Any) -> Any:
    return x.reshape(-1)


def _seen(x: Array, *rest: Any) -> bool:
    return bool(x.size)


def join_axis(chance: Random, x: Array, y: Array) -> Any:
    """An axis along which two arrays can be joined."""
    if x.ndim != y.ndim or not x.ndim or x.dtype != y.dtype:
        raise Refused
    good = [
        a for a in range(x.ndim) if all(d == a or x.shape[d] == y.shape[d] for d in range(x.ndim))
    ]
    if not good:
        raise Refused
    return chance.choice(good)


def _two(chance: Random, x: Array, *rest: Any) -> Any:
    if x.ndim < 2:
        raise Refused
    return chance.randint(0, x.ndim - 2)


# a size that is 0 leaves the one that -1 stands for open, as in NumPy
step("flatten", ANY, _flat, _flat, when=_seen, smooth=True)
step("merge_axes", ANY, lambda x, a: x.reshape(_merged(x, a)),
     lambda x, a: x.reshape(_merged(x, a)), _two, smooth=True)  # fmt: skip
step("expand_dims", ANY, sg.expand_dims, np.expand_dims, a_place, smooth=True)
step("permute", ANY, lambda x, o: x.transpose(o), np.transpose, an_order, smooth=True)
step("transpose", ANY, lambda x: x.T, np.transpose, smooth=True)
step("flip", ANY, sg.flip, np.flip, an_axis, smooth=True)
step("slice", ANY, lambda x, s: x[s], lambda x, s: x[s], a_slice, smooth=True)
step("last_slice", ANY, lambda x, s: x[..., s], lambda x, s: x[..., s], a_slice, smooth=True)
step("pick", ANY, lambda x, i: x[i], lambda x, i: x[i], an_index, smooth=True)
step("take", ANY, lambda x, i: sg.take(x, [i, 0, i]), lambda x, i: np.take(x, [i, 0, i], axis=0),
     an_index, smooth=True)  # fmt: skip
step("take_by", ("fib", "i"), lambda x, i: sg.take(x, sg.remainder(i, 2)),
     lambda x, i: np.take(x, np.remainder(i, 2), axis=0), aligned=False,
     when=lambda x, i: x.ndim and x.shape[0] > 1 and x.ndim + i.ndim < 5)  # fmt: skip
step("concat", ("f", "f"), lambda x, y, a: sg.concat([x, y], a),
     lambda x, y, a: np.concatenate([x, y], a), join_axis, smooth=True, aligned=False)  # fmt: skip
step("int_concat", ("i", "i"), lambda x, y, a: sg.concat([x, y], a),
     lambda x, y, a: np.concatenate([x, y], a), join_axis, aligned=False)  # fmt: skip
step("concat_self", F, lambda x, a: sg.concat([x, x * 2, x], a),
     lambda x, a: np.concatenate([x, x * 2, x], a), an_axis, smooth=True)  # fmt: skip
step("stack", ("f", "f"), lambda x, y: sg.stack([x, y]), lambda x, y: np.stack([x, y]),
     when=lambda x, y: x.shape == y.shape, smooth=True, aligned=False)  # fmt: skip
step("split", ANY, lambda x: sg.split(x, [1, -1])[1], lambda x: np.split(x, [1])[1],
     when=lambda x: x.ndim and x.shape[0] > 0, smooth=True)  # fmt: skip
step("pad", F, lambda x: sg.pad(x, 1), lambda x: np.pad(x, 1), smooth=True)
step("broadcast", ANY, lambda x: sg.broadcast_to(x, (2, *x.shape)),
     lambda x: np.broadcast_to(x, (2, *x.shape)), smooth=True)  # fmt: skip
step("zeros_like", ANY, sg.zeros_like, np.zeros_like)
step("topk", F, lambda x: sg.topk(x, 1, axis=0)[0], lambda x: np.sort(x, axis=0)[-1:],
     when=lambda x: x.ndim and no_tie(x, 0), smooth=True)  # fmt: skip

# -- products -------------------------------------------------------------------------------------


def _inner(x: Array, y: Array) -> bool:
    """Whether a matrix product is defined: last axis of x, the one before last (or only) of y."""
    return bool(x.ndim and y.ndim and x.ndim < 3 and y.ndim < 3 and x.shape[-1] == y.shape[0])


step("matmul", ("f", "f"), sg.matmul, np.matmul, when=_inner, smooth=True, aligned=False)
step("gram", F, lambda x: x @ x.T, lambda x: x @ x.T, when=lambda x: x.ndim == 2, smooth=True)
step("project", F, lambda x: x @ sg.broadcast_to(sg.cast(0.5, x.dtype), (x.shape[-1], 2)),
     lambda x: x @ np.full((x.shape[-1], 2), 0.5), when=lambda x: x.ndim, smooth=True)  # fmt: skip
step("outer", ("f", "f"), sg.outer, np.multiply.outer, smooth=True, aligned=False,
     when=lambda x, y: x.ndim == y.ndim == 1)  # fmt: skip
