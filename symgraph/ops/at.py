"""Values with some elements changed: `x.at[key].set(v)` and Theano's `set_subtensor(x[key], v)`."""

from __future__ import annotations

from typing import Any

from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    IndexRangeError,
    ShapeError,
)
from symgraph.graph.dtypes import promote
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample
from symgraph.ops.index import Basic, computed_slice, is_mask, planned, selection, with_new_axes

MODES = ("set", "add", "multiply", "max", "min")


@composite(
    samples=[
        sample(lambda x, v: x.at[1:, ::2].set(v), arg(("B", 5)), arg((3,)), label="slices"),
        sample(lambda x, v: x.at[..., None, -1].add(v), arg((2, "B")), arg((1,)), label="last"),
        sample(lambda x: x.at[x.shape[0] - 1].set(7), arg(("B",), "int8"), label="size"),
        sample(
            lambda x, i, v: x.at[i].subtract(v), arg(("B", 2)), arg((4,), "int32", low=-3, high=3),
            arg((4, 2)), label="rows",
        ),
        sample(
            lambda x, i, v: x.at[i, 1:, [[0], [1]]].multiply(v), arg((3, "B", 2)),
            arg((3,), "int32", values=(0, 2, 1)), arg((3, 1)), sizes={"B": 3}, label="mixed",
        ),
        sample(
            lambda x, v: x.at[::-2, 1].max(v), arg(("B", 2), distinct=True), arg((2,)),
            sizes={"B": 4}, label="max",
        ),
        sample(
            lambda x, m, v: x.at[m].min(v), arg(("B", 2), distinct=True), arg(("B",), "bool"),
            arg((2,)), label="mask",
        ),
        sample(
            lambda x, m: x.at[m].add(2 * x[m]), arg(("B", 2)), arg(("B",), "bool"),
            label="masked rows",
        ),
        sample(
            lambda x, m: x.at[m, 0].set(1.0), arg((3, 2)), arg((3,), "bool"), label="mask, one"
        ),
        sample(
            lambda x, i, v: x.at[i : i + 3, ::2].add(v), arg(("B", 3)),
            arg((), "int32", values=(1,)), arg((3, 2)), sizes={"B": 6}, label="computed bounds",
        ),
        sample(
            lambda x, i, v: x.at[-1:i:-2].multiply(v), arg((7, "B")), arg((), "int8", values=(1,)),
            arg(("B",)), label="computed, the same",
        ),
        sample(
            lambda x, i, j, v: x.at[i:, None, :, j : j + 2].set(v), arg((4, "B", 5)),
            arg((), "int64", values=(2,)), arg((), "int32", values=(-4,)), arg((2, 1, 1, 2)),
            label="two cuts",
        ),
    ],
    bad=[
        bad(lambda x, v: x.at[1:].set(v), arg((3,)), arg((3,)), match="update_at: .* must fit"),
        bad(lambda x: x.at[3].set(1.0), arg((3,)), error=IndexRangeError, match="3 is out of"),
        bad(
            lambda x: x.at[0].set(1.5), arg((3,), "int32"), error=DTypeError,
            match="update_at: .*int32 cannot hold float32",
        ),
        bad(
            lambda x, m, v: x.at[m].set(v), arg((3,)), arg((3,), "bool"), arg((2, 2)),
            match="update_at: .* fit the elements",
        ),
        bad(
            lambda x, m: x.at[m].set(1.0), arg((3,)), arg((4,), "bool"),
            match="update_at: the mask",
        ),
        bad(
            lambda x, i: x.at[i:].set(1.0), arg((3,)), arg(()), error=DTypeError,
            match="index: .* hold integers",
        ),
        bad(
            lambda x: F.update_at(x, 0, 1.0, "put"), arg((3,)), error=ArgumentError,
            match="update_at: mode",
        ),
    ],
)  # fmt: skip
def update_at(x: Any, key: Any, new: Any, mode: str = "set") -> Value:
    """Give `x` with the elements `x[key]` replaced by, or combined with, `new`.

    The key is one that `x[key]` takes; `new` is broadcast to the shape of `x[key]`. Under a mask
    alone, and between bounds that are values, that costs no size that the data decide, unless `new`
    has an element for each that is selected. `mode` is "set", "add", "multiply",
    "max" or "min"; where integers name a place twice, the last is set, and others all count. Raises
    as `x[key]` does, `ShapeError` for what cannot be broadcast, `DTypeError` for what the dtype of
    `x` cannot hold.

    >>> import symgraph as sg
    >>> sg.constant([1, 2, 3]).at[1:].add(10).eval().tolist()
    [1, 12, 13]
    """
    value = as_value(x)
    if mode not in MODES:
        raise ArgumentError(
            f"update_at: mode must be one of {', '.join(MODES)}, got {mode!r}.", fix='mode="set"'
        )
    given = _holding(value, new)
    if is_mask(key):
        return _masked(value, key, given, mode)
    between = computed_slice(value, key)
    if between is not None:
        return _between(value, *between, given, mode)
    basic, layout = planned(value, key)
    cut = basic.apply(value)
    whole = with_new_axes(cut, layout)
    indices, axis, order = selection(layout)
    if not indices:
        changed = _combined(whole, _spread(value, given, whole.shape), mode)
    else:
        turned = whole if order is None else F.permute_dims(whole, order)
        changed = F.scatter(turned, tuple(indices), given, axis=axis, mode=mode)
        if order is not None:
            changed = F.permute_dims(changed, [order.index(d) for d in range(len(order))])
    return _put_back(value, basic, cut, F.reshape(changed, cut.shape))


