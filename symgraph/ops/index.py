"""`x[key]`: NumPy's indexing with integers, slices, `...`, None, and integer values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgraph.dims import Dim, Size, collect_guards, equal, less, less_equal, slice_length
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, IndexRangeError
from symgraph.graph.arguments import normal_axis
from symgraph.graph.dtypes import default_float, dtype_name, is_integer
from symgraph.graph.leaves import Constant, as_value, cast_to
from symgraph.graph.node import Value, remember
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample


@dataclass
class Basic:
    """What the integers and slices of a key select, axis by axis."""

    starts: list[Size]
    lengths: list[Size]
    steps: list[int]
    dropped: list[int]
    counted: list[Size]

    def add(self, start: Size, length: Size, step: int = 1) -> None:
        """Add an axis."""
        self.starts.append(start)
        self.lengths.append(length)
        self.steps.append(step)

    def apply(self, x: Value) -> Value:
        """Cut it out of a value."""
        return F.slice_at(
            x, self.starts, self.lengths, self.steps, dropped=self.dropped, counted=self.counted
        )


@composite(
    samples=[
        sample(lambda x: x[1:, None, ..., 0], arg(("B", 2, 3)), label="basic"),
        sample(lambda x: x[None, None], arg(("B",)), label="new axes"),
        sample(lambda x, i: x[i], arg(("B", 3)), arg((2,), "int32", low=-3, high=3), label="rows"),
        sample(lambda x, i: x[:, i], arg(("B", 3)), arg((), "int64", low=0, high=3), label="one"),
        sample(
            lambda x, i: x[F.arange(x.shape[0]), i], arg(("B", 5)),
            arg(("B",), "int32", low=0, high=5), label="picked",
        ),
        sample(
            lambda x, i: x[i, :, [[0], [2]]], arg((4, "B", 3)), arg((5,), "int8", low=-4, high=4),
            label="apart",
        ),
        sample(lambda x: x[[2, 0], ::2, -1], arg((3, "B", 2)), label="mixed"),
        sample(
            lambda x: x[:, np.array([True, False, True])], arg(("B", 3, 2)), label="fixed mask"
        ),
        sample(lambda x: x[x > 0], arg(("B", 3)), label="mask"),
        sample(lambda x, m: x[m], arg(("B", 3)), arg(("B",), "bool"), label="mask of rows"),
        sample(
            lambda x, m: x[1:, m, 0], arg((3, "B", 2)), arg(("B",), "bool"), label="mask between"
        ),
        sample(
            lambda x, i: x[i : i + 3, ::-1], arg(("B", 3)), arg((), "int32", values=(1,)),
            sizes={"B": 6}, label="computed bounds",
        ),
        sample(
            lambda x, i: x[:, i::-2], arg((2, 9)), arg((), "int8", values=(-3,)), label="backwards"
        ),
    ],
    bad=[
        bad(lambda x: x[3], arg((3, 2)), error=IndexRangeError, match="index: 3 is out of range"),
        bad(lambda x: x[0, -3], arg((3, 2)), error=IndexRangeError, match="axis 1 of `x0`"),
        bad(lambda x: x[0, 0, 0], arg((3, 2)), error=IndexRangeError, match="3 indices, .* 2 axes"),
        bad(lambda x: x[..., ...], arg((3, 2)), error=ArgumentError, match="index: only one ..."),
        bad(lambda x: x[0.5], arg((3, 2)), error=ArgumentTypeError, match="index: float"),
        bad(lambda x: x[True], arg((3, 2)), error=ArgumentTypeError, match="index: bool"),
        bad(lambda x: x["a"], arg((3, 2)), error=ArgumentTypeError, match="index: str"),
        bad(lambda x: x[::0], arg((3, 2)), error=ArgumentError, match="index: the step .* 0"),
        bad(lambda x: x[1.0:], arg((3, 2)), error=ArgumentTypeError, match="index: a bound"),
        bad(
            lambda x: x[[True, False]], arg((3, 2)), error=IndexRangeError, match="index: a mask"
        ),
        bad(lambda x: x[x * 2], arg((3, 2)), error=DTypeError, match="index: .* integers"),
        bad(lambda x, m: x[m], arg((3, 2)), arg((2,), "bool"), error=IndexRangeError,
            match="index: the mask"),
        bad(lambda x, m: x[m], arg((3, 2)), arg((), "bool"), error=DTypeError, match="a scalar"),
        bad(lambda x, m: x[m], arg((3,)), arg((3, 2), "bool"), error=IndexRangeError,
            match="index: the mask .* has 2 axes"),
        bad(lambda x, m: x[0, m], arg((3, 2)), arg((2, 2), "bool"), error=IndexRangeError,
            match="index: 3 indices"),
        bad(lambda x, i: x[i:], arg((3, 2)), arg((2,), "int32"), match="must be a scalar"),
        bad(lambda x, i: x[i:], arg((3, 2)), arg(()), error=DTypeError, match="hold integers"),
        bad(lambda x, i: x[::i], arg((3, 2)), arg((), "int32"), error=ArgumentError,
            match="index: the step"),
    ],
)  # fmt: skip
def index(x: Any, key: Any) -> Value:
    """Select elements by NumPy's rules: what `x[key]` does.

    Integers (negative ones count from the end), slices with bounds that may be symbolic, `...`,
    None, integer values or arrays, and masks. A symbolic bound is taken to be counted from the
    front unless it is negative for all sizes. Under a mask, and between bounds that are integer
    values, the data decide how many elements there are. Raises `IndexRangeError` for an integer
    that is outside for all sizes, `DTypeError` for values that hold no integers.

    >>> import symgraph as sg
    >>> x = sg.tensor("x", (sg.dim("B"), 3))
    >>> str(x[1:, 0].type), str(x[::-2].type)
    ('float32[B - 1]', 'float32[(B + 1)//2, 3]')
    """
    value = as_value(x)
    if is_mask(key):
        found = _under_mask(value, key)
    else:
        between, parts = _between(value, key)
        basic, layout = planned(between, parts)
        found = _gathered(basic.apply(between), layout)
    remember(found, value, key)
    return found


def is_mask(key: Any) -> bool:
    """Tell whether a key is a mask whose values are not known yet."""
    return isinstance(key, Value) and key.dtype == "bool" and not isinstance(key.op, Constant)


def _under_mask(x: Value, mask: Value) -> Value:
    """Select by one mask, of the first axes."""
    if mask.ndim > x.ndim:
        raise IndexRangeError(
            f"index: the mask `{mask.label}` has {mask.ndim} axes, `{x.label}` has {x.ndim}.",
            details=[x.describe(), mask.describe()],
            fix="a mask has the sizes of the axes it stands for",
        )
    (fitted,) = _symbolic_masks([mask], x)
    tail = x.shape[mask.ndim :]
    rows = F.reshape(x, (fitted.size, *tail))
    return F.take(rows, F.flatnonzero(fitted), axis=0)


def _between(x: Value, key: Any) -> tuple[Value, Any]:
    """Cut at those bounds that are values; give the rest of the key."""
    while (found := computed_slice(x, key)) is not None:
        axis, part, key = found
        x = F.slice_between(x, axis, part)
    return x, key


def computed_slice(x: Value, key: Any) -> tuple[int, slice, tuple[Any, ...]] | None:
    """Give the first slice of a key between bounds that are values: its axis, and the slice.

    The third is the key without it: a part for each axis, of which this one is taken whole.
    """
    given = key if isinstance(key, tuple) else (key,)
    if not any(isinstance(part, slice) and _is_computed(part) for part in given):
        return None
    parts, axis = _completed(key, x), 0
    for number, part in enumerate(parts):
        if isinstance(part, slice) and _is_computed(part):
            return axis, part, (*parts[:number], slice(None), *parts[number + 1 :])
        axis += part is not None
    return None


def _is_computed(part: slice) -> bool:
    bounds = (part.start, part.stop, part.step)
    return any(isinstance(one, Value) and not isinstance(one.op, Constant) for one in bounds)


Layout = Sequence[Value | str]


def planned(value: Value, key: Any) -> tuple[Basic, Layout]:
    """Give what the integers and slices of a key cut out, and what each axis of that then is.

    An axis is "kept" or "new", or selected from by an integer value.
    """
    parts = _completed(key, value)
    wide = any(isinstance(part, Value) and part.ndim for part in parts)
    basic = Basic([], [], [], [], [])
    layout: list[Value | str] = []
    for part in parts:
        d = len(basic.starts)
        if part is None:
            layout.append("new")
        elif isinstance(part, slice):
            _add_slice(basic, part, value.shape[d])
            layout.append("kept")
        elif isinstance(part, Value):
            basic.add(0, value.shape[d])
            layout.append(part)
        elif wide:
            # beside an array an integer is an index of its own, as in NumPy
            _inside(part, d, value)
            basic.add(0, value.shape[d])
            layout.append(as_value(part, "int64"))
        else:
            basic.dropped.append(d)
            basic.add(_inside(part, d, value), 1)
    return basic, layout


def with_new_axes(value: Value, layout: Layout) -> Value:
    """Insert the new axes."""
    if not any(_is_new(part) for part in layout):
        return value
    rest = iter(value.shape)
    return F.reshape(value, [1 if _is_new(part) else next(rest) for part in layout])


def selection(layout: Layout) -> tuple[list[Value], int, tuple[int, ...] | None]:
    """Give the index values, the first axis they select from, and how axes are permuted before.

    Indices that stand apart select from the front, as in NumPy.
    """
    places = [d for d, part in enumerate(layout) if isinstance(part, Value)]
    indices = [part for part in layout if isinstance(part, Value)]
    if not places or places[-1] - places[0] == len(places) - 1:
        return indices, places[0] if places else 0, None
    return indices, 0, (*places, *(d for d in range(len(layout)) if d not in places))


def _gathered(value: Value, layout: Layout) -> Value:
    """Insert the new axes, then select along those that have a value as index."""
    whole = with_new_axes(value, layout)
    indices, axis, order = selection(layout)
    if not indices:
        return whole
    return F.gather(whole if order is None else F.permute_dims(whole, order), indices, axis=axis)


def _is_new(part: Value | str) -> bool:
    return isinstance(part, str) and part == "new"


def _completed(key: Any, x: Value) -> list[Any]:
    """Give a key with one part for each axis: arrays as values, `...` written out."""
    parts = _parts(list(key) if isinstance(key, tuple) else [key], x)
    used = len([part for part in parts if part is not None and part is not Ellipsis])
    if used > x.ndim:
        raise IndexRangeError(
            f"index: {used} indices, but `{x.label}` has {x.ndim} axes.",
            details=[x.describe()],
            fix="remove some, or add axes with None",
        )
    dots = [number for number, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("index: only one ... can stand in a key.", fix="use : for each axis")
    place = dots[0] if dots else len(parts)
    return [*parts[:place], *[slice(None)] * (x.ndim - used), *parts[place + len(dots) :]]


def _parts(given: list[Any], x: Value) -> list[Any]:
    """Give the parts of a key; a mask that is known stands for the positions where it holds."""
    given = _symbolic_masks(given, x)
    masks = [_fixed_mask(part) for part in given]
    counts = [_axes_of(part) for part in given]
    parts: list[Any] = []
    behind = False
    for number, (part, mask) in enumerate(zip(given, masks)):
        behind = behind or part is Ellipsis
        if is_mask(part):
            parts += F.nonzero(part)
            continue
        if mask is None:
            parts.append(_part(part))
            continue
        _check_mask(mask, x.ndim - sum(counts[number:]) if behind else sum(counts[:number]), x)
        parts += [as_value(np.asarray(places, np.int64)) for places in np.nonzero(mask)]
    return parts


def _axes_of(part: Any) -> int:
    """Count the axes that a part of a key stands for."""
    if part is None or part is Ellipsis:
        return 0
    mask = part if is_mask(part) else _fixed_mask(part)
    return 1 if mask is None else int(mask.ndim)


def _symbolic_masks(given: list[Any], x: Value) -> list[Any]:
    """Give the parts of a key with masks that have the sizes of their axes, as is checked."""
    found, behind = list(given), False
    for number, part in enumerate(given):
        behind = behind or part is Ellipsis
        if not is_mask(part):
            continue
        if not part.ndim:
            raise DTypeError(
                f"index: the mask `{part.label}` is a scalar.",
                details=[x.describe(), part.describe()],
                fix="F.where(condition, a, b) or sg.cond",
            )
        rest = sum(map(_axes_of, given[number:]))
        axis = x.ndim - rest if behind else sum(map(_axes_of, given[:number]))
        own = x.shape[axis : axis + part.ndim] if axis >= 0 else ()
        if len(own) < part.ndim:
            continue  # too many indices are found later
        if any(equal(a, b) is False for a, b in zip(part.shape, own)):
            raise IndexRangeError(
                f"index: the mask `{part.label}` must have the sizes of its axes: {part.type} "
                f"is not {', '.join(map(str, own))}.",
                details=[x.describe(), part.describe()],
                fix="a mask has the sizes of the axes it stands for",
            )
        found[number] = F.specify_shape(part, own)
    return found


def _fixed_mask(part: Any) -> np.ndarray[Any, Any] | None:
    """Give a mask with axes whose values are known while the graph is built."""
    if isinstance(part, Value) and isinstance(part.op, Constant):
        part = part.op.array
    if isinstance(part, list) and part and not any(isinstance(one, Value) for one in part):
        part = np.asarray(part)
    fixed = isinstance(part, np.ndarray) and part.dtype == np.bool_ and part.ndim > 0
    return part if fixed else None


def _check_mask(mask: np.ndarray[Any, Any], axis: int, x: Value) -> None:
    """Raise `IndexRangeError` where a mask has another size than its axes."""
    for d, size in enumerate(mask.shape, start=axis):
        own = x.shape[d] if 0 <= d < x.ndim else size  # too many indices are found later
        if equal(own, size) is False:
            raise IndexRangeError(
                f"index: a mask of {mask.shape} does not fit axis {d} of `{x.label}`, whose size "
                f"is {own}.",
                details=[x.describe()],
                fix="a mask has the sizes of the axes it stands for",
            )


def _part(part: Any) -> Any:
    """Give one part of a key in its plain form: int, size, slice, None, `...` or integer value."""
    if part is None or part is Ellipsis or isinstance(part, slice | Dim):
        return part
    if isinstance(part, bool | np.bool_) or not isinstance(
        part, int | np.integer | np.ndarray | list | Value
    ):
        raise ArgumentTypeError(
            f"index: {type(part).__name__} {part!s:.40} is no index.",
            fix="use integers, slices, ..., None, masks, or integer values",
        )
    if isinstance(part, int | np.integer):
        return int(part)
    if isinstance(part, list) and not part:
        part = np.zeros(0, np.int64)
    value = as_value(part)
    if not is_integer(value.dtype):
        raise DTypeError(
            f"index: `{value.label}` must hold integers, not {value.dtype}.",
            details=[value.describe()],
            fix="cast floats to int64 first",
        )
    return value


def _inside(number: int | Dim, d: int, x: Value) -> Size:
    """Give an integer index counted from the front, or raise `IndexRangeError`."""
    size = x.shape[d]
    place: Size = number + size if less(number, 0) else number
    if less(place, 0) or less_equal(size, place):
        raise IndexRangeError(
            f"index: {number} is out of range for axis {d} of `{x.label}`, whose size is {size}.",
            details=[x.describe()],
            fix=f"use -{size} to {size - 1}" if isinstance(size, int) and size else "",
        )
    return place


def _add_slice(basic: Basic, part: slice, size: Size) -> None:
    bounds = [_bound(part.start), _bound(part.stop)]
    step = 1 if part.step is None else _bound(part.step)
    if not isinstance(step, int) or step == 0:
        raise ArgumentError(
            f"index: the step of a slice must be a number and not be 0, got {step}.",
            fix="use a step such as 2 or -1",
        )
    with collect_guards() as guards:
        start, length = slice_length(size, bounds[0], bounds[1], step)
    basic.counted.extend(guard.right for guard in guards)
    basic.add(start, length, step)


def _bound(bound: Any) -> Size | None:
    if isinstance(bound, Value) and isinstance(bound.op, Constant) and not bound.ndim:
        bound = bound.op.array[()]
    if bound is None or isinstance(bound, Dim):
        return bound
    if isinstance(bound, bool) or not isinstance(bound, int | np.integer):
        raise ArgumentTypeError(
            f"index: a bound of a slice must be an int or a size, got {type(bound).__name__}.",
            fix="for positions that are computed use i + F.arange(n)",
        )
    return int(bound)


@composite(
    samples=[
        sample(lambda i: F.one_hot(i, 4), arg(("B",), "int32", low=0, high=4), label="last"),
        sample(lambda i: F.one_hot(i, 3, axis=0), arg((2, "B"), "uint8", high=3), label="first"),
        sample(
            lambda i: F.one_hot(i, 300, "bool"), arg((3,), "int8", low=-2, high=5), label="wide"
        ),
        sample(
            lambda i: F.one_hot(i, i.shape[0]), arg(("B",), "int64", low=0, high=9), label="size"
        ),
    ],
    bad=[
        bad(lambda i: F.one_hot(i, 3), arg((2,)), error=DTypeError, match="one_hot: .* integers"),
        bad(
            lambda i: F.one_hot(i, 3, axis=2), arg((2,), "int32"), error=ArgumentError, match="axis"
        ),
    ],
)
def one_hot(indices: Any, depth: Size, dtype: Any = None, axis: int = -1) -> Value:
    """Write each index as a row with a 1 at its place: y[..., j] = 1 where j = indices[...].

    An index outside 0..depth-1 gives a row of zeros. The new axis stands at `axis`; the dtype is
    `config.float_dtype` unless given. Raises `DTypeError` unless `indices` holds integers.

    >>> import symgraph as sg
    >>> sg.F.one_hot(sg.constant([1, 0]), 2, "int8").eval().tolist()
    [[0, 1], [1, 0]]
    """
    value = as_value(indices)
    if not is_integer(value.dtype):
        raise DTypeError(
            f"one_hot: `{value.label}` must hold integers, not {value.dtype}.",
            details=[value.describe()],
            fix='cast first: x.cast("int32")',
        )
    place = normal_axis("one_hot", axis, value.ndim + 1)
    column = F.expand_dims(value.cast("int64"), place)
    numbers = F.reshape(F.arange(depth), (-1, *(1,) * (value.ndim - place)))
    found = F.equal(column, numbers)
    return cast_to(found, default_float() if dtype is None else dtype_name(dtype))
