"""What a library of operations is to this engine: what it is asked, and what it answers.

A library is a module with four functions (`Library`). It gives an operation at concrete sizes as
`Prepared`: primitives in order, each with what it reads and writes. A primitive that is bound to
addresses is a `Call`, whose `record` the driver runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from symgraph.backends.arrays import Array, Arrays
from symgraph.dims import Dim, Size
from symgraph.frozen import frozen
from symgraph.graph.node import Value
from symgraph.graph.op import Op

Fixed = tuple[bool, ...]  # which operands are the same in every call


class Argument(Protocol):
    """How an operand of a primitive lies in memory."""

    @property
    def dtype(self) -> str:
        """The name of its dtype."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def key(self) -> Any:
        """What is equal for arguments that lie alike."""


class Call(Protocol):
    """A primitive with its arguments at addresses.

    `record` is int64: the address of a C function and the four words that it is given (a pointer, a
    pointer, an int of 32 bits, a pointer); it returns 0 when all went well.
    """

    record: npt.NDArray[np.int64]

    def rebind(self, role: str, address: int) -> None:
        """Move an argument to another address."""


class Primitive(Protocol):
    """One computation of a library, with the layouts of its arguments."""

    name: str

    @property
    def arguments(self) -> Mapping[str, Argument]:
        """What it reads and writes, by role."""

    @property
    def implementation(self) -> str:
        """The library's name of what it will run."""

    @property
    def is_reference(self) -> bool:
        """Whether the library fell back on plain loops, which are many times slower."""

    def bind(self, buffers: Mapping[str, tuple[Any, int]]) -> Call:
        """Bind every argument, given as it lies, to an address, or to 0 until it has one."""


@frozen
class Use:
    """One primitive: which operand, result or scratch stands in each role."""

    primitive: Primitive
    roles: Mapping[str, int]  # operands 0.., then results, then scratch


@dataclass
class Prepared:
    """The primitives of one library call, in order, and the bytes of its scratch memory."""

    uses: list[Use] = field(default_factory=list)
    scratch: list[int] = field(default_factory=list)
    clear: bool = False  # nothing is summed: the result is zero

    @property
    def implementation(self) -> str:
        """What the library runs."""
        return ", ".join(dict.fromkeys(one.primitive.implementation for one in self.uses))

    @property
    def is_reference(self) -> bool:
        """Whether some of it is plain loops, which are many times slower."""
        return any(one.primitive.is_reference for one in self.uses)


class Library(Protocol):
    """A module that knows how a library computes operations."""

    def offers(self, dtypes: Sequence[str]) -> bool:
        """Tell whether the library is there and has these dtypes, of operands and of the result."""

    def takes(self, value: Value, env: Mapping[Dim, int]) -> bool:
        """Tell whether it computes an operation better than generated loops; `env` is an example.

        The answer is kept for all sizes.
        """

    def reads(self, op: str, shape: Sequence[Size], strides: Sequence[Size]) -> bool:
        """Tell whether it reads an operand of an operation that lies so, whatever the sizes."""

    def prepare(
        self, op: Op, arrays: Arrays, result: Array, fixed: Fixed, threads: int
    ) -> Prepared:
        """Give the primitives of an operation. Raises `BackendError` where there are none.

        No array is empty. The calls run with so many threads, or, with 0, on all.
        """
