"""Prints a scheduled nest as one function `void name(ptr arguments, i64 low, i64 high)`.

`arguments` is an array of 64-bit words: the addresses of the buffers, then the sizes that the
kernel needs. The function does the tasks from `low` to `high`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from symgraph.dims import Size
from symgraph.errors import LoweringError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import is_float, itemsize
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar, operands_of
from symgraph.lower.llvm.scalars import Frame
from symgraph.lower.llvm.types import REGISTER, Reg, literal, suffix, wide
from symgraph.lower.llvm.values import Values, iota
from symgraph.lower.llvm.writer import Writer
from symgraph.lower.loops import (
    Accumulate,
    Fetch,
    FetchRow,
    For,
    Keep,
    KeepRow,
    Let,
    Put,
    Reduce,
    Statement,
    Tasks,
    loops,
    row_key,
)
from symgraph.lower.monoids import combine, neutral
from symgraph.lower.nest import Buffer, Nest
from symgraph.lower.reach import NOWHERE, Reach
from symgraph.lower.schedule import MOST_LANES, TURNED, Schedule
from symgraph.lower.stage import Staged

LAZY = ("add", "sub", "neg", "mul", "axis", "const", "size")


@frozen
class Kernel:
    """A printed kernel: its text, what its arguments are, and how many tasks it has."""

    name: str
    text: str
    declarations: frozenset[str]
    buffers: tuple[Buffer, ...]
    sizes: tuple[Size, ...]
    tasks: Size
    reach: Reach = NOWHERE  # indices have 64 bits at all sizes


def print_kernel(nest: Nest, schedule: Schedule, name: str, masks: bool = True) -> Kernel:
    """Print a flattened nest; `masks` tells whether the processor has registers for masks."""
    return _Printer(nest, schedule, name, masks).kernel()


class _Printer(Values):
    def __init__(self, nest: Nest, schedule: Schedule, name: str, masks: bool) -> None:
        super().__init__(nest, name, masks)
        self.schedule = schedule
        self.accumulators: dict[Scalar, list[tuple[str, Reg]]] = {}
        self.slots: dict[Staged, str] = {}
        self.rows: dict[tuple[object, int], str] = {}

    def kernel(self) -> Kernel:
        """Print everything."""
        frame = Frame()
        self.statements(loops(self.nest, self.schedule), frame)
        if self.schedule.streamed:  # such stores are ordered by nothing else
            self.w.line("fence seq_cst")
        self.w.line("ret void")
        self.w.entry = [*self.access.loads(), *self.head, *self.w.entry]
        return Kernel(
            self.w.name, self.w.text(), frozenset(self.w.declared.values()), self.buffers,
            tuple(self.sizes), self.schedule.task_count(),
        )  # fmt: skip

    # -- statements --------------------------------------------------------------------------------

    def statements(self, body: Iterable[Statement], frame: Frame) -> None:
        """Print statements in order."""
        for one in body:
            if isinstance(one, Let):
                if not (one.value.dtype == "int64" and one.value.op in LAZY):
                    self.value(one.value, frame)
            elif isinstance(one, Put):
                self.put(one, frame)
            elif isinstance(one, Keep):
                self.keep(one.staged, frame)
            elif isinstance(one, Fetch):
                frame.values[one.staged.used] = self.fetched(one.staged, frame)
            elif isinstance(one, KeepRow):
                self.keep_row(one.row, frame)
            elif isinstance(one, FetchRow):
                frame.values[one.row] = self.fetched_row(one.row, frame)
            elif isinstance(one, Tasks):
                self.tasks(one, frame)
            elif isinstance(one, For):
                self.walk(one, frame, *self.bounds(one, frame))
            elif isinstance(one, Reduce):
                self.reduce(one, frame)
            else:
                self.accumulate(one, frame)

    def tasks(self, tasks: Tasks, frame: Frame) -> None:
        """Walk the range of tasks: each is taken apart into the positions of its axes."""
        with self.w.loop("%low", "%high") as number:
            inner = frame.inner()
            rest = number
            for axis in reversed(tasks.axes):
                count = self.schedule.pieces(axis)
                if axis is tasks.axes[0]:
                    place = rest
                else:
                    size = self.size(count)
                    place = self.w.new(f"urem i64 {rest}, {size}")
                    rest = self.w.new(f"udiv i64 {rest}, {size}")
                inner.places[axis] = place
            if self.schedule.block:
                assert self.schedule.vector is not None  # a block is of the vector axis
                self.part(inner, self.schedule.vector, self.schedule.block)
            if self.schedule.tall:
                self.part(inner, self.schedule.order[-1], self.schedule.tall)
            self.statements(tasks.body, inner)

    def part(self, frame: Frame, axis: Axis, count: int) -> None:
        """Let a task walk some positions of an axis: those of its piece."""
        start = self.w.whole("mul", frame.places.pop(axis), str(count))
        end = self.w.whole("add", start, str(count))
        stop = self.w.call("llvm.smin.i64", "i64", f"i64 {end}", f"i64 {self.size(axis.extent)}")
        frame.ranges[axis] = start, stop

    def bounds(self, loop: For, frame: Frame) -> tuple[str, str]:
        """Give where a loop starts and ends."""
        start, stop = frame.ranges.get(loop.axis) or ("0", self.size(loop.axis.extent))
        if loop.stop is not None:
            limit = self.value(loop.stop, frame).text
            stop = self.w.call("llvm.smin.i64", "i64", f"i64 {limit}", f"i64 {stop}")
        return start, stop

    def walk(self, loop: For, frame: Frame, start: str, stop: str) -> None:
        """Print a loop; with lanes, whole vectors first and the rest under a mask."""
        lanes = _narrow(loop.lanes, loop.axis.extent)
        if self.schedule.turned and loop.axis is self.schedule.order[-1]:
            start = self.tiles(loop, frame, start, stop)
        if lanes == 1:
            with self.w.loop(start, stop) as place:
                inner = frame.inner()
                inner.places[loop.axis] = place
                self.statements(loop.body, inner)
            return
        known = start == "0" and stop.isdigit()
        if not known or int(stop) >= lanes:
            with self.w.loop(start, stop, lanes) as place:
                self.vector_body(loop, frame, place, lanes, None)
        if known and int(stop) % lanes == 0:
            return
        count = self.w.whole("sub", stop, start)
        whole = (
            self.w.new(f"and i64 {count}, {-lanes}")
            if not known
            else str(int(stop) // lanes * lanes)
        )
        place = self.w.whole("add", start, whole)
        left = self.w.whole("sub", stop, place)

        def rest() -> None:
            most = self.w.splat(Reg(left, "int64"), lanes)
            mask = self.w.new(f"icmp slt {wide('i64', lanes)} {iota(lanes)}, {most.text}")
            self.vector_body(loop, frame, place, lanes, mask)

        if known:
            rest()
        else:
            self.w.when(self.w.new(f"icmp sgt i64 {left}, 0"), rest)

    def tiles(self, loop: For, frame: Frame, start: str, stop: str) -> str:
        """Print the whole tiles of a walk inside a vector; gives where the rest of it starts."""
        slots = {
            node: self.w.allocate(f"[{TURNED} x {wide(REGISTER[node.dtype], frame.lanes)}]")
            for node in self.schedule.turned
        }
        with self.w.loop(start, stop, TURNED) as place:
            for node, slot in slots.items():
                for step, one in enumerate(self.tile(node, frame, loop.axis, place)):
                    self.w.line(f"store {one}, ptr {self._at(slot, one.type, str(step))}")
            with self.w.loop("0", str(TURNED)) as number:
                inner = frame.inner()
                inner.places[loop.axis] = self.w.whole("add", place, number)
                for node, slot in slots.items():
                    type = wide(REGISTER[node.dtype], frame.lanes)
                    text = f"load {type}, ptr {self._at(slot, type, number)}"
                    inner.values[node] = self.w.reg(text, node.dtype, frame.lanes)
                self.statements(loop.body, inner)
        count = self.w.whole("sub", stop, start)
        whole = (
            str(int(count) // TURNED * TURNED)
            if count.isdigit()
            else self.w.new(f"and i64 {count}, {-TURNED}")
        )
        return self.w.whole("add", start, whole)

    def tile(self, node: Scalar, frame: Frame, along: Axis, place: str) -> list[Reg]:
        """Load neighbours along an axis for each lane, and turn them into vectors of lanes.

        Lanes behind the end of the vector axis read what its last position does.
        """
        vector = frame.vector
        assert vector is not None  # see `Chooser._turned`
        form, inner = self.form(node.args[0]), frame.inner()
        last = self.w.whole("sub", self.size(vector.extent), "1")
        rows = []
        for lane in range(frame.lanes):
            at = self.w.whole("add", frame.places[vector], str(lane))
            if frame.mask is not None:
                at = self.w.call("llvm.smin.i64", "i64", f"i64 {at}", f"i64 {last}")
            inner.places.update({vector: at, along: place})
            offset = self.offset(form, inner)
            fill = literal(node.attr.fill, node.dtype, TURNED)
            rows.append(self.access.many(node.attr.buffer, offset, TURNED, None, fill))
        squares = [rows[k : k + TURNED] for k in range(0, len(rows), TURNED)]
        turned = [transposed(self.w, square) for square in squares]
        return [self.w.joined([square[k] for square in turned]) for k in range(TURNED)]

    def _at(self, slot: str, type: str, number: str) -> str:
        return self.w.new(f"getelementptr {type}, ptr {slot}, i64 {number}")

    def vector_body(
        self, loop: For, frame: Frame, place: str, lanes: int, mask: str | None
    ) -> None:
        """Print the body for `lanes` positions from `place`."""
        inner = frame.inner()
        inner.places[loop.axis] = place
        inner.vector, inner.lanes, inner.mask = loop.axis, lanes, mask
        self.statements(loop.body, inner)

    def put(self, put: Put, frame: Frame) -> None:
        """Print a store."""
        store = put.store
        value = self.value(store.value, frame)
        form = self.form(store.index[0])
        lanes = frame.lanes if frame.vector in store.axes else 1
        value = self.w.splat(value, lanes)
        if lanes == 1:
            self.access.store(store.buffer, self.offset(form, frame), value, None)
            return
        assert frame.vector is not None
        step = form.coefficient(frame.vector)
        if isinstance(step, int) and step == 1:
            streamed = store.buffer in self.schedule.streamed
            self.access.store(store.buffer, self.offset(form, frame), value, frame.mask, streamed)
        else:
            places = self.w.splat(self.value(store.index[0], frame), lanes)
            self.access.scatter(store.buffer, places, value, frame.mask)

    def keep(self, staged: Staged, frame: Frame) -> None:
        """Store a value into the kernel's own memory; lanes that are not in use have room there."""
        value = self.w.splat(self.value(staged.made, frame), frame.lanes)
        pointer = self._slot(staged, frame.places[staged.over], frame)
        self.w.line(f"store {value}, ptr {pointer}, align {itemsize(value.dtype)}")

    def fetched(self, staged: Staged, frame: Frame) -> Reg:
        """Load what was kept."""
        dtype = staged.made.dtype
        lanes = 1 if frame.vector is staged.over else frame.lanes
        pointer = self._slot(staged, frame.places[staged.along], frame)
        type = wide(REGISTER[dtype], lanes)
        text = f"load {type}, ptr {pointer}, align {itemsize(dtype)}"
        return self.w.reg(text, dtype, lanes)

    def keep_row(self, row: Scalar, frame: Frame) -> None:
        """Store a value into its row, vectors of it where it has any."""
        made, (along,) = row.args[0], row.attr.axes
        value = self.w.splat(self.value(made, frame), self._row_lanes(row, frame))
        pointer = self._row_slot(row, frame.places[along], value.lanes)
        self.w.line(f"store {value}, ptr {pointer}, align {itemsize(value.dtype)}")

    def fetched_row(self, row: Scalar, frame: Frame) -> Reg:
        """Load from a row."""
        dtype, place = row.dtype, self.value(row.args[1], frame)
        if place.lanes != 1:
            raise LoweringError(f"llvm: a row of {self.nest.name} is asked for along its vector.")
        lanes = self._row_lanes(row, frame)
        pointer = self._row_slot(row, place.text, lanes)
        type = wide(REGISTER[dtype], lanes)
        return self.w.reg(f"load {type}, ptr {pointer}, align {itemsize(dtype)}", dtype, lanes)

    def _row_lanes(self, row: Scalar, frame: Frame) -> int:
        return frame.lanes if frame.vector in self.free[row.args[0]] else 1

    def _row_slot(self, row: Scalar, place: str, lanes: int) -> str:
        type = wide(REGISTER[row.dtype], lanes)
        key = (row_key(row), lanes)
        if key not in self.rows:
            self.rows[key] = self.w.allocate(f"[{row.attr.axes[0].extent} x {type}]")
        return self.w.new(f"getelementptr {type}, ptr {self.rows[key]}, i64 {place}")

    def _slot(self, staged: Staged, place: str, frame: Frame) -> str:
        """Give where a position is kept; around an axis of vectors, each has room for its lanes."""
        type = REGISTER[staged.made.dtype]
        outer = frame.vector not in (None, staged.over, staged.along)
        if staged not in self.slots:
            assert isinstance(staged.over.extent, int)  # see `staged`
            extent = staged.over.extent
            room = extent * frame.lanes if outer else extent + MOST_LANES
            self.slots[staged] = self.w.allocate(f"[{room} x {type}]")
        if outer:
            place = self.w.whole("mul", place, str(frame.lanes))
        return self.w.new(f"getelementptr {type}, ptr {self.slots[staged]}, i64 {place}")

    # -- reductions --------------------------------------------------------------------------------

    def reduce(self, statement: Reduce, frame: Frame) -> None:
        """Start accumulators, run the loops, and give the results."""
        lanes = _innermost_lanes(statement.loop)
        for node in statement.reduces:
            if lanes == 1 and frame.vector in self.free[node]:
                own = frame.lanes
            else:
                own = lanes
            dtypes = tuple(argument.dtype for argument in node.args)
            self.accumulators[node] = []
            for start in neutral(node.attr.monoid, dtypes):
                first = literal(start.attr, start.dtype, own)
                slot = self.w.allocate(first.type)
                self.w.line(f"store {first}, ptr {slot}")
                self.accumulators[node].append((slot, first))
        self.statements([statement.loop], frame)
        for node in statement.reduces:
            found = [
                Reg(self.w.new(f"load {like.type}, ptr {slot}"), like.dtype, like.lanes)
                for slot, like in self.accumulators[node]
            ]
            if lanes > 1:
                found = self.across(node, found)
            frame.parts[node] = tuple(found)
            frame.values[node] = found[0]

    def across(self, node: Scalar, parts: list[Reg]) -> list[Reg]:
        """Combine the lanes of accumulators: a fixed tree of halves."""
        while parts[0].lanes > 1:
            half = parts[0].lanes // 2
            low, high = ([self.w.lanes(part, at, half) for part in parts] for at in (0, half))
            parts = self.combined(node, low, high)
        return parts

    def combined(self, node: Scalar, first: Sequence[Reg], second: Sequence[Reg]) -> list[Reg]:
        """Print how two partial results combine."""
        count = len(first)
        names = operands_of([reg.dtype for reg in (*first, *second)])
        frame = Frame(dict(zip(names, (*first, *second))))
        frame.lanes = first[0].lanes
        made = combine(node.attr.monoid, tuple(names[:count]), tuple(names[count:]))
        return [self.value(one, frame) for one in made]

    def accumulate(self, statement: Accumulate, frame: Frame) -> None:
        """Print one step of reductions."""
        for node in statement.reduces:
            slots = self.accumulators[node]
            lanes = slots[0][1].lanes
            old = [Reg(self.w.new(f"load {like.type}, ptr {slot}"), like.dtype, lanes)
                   for slot, like in slots]  # fmt: skip
            new = self.step(node, old, frame, lanes)
            for (slot, like), before, after in zip(slots, old, new):
                if frame.mask is not None and lanes == frame.lanes and lanes > 1:
                    text = f"select {wide('i1', lanes)} {frame.mask}, {after}, {before}"
                    after = self.w.reg(text, like.dtype, lanes)
                self.w.line(f"store {after}, ptr {slot}")

    def step(self, node: Scalar, old: list[Reg], frame: Frame, lanes: int) -> list[Reg]:
        """Give the accumulators with one more element; a product is added with one rounding."""
        (first, *_) = node.args
        fused = node.attr.monoid.name == "sum" and first.op == "mul" and is_float(first.dtype)
        if fused and first.dtype in ("float32", "float64"):
            a, b = (self.w.splat(self.value(one, frame), lanes) for one in first.args)
            name = f"llvm.fma.{suffix(REGISTER[first.dtype], lanes)}"
            made = self.w.call(name, a.type, str(a), str(b), str(old[0]))
            return [Reg(made, first.dtype, lanes)]
        given = [self.w.splat(self.value(one, frame), lanes) for one in node.args]
        return self.combined(node, old, given)


def transposed(w: Writer, rows: Sequence[Reg]) -> list[Reg]:
    """Turn a square of eight registers, by what every processor does in one instruction each."""
    pairs = ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15))
    fours = ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
    halves = ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
    a = [w.picked(rows[k], rows[k + 1], pick) for k in (0, 2, 4, 6) for pick in pairs]
    b = [w.picked(a[k], a[k + 2], pick) for k in (0, 1, 4, 5) for pick in fours]
    return [w.picked(b[k], b[k + 4], pick) for pick in halves for k in range(4)]


def _innermost_lanes(loop: For) -> int:
    while not isinstance(loop.body[-1], Accumulate):
        (inner,) = (one for one in loop.body[-1:] if isinstance(one, For))
        loop = inner
    return _narrow(loop.lanes, loop.axis.extent)


def _narrow(lanes: int, extent: Size) -> int:
    """Take no more lanes than an axis has positions, in powers of two."""
    while isinstance(extent, int) and lanes > 4 and lanes // 2 >= extent:
        lanes //= 2
    return lanes
