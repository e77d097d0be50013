"""What an executor asks of a device, and how CuPy answers.

Addresses are whole numbers: the executor keeps its own books about what lies where.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Any, Protocol

import numpy as np

from symgraph.backends.cuda.calls import Libraries, opened
from symgraph.backends.cuda.interface import Routine
from symgraph.backends.cuda.status import status
from symgraph.errors import BackendError, DeviceError
from symgraph.graph.op import Array
from symgraph.lower.cuda.module import OPTIONS

TO_DEVICE, TO_HOST, WITHIN = 1, 2, 3  # cudaMemcpyKind


class Memory(Protocol):
    """Memory of a device, given back with its last reference."""

    @property
    def address(self) -> int:
        """Where it begins."""


class Device(Protocol):
    """A device: memory, kernels, and one stream in which everything happens in order."""

    @property
    def name(self) -> str:
        """What users call it: "cuda:0"."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """What whoever uses the device holds: there is one stream, and others may be recording."""

    @property
    def most_blocks(self) -> int:
        """How many blocks a launch may have: enough for all processors several times over."""

    @property
    def libraries(self) -> Libraries:
        """What computes products and convolutions there."""

    def reserve(self, size: int) -> Memory:
        """Give memory."""

    def functions(self, source: str, names: Sequence[str]) -> list[Any]:
        """Compile a source and give its functions."""

    def launch(self, function: Any, blocks: int, threads: int, words: Sequence[int]) -> None:
        """Start a function on 64-bit words."""

    def call(self, routine: Routine, addresses: Sequence[int], workspace: int) -> None:
        """Start a library's routine on operands, its result and memory to work in."""

    def capture(self, work: Callable[[], None]) -> Any:
        """Record what `work` starts, without running it."""

    def replay(self, captured: Any) -> None:
        """Start what was recorded, by one launch."""

    def seconds(self, work: Callable[[], None]) -> float:
        """Give how long the device takes for what `work` starts."""

    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous array to the device."""

    def download(self, array: Array, address: int) -> None:
        """Copy into a contiguous array, when everything before is done."""

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes on the device."""


@cache
def device(number: int = 0) -> Device:
    """Open a device. Raises `DeviceError` where it is not there."""
    found = status()
    if found.problem:
        raise DeviceError(
            f"cuda:{number}: {found.problem}.",
            fix=f'{found.fix}; or backend="cpu". "python -m symgraph doctor" shows what there is',
        )
    count = found.devices
    if not 0 <= number < count:
        raise DeviceError(
            f"cuda:{number}: this machine has {count} CUDA device{'s' if count > 1 else ''}.",
            fix=f"use a number from 0 to {count - 1}",
        )
    return CupyDevice(found.cupy, number)


class _CupyMemory:
    def __init__(self, held: Any) -> None:
        self._held = held

    @property
    def address(self) -> int:
        return int(self._held.ptr)


class CupyDevice:
    """A device through CuPy. Not yet run on a GPU."""

    def __init__(self, cupy: Any, number: int) -> None:
        self._cupy, self._device = cupy, cupy.cuda.Device(number)
        self.name = f"cuda:{number}"
        self.lock = threading.RLock()
        with self._device:
            self._stream = cupy.cuda.Stream(non_blocking=True)
            processors = int(self._device.attributes["MultiProcessorCount"])
            self.libraries = opened(self._stream.ptr)
        self.most_blocks = 16 * processors

    def reserve(self, size: int) -> Memory:
        """Give memory."""
        with self._device:
            try:
                return _CupyMemory(self._cupy.cuda.Memory(max(size, 1)))
            except self._cupy.cuda.runtime.CUDARuntimeError as problem:
                raise BackendError(
                    f"{self.name}: {size:,} bytes of memory are not to be had.",
                    details=[str(problem)],
                    fix="a smaller batch; sg.cost(f).max_dim tells the largest that fits",
                ) from problem

    def functions(self, source: str, names: Sequence[str]) -> list[Any]:
        """Compile a source and give its functions."""
        with self._device:
            module = self._cupy.RawModule(code=source, options=OPTIONS, backend="nvrtc")
            return [module.get_function(name) for name in names]

    def launch(self, function: Any, blocks: int, threads: int, words: Sequence[int]) -> None:
        """Start a function on 64-bit words."""
        with self._device, self._stream:
            function((blocks,), (threads,), tuple(np.int64(word) for word in words))

    def call(self, routine: Routine, addresses: Sequence[int], workspace: int) -> None:
        """Start a library's routine in the stream."""
        with self._device:
            routine.run(addresses, workspace)

    def capture(self, work: Callable[[], None]) -> Any:
        """Record what `work` starts as a CUDA graph."""
        with self._device, self._stream:
            self._stream.begin_capture()
            try:
                work()
            except BaseException:
                with suppress(
                    self._cupy.cuda.runtime.CUDARuntimeError
                ):  # the first error tells why
                    self._stream.end_capture()
                raise
            return self._stream.end_capture()

    def replay(self, captured: Any) -> None:
        """Launch a CUDA graph in the stream."""
        with self._device:
            captured.launch(self._stream)

    def seconds(self, work: Callable[[], None]) -> float:
        """Give the time between two events around what `work` starts."""
        with self._device:
            begin, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
            begin.record(self._stream)
            work()
            end.record(self._stream)
            end.synchronize()
            return float(self._cupy.cuda.get_elapsed_time(begin, end)) / 1e3

    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous array to the device; it may be changed as soon as this returns."""
        self._move(address, array.ctypes.data, array.nbytes, TO_DEVICE)
        self._stream.synchronize()

    def download(self, array: Array, address: int) -> None:
        """Copy into a contiguous array, when everything before is done."""
        self._move(array.ctypes.data, address, array.nbytes, TO_HOST)
        self._stream.synchronize()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes on the device."""
        self._move(target, source, size, WITHIN)

    def _move(self, target: int, source: int, size: int, kind: int) -> None:
        if size:
            with self._device:
                runtime = self._cupy.cuda.runtime
                runtime.memcpyAsync(target, source, size, kind, self._stream.ptr)
