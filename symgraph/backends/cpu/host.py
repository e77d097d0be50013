"""NumPy as a library: what no loops express (factorisations, transforms, sorts) is its `ref`.

The driver calls back into Python, so such a record takes the GIL and some microseconds. `ref` of
such an operation does not raise for numbers: what has no result is NaN.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from symgraph.backends.arrays import Array
from symgraph.backends.cpu.interface import Prepared, Use
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.op import Op

_calls: WeakValueDictionary[int, Call] = WeakValueDictionary()
_numbers = itertools.count(1)
_problems: list[tuple[BaseException, bool]] = []  # and whether it is the user's own


def prepare(op: Op, arrays: Sequence[Array], results: Sequence[Array]) -> Prepared:
    """Give an operation at concrete sizes as one primitive, which NumPy computes."""
    made = Routine(op, arrays, results)
    return Prepared([Use(made, {role: number for number, role in enumerate(made.arguments)})])


def problem() -> tuple[BaseException | None, bool]:
    """Give what the last step raised inside, and whether code of the user's did; forget it."""
    return _problems.pop() if _problems else (None, False)


class Routine:
    """One operation at concrete sizes."""

    is_reference = False
    implementation = "NumPy"

    def __init__(self, op: Op, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        self.op, self.name, self.operands = op, op.name, len(arrays)
        self.arguments: Mapping[str, Array] = {
            **{f"x{number}": one for number, one in enumerate(arrays)},
            **{f"y{number}": one for number, one in enumerate(results)},
        }

    def bind(self, buffers: Mapping[str, tuple[Any, int]]) -> Call:
        """Bind operands and results to addresses, which may be 0 until `Call.rebind` gives them."""
        return Call(self, {role: buffers[role][1] for role in self.arguments})


class Call:
    """An operation at addresses; its record calls `_called` with its number."""

    def __init__(self, routine: Routine, addresses: Mapping[str, int]) -> None:
        self.routine, self._addresses = routine, dict(addresses)
        self._views: list[Any] | None = None
        number = next(_numbers)
        _calls[number] = self
        address = ctypes.cast(_entry, ctypes.c_void_p).value or 0
        self.record: npt.NDArray[np.int64] = np.array([address, number, 0, 0, 0], np.int64)

    def rebind(self, role: str, address: int) -> None:
        """Move an argument to another address."""
        self._addresses[role] = address
        self._views = None

    def run(self) -> None:
        """Compute; the results are written where they belong."""
        if self._views is None:
            self._views = [
                view(self._addresses[role], one) for role, one in self.routine.arguments.items()
            ]
        count = self.routine.operands
        with np.errstate(all="ignore"):
            found = self.routine.op.ref(np, *self._views[:count])
        targets = self._views[count:]
        for target, result in zip(targets, found if len(targets) > 1 else (found,)):
            target[...] = result


def view(address: int, one: Array) -> Any:
    """Give the array that lies at an address."""
    dtype = numpy_dtype(one.dtype)
    if one.empty or not address:
        return np.zeros(one.dims, dtype)
    last = sum((n - 1) * s for n, s in zip(one.dims, one.strides))
    memory: Any = (ctypes.c_char * ((last + 1) * dtype.itemsize)).from_address(address)
    steps = tuple(stride * dtype.itemsize for stride in one.strides)
    return np.ndarray(one.dims, dtype, memory, 0, steps)


def _called(number: int, nothing: int, unused: int, addresses: int) -> int:
    """Run a call for the driver; nothing may be raised through it."""
    call = _calls[number]
    try:
        call.run()
    except KeyboardInterrupt as interrupt:  # held until the step ends, which is half done
        _problems.append((interrupt, False))
        return _called(number, nothing, unused, addresses)
    except BaseException as found:  # noqa: BLE001 - raised again by who called the driver
        _problems.append((found, call.routine.op.calls_user))
        return 1
    return 0


_entry = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p
)(_called)
