"""Rows: a window's result that windows along another axis read is kept for one row at a time.

A vertical convolution of each channel by itself is read by a horizontal one: the row of the first
that the second needs is as long as an image is wide. It is computed once into the kernel's own
memory, for a vector of channels, and never written anywhere else: two convolutions, their biases
and what comes after are one pass over memory. So it is where the gradient of the second one's
filters reads the first; what is read at one place only needs no row, and is computed there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from symgraph.dims import Dim, product
from symgraph.frozen import frozen
from symgraph.graph.dtypes import is_float
from symgraph.graph.index import Axis, axis, m
from symgraph.graph.scalar import Scalar, scalar, scalar_order
from symgraph.lower.flatten import MOST_SPREAD
from symgraph.lower.linear import ZERO, linear, replaced
from symgraph.lower.nest import Along, Buffer, free_axes
from symgraph.lower.program import Definition, nbytes, number

TAPS = 16  # of a window whose result is kept in rows, at most
LONGEST = 512  # positions of a row: 64 KiB of a kernel's stack with 32 lanes of float32
NARROWEST = 16  # positions of the axis whose vectors are kept
LARGE = 1 << 14  # elements, from which on memory is worth saving


@frozen(eq=False)
class Row:
    """A definition that is kept in rows along its axis number `which`, called `along` there.

    `readers` are the results of those who ask for rows; others compute it where they read it.
    """

    own: Definition
    which: int
    along: Along
    readers: frozenset[Buffer]

    def read(self, index: Sequence[Scalar], guard: Scalar | None) -> Scalar:
        """Give what a reader finds at an index; where a guard is false, anything."""
        (over,) = self.along.axes
        places = {one.scalar(): at for one, at in zip(self.own.axes, _plain(index), strict=True)}
        places[self.own.axes[self.which].scalar()] = over.scalar()
        made = replaced([self.own.value], places)[self.own.value]
        place = index[self.which]
        if guard is not None:
            place = m.select(guard, place, ZERO)
        return scalar("row", (made, place), made.dtype, self.along)


@frozen(eq=False)
class Again:
    """A definition that its readers compute again: those that slide over it ask `row`, if any."""

    own: Definition
    row: Row | None


# -- legality --------------------------------------------------------------------------------------


def again_of(one: Definition, readers: Sequence[Definition]) -> Again | None:
    """Give how the readers of a window's result can compute it themselves, if all of them can."""
    if not readers or not is_float(one.target.dtype) or one.after:
        return None
    if not _windows(one.value, TAPS):
        return None
    sliding = [each for each in readers if not _stands(one, each)]
    found = {_sliding(one, each) for each in sliding}
    if not found:
        return Again(one, None)
    which = found.pop()
    if found or which is None or not isinstance(one.axes[which].extent, int):
        return None
    along = Along((axis(one.axes[which].extent, "z"),))
    return Again(one, Row(one, which, along, frozenset(each.target for each in sliding)))


def _windows(value: Scalar, most: int) -> bool:
    """Tell whether an expression reduces, and only over few positions, which are written out."""
    found = [n for n in scalar_order([value]) if n.op in ("reduce", "row")]
    if not found or any(n.op == "row" for n in found):
        return False
    return all(_count(node.attr.axes, most) is not None for node in found)


def _count(axes: Iterable[Axis], most: int) -> int | None:
    """Give the number of positions along axes, None if it is not known or more than `most`."""
    count = 1
    for one in axes:
        if not isinstance(one.extent, int):
            return None
        count *= one.extent
    return count if count <= most else None


def _summed(reader: Definition) -> tuple[Axis, ...]:
    """Give the axes over which a reader sums up: those of all but windows of taps."""
    value = reader.value
    while value.op == "cast":
        (value,) = value.args
    if value.op != "reduce" or _count(value.attr.axes, TAPS) is not None:
        return ()
    axes: tuple[Axis, ...] = value.attr.axes
    return axes


def _sites(one: Definition, reader: Definition) -> list[tuple[list[Scalar], bool]]:
    """Give where a reader reads a definition: plain indices, and whether they are guarded."""
    return [
        (_plain(site.args[:-1] if site.attr.guarded else site.args), site.attr.guarded)
        for site in scalar_order([reader.value])
        if site.op == "load" and site.attr.buffer is one.target
    ]


