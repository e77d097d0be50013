"""What a library of operations is to a device: what it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from symgraph.backends.arrays import Array, Arrays
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.lower.program import Operand


class Routine(Protocol):
    """An operation at concrete sizes, planned for one device."""

    @property
    def key(self) -> str:
        """What tells it from other operations."""

    @property
    def workspace(self) -> int:
        """The bytes of memory that it needs while it runs."""

    @property
    def implementation(self) -> str:
        """The name of the way in which it is computed."""

    def alternatives(self) -> Sequence[str]:
        """Name the ways in which it can be computed, the likely fastest first; one at least."""

    def choose(self, name: str) -> bool:
        """Compute it in one of these ways from now on; False if there is none of that name."""

    def saved(self) -> bytes:
        """Give this way in the form that `restore` reads; nothing where that would save no time."""

    def restore(self, name: str, saved: bytes) -> bool:
        """Compute it in the way of this name, which `saved` gave in an earlier process.

        False where that cannot be read: then nothing has changed, and `choose` knows the name.
        """

    def run(self, addresses: Sequence[int], workspace: int) -> None:
        """Queue it on the device, for operands and then the result at these addresses."""


class Library(Protocol):
    """A library that is open on a device."""

    @property
    def version(self) -> str:
        """Its name and version."""

    def takes(self, value: Value) -> bool:
        """Tell whether it computes an operation, at all sizes."""

    def reads(self, value: Value, view: Operand) -> bool:
        """Tell whether it reads an operand of an operation that lies so, at all sizes."""

    def prepare(self, op: Op, arrays: Arrays, result: Array, alignment: int, tf32: bool) -> Routine:
        """Plan an operation; all addresses will be multiples of `alignment` bytes.

        With `tf32`, products of float32 may be rounded to 11 bits first. Where there is no
        implementation this raises `BackendError`, or what it gives does when it is asked for one.
        """
