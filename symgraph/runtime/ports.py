"""The places where the addresses of buffers stand in a bound plan."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable

import numpy as np

from symgraph.backends.cpu.interface import Call
from symgraph.graph.op import Array
from symgraph.lower.memory import ALIGN
from symgraph.lower.nest import Buffer


class Port:
    """The places where the address of one buffer stands: words, records, calls of the library."""

    __slots__ = ("_words_at", "address", "calls", "records", "rows", "slots", "sources", "words")

    def __init__(self, words: Array, slots: Iterable[int], records: Array) -> None:
        self.words, self.records = memoryview(words), records
        self._words_at = int(words.ctypes.data)
        self.slots = [int(slot) for slot in slots]
        self.rows: list[int] = []  # records whose first word it is
        self.sources: list[int] = []  # records whose second word it is
        self.calls: list[tuple[Call, str, int]] = []
        self.address = -1

    def places(self) -> list[int] | None:
        """Give the addresses of the words where it stands, None where a library has it."""
        if self.calls:
            return None
        found = [self._words_at + 8 * slot for slot in self.slots]
        for word, rows in ((1, self.rows), (2, self.sources)):
            start = int(self.records.ctypes.data) + 8 * word
            found += [start + row * self.records.strides[0] for row in rows]
        return found

    def point(self, address: int) -> None:
        """Write an address everywhere, unless it stands there already."""
        if address == self.address:
            return
        self.address = address
        for slot in self.slots:
            self.words[slot] = address
        for row in self.rows:
            self.records[row, 1] = address
        for row in self.sources:
            self.records[row, 2] = address
        for call, role, start in self.calls:
            call.rebind(role, address + start)


def _struct_address(array: Array) -> int:
    """Give where the data of an array is, from NumPy's own structure: five times faster."""
    found: int | None = _Pointer.from_address(id(array) + _DATA).value
    return found or 0


def _address(array: Array) -> int:
    return int(array.ctypes.data)


# `data` follows the header of the object in PyArrayObject_fields, part of NumPy's stable C API.
_Pointer, _DATA = ctypes.c_void_p, object.__basicsize__
_probe = np.zeros(1)
_known = sys.implementation.name == "cpython" and _struct_address(_probe) == _address(_probe)
address_of = _struct_address if _known else _address


def is_moved(array: Array) -> bool:
    """Tell whether a variable must be moved before a call: its vectors cross lines."""
    return address_of(array) % ALIGN != 0


class Words:
    """The arguments of all kernels in one list, and where each buffer's address stands in it."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self.slots: dict[Buffer, list[int]] = {}

    def add(self, buffers: Iterable[Buffer], numbers: Iterable[int]) -> int:
        """Add the arguments of one kernel; give where they start."""
        start = len(self.values)
        for one in buffers:
            self.slots.setdefault(one, []).append(len(self.values))
            self.values.append(0)
        self.values.extend(numbers)
        return start
