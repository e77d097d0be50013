"""Index expressions: `out[n, c, y, x] = max over i, j of a[n, c, 2*y + i, 2*x + j]`.

An operation that is not made of others says in this language what each element of its result is.
Loop nests, cost, batching and forward derivatives follow from it; `evaluate` is its meaning in
NumPy, slow and obviously right.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.dims import Dim, Size
from symgraph.dims import evaluate as evaluate_size
from symgraph.errors import PassError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import DType, dtype_name, is_float, numpy_dtype
from symgraph.graph.philox import philox4x32
from symgraph.graph.scalar import ROWS, Scalar, Trace, const, scalar, scalar_order

Array = Any
Index = "Scalar | Axis | int | Dim"

m = Trace()
_serial = itertools.count()


@frozen(eq=False)
class Axis:
    """A loop variable from 0 to `extent` - 1; identity is the object. Arithmetic gives scalars."""

    extent: Size
    name: str
    serial: int

    def scalar(self) -> Scalar:
        """The position along this axis as an int64 scalar."""
        return scalar("axis", (), "int64", self)

    # fmt: off
    def __add__(self, other: Any) -> Scalar: return self.scalar() + position(other)
    def __radd__(self, other: Any) -> Scalar: return position(other) + self.scalar()
    def __sub__(self, other: Any) -> Scalar: return self.scalar() - position(other)
    def __rsub__(self, other: Any) -> Scalar: return position(other) - self.scalar()
    def __mul__(self, other: Any) -> Scalar: return self.scalar() * position(other)
    def __rmul__(self, other: Any) -> Scalar: return position(other) * self.scalar()
    def __floordiv__(self, other: Any) -> Scalar: return self.scalar() // position(other)
    def __mod__(self, other: Any) -> Scalar: return self.scalar() % position(other)
    def __lt__(self, other: Any) -> Scalar: return self.scalar() < position(other)
    def __le__(self, other: Any) -> Scalar: return self.scalar() <= position(other)
    def __gt__(self, other: Any) -> Scalar: return self.scalar() > position(other)
    def __ge__(self, other: Any) -> Scalar: return self.scalar() >= position(other)
    # fmt: on

    def equals(self, other: Any) -> Scalar:
        """Whether this position is another one (`==` is identity of axes)."""
        return self.scalar() == position(other)

    def __str__(self) -> str:
        return self.name


def axis(extent: Size, name: str = "i") -> Axis:
    """Make a loop variable."""
    return Axis(extent, name, next(_serial))


def axes(shape: Sequence[Size], names: str = "") -> tuple[Axis, ...]:
    """Make one loop variable for each size: `n, c, y, x = axes(shape, "ncyx")`."""
    return tuple(
        axis(size, names[i] if i < len(names) else f"i{i}") for i, size in enumerate(shape)
    )


def position(value: Any) -> Scalar:
    """Make an int64 scalar from an axis, an int, a size or a scalar."""
    if isinstance(value, Scalar):
        return value if value.dtype == "int64" else m.cast(value, "int64")
    if isinstance(value, Axis):
        return value.scalar()
    if isinstance(value, Dim):
        return scalar("size", (), "int64", value)
    return const(int(value), "int64")


@frozen
class Load:
    """Which operand is read, and what a load outside its guard gives."""

    operand: int
    fill: float = 0.0
    guarded: bool = False

    def __str__(self) -> str:
        return f"x{self.operand}"


def load(
    operand: int, dtype: DType, *index: Any, guard: Scalar | None = None, fill: float = 0
) -> Scalar:
    """Read one element of an operand; where `guard` is false nothing is read and `fill` comes."""
    args = tuple(position(i) for i in index)
    extra = () if guard is None else (guard,)
    return scalar("load", (*args, *extra), dtype, Load(operand, fill, guard is not None))


def inside(index: Any, extent: Size) -> Scalar:
    """Whether 0 <= index < extent."""
    place = position(index)
    return (place >= 0) & (place < position(extent))


def broadcast_load(operand: int, type: Any, out: Sequence[Axis]) -> Scalar:
    """Read the element of an operand that NumPy's broadcasting puts at the result's position."""
    own = out[len(out) - len(type.shape) :]
    index = [0 if isinstance(size, int) and size == 1 else a for size, a in zip(type.shape, own)]
    return load(operand, type.dtype, *index)


@frozen
class Monoid:
    """How a reduction combines: its name, arity (components), and neutral element."""

    name: str
    arity: int
    compute: Callable[..., Any]

    def __str__(self) -> str:
        return self.name


def _arg(best: Callable[..., Array]) -> Callable[..., Any]:
    def compute(values: tuple[Array, Array], dims: tuple[int, ...]) -> tuple[Array, Array]:
        value, index = np.broadcast_arrays(*values)
        moved = np.moveaxis(value, dims, range(-len(dims), 0))
        kept, over = moved.shape[: moved.ndim - len(dims)], moved.shape[moved.ndim - len(dims) :]
        flat = moved.reshape(*kept, math.prod(over))
        places = np.moveaxis(index, dims, range(-len(dims), 0)).reshape(flat.shape)
        at = best(flat, axis=-1)[..., None]
        shape = [1 if d in dims else n for d, n in enumerate(value.shape)]
        return (
            np.take_along_axis(flat, at, -1).reshape(shape),
            np.take_along_axis(places, at, -1).reshape(shape),
        )

    return compute


def _fold(name: str) -> Callable[..., Any]:
    def compute(values: tuple[Array], dims: tuple[int, ...]) -> tuple[Array]:
        options: dict[str, Any] = {}
        if name in ("sum", "prod"):
            options["dtype"] = values[0].dtype
        elif name in ("max", "min") and any(values[0].shape[d] == 0 for d in dims):
            options["initial"] = _neutral(name, values[0].dtype)
        return (getattr(np, name)(values[0], axis=dims, keepdims=True, **options),)

    return compute


def _neutral(name: str, dtype: np.dtype[Any]) -> Any:
    low = name == "max"
    if not is_float(dtype_name(dtype)):
        limits = np.iinfo(dtype)
        return limits.min if low else limits.max
    return -np.inf if low else np.inf


SUM = Monoid("sum", 1, _fold("sum"))
PROD = Monoid("prod", 1, _fold("prod"))
MAX = Monoid("max", 1, _fold("max"))  # a NaN wins
MIN = Monoid("min", 1, _fold("min"))  # a NaN wins
ANY = Monoid("any", 1, _fold("any"))
ALL = Monoid("all", 1, _fold("all"))
ARGMAX = Monoid("argmax", 2, _arg(np.argmax))  # (value, position), the first of equals
ARGMIN = Monoid("argmin", 2, _arg(np.argmin))


@frozen(eq=False)
class Reduction:
    """The attribute of a reduce: monoid and axes."""

    monoid: Monoid
    axes: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"{self.monoid} over {', '.join(map(str, self.axes))}"


def reduce(monoid: Monoid, over: Sequence[Axis], *values: Scalar) -> Scalar:
    """Combine values over axes; a tuple-valued result is read with `take`."""
    if len(values) != monoid.arity:
        raise PassError(f"index: {monoid} takes {monoid.arity} values, got {len(values)}.")
    return scalar("reduce", values, values[0].dtype, Reduction(monoid, tuple(over)))


def take(whole: Scalar, component: int, dtype: DType) -> Scalar:
    """Read one component of a tuple-valued scalar."""
    return scalar("take", (whole,), dtype, component)


@frozen(eq=False)
class Compute:
    """A whole result: the axes of its shape and the value at each position.

    Several results share their axes only by accident; each has its own `Compute`.
    """

    axes: tuple[Axis, ...]
    value: Scalar
    others: tuple[Compute, ...] = ()

    @property
    def results(self) -> tuple[Compute, ...]:
        """This result and the others of the same operation."""
        return (self, *self.others)


def evaluate(compute: Compute, arrays: Sequence[Array], env: Mapping[Dim, int]) -> list[Array]:
    """Compute an index expression with NumPy on a full grid of all its axes."""
    return [_evaluate(one, arrays, env) for one in compute.results]


def _evaluate(compute: Compute, arrays: Sequence[Array], env: Mapping[Dim, int]) -> Array:
    order = scalar_order([compute.value])
    known = list(compute.axes)
    for node in order:
        if node.op == "axis" and node.attr not in known:
            known.append(node.attr)
        if node.op == "reduce":
            known.extend(a for a in node.attr.axes if a not in known)
    place = {a: d for d, a in enumerate(known)}
    extent = [
        a.extent if isinstance(a.extent, int) else evaluate_size(a.extent, env) for a in known
    ]
    values: dict[Scalar, Any] = {}
    with np.errstate(all="ignore"):
        for node in order:
            values[node] = _one(node, [values[v] for v in node.args], arrays, env, place, extent)
    shape = [extent[place[a]] for a in compute.axes]
    result = np.broadcast_to(values[compute.value], shape + [1] * (len(known) - len(shape)))
    return result.reshape(shape).astype(numpy_dtype(compute.value.dtype), order="C")


def _one(
    node: Scalar,
    args: list[Any],
    arrays: Sequence[Array],
    env: Mapping[Dim, int],
    place: Mapping[Axis, int],
    extent: Sequence[int],
) -> Any:
    rank = len(extent)
    if node.op == "const":
        return np.full([1] * rank, node.attr, numpy_dtype(node.dtype))
    if node.op == "size":
        return np.full([1] * rank, evaluate_size(node.attr, env), np.int64)
    if node.op == "axis":
        d = place[node.attr]
        return np.arange(extent[d]).reshape([-1 if i == d else 1 for i in range(rank)])
    if node.op == "load":
        return _load(node.attr, args, arrays, rank, node.dtype)
    if node.op == "reduce":
        dims = tuple(place[a] for a in node.attr.axes)
        grid = [
            np.broadcast_to(v, [extent[d] if d in dims else n for d, n in enumerate(v.shape)])
            for v in args
        ]
        combined = node.attr.monoid.compute(tuple(grid), dims)
        return combined if node.attr.monoid.arity > 1 else combined[0]
    if node.op == "take":
        return args[0][node.attr]
    if node.op in ("cast", "bitcast"):
        return ROWS[node.op].numpy(np, args[0], node.dtype)  # type: ignore[misc]
    if node.op == "philox":
        return philox4x32(*args)
    row = ROWS[node.op]
    if row.numpy is None:
        raise PassError(f"index: `{node.op}` has no meaning in an index expression.")
    result = np.asarray(row.numpy(np, *args))
    return result.astype(numpy_dtype(node.dtype)) if is_float(node.dtype) else result


def _load(which: Load, args: list[Any], arrays: Sequence[Array], rank: int, dtype: DType) -> Array:
    source = arrays[which.operand]
    index = args[:-1] if which.guarded else args
    if not which.guarded:
        return source[tuple(index)] if index else np.asarray(source).reshape([1] * rank)
    guard = args[-1]
    if source.size == 0:
        return np.full([1] * rank, which.fill, numpy_dtype(dtype))
    safe = tuple(np.where(guard, i, 0) for i in index)
    found = source[safe] if safe else np.asarray(source).reshape([1] * rank)
    return np.where(guard, found, np.asarray(which.fill, numpy_dtype(dtype)))
