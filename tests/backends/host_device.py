"""A device that is this CPU, for tests of the executor: kernels by g++, memory of NumPy."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from symgraph.backends.cuda.calls import Libraries
from symgraph.backends.cuda.interface import Routine
from tests.lower.cuda_host import MEETS, compiled


class HostMemory:
    """Bytes at an address; full of numbers that nobody wrote."""

    def __init__(self, size: int) -> None:
        self.bytes = np.full(size + 256, 0xCD, np.uint8)
        self.address = self.bytes.ctypes.data + -self.bytes.ctypes.data % 256


class HostDevice:
    """Counts what it is asked for."""

    most_blocks = 7

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.uploads = self.downloads = self.launches = self.modules = 0
        self.last = 1 << 30  # the launch after which the device is lost
        self.libraries = Libraries({})
        self.lock = threading.RLock()
        self.calls = self.replays = 0
        self.recorded: list[Any] | None = None  # what is started while a step is captured

    def reserve(self, size: int) -> HostMemory:
        return HostMemory(size)

    def functions(self, source: str, names: Sequence[str]) -> list[Any]:
        self.modules += 1
        launchers = []
        for name in names:
            found = re.search(rf" {name}\(\s*(.*?)\) \{{(.*?)\n\}}", source, re.DOTALL)
            assert found is not None
            types = [part.rsplit(" ", 1)[0] for part in found[1].split(", ")]
            arguments = ", ".join(f"({type})words[{k}]" for k, type in enumerate(types))
            barriers = "true" if MEETS.search(found[2]) else "false"
            launchers.append(
                f'extern "C" void run_{name}(long long* words, unsigned blocks, unsigned threads)\n'
                f"{{\n  shim::launch(blocks, threads, {barriers}, 0, [&] {{\n"
                f"    {name}({arguments});\n  }});\n}}"
            )
        library = compiled(source, launchers, self.folder)
        return [getattr(library, f"run_{name}") for name in names]

    def launch(self, function: Any, blocks: int, threads: int, words: Sequence[int]) -> None:
        if self.recorded is not None:
            self.recorded.append((self.launch, function, blocks, threads, list(words)))
            return
        self.launches += 1
        if self.launches > self.last:
            raise OSError("the device is lost")
        function((ctypes.c_longlong * len(words))(*words), blocks, threads)

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
        ctypes.memmove(target, source, size)
