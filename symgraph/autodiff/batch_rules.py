"""Batch rules of shapes, reductions, products, convolutions, pooling and indexing.

A rule gets operands of which some have an axis of lanes in front, and makes one large operation of
many small ones. Where it gives NotImplemented, the derived rule is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from symgraph.autodiff.rules import aligned, batch_rule, front, fronts
from symgraph.dims import Size
from symgraph.errors import GraphError
from symgraph.graph.leaves import items
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.registry import Functions

Flags = Sequence[bool]
Values = Sequence[Value]

# -- shapes ----------------------------------------------------------------------------------------


@batch_rule("reshape")
def reshape(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Keep the axis of lanes; the open axis is known, also where there are no lanes."""
    return make(replace(op, shape=(size, *op.shape), open_axis=None), xs[0])


@batch_rule("permute_dims")
def permute_dims(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Keep the axis of lanes."""
    return make(replace(op, axes=(0, *(d + 1 for d in op.axes))), xs[0])


@batch_rule("broadcast_to")
def broadcast_to(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Put new axes behind that of the lanes."""
    (x,) = xs
    new = (1,) * (len(op.shape) + 1 - x.ndim)
    return make(
        replace(op, shape=(size, *op.shape)), F.reshape(x, (x.shape[0], *new, *x.shape[1:]))
    )


@batch_rule("slice")
def slice_(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Take the whole axis of lanes."""
    made = replace(
        op, starts=(0, *op.starts), lengths=(size, *op.lengths), steps=(1, *op.steps),
        dropped=tuple(d + 1 for d in op.dropped),
    )  # fmt: skip
    return make(made, xs[0])


@batch_rule("slice_put")
def slice_put(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Fill the whole axis of lanes."""
    made = replace(
        op, shape=(size, *op.shape), starts=(0, *op.starts), steps=(1, *op.steps),
        dropped=tuple(d + 1 for d in op.dropped),
    )  # fmt: skip
    return make(made, xs[0])


@batch_rule("pad")
def pad(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Put nothing around the lanes."""
    return make(replace(op, widths=((0, 0), *op.widths)), xs[0])


@batch_rule("specify_shape")
def specify_shape(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Say the number of lanes too."""
    return make(replace(op, shape=(size, *op.shape)), xs[0])


@batch_rule("barrier")
def barrier(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Wait for all lanes."""
    return make(op, front(F, size, xs[0], flags[0]), *xs[1:])


@batch_rule("attach")
def attach(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Update once: an update that differs from lane to lane has no meaning."""
    for target, new, varies in zip(op.targets, xs[1:], flags[1:]):
        if varies:
            raise GraphError(
                f"vmap: the update of `{target.label}` differs from lane to lane.",
                details=operand_lines([target, new]),
                fix="give the new values as results, and update with their mean outside",
            )
    return make(op, front(F, size, xs[0], flags[0]), *xs[1:])


@batch_rule("real", "imag", "conj", "complex")
def parts(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Take parts, or make numbers of parts, element by element."""
    return make(op, *aligned(F, xs, flags))


# -- axes one further ------------------------------------------------------------------------------


@batch_rule(
    "sum", "prod", "max", "min", "any", "all", "argmax", "argmin", "topk", "prod_others", "concat",
    "split", "softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_grad",
    "batch_norm", "window_sum", "local_response_norm", "local_response_norm_grad",
    "take_along_axis", "scatter_add_along_axis",
)  # fmt: skip
def shifted(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Do the same one axis further; all operands have the lanes."""
    name = "axis" if hasattr(op, "axis") else "axes"
    old = getattr(op, name)
    new = tuple(d + 1 for d in old) if isinstance(old, tuple) else old + 1
    return items(make(replace(op, **{name: new}), *fronts(F, size, xs, flags)))


@batch_rule("layer_norm", "rms_norm")
def row_norm(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Normalise more rows with the same scale and shift."""
    if any(flags[1:]):
        return NotImplemented
    return make(replace(op, axes=tuple(d + 1 for d in op.axes)), *xs)


# -- products --------------------------------------------------------------------------------------


@batch_rule("matmul")
def matmul(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Multiply with one matrix at once, else lane by lane in one stack."""
    (first, second), (left, right) = xs, flags
    rank, other = first.ndim - left, second.ndim - right  # in one lane
    if not right and other <= 2:
        return make(op, first, second)
    if not left and other == 1:  # columns side by side: one large product
        whole = make(op, first, F.matrix_transpose(second))
        return F.moveaxis(whole, whole.ndim - 1, 0)
    rows = F.expand_dims(first, first.ndim - 1) if rank == 1 else first
    columns = F.expand_dims(second, second.ndim) if other == 1 else second
    most = max(rank, other, 2)
    stacked = make(op, _stacked(F, rows, left, most), _stacked(F, columns, right, most))
    gone = [stacked.ndim - 2] * (rank == 1) + [stacked.ndim - 1] * (other == 1)
    return F.squeeze(stacked, tuple(gone)) if gone else stacked


def _stacked(F: Functions, x: Value, batched: bool, rank: int) -> Value:
    """Put axes of size 1 behind that of the lanes."""
    new = (1,) * (rank + 1 - x.ndim)
    return F.reshape(x, (x.shape[0], *new, *x.shape[1:])) if batched and new else x


@batch_rule("matmul_bias")
def matmul_bias(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Multiply more rows with the same matrix."""
    return make(op, *xs) if not any(flags[1:]) and xs[1].ndim == 2 else NotImplemented


# -- convolution and pooling -----------------------------------------------------------------------


def _folded(F: Functions, x: Value) -> Value:
    """Make lanes and rows one axis."""
    return F.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def _unfolded(F: Functions, x: Value, size: Size, rows: Size) -> Value:
    return F.reshape(x, (size, rows, *x.shape[1:]))


def _channels(F: Functions, x: Value) -> Value:
    """Make lanes and the second axis one: lanes become channels."""
    moved = F.moveaxis(x, 0, 1)
    return F.reshape(moved, (moved.shape[0], moved.shape[1] * moved.shape[2], *moved.shape[3:]))


def _apart(F: Functions, x: Value, size: Size, each: Size) -> Value:
    """Make lanes of channels."""
    return F.moveaxis(F.reshape(x, (x.shape[0], size, each, *x.shape[2:])), 1, 0)


@batch_rule(
    "max_pool", "max_pool_index", "max_pool_grad", "max_pool_take", "avg_pool", "avg_pool_grad"
)
def pool(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Pool more images."""
    whole = fronts(F, size, xs, flags)
    rows = whole[0].shape[1]
    return _unfolded(F, make(op, *(_folded(F, x) for x in whole)), size, rows)


@batch_rule("conv", "conv_input", "conv_bias")
def conv(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Convolve more images with the same filters; else lanes are groups of channels."""
    images, filters, *bias = xs
    if not any(flags[1:]):
        rows = images.shape[1]
        return _unfolded(F, make(op, _folded(F, images), filters, *bias), size, rows)
    if bias:
        return NotImplemented
    if not flags[0] and op.groups == 1:
        if op.name == "conv":
            return _apart(F, make(op, images, _folded(F, filters)), size, filters.shape[1])
        return _apart(F, make(op, images, _channels(F, filters)), size, filters.shape[2])
    if not isinstance(size, int) or size < 1:
        return NotImplemented
    images, filters = fronts(F, size, xs, flags)
    each = filters.shape[1] if op.name == "conv" else filters.shape[2] * op.groups
    grouped = replace(op, groups=op.groups * size)
    return _apart(F, make(grouped, _channels(F, images), _folded(F, filters)), size, each)


@batch_rule("conv_weight")
def conv_weight(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Give the filters of each lane: lanes are channels, and groups where both operands differ."""
    images, cotangents = xs
    if op.groups == 1 and not flags[1]:
        return _apart(F, make(op, _channels(F, images), cotangents), size, images.shape[2])
    if op.groups == 1 and not flags[0]:
        made = make(op, images, _channels(F, cotangents))
        return _unfolded(F, made, size, cotangents.shape[2])
    if not isinstance(size, int) or size < 1:
        return NotImplemented
    images, cotangents = fronts(F, size, xs, flags)
    grouped = replace(op, groups=op.groups * size)
    made = make(grouped, _channels(F, images), _channels(F, cotangents))
    return _unfolded(F, made, size, cotangents.shape[2])


# -- indexing --------------------------------------------------------------------------------------


@batch_rule("take")
def take(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Take at the same places of more arrays, or at more places, or each lane from its own."""
    x, *indices = xs
    if not any(flags[1:]):
        return make(replace(op, axis=op.axis + 1), x, *indices)
    places = fronts(F, size, indices, flags[1:])
    rank = places[0].ndim  # with the axis of lanes
    if not flags[0]:
        return F.moveaxis(make(op, x, *places), op.axis, 0)
    count = len(indices)
    selected = range(op.axis + 1, op.axis + 1 + count)
    near = F.moveaxis(x, tuple(selected), tuple(range(1, count + 1)))
    found = make(replace(op, axis=0), near, _lane(F, size, places[0]), *places)
    own = tuple(range(1, rank))
    return F.moveaxis(found, own, tuple(d + op.axis for d in own))


@batch_rule("scatter_add")
def scatter_add(F: Functions, size: Size, op: Any, flags: Flags, xs: Values) -> Any:
    """Add to more arrays, at the same places or each lane at its own."""
    updates, *indices = xs
    if not any(flags[1:]):
        return make(replace(op, shape=(size, *op.shape), axis=op.axis + 1), updates, *indices)
    places = fronts(F, size, indices, flags[1:])
    count, rank = len(indices), places[0].ndim
    whole = front(F, size, updates, flags[0])
    own = tuple(range(1, rank))
    near = F.moveaxis(whole, tuple(d + op.axis for d in own), own)
    selected = op.shape[op.axis : op.axis + count]
    others = (*op.shape[: op.axis], *op.shape[op.axis + count :])
    made = replace(op, shape=(size, *selected, *others), axis=0)
    found = make(made, near, _lane(F, size, places[0]), *places)
    axes = tuple(range(1, count + 1))
    return F.moveaxis(found, axes, tuple(d + op.axis for d in axes))


def _lane(F: Functions, size: Size, places: Value) -> Value:
    """Give the number of the lane in the shape of indices."""
    number = F.reshape(F.arange(size, dtype="int64"), (size, *(1,) * (places.ndim - 1)))
    return F.broadcast_to(number, places.shape)
