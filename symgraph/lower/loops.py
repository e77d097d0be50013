"""Loops: a nest and its schedule as statements, in the order in which a printer writes them.

Every value is computed at the outermost loop that has opened all its axes. Reductions that are
ready at the same place and run over the same axes share a loop.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from symgraph.errors import LoweringError
from symgraph.frozen import frozen
from symgraph.graph.index import Axis
from symgraph.graph.scalar import RARE, Scalar, scalar_order
from symgraph.lower.nest import Nest, Store
from symgraph.lower.schedule import Fold, Schedule
from symgraph.lower.stage import Staged


@frozen(eq=False)
class Let:
    """Compute a value."""

    value: Scalar


@frozen(eq=False)
class Put:
    """Write an element."""

    store: Store


@frozen(eq=False)
class Accumulate:
    """Take one more element into reductions."""

    reduces: tuple[Scalar, ...]


@frozen(eq=False)
class Keep:
    """Keep a value of a reduction's loop, for `Fetch`."""

    staged: Staged


@frozen(eq=False)
class Fetch:
    """Take what was kept as the value of another loop."""

    staged: Staged


@frozen(eq=False)
class KeepRow:
    """Keep a value at a position of the axis of a row, for `FetchRow`."""

    row: Scalar


@frozen(eq=False)
class FetchRow:
    """Take what was kept at a place of a row."""

    row: Scalar


@frozen(eq=False)
class For:
    """Walk an axis; `lanes` > 1 walks that many positions at once, and the rest under a mask."""

    axis: Axis
    body: tuple[Statement, ...]
    lanes: int = 1
    stop: Scalar | None = None


@frozen(eq=False)
class Reduce:
    """Start reductions, run the loops that accumulate, and give their results."""

    reduces: tuple[Scalar, ...]
    loop: For


@frozen(eq=False)
class Tasks:
    """Walk a range of tasks, each a position along all of `axes` (a block of the vector axis)."""

    axes: tuple[Axis, ...]
    body: tuple[Statement, ...]


# What only its place in the loops knows, and never a function of scalars.
PLACED = ("axis", "load", "operand", "philox", "reduce", "row", "size", "take")

Statement = Let | Put | Accumulate | Keep | Fetch | KeepRow | FetchRow | For | Reduce | Tasks


def loops(nest: Nest, schedule: Schedule) -> tuple[Statement, ...]:
    """Give the statements of a flattened nest."""
    return _Builder(nest, schedule).build()


