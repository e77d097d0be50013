"""Exchange: of two windows of each channel one after the other, that along near places comes last.

A gradient runs a cascade backwards: the horizontal convolution is transposed first, and the
vertical one reads its result along columns, whose places lie whole rows of memory apart. Both are
linear and slide along axes of their own, so that either may come first: with the vertical one first
the other reads rows, which a kernel can keep (`rows.py`). Others who read what stood between them
compute it where they are. Products and sums are as many as before, in another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from symgraph.dims import Dim, Size, equal
from symgraph.graph.index import Axis, axis, m
from symgraph.graph.scalar import Scalar, scalar, scalar_order
from symgraph.lower.layout import channels_innermost
from symgraph.lower.linear import replaced, substitute
from symgraph.lower.nest import Buffer, Element, buffer, free_axes
from symgraph.lower.program import Definition, LibraryCall, Program, number
from symgraph.lower.rows import again_of, again_pays, plain_index, without_single


@dataclass(frozen=True, eq=False)
class Window:
    """A definition that is a weighted sum of places of `source` along its axis number `along`."""

    own: Definition
    source: Buffer
    along: int
    site: Scalar

    def over(self, axes: Sequence[Axis], source: Buffer) -> Scalar:
        """Give the same sum at other axes, of another source."""

        def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
            if node is self.site:
                attr = Element(source, node.attr.fill, node.attr.guarded)
                return scalar("load", args, source.dtype, attr)
            return moved.get(node)

        moved = {old.scalar(): new.scalar() for old, new in zip(self.own.axes, axes, strict=True)}
        return substitute([self.own.value], change)[self.own.value]


def exchange(program: Program, nominal: Mapping[Dim, int]) -> None:
    """Exchange windows wherever that is legal and pays."""
    known = {one.target: one for one in program.items if isinstance(one, Definition)}
    called = {read for one in program.items if isinstance(one, LibraryCall) for read in one.reads()}
    readers: dict[Buffer, list[Definition]] = {}
    for one in known.values():
        for read in one.reads():
            readers.setdefault(read, []).append(one)
    items: list[Definition | LibraryCall] = []
    for item in program.items:
        second = window_of(item) if isinstance(item, Definition) else None
        between = known.get(second.source) if second is not None else None
        first = window_of(between) if between is not None else None
        if first is None or second is None or first.own.target in program.kept | called:
            items.append(item)
            continue
        others = [one for one in readers[first.own.target] if one is not second.own]
        made = exchanged(first, second)
        if made is None or not exchange_pays(first, second, made, others, nominal):
            items.append(item)
            continue
        program.origin[made[0].target] = program.origin[second.own.target]
        items += made
    program.items = items


# -- legality --------------------------------------------------------------------------------------


def window_of(one: Definition) -> Window | None:
    """Give a definition as a window along one axis, if it is one: a sum of products of two loads.

    It must stand at its own place along all other axes, and its weights must be the same along the
    one.
    """
    value = without_single(one.value)
    if value.op != "reduce" or value.attr.monoid.name != "sum" or one.after:
        return None
    (product,) = value.args
    if product.op != "mul" or any(each.op != "load" for each in product.args):
        return None
    rank = len(one.axes)
    for site, weight in (product.args, product.args[::-1]):
        along = _along(one, site) if len(site.attr.buffer.shape) == rank else None
        if along is None or one.axes[along] in free_axes(scalar_order([weight]))[weight]:
            continue
        kept = _needed(one, site, along)
        if kept is None:
            continue
        plain = Definition(one.target, one.axes, replaced([value], {site: kept})[value])
        return Window(plain, kept.attr.buffer, along, kept)
    return None


def _along(one: Definition, site: Scalar) -> int | None:
    """Give the only axis along which a load is not where the definition is."""
    index = plain_index(site.args[:-1] if site.attr.guarded else site.args)
    moved = [
        d for d, (at, own) in enumerate(zip(index, one.axes, strict=True))
        if at is not own.scalar() and not (at.op == "const" and own.extent == 1)
    ]  # fmt: skip
    if len(moved) != 1:
        return None
    (along,) = moved
    free = free_axes(scalar_order([index[along]]))[index[along]]
    return along if free & set(one.axes) == {one.axes[along]} else None


def _needed(one: Definition, site: Scalar, along: int) -> Scalar | None:
    """Give a load whose guard asks only for what may fail: places along the one axis."""
    held = site.attr.buffer
    index = plain_index(site.args[:-1] if site.attr.guarded else site.args)
    if not site.attr.guarded:
        return scalar("load", tuple(index), site.dtype, site.attr)
    own, kept = set(one.axes), []
    for each in _conditions(site.args[-1]):
        if any(_holds(each, at, size) for at, size in zip(index, held.shape)):
            continue
        if free_axes(scalar_order([each]))[each] & own != {one.axes[along]}:
            return None
        kept.append(each)
    attr = Element(held, site.attr.fill, bool(kept))
    guard = kept[:1]
    for each in kept[1:]:
        guard = [m.and_(guard[0], each)]
    return scalar("load", (*index, *guard), site.dtype, attr)


def _conditions(guard: Scalar) -> list[Scalar]:
    """Take a conjunction apart."""
    if guard.op != "and":
        return [guard]
    return [each for argument in guard.args for each in _conditions(argument)]


def _holds(condition: Scalar, at: Scalar, size: Size) -> bool:
    """Tell whether a condition only says that an axis is within its own extent."""
    if condition.op not in ("ge", "lt"):
        return False
    place, end = plain_index(condition.args)
    if place is not at or at.op != "axis":
        return False
    extent = at.attr.extent
    if end.op not in ("const", "size"):
        return False
    if condition.op == "ge":
        return end.op == "const" and end.attr == 0
    return equal(extent, size) is True and equal(end.attr, extent) is True


def exchanged(first: Window, second: Window) -> tuple[Definition, Definition] | None:
    """Give the two with the second first, if either may come first."""
    one, other = first.own, second.own
    same = one.target.dtype == other.target.dtype == first.source.dtype
    if first.along == second.along or not same or first.site.attr.fill or second.site.attr.fill:
        return None
    for window, place in ((first, second.along), (second, first.along)):
        weights = [n for n in scalar_order([window.own.value]) if n.op == "load"]
        free = free_axes(scalar_order(weights))
        if any(window.own.axes[place] in free[n] for n in weights if n is not window.site):
            return None
    inner = list(other.axes)
    inner[first.along] = axis(first.source.shape[first.along], "w")
    shape = tuple(each.extent for each in inner)
    held = buffer(one.target.name, one.target.dtype, shape)
    if one.target.strides == channels_innermost(one.target.shape):
        held.strides = channels_innermost(shape)
    before = Definition(held, tuple(inner), second.over(inner, first.source))
    return before, Definition(other.target, other.axes, first.over(other.axes, held))


# -- profit ----------------------------------------------------------------------------------------


def exchange_pays(
    first: Window,
    second: Window,
    made: tuple[Definition, Definition],
    others: Sequence[Definition],
    nominal: Mapping[Dim, int],
) -> bool:
    """Tell whether rows can be kept afterwards, and nothing is stored for other readers."""
    strides = [number(step, nominal) for step in second.own.target.strides]
    if strides[first.along] >= strides[second.along]:
        return False
    again = again_of(made[0], made[1:])
    if again is None or again.row is None or not again_pays(again, made[1:], nominal):
        return False
    if not others:
        return True
    left = again_of(first.own, others)
    return left is not None and left.row is None and again_pays(left, others, nominal)
