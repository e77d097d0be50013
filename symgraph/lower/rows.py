"""Rows: a window's result that windows along another axis read is kept for one row at a time.

A vertical convolution of each channel by itself is read by a horizontal one: the row of the first
that the second needs is as long as an image is wide. It is computed once into the kernel's own
memory, for a vector of channels, and never written anywhere else: two convolutions, their biases
and what comes after are one pass over memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from symgraph.dims import Dim, product
from symgraph.graph.dtypes import is_float
from symgraph.graph.index import Axis, axis, m
from symgraph.graph.scalar import Scalar, scalar, scalar_order
from symgraph.lower.linear import ZERO, linear, replaced
from symgraph.lower.nest import Along, free_axes
from symgraph.lower.program import Definition, number

TAPS = 16  # of a window whose result is kept in rows, at most
LONGEST = 512  # positions of a row: 64 KiB of a kernel's stack with 32 lanes of float32
NARROWEST = 16  # positions of the axis whose vectors are kept
LARGE = 1 << 14  # elements, from which on memory is worth saving


@dataclass(frozen=True, eq=False)
class Row:
    """A definition that is kept in rows along its axis number `which`, called `along` there."""

    own: Definition
    which: int
    along: Along

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


def row_of(
    one: Definition, readers: Sequence[Definition], nominal: Mapping[Dim, int]
) -> Row | None:
    """Give how a definition can be kept in rows for its only reader, if it can and it pays."""
    if len(readers) != 1 or not is_float(one.target.dtype) or one.after:
        return None
    extents = [each.extent for each in one.axes]
    if number(product(extents), nominal) < LARGE or not _windows(one.value, TAPS):
        return None
    (reader,) = readers
    which = _sliding(one, reader)
    if which is None or not _windows(reader.value, TAPS):
        return None
    length = extents[which]
    if not isinstance(length, int) or length > LONGEST or not _reads_across(one, which, nominal):
        return None
    return Row(one, which, Along((axis(length, "z"),)))


def _windows(value: Scalar, most: int) -> bool:
    """Tell whether an expression reduces, and only over few positions, which are written out."""
    found = [n for n in scalar_order([value]) if n.op in ("reduce", "row")]
    if not found or any(n.op == "row" for n in found):
        return False
    for node in found:
        count = 1
        for over in node.attr.axes:
            if not isinstance(over.extent, int):
                return False
            count *= over.extent
        if count > most:
            return False
    return True


def _sliding(one: Definition, reader: Definition) -> int | None:
    """Give the axis of a definition along which a reader's windows slide, the same for all sites.

    Along the others the reader must stand where it reads, and have no other axes of its own, along
    which it would read rows again.
    """
    order = scalar_order([reader.value])
    found: set[int] = set()
    for site in order:
        if site.op != "load" or site.attr.buffer is not one.target:
            continue
        index = _plain(site.args[:-1] if site.attr.guarded else site.args)
        moved = [d for d, at in enumerate(index) if at.op != "axis" or at.attr not in reader.axes]
        moved = [d for d in moved if not _is_single(one.axes[d])]
        stands = [at.attr for d, at in enumerate(index) if d not in moved and at.op == "axis"]
        if len(moved) != 1 or len(set(stands)) != len(stands):
            return None
        free = free_axes(scalar_order([index[moved[0]]]))[index[moved[0]]]
        walked = {each for each in free if each in reader.axes}
        needed = {each for each in reader.axes if not _is_single(each)}
        if len(walked) != 1 or walked & set(stands) or not needed <= walked | set(stands):
            return None
        found.add(moved[0])
    return found.pop() if len(found) == 1 else None


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
    single = {
        node: ZERO for node in scalar_order(index) if node.op == "axis" and _is_single(node.attr)
    }
    done = replaced(index, single)
    return [linear(done[at]).scalar() for at in index]


def _is_single(one: Axis) -> bool:
    return isinstance(one.extent, int) and one.extent == 1