class _Builder:
    def __init__(self, nest: Nest, schedule: Schedule) -> None:
        self.nest, self.schedule = nest, schedule
        self.order = usual_order(nest.roots)
        self.free = nest.free()
        self.done: set[Scalar] = set()
        self.open: frozenset[Axis] = frozenset()
        self.put: set[Store] = set()
        self.staged = {one.used: one for one in schedule.staged}
        self.rows = {row_key(n): n for n in self.order if n.op == "row"}  # those not yet filled

    def build(self) -> tuple[Statement, ...]:
        """Hoist what needs no axis, then open the tasks and the other axes."""
        head = self.ready()
        tasks = self.schedule.tasks
        tall = self.schedule.order[-1] if self.schedule.tall else None  # a task walks some of it
        rest = [one for one in self.schedule.order if one not in tasks or one is tall]
        if not tasks:
            return (*head, *self.inside(rest))
        vector = self.schedule.vector
        if self.schedule.block:
            whole = [one for one in tasks if one not in (vector, tall)]
            self.open |= frozenset(whole)
            opened = self.ready()
            assert vector is not None  # a block is of the vector axis
            body = (*opened, *self.walk(vector, rest))
        else:
            self.open |= frozenset(tasks)
            body = (*self.ready(), *self.inside(rest))
        return (*head, Tasks(tasks, tuple(body)))

    def inside(self, rest: Sequence[Axis]) -> list[Statement]:
        """Write what is complete, then open the next axis."""
        complete = [s for s in self.nest.stores if frozenset(s.axes) <= self.open]
        found: list[Statement] = [Put(s) for s in complete if s not in self.put]
        self.put.update(complete)
        if rest:
            found.extend(self.walk(rest[0], rest[1:]))
        return found

    def walk(self, one: Axis, rest: Sequence[Axis]) -> list[Statement]:
        """Open an axis."""
        before, known = self.open, set(self.done)
        self.open |= {one}
        body = [*self.ready(), *self.inside(rest)]
        self.open, self.done = before, known
        lanes = self.schedule.lanes if one is self.schedule.vector else 1
        return [For(one, tuple(body), lanes, self.nest.limits.get(one))]

    def ready(self, wanted: Iterable[Scalar] | None = None) -> list[Statement]:
        """Compute all values whose axes are open; a reduction waits for those it is made of."""
        rows = self.filled(self.order) if wanted is None else []
        pool = self.order if wanted is None else wanted
        pending = [n for n in pool if n not in self.done]
        level: dict[Scalar, int] = {}
        for node in pending:
            level[node] = max(
                (level[a] + (a.op == "reduce") for a in node.args if a in level), default=0
            )
        waiting = [n for n in pending if self.free[n] <= self.open]
        found: list[Statement] = rows
        for depth in sorted({level[n] for n in waiting}):
            now = [n for n in waiting if level[n] == depth]
            found.extend(self.computed(n) for n in now if n.op != "reduce")
            self.done.update(n for n in now if n.op != "reduce")
            found.extend(self.reduced([n for n in now if n.op == "reduce"]))
        return found

    def filled(self, wanted: Iterable[Scalar]) -> list[Statement]:
        """Fill the rows that depend on nothing but what is open, each in a loop of its own."""
        found: list[Statement] = []
        for row in [one for one in wanted if one.op == "row"]:
            made, along = row.args[0], frozenset(row.attr.axes)
            if row_key(row) not in self.rows or not self.free[made] - along <= self.open:
                continue
            del self.rows[row_key(row)]
            order = usual_order([made])
            found.extend(self.ready(order))  # what is the same at all positions
            before, known = self.open, set(self.done)
            self.open |= along
            body = [*self.ready(order), KeepRow(row)]
            self.open, self.done = before, known
            found.append(For(row.attr.axes[0], tuple(body)))
        return found

    def computed(self, node: Scalar) -> Statement:
        """Compute a value, or take it from where a reduction that is done has kept it."""
        if node.op == "row":
            if row_key(node) in self.rows:
                raise LoweringError(f"{self.nest.name}: a row is asked for before it is filled.")
            return FetchRow(node)
        kept = self.staged.get(node)
        return Fetch(kept) if kept is not None and kept.over not in self.open else Let(node)

    def reduced(self, nodes: Iterable[Scalar]) -> list[Statement]:
        """Open the loops of reductions, one for all over the same axes."""
        groups: dict[tuple[Axis, ...], list[Scalar]] = {}
        for node in nodes:
            groups.setdefault(node.attr.axes, []).append(node)
        found: list[Statement] = []
        for axes, group in groups.items():
            fold = self.schedule.folds[axes]
            before, known, rows = self.open, set(self.done), dict(self.rows)
            loop = self.folded(fold, list(fold.axes), tuple(group))
            self.open, self.done, self.rows = before, known | set(group), rows
            found.append(Reduce(tuple(group), loop))
        return found

    def folded(self, fold: Fold, axes: Sequence[Axis], group: tuple[Scalar, ...]) -> For:
        """Open the axes of reductions from the outermost."""
        first, *rest = axes
        self.open |= {first}
        inside = usual_order([one for node in group for one in node.args])
        body = [*self.filled(inside), *self.ready(inside)]
        if rest:
            body.append(self.folded(fold, rest, group))
        else:
            body.extend(Keep(one) for one in self.staged.values() if one.made in self.done)
            body.append(Accumulate(group))
        lanes = 1 if rest else fold.lanes
        return For(first, tuple(body), lanes, self.nest.limits.get(first))


def row_key(row: Scalar) -> tuple[Scalar, object]:
    """Tell rows apart: those of one value along one axis share their memory."""
    return row.args[0], row.attr


def is_rare(node: Scalar) -> bool:
    """Tell whether this chooses something that is computed only where it is wanted."""
    return node.op == "select" and bool(node.attr == RARE)


def rare_inputs(wanted: Scalar, known: Container[Scalar] = ()) -> list[Scalar]:
    """List what a rarely wanted value is made of: what is known, and what only its place knows.

    From these on it can be computed in a function of its own.
    """
    found: dict[Scalar, None] = {}
    seen, stack = {wanted}, [wanted]
    while stack:
        node = stack.pop()
        if node.op in PLACED or (node in known and node.op != "const"):
            found[node] = None
            continue
        stack.extend(one for one in reversed(node.args) if one not in seen)
        seen.update(node.args)
    return list(found)


def usual_order(roots: Iterable[Scalar]) -> list[Scalar]:
    """List all nodes below the roots, arguments first, but of rare ones only their inputs."""

    def needed(node: Scalar) -> Iterable[Scalar]:
        if is_rare(node):
            return node.args[0], node.args[2], *rare_inputs(node.args[1])
        return node.args

    return scalar_order(roots, needed)


def unprinted(wanted: Scalar, known: Container[Scalar]) -> list[Scalar]:
    """List what a value needs beyond what is known, arguments first; addresses are not values.

    What is rarely chosen is not listed either: it is printed where it is wanted.
    """

    def needed(node: Scalar) -> Iterable[Scalar]:
        if node.op == "load":
            return node.args[-1:] if node.attr.guarded else ()
        return (node.args[0], node.args[2]) if is_rare(node) else node.args

    return scalar_order([wanted], needed, known)