def _holding(x: Value, new: Any) -> Value:
    """Give what is written in the dtype of `x`."""
    value = as_value(new, x.dtype)
    try:
        holds = promote(x.dtype, value.dtype) == x.dtype
    except DTypeError:
        holds = False
    if not holds:
        raise DTypeError(
            f"update_at: `{x.label}` of {x.dtype} cannot hold {value.dtype}.",
            details=operand_lines([x, value]),
            fix=f'cast it first: .cast("{x.dtype}")',
        )
    return cast_to(value, x.dtype)


def _spread(x: Value, new: Value, shape: Any) -> Value:
    try:
        return F.broadcast_to(new, shape)
    except ShapeError:
        raise ShapeError(
            f"update_at: `{new.label}` must fit the places, whose shape is "
            f"({', '.join(map(str, shape))}).",
            details=operand_lines([x, new]),
            fix="it is broadcast to that shape",
        ) from None


def _combined(old: Value, new: Value, mode: str) -> Value:
    """Combine elements, of which each place has one."""
    if mode == "set":
        return new
    function = {"add": F.add, "multiply": F.multiply, "max": F.maximum, "min": F.minimum}[mode]
    return function(old, new)


def _put_back(x: Value, basic: Basic, cut: Value, changed: Value) -> Value:
    """Give a value with what was cut out of it replaced."""
    if cut is x:
        return changed
    put = {"dropped": basic.dropped, "steps": basic.steps}
    here = F.slice_put(F.broadcast_to(F.constant(True), cut.shape), x.shape, basic.starts, **put)
    return F.where(here, F.slice_put(changed, x.shape, basic.starts, **put), x)


def _between(
    x: Value, axis: int, part: slice, rest: tuple[Any, ...], new: Value, mode: str
) -> Value:
    """Change what lies between bounds that are values; `rest` is the key without this slice."""
    if _same_along(axis, rest, new):
        inside = F.reshape(F.slice_holds(x, axis, part), (-1, *(1,) * (x.ndim - axis - 1)))
        return F.where(inside, F.update_at(x, rest, new, mode), x)
    changed = F.update_at(F.slice_between(x, axis, part), rest, new, mode)
    return F.slice_put_between(x, axis, part, changed)


def _same_along(axis: int, key: tuple[Any, ...], new: Value) -> bool:
    """Whether what is written is the same all along an axis that a key takes whole."""
    if any(isinstance(part, Value) for part in key):
        return not new.ndim  # where the axis stands among those of indices is another matter
    own = [number for number, part in enumerate(key) if part is not None][axis]
    behind = sum(part is None or isinstance(part, slice) for part in key[own + 1 :])
    place = new.ndim - 1 - behind
    return place < 0 or (isinstance(new.shape[place], int) and new.shape[place] == 1)


