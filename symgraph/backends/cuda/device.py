"""What an executor asks of a device, and how CuPy answers.

Addresses are whole numbers: the executor keeps its own books about what lies where.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Any, Protocol

import numpy as np

from symgraph.backends import arrays
from symgraph.backends.cuda.calls import Libraries, opened
from symgraph.backends.cuda.exchange import DeviceArray, Reader, read
from symgraph.backends.cuda.feeder import CupyFeeder, Feeder
from symgraph.backends.cuda.interface import Routine
from symgraph.backends.cuda.references import Placed, compute, widened
from symgraph.backends.cuda.status import status
from symgraph.backends.cuda.wheels import driver_version, wheels
from symgraph.errors import BackendError, DeviceError
from symgraph.graph.dtypes import DType, numpy_dtype
from symgraph.graph.op import Array, Op
from symgraph.lower.cuda.module import OPTIONS

TO_DEVICE, TO_HOST, WITHIN = 1, 2, 3  # cudaMemcpyKind
PEER_ACCESS = 1  # cudaIpcMemLazyEnablePeerAccess


class Memory(Protocol):
    """Memory of a device, given back with its last reference."""

    @property
    def address(self) -> int:
        """Where it begins."""


class Pinned(Memory, Protocol):
    """Memory of this machine that stays where it is."""

    @property
    def bytes(self) -> Array:
        """What is there."""


class Device(Reader, Protocol):
    """A device: memory, kernels, and one stream in which everything happens in order.

    Whoever uses it holds its lock: there is one stream, and others may be recording.
    """

    @property
    def memory(self) -> int:
        """The bytes of memory that it has."""

    @property
    def kind(self) -> str:
        """Its model, its driver and its libraries: with the same, the same is fastest."""

    @property
    def computes(self) -> str:
        """What computes `ref` of an operation there."""

    @property
    def most_blocks(self) -> int:
        """How many blocks a launch may have: enough for all processors several times over."""

    @property
    def libraries(self) -> Libraries:
        """What computes products and convolutions there."""

    @property
    def card(self) -> str:
        """What tells the card from all others of this machine."""

    @property
    def nccl(self) -> Any:
        """CuPy's `nccl`; raises `DeviceError` where there is none."""

    def active(self) -> AbstractContextManager[Any]:
        """Have libraries that look at the current device find this one."""

    def idle(self) -> bool:
        """Tell whether everything is done, without waiting for it."""

    def reserve(self, size: int) -> Memory:
        """Give memory."""

    def pinned(self, size: int) -> Pinned:
        """Give memory of this machine that the device reaches at any time."""

    def send(self, target: int, address: int, size: int) -> None:
        """Queue a copy of bytes to pinned memory."""

    def export(self, memory: Memory) -> bytes:
        """Give what another process opens memory with that `reserve` gave."""

    def open(self, handle: bytes) -> Memory:
        """Give the memory of another process, which keeps it until all have let go of it."""

    def functions(self, source: str, names: Sequence[str]) -> list[Any]:
        """Compile a source and give its functions."""

    def launch(self, function: Any, blocks: int, threads: int, words: Sequence[int]) -> None:
        """Start a function on 64-bit words."""

    def call(self, routine: Routine, addresses: Sequence[int], workspace: int) -> None:
        """Start a library's routine on operands, its result and memory to work in."""

    def compute(self, op: Op, operands: Sequence[Placed], results: Sequence[Placed]) -> None:
        """Start an operation by its `ref`, on arrays at addresses; not while work is recorded."""

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

    def clear(self, address: int, size: int) -> None:
        """Write zeros."""

    def read(self, subject: str, given: Any) -> DeviceArray:
        """Look at somebody's array, and wait for its numbers; raises as `exchange.read`."""

    def gather(self, target: int, source: DeviceArray, dtype: DType) -> None:
        """Copy somebody's array into plain order, as a dtype that loses nothing."""

    def empty(self, shape: Sequence[int], dtype: DType) -> tuple[Any, int]:
        """Make an array that stays on the device, and tell where it lies."""

    def lead(self, stream: int) -> None:
        """Let what comes in another stream wait for what is queued here."""

    def settle(self) -> None:
        """Wait until everything is done."""

    def feeder(self) -> Feeder:
        """Give what brings arrays beside the work."""


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


