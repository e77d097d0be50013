"""Finding BLAS: NumPy's own, else another that this process has in memory; nothing is loaded.

A BLAS is taken if its maker is known (a plain one is no faster than generated loops) and if it
passes a trial: it must overwrite a result that held NaN, and must not skip NaN times zero.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from symgraph.backends.cpu.onednn.openmp import file_of
from symgraph.frozen import frozen

MAPS = Path("/proc/self/maps")
# How builds spell `cblas_sgemm`: SciPy's wheels, NumPy's before 2, builds with 64-bit integers.
SPELLINGS = (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", ""))
MAKERS = {
    "openblas_get_config": "OpenBLAS",
    "MKL_Get_Max_Threads": "MKL",
    "bli_info_get_version_str": "BLIS",
}
GENERAL = {"float32": "sgemm", "float64": "dgemm"}
LIKELY = re.compile(r"blas|mkl_rt|blis")
NUMPY = "_multiarray_umath"  # NumPy's own extension: its symbols are those of the BLAS it runs on
THREADS = 1  # what openblas_get_parallel answers where OpenBLAS has a pool of its own

ROWS, PLAIN, TURNED = 101, 111, 112  # cblas: the order of rows, and operands as they are or turned
_INTEGER = ctypes.c_int64  # right for 32 bits too: each argument has 64, the low ones are read


@frozen(eq=False)
class Blas:
    """A BLAS in memory: where it is from, and the addresses of its functions."""

    path: str
    maker: str
    version: str
    products: Mapping[str, int]  # the function that multiplies matrices of a dtype
    limits: tuple[int, int] | None = None  # functions that tell and set how many threads it has

    @property
    def shares(self) -> bool:
        """Whether it can be kept to its caller's thread, so that several may call it at once."""
        return self.limits is not None


def candidates(maps: Iterable[str]) -> list[str]:
    """List the mapped files to ask, from the lines of /proc/self/maps: NumPy's own first."""
    files: dict[str, None] = {}
    for line in maps:
        path = line.split(maxsplit=5)[5:]
        if path and path[0].startswith("/") and ".so" in path[0]:
            files[path[0].rstrip("\n")] = None
    own = [one for one in files if os.path.basename(one).startswith(NUMPY)]
    return [*own, *(one for one in files if LIKELY.search(os.path.basename(one)))]


@functools.cache
def find() -> Blas | None:
    """Give the BLAS of this process, None where there is none that can be used."""
    try:
        maps = MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return None
    found = (one for path in candidates(maps) for one in _in_file(path))
    return next(found, None)


def _in_file(path: str) -> Iterable[Blas]:
    """Give the BLAS in a loaded file, or in those that it depends on."""
    try:
        loaded = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:  # gone since, or mapped only to be read
        return
    for prefix, suffix in SPELLINGS:
        found = _spelled(path, loaded, prefix, suffix)
        if found is not None and all(_passes(found, dtype) for dtype in GENERAL):
            yield found


def _spelled(path: str, loaded: Any, prefix: str, suffix: str) -> Blas | None:
    def function(name: str) -> Any:
        return getattr(loaded, f"{prefix}{name}{suffix}", None)

    products = {dtype: function(f"cblas_{name}") for dtype, name in GENERAL.items()}
    makers = [name for name in MAKERS if function(name) or hasattr(loaded, name)]
    if not all(products.values()) or not makers:
        return None
    maker, version, limits = MAKERS[makers[0]], "", None
    if maker == "OpenBLAS":
        version = _version(function("openblas_get_config"))
        parallel = function("openblas_get_parallel")
        pair = function("openblas_get_num_threads"), function("openblas_set_num_threads")
        if parallel is not None and parallel() == THREADS and all(pair):
            limits = _address(pair[0]), _address(pair[1])
    addresses = {dtype: _address(each) for dtype, each in products.items()}
    place = os.path.normpath(file_of(addresses["float32"]) or path)
    return Blas(place, maker, version, addresses, limits)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _version(config: Callable[[], bytes | None] | None) -> str:
    """Give the version of OpenBLAS, the second word of what it says of itself."""
    if config is None:
        return ""
    config.restype = ctypes.c_char_p  # type: ignore[attr-defined]
    return (config() or b"").decode(errors="replace").split()[1:2][0]


def _passes(found: Blas, dtype: str) -> bool:
    """Multiply two small matrices, the second turned, into memory that holds NaN."""
    number = ctypes.c_float if dtype == "float32" else ctypes.c_double
    each, turn, pointer = ctypes.c_int, _INTEGER, ctypes.c_void_p
    kind = ctypes.CFUNCTYPE(
        None, each, each, each, turn, turn, turn,
        number, pointer, turn, pointer, turn, number, pointer, turn,
    )  # fmt: skip
    x = np.array([[1, 2, 3], [4, 5, np.nan]], dtype)
    y = np.array([[1, 1, 0], [0, 1, 0]], dtype)
    result = np.full((2, 2), np.nan, dtype)
    kind(found.products[dtype])(
        ROWS, PLAIN, TURNED, 2, 2, 3, 1, x.ctypes.data, 3, y.ctypes.data, 3, 0,
        result.ctypes.data, 2,
    )  # fmt: skip
    return np.array_equal(result, np.array([[3, 2], [np.nan] * 2], dtype), equal_nan=True)
