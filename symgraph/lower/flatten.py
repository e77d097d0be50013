"""From a nest as it was derived to one that is ready for a schedule: the meaning stays.

Small windows become the sum (or maximum, ...) of their elements written out; indices become one
offset each, in affine form; axes that run over one contiguous stretch everywhere become one axis;
reductions over equal extents get the same axes, so that they can share a loop.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from symgraph.dims import Dim, Size, equal, less
from symgraph.graph.dtypes import is_integer, itemsize, numpy_dtype
from symgraph.graph.index import Axis, Monoid, axis, m, position
from symgraph.graph.scalar import Scalar, const, scalar, scalar_order
from symgraph.lower.linear import ZERO, Linear, linear, replaced, substitute
from symgraph.lower.monoids import Parts, combine
from symgraph.lower.nest import Buffer, Nest, Store, free_axes, offset, place
from symgraph.lower.split import CPU, Grain, split

MOST_TAPS = 32
MOST_SPREAD = 8  # positions of an axis, each with an accumulator in registers
INTEGER = ("add", "sub", "neg", "mul")


def flatten(
    nest: Nest, nominal: Mapping[Dim, int], grain: Grain = CPU
) -> tuple[list[Nest], list[Buffer]]:
    """Give nests with windows written out, one offset a load, and few axes, in order.

    A long reduction becomes two, with the buffers between them.
    """
    plain = unroll(dropped(nest))
    if grain.spreads:
        plain = spread(plain)
    nests, between = split(share_reductions(plain), nominal, grain)
    return [collapse(offsets(each)) for each in nests], between


def dropped(nest: Nest) -> Nest:
    """Give a nest without the axes that have one position."""
    new = {one.scalar(): ZERO for one in nest.axes if _is_single(one)}
    if not new:
        return nest
    done = replaced(nest.roots, new)
    stores = tuple(
        Store(
            s.buffer, tuple(one for one in s.axes if not _is_single(one)),
            tuple(done[i] for i in s.index), done[s.value],
        )
        for s in nest.stores
    )  # fmt: skip
    limits = {one: done[limit] for one, limit in nest.limits.items()}
    return Nest(nest.name, tuple(a for a in nest.axes if not _is_single(a)), stores, limits)


def _is_single(one: Axis) -> bool:
    return isinstance(one.extent, int) and one.extent == 1


# -- windows ---------------------------------------------------------------------------------------


def unroll(nest: Nest) -> Nest:
    """Write out reductions over a few taps that slide over another axis, or are very short."""

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op == "take" and args[0].op == "parts":
            part: Scalar = args[0].args[node.attr]
            return part
        if node.op != "reduce" or not _is_window(node, args, nest.limits):
            return None
        taps = list(itertools.product(*(range(one.extent) for one in node.attr.axes)))
        written = []
        for tap in taps:
            at = {a.scalar(): position(i) for a, i in zip(node.attr.axes, tap)}
            done = replaced(args, at)
            written.append(tuple(done[argument] for argument in args))
        total = written[0]
        for one in written[1:]:
            total = _added(node.attr.monoid, total, one)
        return total[0] if len(total) == 1 else scalar("parts", total, total[0].dtype)

    return nest.changed(substitute(nest.roots, change))


def _added(monoid: Monoid, total: Parts, one: Parts) -> Parts:
    """Combine a window's elements; a product is added with one rounding, as in a loop."""
    product = one[0]
    if monoid.name == "sum" and product.op == "mul" and product.dtype in ("float32", "float64"):
        return (m.fma(*product.args, total[0]),)
    return combine(monoid, total, one)


def _is_window(node: Scalar, args: tuple[Scalar, ...], limits: Mapping[Axis, Scalar]) -> bool:
    count = 1
    for one in node.attr.axes:
        if not isinstance(one.extent, int) or one.extent < 1 or one in limits:
            return False
        count *= one.extent
    if count > MOST_TAPS:
        return False
    return count <= 4 or _slides(args, set(node.attr.axes))


def _slides(args: Iterable[Scalar], taps: set[Axis]) -> bool:
    """Tell whether a tap stands in one index together with another axis."""
    order = scalar_order(args)
    free = free_axes(order)
    for node in order:
        if node.op not in ("load", "row"):
            continue
        places = node.args[1:]
        if node.op == "load":
            places = node.args[: len(node.args) - node.attr.guarded]
        if any(free[place] & taps and free[place] - taps for place in places):
            return True
    return False


