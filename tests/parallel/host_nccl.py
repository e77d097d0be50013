"""What CuPy has of NCCL, between threads of one process whose devices are this CPU.

The same few calls, and what is known of the real ones: all ranks make a communicator together, a
sum is of all or does not end, and two ranks on one card are refused.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import ml_dtypes
import numpy as np

KINDS: dict[int, Any] = {
    1: np.uint8, 6: np.float16, 7: np.float32, 8: np.float64, 9: ml_dtypes.bfloat16,
}  # fmt: skip


class NcclError(RuntimeError):
    """What NCCL raises."""


class HostNccl:
    """A module `cupy.cuda.nccl`; `old` has identifiers as CuPy had them before version 14."""

    NCCL_SUM, NCCL_UINT8, NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64, NCCL_BFLOAT16 = 0, 1, 6, 7, 8, 9
    NcclError = NcclError

    def __init__(self, *, old: bool = False) -> None:
        self.old, self.sums, self.aborts = old, 0, 0
        self.wrong = 0.0  # what is added to every sum
        self.fails: set[int] = set()  # ranks that do not connect
        self.rooms: dict[Any, _Room] = {}
        self.lock = threading.Lock()

    def get_unique_id(self) -> Any:
        """Give 128 bytes, some of which are zero or above 127."""
        found = bytes(range(120, 140)) + bytes(44) + os.urandom(64)
        return tuple(np.frombuffer(found, np.int8).tolist()) if self.old else found

    def NcclCommunicator(self, count: int, identifier: Any, rank: int) -> Any:  # noqa: N802
        """Join the others."""
        assert isinstance(identifier, tuple if self.old else bytes)
        assert len(identifier) == 128
        if rank in self.fails:
            raise NcclError("NCCL_ERROR_SYSTEM_ERROR: unhandled system error")
        with self.lock:
            room = self.rooms.setdefault(identifier, _Room(count))
            room.missing -= 1
            if not room.missing:
                room.full.set()
        room.full.wait(20.0)  # the real one waits for ever
        return _Communicator(self, room, rank)


class _Room:
    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.missing, self.full = count, threading.Event()
        self.parts: list[Any] = [None] * count


class _Communicator:
    def __init__(self, library: HostNccl, room: _Room, rank: int) -> None:
        self.library, self.room, self.rank = library, room, rank

    def allReduce(  # noqa: N802
        self, source: int, target: int, count: int, kind: int, operation: int, stream: int
    ) -> None:
        """Add up, in the order of ranks; done when this returns, which NCCL would not promise."""
        assert (operation, stream) == (0, 77)
        numbers = np.dtype(KINDS[kind])
        size = count * numbers.itemsize
        self.room.parts[self.rank] = np.frombuffer(ctypes.string_at(source, size), numbers)
        self.room.barrier.wait(20.0)
        total = self.room.parts[0].copy()
        for other in self.room.parts[1:]:
            total += other
        if kind == 7:
            total += np.float32(self.library.wrong)
        ctypes.memmove(target, total.ctypes.data, size)
        self.room.barrier.wait(20.0)
        self.library.sums += 1

    def abort(self) -> None:
        """Have nobody wait for this one."""
        self.library.aborts += 1
        self.room.barrier.abort()