class _CupyPinned:
    def __init__(self, held: Any, size: int) -> None:
        self.address = int(held.ptr)
        self.bytes = np.frombuffer(held, np.uint8, size)  # which keeps it


class _CupyPeer:
    """Memory of another process; the driver lets go of it with the last reference here."""

    def __init__(self, runtime: Any, address: int) -> None:
        self.address = address
        weakref.finalize(self, runtime.ipcCloseMemHandle, address).atexit = False


class CupyDevice:
    """A device through CuPy."""

    computes = "CuPy"

    def __init__(self, cupy: Any, number: int) -> None:
        self._cupy, self._device = cupy, cupy.cuda.Device(number)
        self.name, self.number = f"cuda:{number}", number
        self.lock = threading.RLock()
        self.array: type = cupy.ndarray
        with self._device:
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self.stream, self.memory = int(self._stream.ptr), int(self._device.mem_info[1])
            processors = int(self._device.attributes["MultiProcessorCount"])
            self.libraries = opened(self._stream.ptr, number)
            runtime = cupy.cuda.runtime
            model = runtime.getDeviceProperties(number)["name"].decode()
            self.kind = f"{model}, CUDA {runtime.driverGetVersion()}, {self.libraries.versions}"
        self.most_blocks = 16 * processors

    @property
    def card(self) -> str:
        """Give its place on the bus: numbers depend on what a process may see."""
        return str(self._cupy.cuda.runtime.deviceGetPCIBusId(self.number))

    @property
    def nccl(self) -> Any:
        """Give CuPy's `nccl`, which knows whether the library was found."""
        found = getattr(self._cupy.cuda, "nccl", None)
        if not getattr(found, "available", False):
            raise DeviceError(
                "CuPy finds no NCCL.", fix=f"pip install {wheels(driver_version()).nccl}"
            )
        return found

    def active(self) -> AbstractContextManager[Any]:
        """Give CuPy's device."""
        return self._device  # type: ignore[no-any-return]

    def idle(self) -> bool:
        """Ask the stream."""
        return bool(self._stream.done)

    def reserve(self, size: int) -> Memory:
        """Give memory."""
        with self._device:
            try:
                return _CupyMemory(self._cupy.cuda.Memory(max(size, 1)))
            except self._cupy.cuda.runtime.CUDARuntimeError as problem:
                raise self._out_of_memory(size, problem) from problem

    def _out_of_memory(self, size: int, problem: Exception) -> BackendError:
        return BackendError(
            f"{self.name}: {size:,} bytes of memory are not to be had.",
            details=[str(problem)],
            fix="a smaller batch; sg.cost(f).max_dim tells the largest that fits",
        )

    def pinned(self, size: int) -> Pinned:
        """Give memory of this machine that the device reaches at any time."""
        with self._device:
            return _CupyPinned(self._cupy.cuda.alloc_pinned_memory(size), size)

    def send(self, target: int, address: int, size: int) -> None:
        """Queue a copy of bytes to pinned memory."""
        self._move(target, address, size, TO_HOST)

    def export(self, memory: Memory) -> bytes:
        """Give the handle of a whole allocation, as `reserve` makes them and the pool does not."""
        runtime = self._cupy.cuda.runtime
        with self._device:
            try:
                return bytes(runtime.ipcGetMemHandle(memory.address))
            except runtime.CUDARuntimeError as problem:
                raise DeviceError(
                    f"{self.name}: its memory cannot be given to other processes: {problem}."
                ) from problem

    def open(self, handle: bytes) -> Memory:
        """Map memory of another process, on this device or on a peer of it."""
        runtime = self._cupy.cuda.runtime
        with self._device:
            try:
                address = runtime.ipcOpenMemHandle(handle, PEER_ACCESS)
            except runtime.CUDARuntimeError as problem:
                raise DeviceError(
                    f"{self.name}: the memory of another process cannot be reached: {problem}."
                ) from problem
        return _CupyPeer(runtime, int(address))

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

    def compute(self, op: Op, operands: Sequence[Placed], results: Sequence[Placed]) -> None:
        """Start what CuPy computes in the stream; memory comes from CuPy's pool."""
        with self._device, self._stream:
            compute(self._cupy, op, operands, results, self._placed)

    def _placed(self, address: int, one: arrays.Array, kind: np.dtype[Any]) -> Any:
        strides = tuple(step * kind.itemsize for step in one.strides)
        last = sum((size - 1) * step for size, step in zip(one.dims, strides))
        at = self._pointer(address, last + kind.itemsize)
        return self._cupy.ndarray(one.dims, kind, at, strides)

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

    def clear(self, address: int, size: int) -> None:
        """Write zeros."""
        if size:
            with self._device:
                self._cupy.cuda.runtime.memsetAsync(address, 0, size, self.stream)

    def _move(self, target: int, source: int, size: int, kind: int) -> None:
        if size:
            with self._device:
                runtime = self._cupy.cuda.runtime
                runtime.memcpyAsync(target, source, size, kind, self._stream.ptr)

    # -- arrays of others --------------------------------------------------------------------------

    def read(self, subject: str, given: Any) -> DeviceArray:
        """Look at somebody's array: CuPy tells the stream that is current on its device."""
        with self._device:
            return read(subject, given, self)

    def where(self, address: int) -> int | None:
        """Ask the driver; memory of the host that devices read, and managed memory, is of all."""
        runtime = self._cupy.cuda.runtime
        found = runtime.pointerGetAttributes(address)
        return int(found.device) if found.type == runtime.memoryTypeDevice else None

    def gather(self, target: int, source: DeviceArray, dtype: DType) -> None:
        """Copy by kernels of CuPy, as bits where the dtype stays; bfloat16 is half a float32."""
        with self._device, self._stream:
            wanted, own = numpy_dtype(dtype), source.dtype
            bits = np.dtype(f"u{own.itemsize}")
            if own == wanted:
                here, kind = self._view(source, bits), bits
            elif own.name == "bfloat16":
                here, kind = widened(self._view(source, bits)), wanted
            elif wanted.name == "bfloat16":
                wide = self._view(source, own).astype(np.float32)
                here, kind = wide.view(np.uint32) >> np.uint32(16), np.dtype(np.uint16)
            else:
                here, kind = self._view(source, own), wanted
            at = self._pointer(target, here.size * kind.itemsize)
            there = self._cupy.ndarray(source.shape, kind, at)
            there[...] = here

    def _view(self, source: DeviceArray, kind: np.dtype[Any]) -> Any:
        at = self._pointer(source.address, source.nbytes, source.owner)
        return self._cupy.ndarray(source.shape, kind, at, source.strides)

    def _pointer(self, address: int, size: int, owner: Any = None) -> Any:
        memory = self._cupy.cuda.UnownedMemory(address, size, owner, self.number)
        return self._cupy.cuda.MemoryPointer(memory, 0)

    def empty(self, shape: Sequence[int], dtype: DType) -> tuple[Any, int]:
        """Make an array of CuPy, of the pool of the caller's stream, where it will be freed."""
        with self._device:
            try:
                array = self._cupy.empty(tuple(shape), numpy_dtype(dtype))
            except self._cupy.cuda.memory.OutOfMemoryError as problem:
                size = int(np.prod(shape)) * numpy_dtype(dtype).itemsize
                raise self._out_of_memory(size, problem) from problem
            return array, int(array.data.ptr)

    def caller(self) -> int:
        """Give CuPy's current stream on this device, of this thread."""
        with self._device:
            return int(self._cupy.cuda.get_current_stream().ptr)

    def follow(self, stream: int) -> None:
        """Let this stream wait for another, by an event."""
        self._order(stream, self.stream)

    def lead(self, stream: int) -> None:
        """Let another stream wait for this one, by an event."""
        self._order(self.stream, stream)

    def settle(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def feeder(self) -> Feeder:
        """Give one with a new stream."""
        return CupyFeeder(self._cupy, self._device, self.empty, self._order)

    def _order(self, first: int, second: int) -> None:
        if first != second:
            with self._device:
                runtime, event = self._cupy.cuda.runtime, self._cupy.cuda.Event(disable_timing=True)
                runtime.eventRecord(event.ptr, first)
                runtime.streamWaitEvent(second, event.ptr)
