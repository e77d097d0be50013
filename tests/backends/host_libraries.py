"""Libraries of a device that is this CPU: NumPy on strided views, to test who calls them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.backends.arrays import Array, Arrays
from symgraph.backends.cuda.calls import CONVOLUTIONS, PRODUCTS, Libraries
from symgraph.backends.matrices import always_sums
from symgraph.errors import BackendError
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.lower.program import Operand


def view(address: int, one: Array) -> Any:
    """An array of NumPy where it lies."""
    last = sum((d - 1) * s for d, s in zip(one.dims, one.strides)) + 1
    held = (ctypes.c_char * (last * itemsize(one.dtype))).from_address(address)
    whole = np.frombuffer(held, numpy_dtype(one.dtype))
    strides = [step * itemsize(one.dtype) for step in one.strides]
    return np.lib.stride_tricks.as_strided(whole, one.dims, strides)


WAYS = ("numpy", "numpy, slowly", "numpy, at last", "nothing, with an error")


class HostRoutine:
    """An operation by its reference, in several ways; it fills its workspace, as some do."""

    def __init__(self, op: Op, arrays: Arrays, result: Array, workspace: int) -> None:
        self.op, self.arrays, self.result = op, arrays, result
        self.key = f"{op} of {arrays} as {result}"
        self.implementation, self._workspace = WAYS[0], workspace
        self.slow = {WAYS[1]: 1e-3}  # seconds that a way takes at least
        self.broken = {WAYS[3]: "does not work in this way, after all"}
        self.runs = 0
        self.saves = True  # whether ways can be saved and restored
        self.restored: list[str] = []
        self.chosen: list[str] = []

    @property
    def workspace(self) -> int:
        return self._workspace + 100 * WAYS.index(self.implementation)

    def alternatives(self) -> list[str]:
        return list(WAYS)

    def choose(self, name: str) -> bool:
        if name not in WAYS:
            return False
        self.implementation = name
        self.chosen.append(name)
        return True

    def saved(self) -> bytes:
        return f"{self.key}\0{self.implementation}".encode() if self.saves else b""

    def restore(self, name: str, saved: bytes) -> bool:
        if not self.saves or saved != f"{self.key}\0{name}".encode():
            return False
        self.implementation = name
        self.restored.append(name)
        return True

    def run(self, addresses: Sequence[int], workspace: int) -> None:
        self.runs += 1
        if self.implementation in self.broken:
            raise BackendError(f"numpy: {self.broken[self.implementation]}.")
        time.sleep(self.slow.get(self.implementation, 0))
        if self.workspace:
            ctypes.memset(workspace, 0xAB, self.workspace)
        *operands, result = addresses
        found = [view(at, one) for at, one in zip(operands, self.arrays, strict=True)]
        with np.errstate(all="ignore"):  # ways are measured on whatever lies there
            view(result, self.result)[...] = self.op.ref(np, *found)


class HostLibrary:
    """Takes what is a product or convolution of floats; writes down what it was asked."""

    version = "NumPy"

    def __init__(self, workspace: int = 1000) -> None:
        self.workspace = workspace
        self.asked: list[tuple[str, Arrays, Array, int, bool]] = []

    def takes(self, value: Value) -> bool:
        return always_sums(value)

    def reads(self, value: Value, view: Operand) -> bool:
        return True

    def prepare(
        self, op: Op, arrays: Arrays, result: Array, alignment: int, tf32: bool
    ) -> HostRoutine:
        self.asked.append((op.name, arrays, result, alignment, tf32))
        return HostRoutine(op, arrays, result, self.workspace)


def libraries(own: HostLibrary) -> Libraries:
    return Libraries(dict.fromkeys((*CONVOLUTIONS, *PRODUCTS), own))
