"""Schedules for devices: a thread has positions of its own, unless threads must share reductions.

There are three kinds of kernels. Where nothing is reduced, or little for each of many results,
every thread computes results of its own, four neighbours at once where they lie so. Rows, long
reductions of neighbours, have a block each. Of columns, long reductions of what does not lie next
to each other, a block has some that lie side by side.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from symgraph.dims import Dim, Size, divides, product
from symgraph.graph.dtypes import itemsize
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar
from symgraph.lower.linear import Linear, linear
from symgraph.lower.nest import Buffer, Nest
from symgraph.lower.schedule import Chooser, Fold, Schedule
from symgraph.lower.split import Grain
from symgraph.lower.stage import staged

BLOCKS = 2048  # that a large device, of 132 processors, has work for
THREADS = 1 << 16  # of them, where each computes results of its own
GRAIN = Grain(rows=BLOCKS // 2, columns=BLOCKS // 4, lanes=32, long=1 << 17, least=128, shared=True)
SHARED = 64  # elements of a reduction from which on several threads share it
COLUMNS, FEWEST_COLUMNS = 32, 8  # side by side in a block: loads of a line of memory, or a sector
WIDE = 4  # neighbours at once: 16 bytes of float32
WIDEST = 4  # bytes of an element
MOST_WIDE = 160  # scalars that are computed four times
ROOM = 1 << 15  # bytes of shared memory for what a block keeps, as if each element had eight


def choose(nest: Nest, nominal: Mapping[Dim, int], aligned: Container[Buffer] = ()) -> Schedule:
    """Choose a schedule for a flattened nest at nominal sizes."""
    return _DeviceChooser(nest, nominal).schedule(aligned)


class _DeviceChooser(Chooser):
    def _tiles(self, node: Scalar, form: Linear, vector: Axis) -> list[Axis]:
        return []  # threads load for themselves

    def schedule(self, aligned: Container[Buffer]) -> Schedule:
        """Choose what a thread, or a block of them, computes."""
        vector = self._vector()
        self.row = self._row(vector) if self.asked else None
        order = self._order(vector)
        if self.row is not None:  # a thread walks along rows of its own
            return Schedule(order, tasks=tuple(one for one in order if one is not self.row))
        folds = self._folds(vector)
        if self._apart(vector, order):
            fits = vector is not None and not self.nest.limits and self._is_wide(vector)
            wide = WIDE if fits else 0
            own = vector if fits else None
            alone = {axes: Fold(self._rows_last(axes)) for axes in folds}
            return Schedule(order, own, 1, order, wide, alone)
        if vector is not None and self._are_columns(vector):
            folds = {axes: Fold(self._rows_last(self._longest_first(axes))) for axes in folds}
        lanes = self._lanes(self.order) if vector is not None else 1
        tasks, block = self._tasks(order, vector, lanes)
        rest = [one for one in order if one not in tasks]
        walked = [vector, *rest] if block and vector is not None else rest
        return Schedule(
            order, vector, lanes, tasks, block, folds, frozenset(), staged(self.nest, walked, ROOM)
        )

    # -- results of a thread's own -----------------------------------------------------------------

    def _apart(self, vector: Axis | None, order: Sequence[Axis]) -> bool:
        """Tell whether threads have results of their own: all are alike, and that is no waste."""
        if not order or any(len(store.axes) != len(order) for store in self.nest.stores):
            return False
        if any(not self.free[n].issuperset(order) for n in self.reduces):
            return False  # they would be computed once for every place that asks
        long = [n for n in self.reduces if self._count(n.attr.axes) >= SHARED]
        if not long:
            return True
        count = self._count(order)
        return vector is not None and self._are_columns(vector) and count >= THREADS

    def _count(self, axes: Iterable[Axis]) -> int:
        return self.size(product([one.extent for one in axes]))

    def _is_wide(self, vector: Axis) -> bool:
        """Tell whether four neighbours can be read, computed and written at once."""
        nest = self.nest
        if self.reduces or len(self.order) > MOST_WIDE:
            return False
        if divides(WIDE, vector.extent) is not True:
            return False
        for store in nest.stores:
            if not is_whole(linear(store.index[0]), vector, store.buffer, WIDE):
                return False
        return all(
            node.attr.guarded or is_whole(form, vector, node.attr.buffer, WIDE)
            for node, form in self.loads
            if vector in self.free[node]
        )

    # -- reductions that threads share -------------------------------------------------------------

    def _are_columns(self, vector: Axis) -> bool:
        """Tell whether every reduction is one for each place along an axis."""
        return all(vector in self.free[n] for n in self.reduces)

    def _longest_first(self, axes: Sequence[Axis]) -> tuple[Axis, ...]:
        """Put the longest outermost: the threads of a column share it."""
        return tuple(sorted(axes, key=lambda one: -self.size(one.extent)))

    def _tasks(
        self, order: Sequence[Axis], vector: Axis | None, lanes: int
    ) -> tuple[tuple[Axis, ...], int]:
        """Give a task each place along the axes that all stores have, but for the lanes."""
        tasks: list[Axis] = []
        for one in order:
            if any(one not in store.axes for store in self.nest.stores):
                break
            if one is vector:
                if not self._are_columns(one):
                    break
                count, block = self._count(tasks), COLUMNS
                while (
                    block > FEWEST_COLUMNS and count * self.size(one.extent) < BLOCKS * block // 8
                ):
                    block //= 2
                return (*tasks, one), block
            tasks.append(one)
        return tuple(tasks), 0


def is_whole(form: Linear, vector: Axis, held: Buffer, wide: int) -> bool:
    """Tell whether so many neighbours along an axis lie together, and begin where that many do.

    Positions along the axis are multiples of `wide`.
    """
    if itemsize(held.dtype) > WIDEST or not form.neighbours(vector):
        return False
    others: list[Size] = [step for atom, step in form.terms.items() if not _is(atom, vector)]
    return all(divides(wide, step) is True for step in (*others, form.constant))


def _is(atom: Scalar, one: Axis) -> bool:
    return atom.op == "axis" and atom.attr is one
