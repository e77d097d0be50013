"""Batching: a graph for one lane becomes a graph for many lanes, graph to graph.

What depends on a batched value gets a new first axis; everything else stays as it is and is
computed once. Each operation has a rule: its own (`Op.batch`), one of `batch_rules.py`, the one of
all elementwise operations, or the one that follows from its index expression (`batched.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from symgraph.autodiff import batch_loops, batch_rules  # noqa: F401 - registers
from symgraph.autodiff.batched import wrapped
from symgraph.autodiff.call import Call
from symgraph.autodiff.rules import BATCH, aligned, front
from symgraph.autodiff.trees import leaves, like, spread
from symgraph.dims import Size, equal
from symgraph.errors import ArgumentError, ArgumentTypeError, GraphError, ShapeError
from symgraph.graph.arguments import plain_size
from symgraph.graph.body import like as placeholder
from symgraph.graph.draws import collect_draws, drawn
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.leaves import Item, as_value, items
from symgraph.graph.measured import measured_sizes
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.origin import inherit
from symgraph.graph.registry import F, function_of
from symgraph.graph.walk import depends_on, topological
from symgraph.ops.random import Random

Function = TypeVar("Function", bound=Callable[..., Any])

LANE_STEP = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: seeds of neighbouring lanes are far apart


@function_of
def batch(
    outputs: Sequence[Value],
    batched: Mapping[Value, Value],
    size: Size,
    different: Iterable[Value] = (),
) -> list[Value]:
    """Give outputs for `size` lanes, along a new first axis.

    `batched` gives, for values of one lane, the same for all lanes with that axis; `different` are
    random values of which each lane has its own. What is the same in all lanes is repeated.
    """
    found = lanes(outputs, batched, size, different)
    return [
        front(F, size, output, False) if one is None else one for output, one in zip(outputs, found)
    ]


def lanes(
    outputs: Sequence[Value],
    batched: Mapping[Value, Value],
    size: Size,
    different: Iterable[Value] = (),
) -> list[Value | None]:
    """Give outputs for all lanes; None for those that are the same in all of them."""
    own = set(different)
    live = depends_on(outputs, [*batched, *own])
    _require_sizes(outputs, [*batched, *own])
    known: dict[Value, tuple[Value, ...]] = {}
    for node in topological(outputs, stop=batched):
        if node in batched:
            known[node] = (batched[node],)
        elif node in live:
            with inherit(node.origins):
                known[node] = _node(node, known, size, node in own)
    return [known[output][0] if output in known else None for output in outputs]


def _require_sizes(outputs: Sequence[Value], batched: Sequence[Value]) -> None:
    """Raise `ShapeError` where a size would differ from lane to lane."""
    for size, count in measured_sizes(outputs).items():
        if depends_on([count], batched):
            raise ShapeError(
                f"vmap: the size `{size}` differs from lane to lane, and lanes of several sizes "
                "are no array.",
                details=operand_lines([count]),
                fix="keep the shape and mark what counts: sg.where(mask, x, 0); for n elements "
                "from i on write x[i + sg.arange(n)]",
            )


def _node(
    node: Value, known: Mapping[Value, tuple[Value, ...]], size: Size, different: bool
) -> tuple[Value, ...]:
    op = node.op
    if isinstance(op, Item):
        return (known[node.inputs[0]][op.index],)
    flags = [operand in known for operand in node.inputs]
    xs = [known[operand][0] if operand in known else operand for operand in node.inputs]
    if different:
        if type(op).expand is Random.expand and not any(flags):
            own: Any = op
            made = make(replace(own, shape=(size, *own.shape)), *xs)
            drawn(made)
            return (made,)
        if not isinstance(op, Call):  # which knows of what it draws inside
            for slot, operand in enumerate(node.inputs):
                if operand.dtype == "uint64" and operand.shape == (3,):
                    xs[slot] = _own_states(node, size, xs[slot], flags[slot])
                    flags[slot] = True
    found = op.batch(F, size, flags, *xs)
    if found is NotImplemented and op.name in BATCH:
        found = BATCH[op.name](F, size, op, flags, xs)
    if found is NotImplemented and isinstance(op, Elementwise):
        found = make(op, *aligned(F, xs, flags))
    if found is NotImplemented:
        return wrapped(op, size, flags, xs)
    return tuple(found) if isinstance(found, tuple | list) else items(found)


def _own_states(node: Value, size: Size, state: Value, batched: bool) -> Value:
    """Give each lane a state of its own: another seed, so another key of the generator."""
    if state.dtype != "uint64" or state.ndim - batched != 1:
        raise GraphError(
            f"vmap: how the random numbers of `{node.op.name}` differ between lanes is not known.",
            details=operand_lines([node]),
            fix="draw them outside, with an axis for the lanes, and map over them",
        )
    lane = F.reshape(F.cast(F.arange(size, dtype="int64"), "uint64"), (size, 1))
    away = F.constant(np.array([LANE_STEP, 0, 0], np.uint64))
    return front(F, size, state, batched) + lane * away


# -- for users -------------------------------------------------------------------------------------


@function_of
def vmap(f: Function, in_axes: Any = 0, out_axes: Any = 0, size: Any = None) -> Function:
    """Make a function of one thing a function of many: each lane gets its part of the arguments.

    `in_axes` tells along which axis each argument is mapped: an int, None (all lanes get the same),
    or a structure of these; `out_axes` where the axis of lanes stands in the results. Arguments
    and results may be tuples, lists and dicts of values; arguments by keyword are mapped along
    axis 0. `size` is the number of lanes, needed where nothing is mapped. Random values made inside
    differ from lane to lane; drawn by row, a lane is a row. Lanes that choose different branches
    run all of them.
    Raises `ShapeError` for sizes that differ, `ArgumentError` for an axis that is not there.

    >>> import symgraph as sg
    >>> x = sg.matrix("x")
    >>> sg.vmap(lambda row: (row * row).sum())(x).eval(x=[[1.0, 2.0], [3.0, 4.0]]).tolist()
    [5.0, 25.0]
    """
    if not callable(f) or isinstance(f, Value):
        raise ArgumentTypeError(
            f"vmap: takes a function, got {type(f).__name__}.", fix="sg.vmap(lambda x: ...)(x)"
        )
    count = None if size is None else plain_size("vmap", "size", size)

    @functools.wraps(f)
    def mapped(*args: Any, **options: Any) -> Any:
        given = (args, options)
        each = in_axes if in_axes is None or isinstance(in_axes, int) else tuple(in_axes)
        axes = [*spread("vmap", "in_axes", each, args), *(0 for _ in leaves(options))]
        lane, moved, number = _operands(leaves(given), axes, count)
        own, own_options = like(given, lane)
        with collect_draws() as draws:
            found = f(*own, **own_options)
        return _results(found, moved, number, draws, out_axes)

    return mapped  # type: ignore[return-value]


def _operands(
    given: Sequence[Any], axes: Sequence[Any], count: Size | None
) -> tuple[list[Any], dict[Value, Value], Size]:
    """Give what a lane sees, what that is of all lanes, and the number of lanes."""
    values: list[Any] = []
    first: tuple[Value, int] | None = None
    for each, axis in zip(given, axes):
        if axis is None:
            values.append(each)
            continue
        value = as_value(each)
        place = _place(value, axis)
        if count is None:
            count = value.shape[place]
        if equal(value.shape[place], count) is False:
            raise _unequal(value, place, count, first)
        first = first or (value, place)
        values.append(F.moveaxis(value, place, 0))
    if count is None:
        raise ArgumentError(
            "vmap: nothing is mapped, so the number of lanes is not known.", fix="size=10"
        )
    moved: dict[Value, Value] = {}
    for slot, axis in enumerate(axes):
        if axis is not None:
            value = F.specify_shape(values[slot], (count, *values[slot].shape[1:]))
            values[slot] = placeholder(value.tensor.with_shape(value.shape[1:]), value.label)
            moved[values[slot]] = value
    return values, moved, count


def _place(value: Value, axis: Any) -> int:
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ArgumentTypeError(f"vmap: an axis must be an int or None, got {axis!r:.40}.")
    if not -value.ndim <= axis < value.ndim:
        raise ArgumentError(
            f"vmap: `{value.label}` has no axis {axis} to map over, it is {value.type}.",
            details=operand_lines([value]),
            fix="in_axes=None gives all lanes the same",
        )
    return axis % value.ndim


def _unequal(value: Value, place: int, count: Size, first: tuple[Value, int] | None) -> ShapeError:
    other = (
        f"size={count}" if first is None else f"axis {first[1]} of `{first[0].label}` is {count}"
    )
    return ShapeError(
        f"vmap: mapped axes must have one size: {other}, axis {place} of `{value.label}` is "
        f"{value.shape[place]}.",
        details=operand_lines([value] if first is None else [first[0], value]),
        fix="in_axes=None gives all lanes the same",
    )


def _results(
    found: Any, moved: Mapping[Value, Value], size: Size, draws: Sequence[Value], out_axes: Any
) -> Any:
    outputs = [as_value(one) for one in leaves(found)]
    places = spread("vmap", "out_axes", out_axes, found)
    results = []
    for output, one, place in zip(outputs, lanes(outputs, moved, size, draws), places):
        if place is None:
            if one is not None:
                raise ArgumentError(
                    f"vmap: `{output.label}` differs from lane to lane, so out_axes cannot be "
                    "None for it.",
                    details=operand_lines([output]),
                    fix="out_axes=0",
                )
            results.append(output)
            continue
        whole = front(F, size, output, False) if one is None else one
        if not -whole.ndim <= place < whole.ndim:
            raise ArgumentError(
                f"vmap: out_axes={place} is no axis of a result with {whole.ndim} axes.",
                details=operand_lines([output]),
                fix="out_axes=0",
            )
        results.append(F.moveaxis(whole, 0, place))
    return like(found, results)