def spread(nest: Nest) -> Nest:
    """Make the few positions of an axis that slides over long reductions stores of their own.

    Such is the gradient of the filters of a convolution of each channel by itself: all its taps are
    then added up in one loop, which reads both arrays once.
    """
    if len(nest.stores) != 1 or nest.limits:
        return nest
    (store,) = nest.stores
    reduces = [n for n in nest.order() if n.op == "reduce"]
    free = free_axes(nest.order())
    for one in nest.axes:
        few = isinstance(one.extent, int) and one.extent <= MOST_SPREAD
        if not few or not any(one in free[n] and _slides(n.args, {one}) for n in reduces):
            continue
        stores = []
        for position_of in range(int(one.extent)):
            new = replaced(nest.roots, {one.scalar(): position(position_of)})
            axes = tuple(each for each in store.axes if each is not one)
            index = tuple(new[at] for at in store.index)
            stores.append(Store(store.buffer, axes, index, new[store.value]))
        axes = tuple(each for each in nest.axes if each is not one)
        return Nest(nest.name, axes, tuple(stores))
    return nest


# -- offsets ---------------------------------------------------------------------------------------


def offsets(nest: Nest) -> Nest:
    """Give each load and store one offset, and every whole number its affine form."""

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op == "load":
            made = scalar("load", args, node.dtype, node.attr)
            guard = (args[-1],) if node.attr.guarded else ()
            return scalar("load", (place(made).scalar(), *guard), node.dtype, node.attr)
        if node.dtype == "int64" and node.op in (*INTEGER, "idiv", "imod"):
            made = scalar(node.op, args, node.dtype, node.attr)
            return linear(made).scalar()
        return narrow_comparison(node, args)

    done = substitute(nest.roots, change)
    stores = tuple(
        Store(
            store.buffer,
            store.axes,
            (offset(store.buffer, [done[one] for one in store.index]).scalar(),),
            done[store.value],
        )
        for store in nest.stores
    )
    limits = {one: done[limit] for one, limit in nest.limits.items()}
    return Nest(nest.name, nest.axes, stores, limits)


