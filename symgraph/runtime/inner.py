"""Graphs inside operations on the CPU: a loop or a branch is one record of the step around it.

The body is a plan of its own, with its code and its records; the driver walks them without Python.
Its temporaries, and the places of rows and states, are scratch memory of the step around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from symgraph.backends.arrays import Array
from symgraph.backends.cpu.driver import ADD, CLEAR, COPY, SET, WALK, WORDS, driver
from symgraph.backends.cpu.interface import Prepared, Use
from symgraph.graph.body import Body
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.lower.memory import ALIGN
from symgraph.ops.branch import Branch
from symgraph.ops.loop import Loop

FOREVER = 2**63 - 1


class Region:
    """Memory that somebody else holds: what a body takes for its arena."""

    address = 0

    def reserve(self, size: int) -> bool:
        """Do nothing: whoever holds it has made room."""
        return False


class Port(Protocol):
    """Where the address of a buffer stands."""

    def point(self, address: int) -> None:
        """Write an address."""

    def places(self) -> list[int] | None:
        """Give the addresses of the words where it stands, None where a library has it."""


class Inside(Protocol):
    """A bound plan of a body."""

    arena: Any
    memory: Any
    records: npt.NDArray[np.int64]

    @property
    def outputs(self) -> Sequence[tuple[Any, ...]]:
        """Where the addresses of its outputs stand, with what they are."""

    @property
    def inputs(self) -> Sequence[Port | None]:
        """Where the addresses of its inputs stand; None for those that it does not read."""

    def place(self) -> None:
        """Fill in the addresses of what lies in the arena."""

    def held_bytes(self) -> int:
        """Count the bytes of what its first step computes for all others."""


Compile = Callable[[Body, Region], Inside]


def prepare(
    op: Op, arrays: Sequence[Array], results: Sequence[Array], compiled: Compile
) -> Prepared:
    """Give a loop or a branch at concrete sizes as one primitive."""
    made = Routine(op, arrays, results, compiled)
    roles = {role: number for number, role in enumerate(made.arguments)}
    return Prepared([Use(made, roles)], [made.size])


def staying(op: Op, body: Body) -> frozenset[Value]:
    """Give the inputs of a body that are the same in every step of a loop."""
    return frozenset(body.inputs[op.sequences + op.states :] if isinstance(op, Loop) else ())


class Routine:
    """A loop or a branch, with the plans of its bodies."""

    is_reference = False
    implementation = "compiled"

    def __init__(
        self, op: Op, arrays: Sequence[Array], results: Sequence[Array], compiled: Compile
    ) -> None:
        self.op, self.name = op, op.name
        self.arrays, self.results = tuple(arrays), tuple(results)
        self.arguments: dict[str, Array] = {
            **{f"x{number}": one for number, one in enumerate(arrays)},
            **{f"y{number}": one for number, one in enumerate(results)},
        }
        bodies = op.branches if isinstance(op, Branch) else (op.body,)  # type: ignore[attr-defined]
        self.inside = [compiled(body, Region()) for body in bodies]
        self.size = max(one.memory.total for one in self.inside)
        self.places: list[int] = []  # of rows, states, and what a step makes, in scratch memory
        if isinstance(op, Loop):
            last = op.sequences + op.states
            sizes = [
                _row(one) if n < op.sequences else one.size for n, one in enumerate(arrays[:last])
            ]
            sizes += [one.size if n < op.states else _row(one) for n, one in enumerate(results)]
            for size in sizes:
                self.places.append(_aligned(self.size))
                self.size = self.places[-1] + size
        self.arguments["scratchpad"] = Array((self.size,), "uint8", (1,))

    def bind(self, buffers: Mapping[str, tuple[Any, int]]) -> LoopCall | BranchCall:
        """Bind to addresses, which may be 0 until `rebind` gives them."""
        made = LoopCall(self) if isinstance(self.op, Loop) else BranchCall(self)
        for role, (_, address) in buffers.items():
            if address:
                made.rebind(role, address)
        return made


def _row(one: Array) -> int:
    return one.size // one.dims[0] if one.dims[0] else 0


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


Hook = Callable[[int], None]  # told a new address


class _Records:
    """A list of records; addresses are filled in later, where they become known."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.array = np.zeros((0, WORDS), np.int64)

    def add(self, *row: int) -> int:
        """Add a record; give its place."""
        self.rows.append([*row, *(0 for _ in range(WORDS - len(row)))])
        return len(self.rows) - 1

    def freeze(self) -> list[int]:
        """Give the records their memory; what the driver needs: where it is, and how many."""
        self.array = np.array(self.rows, np.int64).reshape(len(self.rows), WORDS)
        return [int(self.array.ctypes.data), len(self.rows)]

    def hook(self, row: int, word: int, offset: int = 0) -> Hook:
        """Give what writes an address, moved by an offset, into a word."""

        def write(address: int) -> None:
            self.array[row, word] = address + offset

        return write

    def at(self, row: int, word: int) -> int:
        """Give the address of a word."""
        return int(self.array.ctypes.data) + 8 * (row * WORDS + word)


