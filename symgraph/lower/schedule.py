"""Schedules: where each axis of a nest runs. Chosen by small rules from what walks over neighbours.

Nothing here changes what is computed.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import field

from symgraph.dims import Dim, Size, ceil_div, product
from symgraph.frozen import frozen
from symgraph.graph.dtypes import itemsize
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.graph.types import same_size
from symgraph.lower.linear import Linear, linear
from symgraph.lower.memory import ALIGN
from symgraph.lower.nest import Buffer, Nest, Store
from symgraph.lower.program import nbytes, number
from symgraph.lower.stage import Staged, staged

LANES = 16  # one AVX-512 register of float32; the compiler halves it where registers are narrower
MOST_LANES = 4 * LANES
BLOCK = 2048  # positions of the vector axis that a task takes where that axis is split
ENOUGH = 64  # tasks: more than threads, so that none waits for the last
GATHERED = 2  # vectors, from which on they are gathered for a row and not for each position
TURNED = 8  # positions of the axis that a tile is read along
WIDEST_TILE = 2 * LANES
TALL = 128  # positions of that axis that a task takes: of what it writes, so many pages are open
SMALL = 64  # times as many positions as elements that a load reads: they are in a cache
STREAMED = 1 << 25  # bytes from which on what is written goes past the caches


@frozen
class Fold:
    """How a reduction runs: its axes from the outermost, and the lanes of the innermost."""

    axes: tuple[Axis, ...]
    lanes: int = 1


@frozen
class Schedule:
    """Where the axes of a nest run.

    `tasks` are the leading axes, walked by threads; where the vector axis is the last of them, a
    task takes `block` of its positions. `folds` says how each reduction runs, by its axes.
    `streamed` are the buffers, aligned to lines, that are written past the caches; `staged` is what
    reductions keep for later loops. The loads in `turned` are read along the last axis of `order`,
    a tile at a time, and turned into vectors along the vector axis; where that axis is among the
    tasks, a task takes `tall` of its positions.
    """

    order: tuple[Axis, ...]
    vector: Axis | None = None
    lanes: int = 1
    tasks: tuple[Axis, ...] = ()
    block: int = 0
    folds: Mapping[tuple[Axis, ...], Fold] = field(default_factory=dict)
    streamed: frozenset[Buffer] = frozenset()
    staged: tuple[Staged, ...] = ()
    turned: tuple[Scalar, ...] = ()
    tall: int = 0

    def pieces(self, one: Axis) -> Size:
        """Give how many pieces an axis has among the tasks: its positions, or blocks of them."""
        if self.block and one is self.vector:
            return ceil_div(one.extent, self.block)
        if self.tall and one is self.order[-1]:
            return ceil_div(one.extent, self.tall)
        return one.extent

    def task_count(self) -> Size:
        """Give the number of tasks."""
        return product([self.pieces(one) for one in self.tasks])


def choose(nest: Nest, nominal: Mapping[Dim, int], aligned: Container[Buffer] = ()) -> Schedule:
    """Choose a schedule for a flattened nest at nominal sizes.

    `aligned` are the buffers of which it is known that they begin with a line of the cache.
    """
    return Chooser(nest, nominal).schedule(aligned)


class Chooser:
    """Chooses for a CPU: lanes are those of vectors, tasks go to threads."""

    def __init__(self, nest: Nest, nominal: Mapping[Dim, int]) -> None:
        self.nest, self.nominal = nest, nominal
        self.order = nest.order()
        self.free = nest.free()
        self.loads = [(n, linear(n.args[0])) for n in self.order if n.op == "load"]
        self.reduces = [n for n in self.order if n.op == "reduce"]
        places = [n.args[1] for n in self.order if n.op == "row"]
        self.asked = frozenset[Axis]().union(*(self.free[at] for at in places))  # along rows
        self.row: Axis | None = None
        self.turned: tuple[Scalar, ...] = ()

    def size(self, extent: Size) -> int:
        """Give a size at the nominal sizes."""
        return number(extent, self.nominal)

    def schedule(self, aligned: Container[Buffer]) -> Schedule:
        """Choose the vector axis, the order, the tasks, and how reductions run."""
        vector = self._vector()
        self.turned, along = self._turned(vector)
        self.row = along if self.turned else self._row(vector)
        order = self._order(vector)
        lanes = self._lanes(self.order) if vector is not None else 1
        tasks, block = self._tasks(order, vector, lanes)
        streamed = self._streamed(aligned, vector, lanes)
        rest = [one for one in order if one not in tasks]
        walked = [vector, *rest] if block and vector is not None else rest
        kept = staged(self.nest, walked, vector=vector, lanes=lanes)
        tall = TALL if self.turned and block else 0
        if tall:
            tasks = (*tasks[:-1], order[-1], tasks[-1])
        return Schedule(
            order, vector, lanes, tasks, block, self._folds(vector), streamed, kept, self.turned,
            tall,
        )  # fmt: skip

    # -- the vector axis ---------------------------------------------------------------------------

    def _vector(self) -> Axis | None:
        ends = set().union(*(self.free[limit] for limit in self.nest.limits.values()))
        ends.update(self.asked)
        scores = {one: self._score(one) for one in self.nest.axes if one not in ends}
        best = max(scores, key=lambda one: scores[one], default=None)
        if best is None:
            return None
        if scores[best] <= 0 and any(best in self.free[n] for n in self.reduces):
            return None
        return best

    def _score(self, one: Axis) -> float:
        """Prefer the axis along which most accesses are contiguous; few elements count little."""
        total = 0.0
        positions = self.size(product([each.extent for each in self.nest.axes]))
        summed = {each for n in self.reduces for each in n.attr.axes}
        every = positions * self.size(product([each.extent for each in summed]))
        for store in self.nest.stores:
            if one in store.axes:
                total += 3 if linear(store.index[0]).neighbours(one) else -6
        for node, form in self.loads:
            walked = self.free[node.args[0]]  # by its place, whatever its guard asks
            if one in walked:
                read = self.size(product([each.extent for each in walked]))
                asked = positions if walked & summed else every  # loaded before sums, for all
                weight = 1.0 if read * SMALL >= asked else 0.25
                lies = form.neighbours(one)
                total += weight * (2 if lies else -1 if self._tiles(node, form, one) else -4)
        if self.size(one.extent) < 4:
            total -= 3
        return total

    # -- tiles -------------------------------------------------------------------------------------

    def _turned(self, vector: Axis | None) -> tuple[tuple[Scalar, ...], Axis | None]:
        """Choose loads that are turned, and the one axis that all of them are read along.

        Gathered along the vector, lines of memory lie far apart, at powers of two often in the same
        few places of the cache, and are gone before their neighbours are wanted.
        """
        if vector is None:
            return (), None
        found: dict[Axis, list[Scalar]] = {}
        for node, form in self.loads:
            for along in self._tiles(node, form, vector):
                found.setdefault(along, []).append(node)
        if not found:
            return (), None
        best = max(found, key=lambda one: len(found[one]))
        return tuple(found[best]), best

    def _tiles(self, node: Scalar, form: Linear, vector: Axis) -> list[Axis]:
        """Give the axes along which tiles of a load can be read, to be turned along another."""
        step = form.coefficient(vector)
        if (
            self.reduces or self.nest.limits or self.asked or node.attr.guarded
            or node.dtype == "bool" or step is None or form.neighbours(vector)
            or same_size(step, 0) or self.size(vector.extent) < TURNED
            or any(atom.op != "axis" for atom in form.terms)
        ):  # fmt: skip
            return []
        return [
            one
            for one in self.nest.axes
            if one is not vector
            and form.neighbours(one)
            and self.size(one.extent) >= TURNED
            and all(one in store.axes for store in self.nest.stores)
        ]

    # -- stores past the caches --------------------------------------------------------------------

    def _streamed(
        self, aligned: Container[Buffer], vector: Axis | None, lanes: int
    ) -> frozenset[Buffer]:
        """Choose what does not fit the caches anyway: a line then need not be read to be written.

        Every store must be of whole lines.
        """
        if vector is None:
            return frozenset()
        read = set(self.nest.reads())
        return frozenset(
            store.buffer
            for store in self.nest.stores
            if store.buffer in aligned
            and store.buffer not in read
            and number(nbytes(store.buffer), self.nominal) >= STREAMED
            and _whole_lines(store, vector, lanes)
        )

    # -- order and tasks ---------------------------------------------------------------------------

    def _order(self, vector: Axis | None) -> tuple[Axis, ...]:
        """Put the axes of short stores and of reductions' results first, the vector axis last."""
        own = self.nest.axes
        kept = [frozenset(own) & self.free[n] for n in self.reduces]
        partial = [k for k in kept if len(k) < len(own)]

        def rank(one: Axis) -> tuple[int, int, bool]:
            stores = sum(one in store.axes for store in self.nest.stores)
            return -stores, -sum(one in k for k in partial), one is vector

        ordered = sorted(own, key=rank)
        if self.row in ordered:  # a walk along the row for each vector
            ordered.remove(self.row)
            ordered.append(self.row)
        return tuple(ordered)

    def _row(self, vector: Axis | None) -> Axis | None:
        """Give the axis to walk inside a vector, if there is one.

        What is gathered for a vector is then gathered once: the weights of a convolution of each
        channel by itself lie a kernel apart. What a nest keeps in rows is filled before that walk.
        """
        for node in self.order:
            if node.op == "row":
                return next((one for one in self.nest.axes if one in self.free[node.args[1]]), None)
        if vector is None or self.reduces or self.nest.limits:
            return None
        own = frozenset((vector,))
        places = [form for n, form in self.loads if self.free[n.args[0]] == own]
        rows = [
            one
            for one in self.nest.axes
            if one is not vector and all(one in store.axes for store in self.nest.stores)
        ]
        gathered = sum(not form.neighbours(vector) for form in places)
        return rows[-1] if rows and gathered >= GATHERED else None

    def _tasks(
        self, order: Sequence[Axis], vector: Axis | None, lanes: int
    ) -> tuple[tuple[Axis, ...], int]:
        shared = [one for one in order if all(one in s.axes for s in self.nest.stores)]
        count, tasks = 1, []
        for one in order:
            if one not in shared or count >= ENOUGH or one is self.row:
                break
            tasks.append(one)
            if one is vector:
                inner = any(one in self.free[n] for n in self.reduces)
                last = one is order[-1]
                block = BLOCK if last and not inner else lanes
                while block > lanes and count * self.size(one.extent) < block * ENOUGH // 4:
                    block //= 2
                return tuple(tasks), max(block, lanes)
            count *= self.size(one.extent)
        return tuple(tasks), 0

    # -- reductions --------------------------------------------------------------------------------

    def _folds(self, vector: Axis | None) -> dict[tuple[Axis, ...], Fold]:
        """Let reductions use lanes unless they stand inside a loop that does; outer ones first."""
        inside = set() if vector is None else {vector}
        found: dict[tuple[Axis, ...], Fold] = {}
        for node in reversed(self.reduces):
            axes = node.attr.axes
            if self.free[node] & inside:
                found[axes] = Fold(self._rows_last(axes))
            elif axes not in found:
                found[axes] = self._fold(node)
                if found[axes].lanes > 1:
                    inside.add(found[axes].axes[-1])
        return found

    def _rows_last(self, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """Walk along rows in the innermost loop: they are filled before it."""
        return tuple(sorted(axes, key=self.asked.__contains__))

    def _fold(self, node: Scalar) -> Fold:
        axes: tuple[Axis, ...] = node.attr.axes
        inside = set(scalar_order(node.args))

        def score(one: Axis) -> float:
            total = 0.5
            for each, form in self.loads:
                if each in inside and one in self.free[each]:
                    total += 2 if form.neighbours(one) else -4
            return total - (3 if self.size(one.extent) < 4 else 0)

        best = max(axes, key=score)
        if self.asked.intersection(axes) or (score(best) <= 0 and self.loads):
            return Fold(self._rows_last(axes))
        rest = tuple(one for one in axes if one is not best)
        return Fold((*rest, best), self._lanes(scalar_order(node.args), folding=True))

    def _lanes(self, nodes: Sequence[Scalar], folding: bool = False) -> int:
        """Take wider vectors for short bodies: several registers hide the latency."""
        work = sum(n.op not in ("const", "axis", "size", "load") for n in nodes)
        if folding and work <= 6:
            return MOST_LANES
        if self.turned:  # whole lines are written
            least = min(itemsize(store.buffer.dtype) for store in self.nest.stores)
            return min(max(LANES, ALIGN // least), WIDEST_TILE)
        if self.row is not None:  # positions are rows of memory apart: of each two lines at least
            return 2 * LANES
        return 2 * LANES if work <= 40 else LANES


def _whole_lines(store: Store, vector: Axis, lanes: int) -> bool:
    """Tell whether vectors along an axis are neighbours that begin and end with lines."""
    form, size = linear(store.index[0]), itemsize(store.buffer.dtype)
    if not form.neighbours(vector) or lanes * size % ALIGN:
        return False
    if isinstance(vector.extent, int) and vector.extent < lanes:  # then vectors are shorter
        return False
    steps = [s for atom, s in form.terms.items() if atom.op != "axis" or atom.attr is not vector]
    return all(isinstance(s, int) and s * size % ALIGN == 0 for s in (*steps, form.constant))


def work(nest: Nest) -> Size:
    """Give a measure of what a nest does: scalar operations of all positions."""
    order = nest.order()
    free = nest.free()
    inner = {one for n in order if n.op == "reduce" for one in n.attr.axes}
    total: Size = 0
    for node in order:
        if node.op not in ("const", "size", "axis", "take"):
            axes = free[node] & (set(nest.axes) | inner)
            over = node.attr.axes if node.op == "reduce" else ()
            total = total + product([one.extent for one in (*axes, *over)])
    return total
