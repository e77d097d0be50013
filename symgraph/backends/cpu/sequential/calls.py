"""Work that is shared as ranges of tasks, at addresses: what the driver runs, and its code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from symgraph.backends.cpu.compiler import Library, compile_text
from symgraph.backends.cpu.driver import driver
from symgraph.backends.cpu.sequential.text import NAME, Code, module


class Call:
    """Tasks at addresses; the record is the words of a function, see `interface.Call`.

    `words` begin with the number of tasks; `roles` name the arrays in the order of `addresses`.
    """

    def __init__(
        self,
        library: Library,
        words: npt.NDArray[np.int64],
        threads: int,
        roles: Sequence[str],
        addresses: Sequence[int],
    ) -> None:
        self._library, self._words, self._roles = library, words, list(roles)
        self._addresses = np.array(addresses, np.int64)
        function, places = library.addresses[NAME], self._addresses.ctypes.data
        self.record: npt.NDArray[np.int64] = np.array(
            [function, words.ctypes.data, 0, threads, places], np.int64
        )

    def rebind(self, role: str, address: int) -> None:
        """Move an array to another address."""
        self._addresses[self._roles.index(role)] = address


def compiled(work: Code, before: str = "") -> Library:
    """Give native code for a function that does a range of tasks, behind what it calls."""
    pool = driver().pool
    places = {
        "parallel": pool("GOMP_parallel"),
        "number": pool("omp_get_thread_num"),
        "count": pool("omp_get_num_threads"),
    }
    return Library(compile_text(before + module(work, places)), [NAME])