def _masked(x: Value, mask: Value, new: Value, mode: str) -> Value:
    if mask.ndim > x.ndim:
        raise IndexRangeError(
            f"update_at: the mask `{mask.label}` has {mask.ndim} axes, `{x.label}` has {x.ndim}.",
            details=operand_lines([x, mask]),
            fix="a mask has the sizes of the first axes",
        )
    try:
        where = F.broadcast_to(mask, x.shape[: mask.ndim])
    except ShapeError:
        raise ShapeError(
            f"update_at: the mask `{mask.label}` must have the sizes of the first axes of "
            f"`{x.label}`.",
            details=operand_lines([x, mask]),
            fix="compare the value itself: x.at[x < 0].set(0)",
        ) from None
    tail = x.shape[mask.ndim :]
    if new.ndim > len(tail) + 1:
        raise ShapeError(
            f"update_at: under a mask `{new.label}` must fit the elements, of "
            f"{len(tail)} axes and one for how many there are; it has {new.ndim}.",
            details=operand_lines([x, mask, new]),
            fix="what has the shape of the whole is chosen by sg.where(mask, new, x)",
        )
    if new.ndim > len(tail):
        rows = F.reshape(x, (where.size, *tail))
        changed = F.scatter(rows, (F.flatnonzero(where),), new, axis=0, mode=mode)
        return F.reshape(changed, x.shape)
    column = F.reshape(where, (*where.shape, *(1,) * len(tail)))
    return F.where(column, _combined(x, _spread(x, new, tail), mode), x)


def _picked(name: str, selected: Any) -> tuple[Value, Any]:
    """Give the value and the key of which something is `value[key]`."""
    if not isinstance(selected, Value):
        raise ArgumentTypeError(
            f"{name}: takes x[key], got {type(selected).__name__}.", fix=f"{name}(x[1:], value)"
        )
    if selected.picked is None:
        raise ArgumentError(
            f"{name}: `{selected.label}` is not of the form x[key].",
            details=[selected.describe()],
            fix=f"{name}(x[1:], value), or x.at[1:].set(value)",
        )
    whole, key = selected.picked
    return (selected if whole is None else whole), key


@composite(
    samples=[
        sample(lambda x, v: F.set_subtensor(x[1:3], v), arg(("B", 2)), arg((2,)), label="slice"),
        sample(
            lambda x, i, v: F.set_subtensor(x[1:][i, 0], v), arg(("B", 2)),
            arg((2,), "int32", values=(0, -1)), arg(()), label="inner",
        ),
        sample(lambda x, v: F.set_subtensor(x[:], v), arg(("B",)), arg(()), label="all"),
    ],
    bad=[
        bad(
            lambda x: F.set_subtensor(x + 1, 2.0), arg((3,)), error=ArgumentError,
            match="set_subtensor: .* not of the form",
        ),
        bad(
            lambda: F.set_subtensor(3, 2.0), error=ArgumentTypeError, match="set_subtensor: takes"
        ),
    ],
)  # fmt: skip
def set_subtensor(selected: Any, new: Any) -> Value:
    """Give `x` with `x[key]` replaced, told by `x[key]` itself: Theano's name for `x.at[key].set`.

    Raises `ArgumentError` for what is not x[key], else as `update_at` does.

    >>> import symgraph as sg
    >>> x = sg.constant([1, 2, 3])
    >>> sg.set_subtensor(x[1:], 0).eval().tolist()
    [1, 0, 0]
    """
    whole, key = _picked("set_subtensor", selected)
    return F.update_at(whole, key, new, "set")


@composite(
    samples=[
        sample(lambda x, v: F.inc_subtensor(x[::2], v), arg(("B", 2)), arg((2,)), label="slice"),
        sample(
            lambda x, i, v: F.inc_subtensor(x[i], v), arg(("B",)),
            arg((4,), "int32", values=(0, 2, 0, 1)), arg((4,)), label="twice",
        ),
    ],
    bad=[
        bad(
            lambda x: F.inc_subtensor(x + 1, 2.0), arg((3,)), error=ArgumentError,
            match="inc_subtensor: .* not of the form",
        ),
    ],
)  # fmt: skip
def inc_subtensor(selected: Any, amount: Any) -> Value:
    """Give `x` with something added to `x[key]`, told by `x[key]` itself: `x.at[key].add`.

    Where integers name a place twice, both count. Raises as `set_subtensor` does.
    """
    whole, key = _picked("inc_subtensor", selected)
    return F.update_at(whole, key, amount, "add")
