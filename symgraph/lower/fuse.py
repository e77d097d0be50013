"""Fusion: which definitions are computed where they are read, and which share a nest.

A definition that is read is put into the expressions that read it (its loads go to the reader's
places), or it gets memory. Definitions with memory that walk over the same axes, and do not wait
for each other through something else, share one nest. Whether that is legal and whether it pays
are different functions; the second looks at numbers, at the sizes the first call came with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

from symgraph.dims import Dim, Size, equal
from symgraph.graph.index import Axis, m
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.lower.flatten import dropped, spread
from symgraph.lower.inside import put_inside
from symgraph.lower.linear import replaced, substitute
from symgraph.lower.nest import Buffer, Nest, Store, free_axes, place
from symgraph.lower.program import Definition, LibraryCall, Program, number, positions
from symgraph.lower.rows import Row, again_of, again_pays
from symgraph.lower.split import LONG

# What a scalar operation costs beside an addition; others cost 1, those of addresses nothing.
COSTS = {"exp": 12, "log": 12, "tanh": 16, "erf": 16, "pow": 24, "sin": 16, "cos": 16, "div": 4,
         "sqrt": 4, "philox": 30, "log1p": 14, "expm1": 14, "erfc": 20, "atan2": 24}  # fmt: skip
FREE = ("const", "size", "axis", "cast", "load", "take")
CHEAP = 8.0  # operations that may be done again rather than stored and read
LARGE = 1 << 16  # elements from which on a tensor is worth rounding
ROWS = 16  # as many rows keep the threads busy
ROW_BYTES = 1 << 19  # of a row that is read a second time from the cache


@dataclass(eq=False)
class Group:
    """Definitions that share a nest: stores over the first few of its axes."""

    name: str
    axes: tuple[Axis, ...]
    stores: list[Store] = field(default_factory=list)

    def nest(self) -> Nest:
        """Give the nest."""
        return Nest(self.name, self.axes, tuple(self.stores))

    def reads(self) -> tuple[Buffer, ...]:
        """Give the buffers that are read."""
        return tuple(dict.fromkeys(read for store in self.stores for read in store.reads))

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """The buffers that are written."""
        return tuple(store.buffer for store in self.stores)


Item = Group | LibraryCall


def fuse(
    program: Program, nominal: Mapping[Dim, int], narrow: bool = False, rows: bool = False
) -> nx.DiGraph:
    """Give what runs, as a graph of what has to run before what; nodes stand in a good order.

    With `narrow`, large tensors of float32 between two nests are kept as bfloat16; with `rows`,
    windows of windows keep rows of what they read (`rows.py`).
    """
    return _Fuser(program, nominal, narrow, rows).items()


# -- legality --------------------------------------------------------------------------------------


def waits_between(order: nx.DiGraph, first: Iterable[object], last: object) -> bool:
    """Tell whether something outside has to run after one of `first` and before `last`."""
    own = set(first)
    below = nx.ancestors(order, last) - own
    if not below:
        return False
    after: set[object] = set()
    for one in own:
        after |= nx.descendants(order, one)
    return bool(below & after)


# -- profit ----------------------------------------------------------------------------------------


def cost(value: Scalar) -> float:
    """Give what one element costs, reductions counted once."""
    total = 0.0
    for node in scalar_order([value]):
        if node.op in FREE or (node.dtype == "int64" and node.op in ("add", "sub", "mul", "neg")):
            continue
        total += COSTS.get(node.op, 1)
    return total


def reduced_over(value: Scalar, axes: Iterable[Axis]) -> set[frozenset[Axis]]:
    """Give for each reduction the axes for which it is computed anew."""
    own = frozenset(axes)
    order = scalar_order([value])
    free = free_axes(order)
    return {free[node] & own for node in order if node.op == "reduce"}


def nested(sets: Iterable[frozenset[Axis]]) -> bool:
    """Tell whether of any two sets one holds the other, so that loops can be put in one order."""
    ordered = sorted(sets, key=len)
    return all(a <= b for a, b in pairwise(ordered))


class _Fuser:
    def __init__(
        self, program: Program, nominal: Mapping[Dim, int], narrow: bool, rows: bool
    ) -> None:
        self.program, self.nominal = program, nominal
        self.keeps_rows, self.kept_rows = rows, dict[Buffer, Row]()
        self.narrowing, self.narrow = narrow, set[Buffer]()
        self.definitions: dict[Buffer, Definition] = {
            one.target: one for one in program.items if isinstance(one, Definition)
        }
        self.kept = program.kept
        self.inner: dict[Buffer, Definition] = {}
        self.rows: dict[Definition, set[frozenset[Axis]]] = {}  # what is reduced into a reader
        for one in program.items:
            if isinstance(one, LibraryCall):
                self.kept.update(one.reads())
        self.readers: dict[Buffer, list[Definition]] = {}
        for one in program.items:
            if isinstance(one, Definition):
                for read in one.reads():
                    self.readers.setdefault(read, []).append(one)

    def size(self, extents: Iterable[Size]) -> int:
        """Give a product of sizes at the nominal sizes."""
        total = 1
        for one in extents:
            total *= number(one, self.nominal)
        return total

    # -- putting definitions into their readers ----------------------------------------------------

    def items(self) -> nx.DiGraph:
        """Inline, then group."""
        stored: list[Definition | LibraryCall] = []
        inner: dict[Buffer, Definition] = {}
        for one in self.program.items:
            if isinstance(one, LibraryCall):
                stored.append(one)
                continue
            readers = self.readers.get(one.target, [])
            if not readers and one.target not in self.kept:
                continue
            rows = {read: row for read in one.reads() if (row := self.asked(read, one))}
            value = put_inside(one.value, inner, self.narrow, rows)
            if one.target in self.program.checks:
                value = self.before_updates(value)
            inlined = [inner[read] for read in one.reads() if read in inner]
            after = one.after.union(*(each.after for each in inlined))
            now = Definition(one.target, one.axes, value, after)
            self.definitions[one.target] = now
            if one.target in self.kept:
                stored.append(self.narrowed(now))
            elif self.pays(now, readers) or self.computed_again(now, readers):
                inner[one.target] = now
            else:
                stored.append(self.narrowed(now))
        self.inner = inner
        return self.grouped(stored)

    def computed_again(self, one: Definition, readers: Sequence[Definition]) -> bool:
        """Let all readers of a window's result compute it, some in rows, where that pays."""
        again = again_of(one, readers) if self.keeps_rows else None
        if again is None or not again_pays(again, readers, self.nominal):
            return False
        if again.row is not None:
            self.kept_rows[one.target] = again.row
        return True

    def asked(self, read: Buffer, reader: Definition) -> Row | None:
        """Give the row that a definition asks for what it reads."""
        row = self.kept_rows.get(read)
        return row if row is not None and reader.target in row.readers else None

    def before_updates(self, value: Scalar) -> Scalar:
        """Give a check that computes new values of variables itself, to run before any write."""
        found = {one: self.definitions.get(one) for one in self.program.updates.values()}
        cheap = {one: own for one, own in found.items() if own and not own.reduces}
        while (new := put_inside(value, cheap)) is not value:
            value = new
        return value

    def narrowed(self, one: Definition) -> Definition:
        """Round a large tensor of float32 that nobody but other nests reads."""
        target = one.target
        large = len(target.shape) > 1 and self.size(target.shape) >= LARGE
        if not self.narrowing or not large or target in self.kept or target.dtype != "float32":
            return one
        target.dtype = "bfloat16"
        self.narrow.add(target)
        return Definition(target, one.axes, m.cast(one.value, "bfloat16"), one.after)

    def pays(self, one: Definition, readers: Sequence[Definition]) -> bool:
        """Tell whether computing a definition in all its readers beats storing it."""
        own = cost(one.value)
        if len(readers) > 1 and (own > CHEAP or one.reduces):
            return False
        return all(self.pays_in(one, own, reader) for reader in readers)

    def pays_in(self, one: Definition, own: float, reader: Definition) -> bool:
        """Tell whether computing a definition inside one reader beats storing it."""
        order = scalar_order([reader.value])
        free = free_axes(order)
        sites = [n for n in order if n.op == "load" and n.attr.buffer is one.target]
        if one.reduces:
            return all(self.row_pays(one, reader, site, free) for site in sites)
        for site in sites:
            walked = self.size(axis.extent for axis in free[site])
            again = walked / max(1, self.size(one.target.shape))
            wide = self.size(axis.extent for axis in reader.axes) / max(1, walked)
            if again > 1.05 and self.turns(one):
                return False
            if own * again * len(sites) > CHEAP and (again > 1.05 or len(sites) > 1):
                return False
            if wide > 4 and own > CHEAP and free[site]:
                return False
        return True

    def turns(self, one: Definition) -> bool:
        """Tell whether neighbours of a definition are read from places that are not neighbours."""
        for axis, stride in zip(one.axes, one.target.strides):
            if not _is_one(stride):
                continue
            for node in scalar_order([one.value]):
                if node.op == "load":
                    step = place(node).coefficient(axis)
                    if not (isinstance(step, int) and step in (0, 1)):
                        return True
        return False

    def row_pays(
        self, one: Definition, reader: Definition, site: Scalar, free: Mapping[Scalar, object]
    ) -> bool:
        """Tell whether a reduction is used in rows: once a row, or once an element at the end."""
        index = site.args[:-1] if site.attr.guarded else site.args
        kept = [n.attr for n in index if n.op == "axis"]
        plain = all(n.op in ("axis", "const") for n in index) and len(set(kept)) == len(kept)
        if not plain or site.attr.guarded or any(axis not in reader.axes for axis in kept):
            return False
        rows_of = self.rows.setdefault(reader, reduced_over(reader.value, reader.axes))
        if not nested([*rows_of, frozenset(kept)]):
            return False
        leaf = [axis for axis in reader.axes if axis not in kept]
        reads = sum(n.op == "load" for n in scalar_order([one.value]))
        if not leaf:
            return True
        rows = self.size(axis.extent for axis in kept)
        row = 4 * reads * self.size(axis.extent for axis in leaf)
        pays = rows >= ROWS and row <= ROW_BYTES and self.is_row(one)
        if pays:
            rows_of.add(frozenset(kept))
        return pays

    def is_row(self, one: Definition) -> bool:
        """Tell whether reductions run over neighbours in memory."""
        order = scalar_order([one.value])
        free = free_axes(order)
        for node in order:
            if node.op != "reduce":
                continue
            below = [n for n in scalar_order(node.args) if n.op == "load"]
            near = [
                n for n in below for axis in node.attr.axes
                if axis in free[n] and _is_one(place(n).coefficient(axis))
            ]  # fmt: skip
            if not near:
                return False
        return True

    # -- nests -------------------------------------------------------------------------------------

    def grouped(self, stored: Sequence[Definition | LibraryCall]) -> nx.DiGraph:
        """Let definitions share nests where that is legal and pays; give all in order."""
        order = nx.DiGraph()
        writer: dict[Buffer, Item] = {}
        groups: list[Group] = []
        for one in stored:
            own: Item
            if isinstance(one, LibraryCall):
                own = one
            else:
                nest = self.own_nest(one)
                own = self.joined(one, nest, groups, order, writer) or self.alone(nest, groups)
            order.add_node(own)
            for before in self.before(one, writer):
                if before is not own:
                    order.add_edge(before, own)
            for written in one.writes:
                writer[written] = own
        return order

    def before(
        self, one: Definition | LibraryCall, writer: Mapping[Buffer, Item]
    ) -> dict[Item, None]:
        """Give what has to run before an item: the writers of what it reads or waits for."""
        wanted = [*one.reads(), *one.after]
        found: dict[Item, None] = {}
        seen: set[Buffer] = set()
        while wanted:
            read = wanted.pop()
            if read in seen:
                continue
            seen.add(read)
            if read in self.inner:  # computed where it is read: what that reads is there
                wanted.extend((*self.inner[read].reads(), *self.inner[read].after))
            elif read in writer:
                found[writer[read]] = None
        return found

    def own_nest(self, one: Definition) -> Nest:
        """Give the nest of a definition; the taps of a gradient of filters are its stores."""
        value = self.program.origin.get(one.target)
        name = value.op.name if value is not None else "copy"
        store = Store(one.target, one.axes, positions(one.axes), one.value)
        nest = Nest(name, one.axes, (store,))
        spreads = self.keeps_rows and one.reduces and one.target not in self.program.checks
        apart = spread(dropped(nest)) if spreads else nest
        return apart if len(apart.stores) > 1 else nest

    def alone(self, nest: Nest, groups: list[Group]) -> Group:
        """Give a definition its own nest."""
        made = Group(nest.name, nest.axes, list(nest.stores))
        groups.append(made)
        return made

    def joined(
        self,
        one: Definition,
        nest: Nest,
        groups: Sequence[Group],
        order: nx.DiGraph,
        writer: Mapping[Buffer, Item],
    ) -> Group | None:
        """Put a definition into an existing nest, if one fits."""
        before = self.before(one, writer)
        for group in reversed(groups[-32:]):
            if not _same_axes(group.axes, nest.axes) or not self.share(group, one, nest):
                continue
            probe = object()
            order.add_edges_from((item, probe) for item in before)
            order.add_node(probe)
            waits = waits_between(order, [group], probe)
            order.remove_node(probe)
            if waits:
                continue
            stores = self.moved(group, nest)
            if stores is None:
                continue
            rows = [reduced_over(s.value, group.axes) for s in (*stores, *group.stores)]
            if not nested(set().union(*rows)):
                continue
            group.stores.extend(stores)
            return group
        return None

    def share(self, group: Group, one: Definition, nest: Nest) -> bool:
        """Tell whether two nests read the same things, and reduce alike.

        Gradients of filters are many sums in one loop, which must read something large in common.
        """
        reads = one.reads()
        checks = set(self.program.checks)  # they come before any write
        if (one.target in checks) != any(written in checks for written in group.writes):
            return False
        mine = one.reduces
        theirs = any(store.reduces for store in group.stores)
        written = set(group.writes)
        follows = theirs and any(read in written for read in reads)  # what is made of a result
        if mine != theirs and not follows:
            return False
        if mine and any(read in written for read in reads) and self.reduced(one) >= LONG:
            return False  # one after the other, so that each can be split among threads
        common = set(group.reads()) & set(reads)
        if mine and (_has_taps(group.stores) or _has_taps(nest.stores)):
            common = {read for read in common if self.size(read.shape) >= LONG}
        return bool(common) or any(read in written for read in reads)

    def reduced(self, one: Definition) -> int:
        """Give how many elements are reduced into all results."""
        axes = {a for n in scalar_order([one.value]) if n.op == "reduce" for a in n.attr.axes}
        return self.size(axis.extent for axis in (*axes, *one.axes))

    def moved(self, group: Group, nest: Nest) -> list[Store] | None:
        """Give stores on the axes of a group, its results read as values; None if they cannot."""
        new = {a.scalar(): b.scalar() for a, b in zip(nest.axes, group.axes)}
        done = replaced(nest.roots, new)
        stores = {store.buffer: store for store in group.stores}
        several = len(stores) < len(group.stores)
        for node in scalar_order(done[root] for root in nest.roots):
            if node.op == "load" and node.attr.buffer in stores:
                same = stores[node.attr.buffer].index
                if several or node.attr.guarded or any(a is not b for a, b in zip(node.args, same)):
                    return None

        def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
            if node.op == "load" and node.attr.buffer in stores:
                return stores[node.attr.buffer].value
            return None

        found = []
        for store in nest.stores:
            index = tuple(done[at] for at in store.index)
            value = done[store.value]
            value = substitute([value], change)[value]
            found.append(Store(store.buffer, group.axes, index, value))
        return found


def _has_taps(stores: Sequence[Store]) -> bool:
    """Tell whether several stores write to one buffer."""
    return len({store.buffer for store in stores}) < len(stores)


def _same_axes(first: Sequence[Axis], second: Sequence[Axis]) -> bool:
    return len(first) == len(second) and all(
        equal(a.extent, b.extent) is True for a, b in zip(first, second)
    )


def _is_one(step: Size | None) -> bool:
    return isinstance(step, int) and step == 1
