"""A device that is this CPU, for tests of the executor: kernels by g++, memory of NumPy."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from symgraph.backends.arrays import Array
from symgraph.backends.cuda.calls import Libraries
from symgraph.backends.cuda.exchange import DeviceArray, read
from symgraph.backends.cuda.interface import Routine
from symgraph.backends.cuda.references import Placed, compute
from symgraph.errors import BackendError
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.op import Op
from tests.lower.cuda_host import MEETS, compiled

BY_HAND = re.compile(r'^extern "C" __global__ void ((?!__)\w+)\(', re.MULTILINE)


class HostMemory:
    """Bytes at an address; full of numbers that nobody wrote."""

    def __init__(self, size: int) -> None:
        self.bytes = np.full(size + 256, 0xCD, np.uint8)
        self.address = self.bytes.ctypes.data + -self.bytes.ctypes.data % 256


class HostArray:
    """An array of the library of this device, whose memory is NumPy's: what CuPy's are to a GPU.

    It names the stream that is current where it is asked, as CuPy's do.
    """

    def __init__(self, device: HostDevice, numbers: np.ndarray[Any, Any]) -> None:
        self.device, self.numbers = device, numbers
        self.dtype, self.shape = numbers.dtype, numbers.shape

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        address = self.numbers.ctypes.data if self.numbers.size else 0
        plain = self.numbers.flags.c_contiguous
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (address, False), "version": 3,
            "strides": None if plain else self.numbers.strides, "stream": self.device.current,
        }  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("CuPy's are read by the interface that names their stream")

    def get(self) -> np.ndarray[Any, Any]:
        self.device.downloads += 1
        return self.numbers.copy()

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


class HostDevice:
    """Counts what it is asked for.

    Its own work is done at once. Other streams have work that is done when somebody follows them;
    `order` remembers who waited for whom, and what was read and written in between.
    """

    computes = "NumPy"
    most_blocks = 7
    kind = "this CPU"
    number, stream, array = 0, 77, HostArray

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.uploads = self.downloads = self.launches = self.modules = 0
        self.seed = 0  # of the order of blocks and threads
        self.last = 1 << 30  # the launch after which the device is lost
        self.libraries = Libraries({})
        self.lock = threading.RLock()
        self.calls = self.replays = 0
        self.recorded: list[Any] | None = None  # what is started while a step is captured
        self.memory = 1 << 40
        self.current = 1  # the stream in which the caller works
        self.pending: dict[int, list[Callable[[], None]]] = {}
        self.order: list[tuple[str, int]] = []
        self.elsewhere: dict[int, int | None] = {}  # devices by addresses, where they are others
        self.copies = self.gathers = 0
        self.reserved = 0  # bytes, of which some may have been given back
        self.computed: list[str] = []  # operations by their `ref`
        self.nccl: Any = None
        self.card = name
        self.late = 0  # times that it says not to have done all yet
        self.feeders: list[HostFeeder] = []

    def reserve(self, size: int) -> HostMemory:
        self.reserved += size
        return HostMemory(size)

    def pinned(self, size: int) -> HostMemory:
        made = HostMemory(size)
        start = made.address - made.bytes.ctypes.data
        made.bytes = made.bytes[start : start + size]
        return made

    def send(self, target: int, address: int, size: int) -> None:
        if self.recorded is not None:
            self.recorded.append((self.send, target, address, size))
            return
        ctypes.memmove(target, address, size)

    def export(self, memory: HostMemory) -> bytes:
        return repr((memory.address, memory.bytes.size)).encode()

    def open(self, handle: bytes) -> Any:
        return SimpleNamespace(address=eval(handle)[0])  # of this process: see tests of peers

    def functions(self, source: str, names: Sequence[str]) -> list[Any]:
        self.modules += 1
        launchers = []
        # all of a text by hand, of which some sizes need some: it is compiled once
        for name in dict.fromkeys([*BY_HAND.findall(source), *names]):
            found = re.search(rf" {name}\(\s*(.*?)\) \{{(.*?)\n\}}", source, re.DOTALL)
            assert found is not None
            types = [part.rsplit(" ", 1)[0] for part in found[1].split(", ")]
            arguments = ", ".join(f"({type})words[{k}]" for k, type in enumerate(types))
            barriers = "true" if MEETS.search(found[2]) else "false"
            launchers.append(
                f'extern "C" void run_{name}(long long* words, unsigned blocks, unsigned threads,\n'
                f"    unsigned seed) {{\n  shim::launch(blocks, threads, {barriers}, seed, [&] {{\n"
                f"    {name}({arguments});\n  }});\n}}"
            )
        library = compiled(source, launchers, self.folder)
        return [getattr(library, f"run_{name}") for name in names]

    def launch(self, function: Any, blocks: int, threads: int, words: Sequence[int]) -> None:
        if self.recorded is not None:
            self.recorded.append((self.launch, function, blocks, threads, list(words)))
            return
        self.launches += 1
        self.order.append(("launch", 0))
        if self.launches > self.last:
            raise OSError("the device is lost")
        function((ctypes.c_longlong * len(words))(*words), blocks, threads, self.seed)

    def call(self, routine: Routine, addresses: Sequence[int], workspace: int) -> None:
        if self.recorded is not None:
            self.recorded.append((self.call, routine, list(addresses), workspace))
            return
        self.calls += 1
        routine.run(addresses, workspace)

    def capture(self, work: Callable[[], None]) -> Any:
        self.recorded = []
        try:
            work()
            return self.recorded
        finally:
            self.recorded = None

    def replay(self, captured: Any) -> None:
        self.replays += 1
        for function, *arguments in captured:
            function(*arguments)

    def seconds(self, work: Callable[[], None]) -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    def upload(self, address: int, array: Any) -> None:
        assert self.recorded is None, "the host does not wait while a step is captured"
        self.uploads += 1
        assert array.flags.c_contiguous
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: Any, address: int) -> None:
        assert self.recorded is None
        self.downloads += 1
        assert array.flags.c_contiguous
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, size: int) -> None:
        if self.recorded is not None:
            self.recorded.append((self.copy, target, source, size))
            return
        self.copies += 1
        self.order.append(("copy", source))
        ctypes.memmove(target, source, size)

    def clear(self, address: int, size: int) -> None:
        assert self.recorded is None
        ctypes.memset(address, 0, size)

    def compute(self, op: Op, operands: Sequence[Placed], results: Sequence[Placed]) -> None:
        assert self.recorded is None, "the host has work of its own, which nothing records"
        self.computed.append(op.name)

        def view(address: int, one: Array, kind: np.dtype[Any]) -> Any:
            strides = [step * kind.itemsize for step in one.strides]
            return viewed(address, kind, one.dims, strides, writable=True)

        with np.errstate(all="ignore"):
            compute(np, op, operands, results, view)

    def read(self, subject: str, given: Any) -> DeviceArray:
        return read(subject, given, self)

    def where(self, address: int) -> int | None:
        return self.elsewhere.get(address, 0)

    def gather(self, target: int, source: DeviceArray, dtype: str) -> None:
        self.gathers += 1
        self.order.append(("gather", source.address))
        here = viewed(source.address, source.dtype, source.shape, source.strides)
        there = np.ascontiguousarray(here.astype(numpy_dtype(dtype)))
        ctypes.memmove(target, there.ctypes.data, there.nbytes)

    def empty(self, shape: Sequence[int], dtype: str) -> tuple[HostArray, int]:
        size = int(np.prod(shape)) * numpy_dtype(dtype).itemsize
        held = np.full(size + 256, 0xCD, np.uint8)
        start = -held.ctypes.data % 256
        numbers = held[start : start + size].view(numpy_dtype(dtype)).reshape(tuple(shape))
        return HostArray(self, numbers), numbers.ctypes.data

    def caller(self) -> int:
        return self.current

    def follow(self, stream: int) -> None:
        assert self.recorded is None, "nobody waits for others while a step is captured"
        self.order.append(("follow", stream))
        for work in self.pending.pop(stream, []):
            work()

    def lead(self, stream: int) -> None:
        self.order.append(("lead", stream))

    def settle(self) -> None:
        self.order.append(("settle", 0))

    def feeder(self) -> HostFeeder:
        self.feeders.append(HostFeeder(self))
        return self.feeders[-1]

    def active(self) -> Any:
        return nullcontext()

    def idle(self) -> bool:
        self.late -= 1
        return self.late < 0


class HostSent:
    """Arrays whose numbers are copied at the last moment, when somebody has to wait for them."""

    def __init__(self, device: HostDevice, arrays: Sequence[Any]) -> None:
        self.held = [*arrays]
        self.made = [device.empty(one.shape, one.dtype.name) for one in arrays]

    def arrived(self) -> bool:
        return not self.held

    def wait(self) -> None:
        for one, (_, address) in zip(self.held, self.made):
            assert one.flags.c_contiguous
            ctypes.memmove(address, one.ctypes.data, one.nbytes)
        self.held = []

    def hand_over(self) -> tuple[HostArray, ...]:
        self.wait()
        return tuple(array for array, _ in self.made)


class HostFeeder:
    """Remembers which pages are pinned, and what was sent."""

    def __init__(self, device: HostDevice) -> None:
        self.device = device
        self.pinned: dict[int, int] = {}
        self.sent: list[HostSent] = []
        self.full = False  # whether the device has no memory for more

    def pin(self, address: int, size: int) -> Any:
        self.pinned[address] = size
        return SimpleNamespace(close=lambda: self.pinned.pop(address, None))

    def send(self, arrays: Sequence[Any]) -> HostSent:
        assert self.device.recorded is None, "nothing is sent while a step is captured"
        if self.full:
            raise BackendError(f"{self.device.name}: no memory is to be had.")
        self.sent.append(HostSent(self.device, arrays))
        return self.sent[-1]


def viewed(
    address: int, dtype: Any, shape: Sequence[int], strides: Sequence[int], writable: bool = False
) -> np.ndarray[Any, Any]:
    """Give memory at an address as an array."""
    if 0 in shape:
        return np.empty(tuple(shape), dtype)
    lows = [min(0, (size - 1) * step) for size, step in zip(shape, strides)]
    highs = [max(0, (size - 1) * step) for size, step in zip(shape, strides)]
    first, size = address + sum(lows), sum(highs) - sum(lows) + dtype.itemsize
    memory = (ctypes.c_char * size).from_address(first)
    found = np.ndarray(tuple(shape), dtype, memory, address - first, tuple(strides))
    found.flags.writeable = writable
    return found
