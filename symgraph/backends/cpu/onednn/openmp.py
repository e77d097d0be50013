"""The OpenMP runtime that oneDNN itself computes with: one pool for it and for generated loops.

A process can hold several copies of libgomp, each with a pool of its own (scikit-learn and PyTorch
bring theirs). Functions are therefore looked up where the loader looked when it bound oneDNN: among
the global symbols, then among the libraries that oneDNN depends on.
"""

from __future__ import annotations

import ctypes
from typing import Any


class OpenMP:
    """The functions of one runtime; the number of threads belongs to the thread that sets it."""

    def __init__(self, ffi: Any, lib: Any) -> None:
        self._ffi = ffi
        self._scopes = (ffi.dlopen(None), lib)
        self.path = file_of(self.address("omp_get_max_threads"))

    def _find(self, function: str) -> Any:
        for scope in self._scopes:
            found = getattr(scope, function, None)
            if found is not None:
                return found
        raise AttributeError(f"the OpenMP runtime of oneDNN has no {function}")

    def address(self, function: str) -> int:
        """Give the address of a function, as `GOMP_parallel`, for generated code."""
        return int(self._ffi.cast("intptr_t", self._find(function)))

    def threads(self) -> int:
        """Tell how many threads a parallel region started by this thread has."""
        return int(self._find("omp_get_max_threads")())

    def set_threads(self, count: int) -> None:
        """Set how many threads the parallel regions have that this thread starts.

        Other threads keep their own number. A primitive runs as it was planned if the number is
        the same when it is made and when it is run.
        """
        self._find("omp_set_num_threads")(count)


class _Place(ctypes.Structure):
    """The answer of `dladdr`."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def file_of(address: int) -> str:
    """Give the file that holds a function, or "" where the system does not tell."""
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None)
    place = _Place()
    if dladdr is None or not dladdr(ctypes.c_void_p(address), ctypes.byref(place)):
        return ""
    return (place.file or b"").decode(errors="replace")