class LoopCall:
    """A loop at addresses.

    Rows are read and written where they lie by kernels, whose arguments move on from step to step.
    What a library reads or writes has a fixed place instead, with a copy in each step.
    """

    def __init__(self, routine: Routine) -> None:
        op = routine.op
        assert isinstance(op, Loop)  # by `Routine.bind`
        self.op, self.routine, self.inner = op, routine, routine.inside[0]
        self.addresses: dict[str, int] = {}
        self.hooks: dict[str, list[Hook]] = {}
        self.words = np.zeros(12, np.int64)  # see `loop` in the driver
        address = int(self.words.ctypes.data)
        self.record: npt.NDArray[np.int64] = np.array([driver().loop, address, 0, 0, 0], np.int64)

    def rebind(self, role: str, address: int) -> None:
        """Move an argument to another address."""
        if role == "scratchpad":
            self._place(address)
            return
        self.addresses[role] = address
        for tell in self.hooks.get(role, ()):
            tell(address)

    def _place(self, base: int) -> None:
        """Make the records anew for another place of the scratch memory."""
        self.inner.arena.address = base
        self.inner.place()
        self.hooks = {role: [] for role in self.routine.arguments}
        self.begin, self.rows, self.keep, self.end = (_Records() for _ in range(4))
        self.starts: list[tuple[_Records, int, int, int]] = []  # walks, and the SETs of their words
        at = [base + place for place in self.routine.places]
        self._sequences(at)
        self._states(at)
        self._kept(at)
        for number, port in enumerate(self.inner.inputs):
            if number >= self.op.sequences + self.op.states and port is not None:
                self.hooks[f"x{number}"].append(port.point)
        self._freeze()
        for role, address in self.addresses.items():
            for tell in self.hooks[role]:
                tell(address)

    def _freeze(self) -> None:
        lists = [self.begin.freeze(), self.rows.freeze()]
        lists.append([int(self.inner.records.ctypes.data), len(self.inner.records)])
        lists += [self.keep.freeze(), self.end.freeze()]
        for records, row, word, set_ in self.starts:
            self.begin.array[set_, 1] = records.at(row, word)
        length = FOREVER if self.op.length is None else int(self.op.length)
        self.words[:11] = [*(word for each in lists for word in each), length]

    def _start(self, one: Array) -> tuple[int, int, int]:
        """Give the bytes of a row, of a step from one to the next, and of the way to the first."""
        row = _row(one)
        last = max(one.dims[0] - 1, 0)
        return (row, -row, last * row) if self.op.reverse else (row, row, 0)

    def _walk(self, role: str, one: Array, port: Port) -> bool:
        """Let kernels walk along rows where they lie, unless a library has the address."""
        places = port.places()
        _, step, first = self._start(one)
        for word in places or ():
            place = self.begin.add(SET, word, 0)
            self.hooks[role].append(self.begin.hook(place, 2, first))
            self.keep.add(ADD, word, step)
        return places is not None

    def _sequences(self, at: Sequence[int]) -> None:
        for number, one in enumerate(self.routine.arrays[: self.op.sequences]):
            port, role = self.inner.inputs[number], f"x{number}"
            if port is None or self._walk(role, one, port):
                continue
            row, step, first = self._start(one)
            port.point(at[number])
            place = self.rows.add(WALK, at[number], 0, row, 0, step)
            self._begins(self.rows, place, 2, role, first)

    def _begins(self, records: _Records, row: int, word: int, role: str, first: int) -> None:
        """Let a walk begin where the rows of an argument do."""
        place = self.begin.add(SET, 0, 0)
        self.starts.append((records, row, word, place))
        self.hooks[role].append(self.begin.hook(place, 2, first))

    def _states(self, at: Sequence[int]) -> None:
        first, states = self.op.sequences, self.op.states
        for number, one in enumerate(self.routine.results[:states]):
            held, made = at[first + number], at[first + states + number]
            port = self.inner.inputs[first + number]
            if port is not None:
                port.point(held)
            self.inner.outputs[number][0].point(made)
            place = self.begin.add(COPY, held, 0, one.size)
            self.hooks[f"x{first + number}"].append(self.begin.hook(place, 2))
            self.keep.add(COPY, held, made, one.size)
            place = self.end.add(COPY, 0, held, one.size)
            self.hooks[f"y{number}"].append(self.end.hook(place, 1))
        if self.op.conditional:
            self.words[11] = at[first]

    def _kept(self, at: Sequence[int]) -> None:
        first, states = self.op.sequences + self.op.states, self.op.states
        for number, one in enumerate(self.routine.results[states:], states):
            role = f"y{number}"
            if self.op.conditional:
                place = self.begin.add(CLEAR, 0, 0, one.size)
                self.hooks[role].append(self.begin.hook(place, 1))
            port, _, _, streamed = self.inner.outputs[number]
            row, step, start = self._start(one)
            if not (streamed and row % ALIGN) and self._walk(role, one, port):
                continue
            port.point(at[first + number])
            place = self.keep.add(WALK, 0, at[first + number], row, step, 0)
            self._begins(self.keep, place, 1, role, start)


class BranchCall:
    """A branch at addresses."""

    def __init__(self, routine: Routine) -> None:
        self.routine = routine
        self._addresses: dict[str, int] = {}
        self._placed = False
        lists = [[int(one.records.ctypes.data), len(one.records)] for one in routine.inside]
        words = [len(lists), 0, *(word for each in lists for word in each)]
        self.words = np.array(words, np.int64)
        address = int(self.words.ctypes.data)
        self.record: npt.NDArray[np.int64] = np.array([driver().branch, address, 0, 0, 0], np.int64)

    def rebind(self, role: str, address: int) -> None:
        """Move an argument to another address."""
        self._addresses[role] = address
        if role == "scratchpad":
            for one in self.routine.inside:
                one.arena.address = address
                one.place()
            self._placed = True
            for known, where in self._addresses.items():
                self._point(known, where)
        else:
            self._point(role, address)

    def _point(self, role: str, address: int) -> None:
        if role == "x0":
            self.words[1] = address
        elif role != "scratchpad" and self._placed:
            number = int(role[1:])
            for one in self.routine.inside:
                port = one.inputs[number - 1] if role[0] == "x" else one.outputs[number][0]
                if port is not None:
                    port.point(address)
