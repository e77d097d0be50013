"""Prints a scheduled nest as one CUDA kernel: `name(buffers..., sizes..., tasks)`.

The text says `Index` for the type of indices: `int` or `long long`, by how far they reach.

What a schedule gives to lanes of vectors on a CPU goes to the threads of a block here: a block
takes tasks one after another, its threads walk the vector axis together, and a reduction with lanes
is one of the block. What happens outside such loops happens in all threads alike, and one of them
stores. Where nothing has lanes, every thread takes tasks of its own.

Where few positions along the vector axis each reduce much (columns: the sum over images and places
for each channel), a position has several threads, rows, which share its loops.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Protocol

from symgraph.dims import Dim, Size, ceil_div, divides
from symgraph.frozen import frozen
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.lower.cuda.joining import MOST_THREADS, WARP, Joining, Room
from symgraph.lower.cuda.schedule import SHARED, WIDE, is_whole
from symgraph.lower.cuda.types import INDEX, MEMORY, REGISTER, WIDTHS, Reg, literal
from symgraph.lower.cuda.values import Frame, in_memory
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
from symgraph.lower.monoids import neutral
from symgraph.lower.nest import BINDING, Buffer, Nest, free_axes
from symgraph.lower.program import number
from symgraph.lower.reach import Reach
from symgraph.lower.schedule import Schedule
from symgraph.lower.stage import Staged

LONG = 1024  # steps along a row from which on it has twice the threads
Env = Mapping[Dim, int]
LAZY = ("add", "sub", "neg", "mul", "axis", "const", "size")


@frozen
class Kernel:
    """A printed kernel: its text, what its arguments are, and how it is launched.

    `threads` is the size of a block. With `alone` each thread takes tasks of its own, else a block.
    `arguments`, `shared` and `body` are the parts of the text; `again` prints for other `threads`.
    """

    name: str
    text: str
    arguments: tuple[str, ...]  # each with its type
    shared: tuple[Room, ...]
    body: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    sizes: tuple[Size, ...]
    tasks: Size
    threads: int
    alone: bool
    reach: Reach
    held: bool = False  # whether it is told, after its tasks, where a check leaves its mark
    marks: bool = False  # whether it leaves that mark
    again: Callable[[int], Kernel] | None = field(default=None, compare=False, repr=False)

    def holding(self) -> Kernel:
        """Give the kernel that does nothing once a check has failed."""
        head = "long long tasks) {"
        marked = "long long tasks, const unsigned char* failed) {\n  if (*failed) return;"
        return replace(self, text=self.text.replace(head, marked, 1), held=True)

    @property
    def parts(self) -> tuple[Kernel, ...]:
        """What runs side by side in a launch of it: itself."""
        return (self,)

    def source(self, name: str, wide: bool) -> str:
        """Give the text under a name, with indices of 64 bits if they must be so wide, or of 32."""
        return named(self, name, wide)

    def blocks(self, tasks: int, most: int) -> int:
        """Give the number of blocks for so many tasks."""
        wanted = -(-tasks // self.threads) if self.alone else tasks
        return max(1, min(wanted, most))

    def stride(self, most: int) -> int:
        """Give how far a counter of its loops may go beyond an end, with so many blocks at most."""
        return max(most * (self.threads if self.alone else 1), WIDE * self.threads)


class Printed(Protocol):
    """A text that has a name."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def text(self) -> str:
        """The text."""


def named(kernel: Printed, name: str, wide: bool) -> str:
    """Give the text of a kernel under another name, with indices of 64 bits or of 32."""
    text = kernel.text.replace(f" {kernel.name}(", f" {name}(", 1)
    return re.sub(r"\bIndex\b", WIDTHS[wide], text)


def print_kernel(
    nest: Nest, schedule: Schedule, name: str, nominal: Mapping[Dim, int], threads: int = 0
) -> Kernel:
    """Print a flattened nest; a row that blocks walk has so many threads, if they are said."""
    return _Printer(nest, schedule, name, nominal, threads).kernel()


