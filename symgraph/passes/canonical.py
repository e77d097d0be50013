"""Canonical form: rearrangements after arithmetic, repetition never, reductions merged.

The same expression can be written with a reshape before or after, with an explicit repetition or
by broadcasting, with a sum over two axes at once or one after the other. These rules choose one
way, so that the patterns of other rules need to know only that one. They move no gradient: all are
linear or change nothing, and run before differentiation too.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.dims import Size, less, product
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.node import Value, make
from symgraph.graph.registry import F
from symgraph.graph.samples import arg
from symgraph.graph.types import Shape, same_size
from symgraph.ops.shape import same_shape
from symgraph.passes import fold
from symgraph.passes.manager import rule_pass
from symgraph.passes.patterns import VIEWS
from symgraph.passes.rules import local_rule

X = {"x": arg((2, 3))}
XY = {"x": arg((2, 3)), "y": arg((2, 3))}
HOISTED = 8  # views in a row that arithmetic passes; each costs one rewriting for each operation
TOTALS = ("sum", "prod")
EXTREMES = ("max", "min", "any", "all")


def _is_one(size: object) -> bool:
    return isinstance(size, int) and size == 1


def _adds_leading_ones(view: Value) -> bool:
    """Tell whether a view only puts axes of size 1 in front, as broadcasting does by itself."""
    source = view.inputs[0]
    lead = view.ndim - source.ndim
    return (
        lead >= 0
        and all(map(_is_one, view.shape[:lead]))
        and same_shape(source.shape, view.shape[lead:])
    )


def _repeats(view: Value) -> bool:
    """Tell whether a value is an operand repeated along new axes and axes written as 1 only."""
    if view.op.name == "reshape":
        return _adds_leading_ones(view)
    if view.op.name != "broadcast_to":
        return False
    source = view.inputs[0]
    own = view.shape[view.ndim - source.ndim :]
    return all(_is_one(size) or same_size(size, to) for size, to in zip(source.shape, own))


# -- elementwise operations -----------------------------------------------------------------------


@local_rule(
    example=lambda x, y: F.broadcast_to(x, (2, 3)) * y,
    operands={"x": arg((3,)), "y": arg((2, 3))},
    more=[
        (lambda x: F.exp(F.broadcast_to(x, (4, 2, 3))), X),
        (lambda x, y: x + F.reshape(y, (1, 3)), {"x": arg((2, 3)), "y": arg((3,))}),
    ],
    before_grad=True,
    sound="exact",
)
def repetition_after_arithmetic(value: Value) -> Value | None:
    """Let broadcasting repeat the operands of an elementwise operation, or repeat its result."""
    if not isinstance(value.op, Elementwise):
        return None
    operands = [part.inputs[0] if _repeats(part) else part for part in value.inputs]
    if all(new is old for new, old in zip(operands, value.inputs)):
        return None
    small = make(value.op, *operands)
    return small if small.type == value.type else F.broadcast_to(small, value.shape)


@local_rule(
    example=lambda x: F.exp(F.reshape(x, (3, 2))),
    operands=X,
    more=[
        (lambda x, y: F.permute_dims(x, (1, 0)) * F.permute_dims(y, (1, 0)), XY),
        (lambda x: F.log(F.reshape(F.softmax(x, axis=1), (6,))), X),
        (lambda x: F.reshape(x, (6,)) + 1.0, X),
        (lambda x, y: F.permute_dims(x, (1, 0)) / y, {"x": arg((2, 3)), "y": arg((2,))}),
    ],
    before_grad=True,
    sound="exact",
)
def rearrangement_after_arithmetic(value: Value) -> Value | None:
    """Compute first, then reshape or permute, where all operands are rearranged alike."""
    if not isinstance(value.op, Elementwise):
        return None
    views = [part for part in value.inputs if part.op.name in ("reshape", "permute_dims")]
    if any(map(_is_long_chain, views)):
        return None
    for view in views:
        operands = [_before(view, part) for part in value.inputs]
        if all(part is not None for part in operands):
            return make(view.op, make(value.op, *operands))  # type: ignore[arg-type]
    return None


def _is_long_chain(view: Value) -> bool:
    """Tell whether more views lie on each other than arithmetic shall pass."""
    for _ in range(HOISTED):
        if view.op.name not in VIEWS:
            return False
        (view,) = view.inputs
    return view.op.name in VIEWS


def _before(view: Value, part: Value) -> Value | None:
    """Give the operand that, rearranged as by a view, is this one; None where that takes a copy."""
    source = view.inputs[0]
    if part.op == view.op and same_shape(part.inputs[0].shape, source.shape):
        return part.inputs[0]
    if not part.shape:
        return part
    # an operand along one axis only is the same elements in any order of the axes
    along = [size for size in part.shape if not _is_one(size)]
    if view.op.name != "permute_dims" or part.ndim > view.ndim or len(along) > 1:
        return None
    order = view.op.axes  # type: ignore[attr-defined]
    sizes = (*(1,) * (view.ndim - part.ndim), *part.shape)
    return F.reshape(part, tuple(sizes[order.index(d)] for d in range(view.ndim)))


# -- views of views -------------------------------------------------------------------------------


@local_rule(
    "reshape",
    example=lambda x: F.reshape(F.reshape(x, (6,)), (3, 2)),
    operands=X,
    more=[
        (lambda x: F.reshape(F.permute_dims(x, (1, 0, 2)), (6,)), {"x": arg((1, 2, 3))}),
        (lambda x: F.reshape(F.broadcast_to(x, (2, 3)), (6,)), {"x": arg(())}),
    ],
    before_grad=True,
    sound="exact",
)
def reshape_of_view(value: Value) -> Value | None:
    """Reshape once, and not after a permutation that moves only axes of size 1."""
    (view,) = value.inputs
    if view.op.name == "reshape" or _moves_ones_only(view):
        return F.reshape(view.inputs[0], value.shape)
    if view.op.name == "broadcast_to" and not view.inputs[0].shape:
        return F.broadcast_to(view.inputs[0], value.shape)
    return None


def _moves_ones_only(view: Value) -> bool:
    if view.op.name != "permute_dims":
        return False
    order = view.op.axes  # type: ignore[attr-defined]
    moved = [d for d in order if not _is_one(view.inputs[0].shape[d])]
    return moved == sorted(moved)


@local_rule(
    "permute_dims",
    example=lambda x: F.permute_dims(F.permute_dims(x, (1, 0)), (1, 0)),
    operands=X,
    more=[
        (lambda x: F.permute_dims(x, (1, 0)), {"x": arg((1, 3))}),
        (lambda x: F.permute_dims(F.broadcast_to(x, (2, 3)), (1, 0)), {"x": arg(())}),
    ],
    before_grad=True,
    sound="exact",
)
def permutation_of_view(value: Value) -> Value | None:
    """Permute once; moving axes of size 1 only is a reshape."""
    (view,) = value.inputs
    if _moves_ones_only(value):
        return F.reshape(view, value.shape)
    order = value.op.axes  # type: ignore[attr-defined]
    if view.op.name == "permute_dims":
        inner = view.op.axes  # type: ignore[attr-defined]
        return F.permute_dims(view.inputs[0], tuple(inner[d] for d in order))
    if view.op.name == "broadcast_to" and not view.inputs[0].shape:
        return F.broadcast_to(view.inputs[0], value.shape)
    return None


@local_rule(
    "broadcast_to",
    example=lambda x: F.broadcast_to(F.broadcast_to(x, (1, 3)), (2, 3)),
    operands={"x": arg((3,))},
    more=[
        (lambda x: F.broadcast_to(F.reshape(x, (1, 1)), (2, 3)), {"x": arg(())}),
        (lambda x: F.broadcast_to(x, (1, 2, 3)), X),
    ],
    before_grad=True,
    sound="exact",
)
def repetition_of_view(value: Value) -> Value | None:
    """Repeat once; new axes of size 1 alone are a reshape."""
    (view,) = value.inputs
    if _adds_leading_ones(value):
        return F.reshape(view, value.shape)
    if _repeats(view) or (view.op.name == "reshape" and not view.inputs[0].shape):
        return F.broadcast_to(view.inputs[0], value.shape)
    return None


# -- reductions -----------------------------------------------------------------------------------


def _reduced(value: Value, x: Value, axis: Sequence[int]) -> Value:
    """Reduce `x` over axes as `value` does, into the shape of `value`."""
    kept = getattr(F, value.op.name)(x, axis=tuple(axis), keepdims=True)
    return F.reshape(kept, value.shape)


@local_rule(
    *TOTALS, *EXTREMES,
    example=lambda x: F.sum(x, axis=(0, 1)),
    operands={"x": arg((3, 1))},
    more=[(lambda x: F.max(x, axis=()), X), (lambda x: F.sum(x, axis=1), {"x": arg((3, 1))})],
    before_grad=True,
    sound="real",
    ulps=0,
)  # fmt: skip
def reduction_of_nothing(value: Value) -> Value | None:
    """Leave out axes of size 1: reducing over them is a reshape (but a sum of -0 is 0)."""
    (x,) = value.inputs
    axis = value.op.axis  # type: ignore[attr-defined]
    over = [d for d in axis if not _is_one(x.shape[d])]
    if over and len(over) < len(axis):
        return _reduced(value, x, over)
    return F.reshape(x, value.shape) if not over and x.dtype == value.dtype else None


@local_rule(
    "reshape",
    example=lambda x: F.reshape(F.sum(x, axis=1), (2, 1)),
    operands=X,
    more=[(lambda x: F.reshape(F.max(x, axis=0, keepdims=True), (3,)), X)],
    before_grad=True,
    sound="exact",
)
def reshape_of_reduction(value: Value) -> Value | None:
    """Let a reduction keep or drop its axes itself."""
    (found,) = value.inputs
    if found.op.name not in (*TOTALS, *EXTREMES):
        return None
    (x,) = found.inputs
    axis, keepdims = found.op.axis, found.op.keepdims  # type: ignore[attr-defined]
    other = getattr(F, found.op.name)(x, axis=axis, keepdims=not keepdims)
    return other if same_shape(other.shape, value.shape) else None


def _at_once(value: Value) -> Value | None:
    """Reduce what was reduced, permuted or reshaped before in one go."""
    for way in (_joined, _past_permutation, _of_everything):
        found = way(value)
        if found is not None:
            return found
    return None


def _joined(value: Value) -> Value | None:
    """Give a reduction of a reduction as one."""
    (inner,) = value.inputs
    if inner.op.name != value.op.name:
        return None
    (x,) = inner.inputs
    first, second = inner.op.axis, value.op.axis  # type: ignore[attr-defined]
    if not inner.op.keepdims:  # type: ignore[attr-defined]
        left = [d for d in range(x.ndim) if d not in first]
        second = [left[d] for d in second]
    return _reduced(value, x, sorted({*first, *second}))


def _past_permutation(value: Value) -> Value | None:
    """Give a reduction of permuted axes as a reduction of the axes as they were."""
    (view,) = value.inputs
    if view.op.name != "permute_dims":
        return None
    order = view.op.axes  # type: ignore[attr-defined]
    axis = [order[d] for d in value.op.axis]  # type: ignore[attr-defined]
    kept = getattr(F, value.op.name)(view.inputs[0], axis=tuple(sorted(axis)), keepdims=True)
    return F.reshape(F.permute_dims(kept, order), value.shape)


def _of_everything(value: Value) -> Value | None:
    """Give a reduction of all elements of a reshaped array as one of the array."""
    (view,) = value.inputs
    if view.op.name != "reshape" or len(value.op.axis) < view.ndim:  # type: ignore[attr-defined]
        return None
    (x,) = view.inputs
    return _reduced(value, x, range(x.ndim))


@local_rule(
    *EXTREMES,
    example=lambda x: F.max(F.max(x, axis=0), axis=0),
    operands=X,
    more=[
        (lambda x: F.min(F.permute_dims(x, (1, 0)), axis=0), X),
        (lambda x: F.max(F.reshape(x, (6,))), X),
        (lambda x: F.any(F.broadcast_to(x, (4, 2, 3)), axis=(0, 1)), {"x": arg((2, 3), "bool")}),
    ],
    sound="exact",
)  # fmt: skip
def extreme_of_rearranged(value: Value) -> Value | None:
    """Take the extreme of all axes at once, of what was rearranged or repeated."""
    found = _at_once(value)
    if found is not None:
        return found
    repeated = _repeated_axes(value)
    if repeated is None:
        return None
    x, over, count = repeated
    return _reduced(value, x, over) if less(0, count) is True else None


@local_rule(
    *TOTALS,
    example=lambda x: F.sum(F.sum(x, axis=0), axis=0),
    operands=X,
    more=[
        (lambda x: F.sum(F.permute_dims(x, (1, 0)), axis=0), X),
        (lambda x: F.prod(F.reshape(x, (6,))), X),
    ],
    sound="real",
    ulps=8,
    dtypes="number",
    before_grad=True,
)  # fmt: skip
def total_of_rearranged(value: Value) -> Value | None:
    """Add or multiply over all axes at once, of what was rearranged."""
    if value.dtype in ("float16", "bfloat16"):  # each of two reductions rounds
        return None
    return _at_once(value)


@local_rule(
    "sum",
    example=lambda x: F.sum(F.broadcast_to(x, (4, 2, 3)), axis=(0, 2)),
    operands=X,
    more=[(lambda x: F.sum(F.broadcast_to(x, (5, 3))), {"x": arg(())})],
    sound="real",
    ulps=4,
    dtypes="float",
    before_grad=True,
)
def sum_of_repeated(value: Value) -> Value | None:
    """Multiply by the count instead of adding the same number again and again."""
    repeated = _repeated_axes(value)
    if repeated is None or value.dtype not in ("float32", "float64"):
        return None
    x, over, count = repeated
    if less(0, count) is not True:  # nothing times infinity would be NaN, the sum of nothing is 0
        return None
    total = F.sum(x, axis=tuple(over), keepdims=True) * F.size_of(count, value.dtype)
    return F.reshape(total, value.shape)


def _repeated_axes(value: Value) -> tuple[Value, list[int], Size] | None:
    """Find, in a reduction of something repeated along reduced axes, what was repeated (its axes
    of size 1 where it was), which of its axes are left to reduce, and how often each element came.
    """
    (view,) = value.inputs
    if view.op.name != "broadcast_to" or not _repeats(view):
        return None
    (x,) = view.inputs
    lead = view.ndim - x.ndim
    once = F.reshape(x, (*(1,) * lead, *x.shape))
    axis = value.op.axis  # type: ignore[attr-defined]
    again = [d for d in axis if d < lead or not same_size(x.shape[d - lead], view.shape[d])]
    if not again:
        return None
    over = [d for d in axis if d not in again]
    rest: Shape = tuple(
        1 if d in again else size for d, size in enumerate(view.shape)
    )  # repeated along axes that stay
    kept = F.broadcast_to(once, rest)
    return kept, over, product(view.shape[d] for d in again)


RULES = (
    repetition_after_arithmetic, rearrangement_after_arithmetic, reshape_of_view,
    permutation_of_view, repetition_of_view, reduction_of_nothing, reshape_of_reduction,
    extreme_of_rearranged, total_of_rearranged, sum_of_repeated,
)  # fmt: skip

canonical = rule_pass("canonical", stage="canonical", rules=(*RULES, *fold.RULES))
