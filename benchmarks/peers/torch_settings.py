"""The process in which all contestants run: huge pages, memory kept between steps, equal threads.

Most of it is read when a process starts, so a script that calls `settle` is started again with the
environment set. symgraph runs in the same process and gets the same.

PyTorch allocates every activation anew in each step, and a first touch of a small page costs more
than the work on it: with the allocator's defaults it is up to four times slower than with these.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from symgraph.config import usable_cores

# glibc: 2 MiB pages, nothing mapped or given back in between
TUNABLES = {
    "glibc.malloc.hugetlb": 1,
    "glibc.malloc.mmap_max": 0,
    "glibc.malloc.trim_threshold": 1 << 40,
    "glibc.malloc.top_pad": 1 << 28,
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# choices that a machine may make for old builds of OpenBLAS: each library finds its own kernels
DROPPED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def environment(threads: int | None = None, *, memory: bool = True) -> dict[str, str]:
    """Give the variables to set; JAX has as many threads as the process has cores.

    Without `memory` the allocators keep their defaults.
    """
    count = str(threads or usable_cores())
    wanted = {
        **dict.fromkeys(THREADS, count),
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    if memory:
        wanted["THP_MEM_ALLOC_ENABLE"] = "1"  # PyTorch asks for huge pages
        wanted["GLIBC_TUNABLES"] = ":".join(f"{name}={value}" for name, value in TUNABLES.items())
    return wanted


def missing(found: Mapping[str, str]) -> bool:
    """Tell whether a process with these variables has to be started again."""
    wrong = any(found.get(name) != value for name, value in environment().items())
    return wrong or any(name in found for name in DROPPED)


def settle() -> None:
    """Start the script again with the environment set, unless it is; returns where it is."""
    if not missing(os.environ):
        return
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], kept | environment())