class _Printer(Joining):
    def __init__(
        self, nest: Nest, schedule: Schedule, name: str, nominal: Mapping[Dim, int], wanted: int
    ) -> None:
        super().__init__(nest)
        self.wanted = wanted  # threads; 0: as many as its rows ask for
        self.schedule, self.name, self.nominal = schedule, name, nominal
        self.kept: dict[Staged, str] = {}
        self.rows: dict[object, str] = {}
        self.common = False  # whether something is kept for the whole block
        self.alone = False

    def kernel(self) -> Kernel:
        """Print everything."""
        body = loops(self.nest, self.schedule)
        walked = list(_walked(body))
        self.alone = not walked and bool(self.schedule.tasks)
        if walked:
            widest = max(self._steps(one) for one in walked)
            if 2 * widest <= self.threads and _are_columns(body, walked, self.nominal):
                self.lanes = 1 << (widest - 1).bit_length()
            self.threads = MOST_THREADS if self.lanes or widest < LONG else 2 * MOST_THREADS
            while not self.lanes and self.threads > WARP and self.threads // 2 >= widest:
                self.threads //= 2
            self.threads = self.wanted or self.threads
        if self.schedule.tasks:
            self.statements(body, Frame())
        else:  # one block has everything to do
            with self.block("if (blockIdx.x == 0)"):
                self.statements(body, Frame())
        writes = set(self.nest.writes())
        arguments = [
            f"{'' if one in writes else 'const '}{MEMORY[one.dtype]}* {name}"
            for one, name in self.names.items()
        ]
        arguments += [f"long long given_{name}" for name in self.sizes.values()]
        arguments.append("long long tasks")
        sizes = [f"  const Index {name} = (Index)given_{name};" for name in self.sizes.values()]
        head = f'extern "C" __global__ void __launch_bounds__({self.threads}) {self.name}('
        lines = [
            f"{head}", f"    {', '.join(arguments)}) {{", *(f"  {line}" for line in self.shared),
            *sizes, *self.lines, "}",
        ]  # fmt: skip
        nest, schedule, nominal = self.nest, self.schedule, self.nominal
        return Kernel(
            self.name, "\n".join(lines) + "\n", tuple(arguments), tuple(self.shared),
            (*sizes, *self.lines), self.buffers, tuple(self.sizes), schedule.task_count(),
            self.threads, self.alone, self._reach(),
            again=lambda threads: print_kernel(nest, schedule, self.name, nominal, threads),
        )  # fmt: skip

    def _reach(self) -> Reach:
        """Give what must fit for indices to be narrow."""
        reduced = [axis for one in self.nest.order() if one.op in BINDING for axis in one.attr.axes]
        extents = [one.extent for one in (*self.nest.axes, *reduced)]
        counts = dict.fromkeys([*extents, self.schedule.task_count()])
        return Reach(
            tuple(self.indexed), tuple(self.offsets.values()), tuple(counts), tuple(self.sizes)
        )

    def _steps(self, loop: For) -> int:
        """Count the positions, or groups of neighbours, that threads walk together."""
        if self.schedule.block and loop.axis is self.schedule.vector:
            return self.schedule.block
        count = number(loop.axis.extent, self.nominal)
        return count // WIDE if self._is_wide(loop) else count

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
                place = frame.places[one.staged.over]
                self.line(f"{self._room(one.staged, frame)}[{place}] = "
                          f"{self.value(one.staged.made, frame)};")  # fmt: skip
            elif isinstance(one, Fetch):
                place = frame.places[one.staged.along]
                text = f"{self._room(one.staged, frame)}[{place}]"
                frame.values[one.staged.used] = self.new(text, one.staged.used.dtype)
            elif isinstance(one, Tasks):
                self.tasks(one, frame)
            elif isinstance(one, For):
                self.walk(one, frame, "0", self.stop(one, frame))
            elif isinstance(one, Reduce):
                self.reduce(one, frame)
            elif isinstance(one, KeepRow):
                place = frame.places[one.row.attr.axes[0]]
                self.line(f"{self._row(one.row)}[{place}] = {self.value(one.row.args[0], frame)};")
            elif isinstance(one, FetchRow):
                place = self.held(one.row.args[1], frame).text
                frame.values[one.row] = self.new(f"{self._row(one.row)}[{place}]", one.row.dtype)
            else:
                self.accumulate(one, frame)

    def _row(self, row: Scalar) -> str:
        """Give the array of a row, which is a thread's own."""
        key = row_key(row)
        if key not in self.rows:
            self.rows[key] = name = self.fresh("row")
            count = number(row.attr.axes[0].extent, {})
            self.shared.append(Room(REGISTER[row.dtype], name, count, common=False))
        return self.rows[key]

    def _room(self, staged: Staged, frame: Frame) -> str:
        """Give the array of what is kept: the block's, or a thread's own where threads differ."""
        if staged not in self.kept:
            self.kept[staged] = name = self.fresh("kept")
            own = self.alone or frame.vector not in (None, staged.over, staged.along)
            self.common = self.common or not own
            kind = REGISTER[staged.made.dtype]
            aligned = "" if own else f"alignas({WIDE} * sizeof({kind})) "
            count = max(number(staged.over.extent, {}), 1)  # arrays of nothing are not C
            self.shared.append(Room(kind, name, count, not own, aligned))
        return self.kept[staged]

    def tasks(self, tasks: Tasks, frame: Frame) -> None:
        """Walk tasks: each is taken apart into the positions of its axes."""
        task = self.fresh("task")
        start, step = "blockIdx.x", "gridDim.x"
        if self.alone:
            start = "(Index)blockIdx.x * blockDim.x + threadIdx.x"
            step = "(Index)gridDim.x * blockDim.x"
        head = f"Index {task} = {start}; {task} < (Index)tasks; {task} += {step}"
        with self.block(f"for ({head})"):
            inner, rest, block = frame.inner(), task, self.schedule.block
            for axis in reversed(tasks.axes):
                count = axis.extent
                if block and axis is self.schedule.vector:
                    count = ceil_div(axis.extent, block)
                if axis is tasks.axes[0]:
                    inner.places[axis] = rest
                else:
                    inner.places[axis] = self.new(f"{rest} % {self.size(count)}", INDEX).text
                    rest = self.new(f"{rest} / {self.size(count)}", INDEX).text
            self.blocked(tasks.body, inner) if block else self.statements(tasks.body, inner)
            if self.common:  # before the next task writes there
                self.line("__syncthreads();")

    def blocked(self, body: Iterable[Statement], frame: Frame) -> None:
        """Walk the part of the vector axis that a task has."""
        vector, block = self.schedule.vector, self.schedule.block
        assert vector is not None  # a block is of the vector axis
        start = self.new(f"{frame.places.pop(vector)} * {block}", INDEX).text
        for one in body:
            if isinstance(one, For) and one.axis is vector and self.alone:
                self.wide(one, frame, start)
            elif isinstance(one, For) and one.axis is vector:
                stop = f"least<Index>({start} + {block}, {self.size(vector.extent)})"
                self.walk(one, frame, start, stop)
            else:
                self.statements([one], frame)

    def wide(self, loop: For, frame: Frame, start: str) -> None:
        """Print neighbours along an axis, in one thread; what lies together is read at once."""
        frames = [frame.inner() for _ in range(WIDE)]
        for step, each in enumerate(frames):
            place = start if step == 0 else self.new(f"{start} + {step}", INDEX).text
            each.places[loop.axis] = place
        for one in loop.body:
            if isinstance(one, Let) and self._lies_together(one.value, loop.axis):
                self.load_together(one.value, frames)
            elif isinstance(one, Put):
                self.put_together(one.store, frames)
            elif isinstance(one, Keep):
                room, made = self._room(one.staged, frame), one.staged.made
                values = [self.value(made, each).text for each in frames]
                self.write_four(REGISTER[made.dtype], f"{room} + {start}", values)
            elif isinstance(one, Fetch):
                room, used = self._room(one.staged, frame), one.staged.used
                for each, text in zip(frames, self.four(REGISTER[used.dtype], f"{room} + {start}")):
                    each.values[used] = self.new(text, used.dtype)
            else:
                for each in frames:
                    self.statements([one], each)

    def _lies_together(self, node: Scalar, along: Axis) -> bool:
        """Tell whether a value is a load of neighbours, all of them or none."""
        if node.op != "load" or not is_whole(
            self.form(node.args[0]), along, node.attr.buffer, WIDE
        ):
            return False
        return not (node.attr.guarded and along in free_axes(scalar_order([node]))[node.args[-1]])

    def stop(self, loop: For, frame: Frame) -> str:
        """Give where a loop ends."""
        extent = self.size(loop.axis.extent)
        if loop.stop is None:
            return extent
        stop = self.held(loop.stop, frame)
        if stop.dtype == INDEX:
            return f"least<Index>({stop}, {extent})"
        return f"(Index)largest(least({stop}, (long long){extent}), 0LL)"

    def walk(self, loop: For, frame: Frame, start: str, stop: str) -> None:
        """Print a loop; one with lanes is walked by the threads of the block together."""
        place, together = self.fresh("i"), loop.lanes > 1 and frame.vector is None
        if together and self.lanes:
            self.columns(loop, frame, start, stop)
            return
        inner = frame.inner()
        inner.places[loop.axis] = place
        step = "1"
        if frame.rows and not any(isinstance(one, Reduce) for one in _inside(loop.body)):
            start, step = f"threadIdx.x / {self.lanes}", f"blockDim.x / {self.lanes}"
            inner.rows, inner.guard = False, frame.guard.split(" && ", 1)[0]
        if together:
            inner.vector, step = loop.axis, "blockDim.x"
            start = "threadIdx.x" if start == "0" else f"{start} + threadIdx.x"
            if self._is_wide(loop):
                start, step = f"{WIDE} * threadIdx.x", f"{WIDE} * blockDim.x"
        with self.block(f"for (Index {place} = {start}; {place} < {stop}; {place} += {step})"):
            if together and self._is_wide(loop):
                self.wide(loop, inner, place)
            else:
                self.statements(loop.body, inner)

    def _is_wide(self, loop: For) -> bool:
        """Tell whether a thread can take neighbours of a row that the block walks."""
        one = loop.axis
        if loop.stop is not None or self.schedule.block or divides(WIDE, one.extent) is not True:
            return False
        for each in loop.body:
            if isinstance(each, Put):
                store = each.store
                if not is_whole(self.form(store.index[0]), one, store.buffer, WIDE):
                    return False
            elif isinstance(each, Let):
                if each.value.op == "load" and not self._lies_together(each.value, one):
                    return False
            elif not isinstance(each, Accumulate | Keep | Fetch):
                return False
        return True

    def columns(self, loop: For, frame: Frame, start: str, stop: str) -> None:
        """Print a loop whose positions have several threads each.

        All threads of the block go through it equally often, since they meet in reductions.
        """
        base, inner = self.fresh("base"), frame.inner()
        head = f"Index {base} = {start}; {base} < {stop}; {base} += {self.lanes}"
        with self.block(f"for ({head})"):
            lane = self.new(f"{base} + threadIdx.x % {self.lanes}", INDEX)
            inside = self.new(f"{lane} < {stop}", "bool")
            inner.places[loop.axis] = self.new(f"least<Index>({lane}, {stop} - 1)", INDEX).text
            inner.vector, inner.rows = loop.axis, True
            inner.guard = f"{inside} && threadIdx.x < {self.lanes}"
            self.statements(loop.body, inner)

    def put(self, put: Put, frame: Frame) -> None:
        """Print a store: of every thread inside its loop, else of one."""
        store = put.store
        value = self.value(store.value, frame)
        place = self.offset(store.index[0], frame)
        text = f"{self.names[store.buffer]}[{place}] = {in_memory(value)};"
        if frame.guard:
            if frame.rows and store.buffer in self.nest.reads():  # all rows have read it by then
                self.line("__syncthreads();")
            self.line(f"if ({frame.guard}) {text}")
            return
        if self.alone or frame.vector is not None:
            self.line(text)
            return
        if store.buffer in self.nest.reads():  # in place: all threads have read it by then
            self.line("__syncthreads();")
        self.line(f"if (threadIdx.x == 0) {text}")

    # -- reductions --------------------------------------------------------------------------------

    def reduce(self, statement: Reduce, frame: Frame) -> None:
        """Start accumulators, run the loops, and give the results."""
        together = frame.vector is None and any(True for _ in _walked([statement.loop]))
        for node in statement.reduces:
            self.accumulators[node] = []
            for start in neutral(node.attr.monoid, tuple(one.dtype for one in node.args)):
                name = self.fresh("sum")
                first = literal(start.attr, start.dtype)
                self.line(f"{REGISTER[start.dtype]} {name} = {first};")
                self.accumulators[node].append(Reg(name, start.dtype))
        shared = frame.rows
        if shared:
            self.walk_row(statement.loop, frame)
        else:
            self.statements([statement.loop], frame)
        for node in statement.reduces:
            found = self.accumulators[node]
            if together:
                self.across(node, found)
            elif shared:
                self.down(node, found)
            frame.parts[node] = tuple(found)
            frame.values[node] = found[0]

    def walk_row(self, loop: For, frame: Frame) -> None:
        """Print the loop of a reduction that the threads of a position share."""
        place, inner = self.fresh("i"), frame.inner()
        inner.places[loop.axis] = place
        inner.rows = False
        head = f"Index {place} = threadIdx.x / {self.lanes}"
        stop, step = self.stop(loop, frame), f"blockDim.x / {self.lanes}"
        with self.block(f"for ({head}; {place} < {stop}; {place} += {step})"):
            self.statements(loop.body, inner)