def narrow_comparison(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
    """Compare a small integer with a number in its own dtype: eight times the lanes of int64."""
    if node.op not in ("eq", "ne", "lt", "le", "gt", "ge") or args[0].op != "cast":
        return None
    (inner,) = args[0].args
    if not is_integer(args[0].dtype) or not is_integer(inner.dtype) or args[1].op != "const":
        return None
    limits, wide = np.iinfo(numpy_dtype(inner.dtype)), itemsize(args[0].dtype)
    if itemsize(inner.dtype) >= wide or not limits.min <= args[1].attr <= limits.max:
        return None
    return scalar(node.op, (inner, const(args[1].attr, inner.dtype)), "bool")


# -- axes ------------------------------------------------------------------------------------------


def share_reductions(nest: Nest) -> Nest:
    """Give reductions over equal extents the same axes, unless one stands inside the other."""
    free = dict(nest.free())
    pool: dict[tuple[str, int], Axis] = {}

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op != "reduce":
            return None
        below = scalar_order(args)
        free.update(free_axes(below))
        own = frozenset(node.attr.axes)
        taken = set().union(*(free[argument] for argument in args))
        for inner in below:  # its axes would catch ours
            if inner.op == "reduce" and free[inner] & own:
                taken.update(inner.attr.axes)
        new: dict[Scalar, Scalar] = {}
        chosen: list[Axis] = []
        for one in node.attr.axes:
            if one in nest.limits:
                chosen.append(one)
                continue
            for number in itertools.count():
                shared = pool.setdefault(
                    (str(one.extent), number), axis(one.extent, f"r{len(pool)}")
                )
                if shared not in taken and shared not in chosen:
                    break
            chosen.append(shared)
            new[one.scalar()] = shared.scalar()
        done = replaced(args, new)
        moved = type(node.attr)(node.attr.monoid, tuple(chosen))
        key = (moved.monoid.name, moved.axes)
        moved = known.setdefault(key, moved)
        return scalar("reduce", [done[argument] for argument in args], node.dtype, moved)

    known: dict[object, object] = {}
    return nest.changed(substitute(nest.roots, change))


def collapse(nest: Nest) -> Nest:
    """Join neighbouring axes that walk over one contiguous stretch wherever they appear."""
    nest = nest.changed({}, _by_stride(nest))
    changed = True
    while changed:
        changed = False
        forms = affine_forms(nest)
        for outer, inner in zip(nest.axes, nest.axes[1:]):
            if _joins(nest, forms, outer, inner):
                nest, changed = _joined(nest, outer, inner), True
                break
        else:
            for node in nest.order():
                if node.op != "reduce" or len(node.attr.axes) < 2:
                    continue
                pair = _reduced_pair(nest, node, forms)
                if pair is not None:
                    nest, changed = _joined(nest, *pair), True
                    break
    return nest


def affine_forms(nest: Nest) -> list[Linear]:
    """Give the affine form of every offset and of every whole number that something uses."""
    found: dict[Scalar, Linear] = {}
    for node in nest.order():
        if node.dtype == "int64" and node.op in INTEGER:
            continue
        for argument in node.args:
            if argument.dtype == "int64" and argument not in found:
                found[argument] = linear(argument)
    for root in nest.roots:
        if root.dtype == "int64" and root not in found:
            found[root] = linear(root)
    return list(found.values())


def _by_stride(nest: Nest) -> list[Axis]:
    """Order axes: those of most stores first, then by falling stride in the largest store."""
    main = max(nest.stores, key=lambda store: len(store.axes))
    form = linear(main.index[0])
    own = list(nest.axes)

    def uses(one: Axis) -> int:
        return sum(one in store.axes for store in nest.stores)

    ordered: list[Axis] = []
    for one in own:  # insertion, with what can be decided about strides
        spot = len(ordered)
        while spot and _before(form, one, ordered[spot - 1], uses):
            spot -= 1
        ordered.insert(spot, one)
    return ordered


def _before(form: Linear, one: Axis, other: Axis, uses: object) -> bool:
    mine, theirs = uses(one), uses(other)  # type: ignore[operator]
    if mine != theirs:
        return bool(mine > theirs)
    a, b = form.terms.get(one.scalar(), 0), form.terms.get(other.scalar(), 0)
    return less(b, a) is True


def _joins(nest: Nest, forms: Iterable[Linear], outer: Axis, inner: Axis) -> bool:
    if outer in nest.limits or inner in nest.limits:
        return False
    if any((outer in store.axes) != (inner in store.axes) for store in nest.stores):
        return False
    return _contiguous(forms, outer, inner)


def _contiguous(forms: Iterable[Linear], outer: Axis, inner: Axis) -> bool:
    for form in forms:
        far = form.terms.get(outer.scalar(), 0)
        near = form.terms.get(inner.scalar(), 0)
        if equal(far, near * inner.extent) is not True:
            return False
    return True


def _reduced_pair(nest: Nest, node: Scalar, forms: list[Linear]) -> tuple[Axis, Axis] | None:
    """Give two axes of a reduction that can be joined in all reductions that have one of them."""
    own = node.attr.axes
    others = [n.attr.axes for n in nest.order() if n.op == "reduce"]
    for outer, inner in itertools.permutations(own, 2):
        together = all((outer in axes) == (inner in axes) for axes in others)
        free = outer not in nest.limits and inner not in nest.limits
        if together and free and _contiguous(forms, outer, inner):
            return outer, inner
    return None


def _joined(nest: Nest, outer: Axis, inner: Axis) -> Nest:
    extent: Size = outer.extent * inner.extent
    both = axis(extent, f"{outer.name}{inner.name}")
    new = {outer.scalar(): ZERO, inner.scalar(): both.scalar()}
    reductions: dict[object, object] = {}

    def swap(axes: Iterable[Axis]) -> tuple[Axis, ...]:
        return tuple(both if one is inner else one for one in axes if one is not outer)

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node in new:
            return new[node]
        if node.op == "reduce" and inner in node.attr.axes:
            made = reductions.setdefault(
                (node.attr.monoid.name, node.attr.axes),
                type(node.attr)(node.attr.monoid, swap(node.attr.axes)),
            )
            return scalar("reduce", args, node.dtype, made)
        if node.dtype == "int64" and node.op in INTEGER:
            return linear(scalar(node.op, args, node.dtype, node.attr)).scalar()
        return None

    done = substitute(nest.roots, change)
    stores = tuple(
        Store(s.buffer, swap(s.axes), tuple(done[i] for i in s.index), done[s.value])
        for s in nest.stores
    )
    limits = {one: done[limit] for one, limit in nest.limits.items()}
    return Nest(nest.name, swap(nest.axes), stores, limits)