def _stands(one: Definition, reader: Definition) -> bool:
    """Tell whether a reader asks for each place of a definition once.

    It may sum over places, and do so for few positions of one more axis: they share the loop.
    """
    own, summed = set(reader.axes), _summed(reader)
    for index, is_guarded in _sites(one, reader):
        wide = [at for d, at in enumerate(index) if not _is_single(one.axes[d])]
        at = {each.attr for each in wide if each.op == "axis"}
        if is_guarded or len(at) != len(wide) or not at <= own | set(summed):
            return False
        others = [each for each in (*reader.axes, *summed) if not _is_single(each)]
        others = [each for each in others if each not in at]
        if others and (not summed or not _are_taps(others, own)):
            return False
    return True


def _are_taps(axes: Sequence[Axis], own: set[Axis]) -> bool:
    """Tell whether these are the taps of a gradient of filters, which share a loop."""
    return len(axes) <= 1 and own.issuperset(axes) and _count(axes, MOST_SPREAD) is not None


def _sliding(one: Definition, reader: Definition) -> int | None:
    """Give the axis of a definition along which a reader's windows slide, the same for all sites.

    Along the others the reader must stand where it reads, and have no other axes of its own, along
    which it would read rows again. What sums over places slides along one of those over which it
    sums, with taps of its own.
    """
    summed = _summed(reader)
    if not summed and not _windows(reader.value, TAPS):
        return None
    own = set(reader.axes)
    walking, every = set(summed) or own, own | set(summed)
    found: set[int] = set()
    for index, _ in _sites(one, reader):
        moved = [d for d, at in enumerate(index) if at.op != "axis" or at.attr not in every]
        moved = [d for d in moved if not _is_single(one.axes[d])]
        stands = [at.attr for d, at in enumerate(index) if d not in moved and at.op == "axis"]
        if len(moved) != 1 or len(set(stands)) != len(stands):
            return None
        free = free_axes(scalar_order([index[moved[0]]]))[index[moved[0]]]
        walked = free & walking
        others = {each for each in every if not _is_single(each)} - walked - set(stands)
        if len(walked) != 1 or walked & set(stands):
            return None
        if others and not (summed and others <= free and _are_taps([*others], own)):
            return None
        found.add(moved[0])
    return found.pop() if len(found) == 1 else None


# -- profit ----------------------------------------------------------------------------------------


def again_pays(again: Again, readers: Sequence[Definition], nominal: Mapping[Dim, int]) -> bool:
    """Tell whether it saves memory traffic to compute a definition again in all its readers."""
    own = again.own
    if number(product(own.target.shape), nominal) < LARGE:
        return False
    if again.row is not None:
        (along,) = again.row.along.axes
        length = along.extent
        if not isinstance(length, int) or length > LONGEST:
            return False
        if not _reads_across(own, again.row.which, nominal):
            return False
    sources = [one for one in own.reads() if number(product(one.shape), nominal) >= LARGE]
    traffic = {one: number(nbytes(one), nominal) for one in (*sources, own.target)}
    kept = sum(traffic.values()) + len(readers) * traffic[own.target]
    made = sum(traffic[one] for each in readers for one in sources if one not in each.reads())
    return made < kept


def _reads_across(one: Definition, which: int, nominal: Mapping[Dim, int]) -> bool:
    """Tell whether neighbours in what is read are vectors of some other axis than the row's."""
    found = []
    for node in scalar_order([one.value]):
        if node.op != "load" or number(product(node.attr.buffer.shape), nominal) < LARGE:
            continue
        index = _plain(node.args[:-1] if node.attr.guarded else node.args)
        near = [
            at
            for at, step in zip(index, node.attr.buffer.strides)
            if isinstance(step, int) and step == 1
        ]
        own = [d for d, each in enumerate(one.axes) if any(at is each.scalar() for at in near)]
        found.append(bool(own) and own[0] != which and _is_wide(one.axes[own[0]]))
    return bool(found) and all(found)


def _is_wide(one: Axis) -> bool:
    return isinstance(one.extent, int) and one.extent >= NARROWEST


def _plain(index: Sequence[Scalar]) -> list[Scalar]:
    """Give an index in affine form, without axes that have one position."""
    return [linear(_without_single(at)).scalar() for at in index]


def _without_single(value: Scalar) -> Scalar:
    """Give a value at the only place of axes that have one."""
    single = {n: ZERO for n in scalar_order([value]) if n.op == "axis" and _is_single(n.attr)}
    return replaced([value], single)[value] if single else value


def _is_single(one: Axis) -> bool:
    return isinstance(one.extent, int) and one.extent == 1