def _are_columns(body: Iterable[Statement], walked: Sequence[For], nominal: Env) -> bool:
    """Tell whether threads walk few positions, each with long reductions and nothing kept."""
    every = list(_inside(body))
    if any(isinstance(one, Keep | Fetch) for one in every):
        return False
    for loop in walked:
        inside = list(_inside(loop.body))
        reductions = [one for one in inside if isinstance(one, Reduce)]
        if any(isinstance(one, For) and _ends_by(one, loop.axis) for one in inside):
            return False  # threads would not meet equally often
        if not any(_elements(one.loop, nominal) >= SHARED for one in reductions):
            return False
    lanes = [one for one in every if isinstance(one, Reduce) and any(_walked([one.loop]))]
    return not lanes


def _ends_by(loop: For, axis: Axis) -> bool:
    """Tell whether the end of a loop depends on the place along an axis."""
    if loop.stop is None:
        return False
    return axis in free_axes(scalar_order([loop.stop]))[loop.stop]


def _elements(loop: For, nominal: Env) -> int:
    """Count about how often the innermost part of a loop runs."""
    inner = [_elements(one, nominal) for one in loop.body if isinstance(one, For)]
    return number(loop.axis.extent, nominal) * max(inner, default=1)


def _inside(body: Iterable[Statement]) -> Iterator[Statement]:
    """Give all statements, those of loops and reductions too."""
    for one in body:
        yield one
        if isinstance(one, For | Tasks):
            yield from _inside(one.body)
        elif isinstance(one, Reduce):
            yield from _inside([one.loop])


def _walked(body: Iterable[Statement]) -> Iterator[For]:
    """Give the loops that threads walk together."""
    for one in body:
        if isinstance(one, For):
            if one.lanes > 1:
                yield one
            yield from _walked(one.body)
        elif isinstance(one, Tasks):
            yield from _walked(one.body)
        elif isinstance(one, Reduce):
            yield from _walked([one.loop])
