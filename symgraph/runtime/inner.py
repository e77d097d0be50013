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
from symgraph.backends.cpu.driver import CLEAR, COPY, SET, WALK, WORDS, driver
from symgraph.backends.cpu.interface import Prepared, Use
from symgraph.graph.body import Body
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


Compile = Callable[[Body, Region], Inside]


def prepare(
    op: Op, arrays: Sequence[Array], results: Sequence[Array], compiled: Compile
) -> Prepared:
    """Give a loop or a branch at concrete sizes as one primitive."""
    made = Routine(op, arrays, results, compiled)
    roles = {role: number for number, role in enumerate(made.arguments)}
    return Prepared([Use(made, roles)], [made.size])


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


class _Records:
    """A list of records that can be written after it was made."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        padded = [[*row, *(0 for _ in range(WORDS - len(row)))] for row in rows]
        self.array = np.array(padded, np.int64).reshape(len(rows), WORDS)

    def at(self, row: int, word: int) -> int:
        """Give the address of a word."""
        return int(self.array.ctypes.data) + 8 * (row * WORDS + word)

    @property
    def words(self) -> list[int]:
        """What the driver needs: where they are, and how many."""
        return [int(self.array.ctypes.data), len(self.array)]


class LoopCall:
    """A loop at addresses."""

    def __init__(self, routine: Routine) -> None:
        op = routine.op
        assert isinstance(op, Loop)  # by `Routine.bind`
        self.op, self.routine, self.inner = op, routine, routine.inside[0]
        self._others: dict[int, int] = {}  # where the body's other inputs lie
        self._placed = False
        arrays, results, states = routine.arrays, routine.results, op.states
        self.kept = results[states:]
        rows, held = arrays[: op.sequences], results[:states]
        self.rows = _Records([[WALK, 0, 0, _row(one), 0, self._stride(one)] for one in rows])
        keeps = [[WALK, 0, 0, _row(one), self._stride(one), 0] for one in self.kept]
        self.keep = _Records([*keeps, *([COPY, 0, 0, one.size] for one in held)])
        sets = [[SET, self.rows.at(number, 2), 0] for number in range(len(rows))]
        sets += [[SET, self.keep.at(number, 1), 0] for number in range(len(keeps))]
        clears = [[CLEAR, 0, 0, one.size] for one in self.kept] if op.conditional else []
        self.begin = _Records([*([COPY, 0, 0, one.size] for one in held), *sets, *clears])
        self.end = _Records([[COPY, 0, 0, one.size] for one in held])
        length = FOREVER if op.length is None else int(op.length)
        step = [int(self.inner.records.ctypes.data), len(self.inner.records)]
        lists = (self.begin.words, self.rows.words, step, self.keep.words, self.end.words)
        self.words = np.array([*(word for each in lists for word in each), length, 0], np.int64)
        address = int(self.words.ctypes.data)
        self.record: npt.NDArray[np.int64] = np.array([driver().loop, address, 0, 0, 0], np.int64)

    def _stride(self, one: Array) -> int:
        return -_row(one) if self.op.reverse else _row(one)

    def rebind(self, role: str, address: int) -> None:
        """Move an argument to another address."""
        first, states = self.op.sequences, self.op.states
        if role == "scratchpad":
            self._place(address)
            return
        number = int(role[1:])
        if role[0] == "y":
            if number < states:
                self.end.array[number, 1] = address
                return
            place = number - states
            self.begin.array[states + first + place, 2] = self._start(self.kept[place], address)
            if self.op.conditional:
                self.begin.array[states + first + len(self.kept) + place, 1] = address
        elif number < first:
            start = self._start(self.routine.arrays[number], address)
            self.begin.array[states + number, 2] = start
        elif number < first + states:
            self.begin.array[number - first, 2] = address
        else:
            self._others[number] = address
            if self._placed:
                self._point(number, address)

    def _start(self, one: Array, address: int) -> int:
        last = max(one.dims[0] - 1, 0) if self.op.reverse else 0
        return address + last * _row(one)

    def _point(self, number: int, address: int) -> None:
        port = self.inner.inputs[number]
        if port is not None:
            port.point(address)

    def _place(self, base: int) -> None:
        """Give rows, states, and what a step makes, their places in scratch memory."""
        self.inner.arena.address = base
        self.inner.place()
        self._placed = True
        first, states = self.op.sequences, self.op.states
        at = [base + place for place in self.routine.places]
        for number, address in enumerate(at[: first + states]):
            self._point(number, address)
        self.rows.array[:, 1] = at[:first]
        held = at[first : first + states]
        made = at[first + states :]
        for (port, *_), address in zip(self.inner.outputs, made):
            port.point(address)
        kept = len(self.kept)
        self.keep.array[:kept, 2] = made[states:]
        self.keep.array[kept:, 1], self.keep.array[kept:, 2] = held, made[:states]
        self.begin.array[:states, 1] = held
        self.end.array[:, 2] = held
        if self.op.conditional:
            self.words[-1] = held[0]
        for number, address in self._others.items():
            self._point(number, address)


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
