"""A value with other elements at the places that integers name.

An index expression cannot write where an index says: each element of the result looks through all
indices for its own place, as many steps as there are elements times indices. The CPU engine has a
loop for it that writes one update after the other, CUDA a kernel by hand that sorts them first.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import broadcast_shapes, collect_guards, product, require_equal
from symgraph.errors import (
    ArgumentError,
    DimError,
    DTypeError,
    IndexRangeError,
    ShapeError,
)
from symgraph.graph.arguments import normal_axis
from symgraph.graph.arrays import add_at
from symgraph.graph.dtypes import DType, has_gradient, is_float, is_integer, numpy_dtype, promote
from symgraph.graph.index import (
    MAX,
    MIN,
    PROD,
    SUM,
    Axis,
    Compute,
    axes,
    load,
    m,
    position,
    reduce,
)
from symgraph.graph.index import axis as loop
from symgraph.graph.leaves import Constant, as_value, cast_to
from symgraph.graph.legal import indices_exist, places_that_exist
from symgraph.graph.node import Value, explained, make, operand_lines
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.rawkernel import RawKernel
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype, const, widen
from symgraph.graph.types import TensorType, Type
from symgraph.ops.scatter_kernels import scatter_kernel

MODES = ("set", "add", "multiply", "max", "min")
MONOIDS = {"add": SUM, "multiply": PROD, "max": MAX, "min": MIN}


@op
class Scatter(Op):
    """The first operand with the second's elements set, added, ... at the places that others name.

    There is one integer vector for each axis from `axis` on that is selected from; their axis
    stands in the updates in place of these axes. Where several updates meet, all count, in order:
    "set" keeps the last.
    """

    mode: str
    axis: int
    variadic = True

    @property
    def takes_complex(self) -> bool:  # type: ignore[override]
        """Complex numbers have no order: there is no largest one."""
        return self.mode in ("set", "add", "multiply")

    def infer(self, x: TensorType, updates: TensorType, *indices: TensorType) -> Type:
        if x.dtype != updates.dtype:
            raise DTypeError(f"{{x0}} and {{x1}} must have one dtype: {x.dtype}, {updates.dtype}.")
        if x.dtype == "bool" and self.mode != "set":
            raise DTypeError(f"bools cannot be combined by {self.mode}.", fix="cast first")
        for number, each in enumerate(indices, start=2):
            if not is_integer(each.dtype):
                raise DTypeError(
                    f"{{x{number}}} must hold integers, not {each.dtype}.",
                    fix='cast it: x.cast("int32")',
                )
            if each.ndim != 1:
                raise ShapeError(f"{{x{number}}} must have one axis, it has {each.ndim}.")
            require_equal(indices[0].shape[0], each.shape[0], "indices must have one length")
        end = self.axis + len(indices)
        if end > x.ndim:
            raise ShapeError(f"{{x0}} has {x.ndim} axes, too few for {len(indices)} indices.")
        wanted = (*x.shape[: self.axis], indices[0].shape[0], *x.shape[end:])
        if updates.ndim != len(wanted):
            raise ShapeError(f"{{x1}} must have {len(wanted)} axes, it has {updates.ndim}.")
        for d, (size, other) in enumerate(zip(updates.shape, wanted)):
            require_equal(size, other, f"axis {d} of {{x1}} must fit {{x0}} and the indices")
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, updates, *indices = arrays
        found = places_that_exist(xp, self.name, indices, x.shape, self.axis)
        key = (*(slice(None),) * self.axis, *found)
        result = widen(x).copy()
        if self.mode == "set":
            result[key] = widen(updates)  # one after the other: the last stays
        elif self.mode == "add":
            with np.errstate(all="ignore"):
                add_at(xp, result, key, widen(updates))
        else:
            combine = {"multiply": "multiply", "max": "maximum", "min": "minimum"}
            with np.errstate(all="ignore"):
                getattr(xp, combine[self.mode]).at(result, key, widen(updates))
        return result.astype(x.dtype, copy=False)

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        x, _, *indices = xs
        return indices_exist(F, zip(indices, x.shape[self.axis :]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        x, updates, *indices = xs
        if not has_gradient(x.dtype):
            return (None,) * len(xs)
        rule = {"set": self._of_set, "add": self._of_add, "multiply": self._of_product}
        pulled = rule.get(self.mode, self._of_best)(F, g, y, x, updates, indices)
        return (*pulled, *(None for _ in indices))

    def _of_set(
        self, F: Functions, g: Value, y: Value, x: Value, updates: Value, indices: list[Value]
    ) -> tuple[Value, Value]:
        """Give g where nothing was set, and to each update that stayed what came to its place."""
        own = make(Scatter("set", self.axis), g, F.zeros_like(updates), *indices)
        numbers = F.arange(indices[0].shape[0])
        selected = x.shape[self.axis : self.axis + len(indices)]
        last = make(Scatter("set", 0), F.full(selected, -1, "int64"), numbers, *indices)
        stays = F.equal(F.gather(last, indices), numbers)
        tail = updates.ndim - self.axis - 1
        column = F.reshape(stays, (-1, *(1,) * tail))
        return own, F.where(column, F.gather(g, indices, axis=self.axis), 0.0)

    def _of_add(
        self, F: Functions, g: Value, y: Value, x: Value, updates: Value, indices: list[Value]
    ) -> tuple[Value, Value]:
        return g, F.gather(g, indices, axis=self.axis)

    def _of_product(
        self, F: Functions, g: Value, y: Value, x: Value, updates: Value, indices: list[Value]
    ) -> tuple[Value, Value]:
        """Multiply by all other factors of a place, without division; pairs of updates are made."""
        own = make(Scatter("multiply", self.axis), F.ones_like(x), updates, *indices)
        pairs: Value | None = None
        for index, size in zip(indices, x.shape[self.axis :]):
            wide = cast_to(index, "int64")
            place = F.where(wide < 0, wide + F.size_of(size), wide)
            same = F.equal(F.expand_dims(place, 1), place)
            pairs = same if pairs is None else pairs & same
        count = indices[0].shape[0]
        others = pairs & ~F.eye(count, dtype="bool")
        mask = F.reshape(others, (count, count, *(1,) * (updates.ndim - self.axis - 1)))
        factors = F.where(mask, F.expand_dims(updates, self.axis), 1.0)
        rest = F.conj(F.prod(factors, axis=self.axis + 1))
        return g * F.conj(own), F.gather(g * F.conj(x), indices, axis=self.axis) * rest

    def _of_best(
        self, F: Functions, g: Value, y: Value, x: Value, updates: Value, indices: list[Value]
    ) -> tuple[Value, Value]:
        """Share g among all that equal the best."""
        first = F.equal(x, y)
        found = F.equal(updates, F.gather(y, indices, axis=self.axis))
        counts = make(
            Scatter("add", self.axis), cast_to(first, x.dtype), cast_to(found, x.dtype), *indices
        )
        part = g / F.maximum(counts, 1.0)
        shares = F.gather(part, indices, axis=self.axis)
        return F.where(first, part, 0.0), F.where(found, shares, 0.0)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, updates, *indices = xs
        out = axes(x.shape)
        over = loop(indices[0].shape[0], "k")
        end = self.axis + len(indices)
        hit: Scalar | None = None
        for number, index in enumerate(indices):
            plain = position(load(2 + number, index.dtype, over))
            size = position(x.shape[self.axis + number])
            place = m.select(plain < 0, plain + size, plain)
            same = m.eq(place, out[self.axis + number].scalar())
            hit = same if hit is None else hit & same
        if hit is None:
            raise ShapeError("scatter: there is no index.")
        wide = compute_dtype(x.dtype)
        own = m.cast(load(0, x.dtype, *out), wide)

        def update(at: Axis | Scalar, guard: Scalar) -> Scalar:
            index = (*out[: self.axis], at, *out[end:])
            return m.cast(load(1, updates.dtype, *index, guard=guard), wide)

        if self.mode == "set":
            last = reduce(MAX, (over,), m.select(hit, over.scalar(), -1))
            found = m.select(last >= 0, update(last, last >= 0), own)
        else:
            neutral = const(_neutral(self.mode, wide), wide)
            monoid = MONOIDS[self.mode]
            all_ = reduce(monoid, (over,), m.select(hit, update(over, hit), neutral))
            combine = {"add": m.add, "multiply": m.mul, "max": m.max, "min": m.min}[self.mode]
            found = combine(own, all_)
        return Compute(out, m.cast(found, x.dtype))

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        if language != "cuda":
            return None
        _, updates, *indices, result = types
        return scatter_kernel(result, updates, indices, self.axis, self.mode, into=True)

    samples = (
        *(
            sample(
                lambda x, i, u, mode=mode: F.scatter(x, i, u, mode=mode),
                arg(("B", 3), distinct=True),
                arg((4,), "int32", values=(0, 2, -1, 0)),
                arg((4, 3), distinct=True, low=-1.9, high=2.1),
                label=mode,
            )
            for mode in MODES
        ),
        sample(
            lambda x, i, j, u: F.scatter(x, (i, j), u, axis=1),
            arg((2, 3, "B", 2)), arg((2, 1), "int32", low=-3, high=3),
            arg((3,), "uint8", low=0, high=2), arg((2, 2, 3, 2)), label="two",
        ),
        sample(
            lambda x, i, u: F.scatter(x, i, u, axis=1, mode="multiply"),
            arg((2, "B"), values=(1, 0, 2)), arg((5,), "int64", values=(1, 0, 1, 1, 2)),
            arg((2, 5), values=(1.5, 0, 0.5, 2, 0, 3, -1)), label="zeros",
        ),
        sample(lambda x, i: F.scatter(x, i, 7), arg((5,), "int8"), arg((), "int32"), label="one"),
        sample(
            lambda x, i, u: F.scatter(x, i, u, mode="add"), arg((5,), "float16"),
            arg((17,), "int32", low=0, high=5), arg((17,), "float16"), label="half",
        ),
        sample(
            lambda x, i, u: F.scatter(x, i, u), arg((4,), "bool"), arg((0,), "int32"),
            arg((0,), "bool"), label="none",
        ),
        *(
            sample(
                lambda x, i, u, mode=mode: F.scatter(x, i, u, mode=mode),
                arg((4, 2), "complex64"), arg((3,), "int32", values=(0, 2, 0)),
                arg((3, 2), "complex64"), label=f"complex {mode}",
            )
            for mode in ("set", "add", "multiply")
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda x, u: F.scatter(x, [0, 3], u), arg((3,)), arg((2,)), error=IndexRangeError,
            match=r"scatter: index 3 at position \(1,\)",
        ),
        bad(
            lambda x, i, u: F.scatter(x, i, u), arg((3, 2)), arg((2,), "int32"), arg((2, 3)),
            match="scatter: the updates .* must fit",
        ),
        bad(
            lambda x, i: F.scatter(x, i, 1.0), arg((3,)), arg((2,)), error=DTypeError,
            match="scatter: .* must hold integers",
        ),
        bad(
            lambda x, i, u: F.scatter(x, i, u), arg((3,), "int32"), arg((2,), "int32"), arg((2,)),
            error=DTypeError, match="scatter: .* int32 cannot hold float32",
        ),
        bad(
            lambda x, i: F.scatter(x, i, True, mode="add"), arg((3,), "bool"), arg((2,), "int32"),
            error=DTypeError, match="scatter: bools",
        ),
        bad(
            lambda x, i: F.scatter(x, i, 1.0, mode="max"), arg((3,), "complex64"),
            arg((2,), "int32"), error=DTypeError, match="scatter: takes no complex",
        ),
        bad(
            lambda x, i: F.scatter(x, i, 1.0, mode="put"), arg((3,)), arg((2,), "int32"),
            error=ArgumentError, match="scatter: mode",
        ),
        bad(
            lambda x, i: F.scatter(x, (i, i), 1.0), arg((3,)), arg((2,), "int32"),
            error=ArgumentError, match="scatter: needs one index for each of 1 to 1 axes",
        ),
    )  # fmt: skip


def _neutral(mode: str, dtype: DType) -> float:
    if mode in ("add", "multiply"):
        return 0 if mode == "add" else 1
    if is_float(dtype):
        return -math.inf if mode == "max" else math.inf
    limits = np.iinfo(numpy_dtype(dtype))
    return int(limits.min if mode == "max" else limits.max)


@function_of
def scatter(x: Any, indices: Any, updates: Any, axis: int = 0, mode: str = "set") -> Value:
    """Give `x` with `updates` at the places named: y[..., indices[k], ...] = updates[..., k, ...].

    `indices` is one integer value, or one for each of several axes from `axis` on; their common
    shape stands in the updates, which are broadcast, in place of these axes. `mode` is "set" (of
    several updates the last stays), "add", "multiply", "max" or "min" (all count). Raises
    `IndexRangeError` for an index that is out of range, `DTypeError` for updates that the dtype of
    `x` cannot hold.

    >>> import symgraph as sg
    >>> sg.F.scatter(sg.constant([1, 2, 3]), [0, 2, 0], [5, 6, 7], mode="add").eval().tolist()
    [13, 2, 9]
    """
    value = as_value(x)
    several = indices if isinstance(indices, tuple) else (indices,)
    chosen = [as_value(each) for each in several]
    place = normal_axis("scatter", axis, value.ndim)
    if mode not in MODES:
        raise ArgumentError(
            f"scatter: mode must be one of {', '.join(MODES)}, got {mode!r}.", fix='mode="set"'
        )
    end = place + len(chosen)
    if not chosen or end > value.ndim:
        raise ArgumentError(
            f"scatter: needs one index for each of 1 to {value.ndim - place} axes, "
            f"got {len(chosen)}.",
            fix="give as many index values as there are axes to select from",
        )
    operation = Scatter(mode, place)
    new = fitting("scatter", updates, value)
    try:
        with collect_guards():  # they are asked for again where the values are broadcast
            shape = broadcast_shapes(*(each.shape for each in chosen))
    except DimError as problem:
        raise explained(problem, operation, (value, new, *chosen)) from None
    for d, each in enumerate(chosen, start=place):
        size = value.shape[d]
        if isinstance(each.op, Constant) and isinstance(size, int) and is_integer(each.dtype):
            places_that_exist(np, "scatter", [each.op.array], {d: size}, d)
    flat = [F.reshape(F.broadcast_to(each, shape), (product(shape),)) for each in chosen]
    wanted = (*value.shape[:place], *shape, *value.shape[end:])
    try:
        spread = F.broadcast_to(new, wanted)
    except ShapeError:
        raise ShapeError(
            f"scatter: the updates `{new.label}` must fit the places, whose shape is "
            f"({', '.join(map(str, wanted))}).",
            details=operand_lines([value, new, *chosen]),
            fix="updates are broadcast to it",
        ) from None
    joined = (*value.shape[:place], product(shape), *value.shape[end:])
    return make(operation, value, F.reshape(spread, joined), *flat)


def fitting(name: str, updates: Any, x: Value) -> Value:
    """Give updates in the dtype of `x`, or raise `DTypeError` where it cannot hold theirs."""
    new = as_value(updates, x.dtype)
    try:
        holds = promote(x.dtype, new.dtype) == x.dtype
    except DTypeError:
        holds = False
    if not holds:
        raise DTypeError(
            f"{name}: `{x.label}` of {x.dtype} cannot hold {new.dtype}.",
            details=operand_lines([x, new]),
            fix=f'cast the updates: .cast("{x.dtype}")',
        )
    return cast_to(new, x.dtype)
