"""A device that is this CPU, for tests of the executor: kernels by g++, memory of NumPy."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.lower.cuda_host import compiled


class HostMemory:
    """Bytes at an address; full of numbers that nobody wrote."""

    def __init__(self, size: int) -> None:
        self.bytes = np.full(size + 64, 0xCD, np.uint8)
        self.address = self.bytes.ctypes.data + -self.bytes.ctypes.data % 64


class HostDevice:
    """Counts what it is asked for."""

    most_blocks = 7

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.uploads = self.downloads = self.launches = self.modules = 0
        self.last = 1 << 30  # the launch after which the device is lost

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
            barriers = "true" if "__syncthreads" in found[2] else "false"
            launchers.append(
                f'extern "C" void run_{name}(long long* words, unsigned blocks, unsigned threads)\n'
                f"{{\n  shim::launch(blocks, threads, {barriers}, 0, [&] {{\n"
                f"    {name}({arguments});\n  }});\n}}"
            )
        library = compiled(source, launchers, self.folder)
        return [getattr(library, f"run_{name}") for name in names]

    def launch(self, function: Any, blocks: int, threads: int, words: Sequence[int]) -> None:
        self.launches += 1
        if self.launches > self.last:
            raise OSError("the device is lost")
        function((ctypes.c_longlong * len(words))(*words), blocks, threads)

    def upload(self, address: int, array: Any) -> None:
        self.uploads += 1
        assert array.flags.c_contiguous
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: Any, address: int) -> None:
        self.downloads += 1
        assert array.flags.c_contiguous
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)
